//! Login sessions of the page.

use dess_model::Timestamp;

use crate::row::{Columns, Row};
use crate::statement::query;
use crate::{StoreError, Tx};

/// A login session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// Hash of the token that the browser holds.
    pub token_hash: String,
    /// Name of the user.
    pub user: String,
    /// Token against cross-site requests.
    pub csrf: String,
    /// Address that the login came from.
    pub peer: String,
    /// What the browser calls itself.
    pub agent: String,
    /// When it began.
    pub created: Timestamp,
    /// End of validity.
    pub expires: Timestamp,
}

impl SessionRecord {
    fn of(row: &Row) -> Result<Self, StoreError> {
        let row = Columns(row);
        Ok(Self {
            token_hash: row.text("token_hash")?,
            user: row.text("user_name")?,
            csrf: row.text("csrf")?,
            peer: row.text("peer")?,
            agent: row.text("agent")?,
            created: row.time("created_at")?,
            expires: row.time("expires_at")?,
        })
    }
}

impl Tx {
    /// Keeps a session.
    ///
    /// # Errors
    /// If there is no such user, or the database cannot be written.
    pub async fn session_insert(&mut self, session: &SessionRecord) -> Result<(), StoreError> {
        let statement = query(
            "INSERT INTO sessions (token_hash, user_name, csrf, peer, agent, created_at, expires_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(session.token_hash.clone())
        .bind(session.user.clone())
        .bind(session.csrf.clone())
        .bind(session.peer.clone())
        .bind(session.agent.clone())
        .bind(session.created.0)
        .bind(session.expires.0);
        self.execute("keep a session", statement).await.map(drop)
    }

    /// One session, valid or not.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn session_fetch(
        &mut self,
        token_hash: &str,
    ) -> Result<Option<SessionRecord>, StoreError> {
        let statement = query(
            "SELECT token_hash, user_name, csrf, peer, agent, created_at, expires_at \
             FROM sessions WHERE token_hash = ?",
        )
        .bind(token_hash.to_owned());
        let row = self.fetch_optional("read a session", statement).await?;
        row.as_ref().map(SessionRecord::of).transpose()
    }

    /// A user's sessions, the newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn session_list(&mut self, user: &str) -> Result<Vec<SessionRecord>, StoreError> {
        let statement = query(
            "SELECT token_hash, user_name, csrf, peer, agent, created_at, expires_at \
             FROM sessions WHERE user_name = ? ORDER BY created_at DESC, token_hash",
        )
        .bind(user.to_owned());
        let rows = self.fetch_all("list a user's sessions", statement).await?;
        rows.iter().map(SessionRecord::of).collect()
    }

    /// Ends one session.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn session_delete(&mut self, token_hash: &str) -> Result<(), StoreError> {
        let statement =
            query("DELETE FROM sessions WHERE token_hash = ?").bind(token_hash.to_owned());
        self.execute("end a session", statement).await.map(drop)
    }

    /// Ends all sessions of a user.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn session_delete_of(&mut self, user: &str) -> Result<(), StoreError> {
        let statement = query("DELETE FROM sessions WHERE user_name = ?").bind(user.to_owned());
        self.execute("end a user's sessions", statement)
            .await
            .map(drop)
    }

    /// Ends all sessions of a user but one; answers how many.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn session_delete_others(
        &mut self,
        user: &str,
        kept_token_hash: &str,
    ) -> Result<u64, StoreError> {
        let statement = query("DELETE FROM sessions WHERE user_name = ? AND token_hash <> ?")
            .bind(user.to_owned())
            .bind(kept_token_hash.to_owned());
        self.execute("end a user's other sessions", statement).await
    }

    /// Removes the sessions that expired before `now`.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn session_delete_expired(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let statement = query("DELETE FROM sessions WHERE expires_at <= ?").bind(now.0);
        self.execute("remove expired sessions", statement)
            .await
            .map(drop)
    }
}
