//! Login sessions of the page.

use dess_model::{Role, Timestamp};
use dess_store::SessionRecord;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::users::existing;
use crate::operations::{OperationError, Operations, Result, audit};

/// A login session to keep. Without `Debug`: it holds the token against cross-site requests.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionCreate {
    /// Hash of the token that the browser holds; the token itself is never stored.
    pub token_hash: String,
    /// Name of the user.
    pub user: String,
    /// Token against cross-site requests.
    pub csrf: String,
    /// Address that the login came from.
    pub peer: String,
    /// The network of that address, by which the next login from there is known.
    pub network: String,
    /// What the browser calls itself; cut to 255 characters.
    pub agent: String,
    /// End of validity.
    pub expires: Timestamp,
}

/// A valid login session. Without `Debug`: it holds the token against cross-site requests.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionView {
    /// Name of the user.
    pub user: String,
    /// What the user may do.
    pub role: Role,
    /// Token against cross-site requests.
    pub csrf: String,
    /// End of validity.
    pub expires: Timestamp,
}

/// A session as its user sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSession {
    /// Names it among the user's: the first digits of the token's hash.
    pub id: String,
    /// Address that the login came from.
    pub peer: String,
    /// What the browser calls itself.
    pub agent: String,
    /// When it began.
    pub created: Timestamp,
    /// End of validity.
    pub expires: Timestamp,
}

/// Digits of a token's hash that name a session to its user.
const ID_DIGITS: usize = 16;
/// Longest browser name that is kept, in characters.
const AGENT_CHARS_MAX: usize = 255;

impl SessionCreate {
    fn record(self, now: Timestamp) -> SessionRecord {
        SessionRecord {
            token_hash: self.token_hash,
            user: self.user,
            csrf: self.csrf,
            peer: self.peer,
            agent: self.agent.chars().take(AGENT_CHARS_MAX).collect(),
            created: now,
            expires: self.expires,
        }
    }
}

impl OpenSession {
    /// The [`OpenSession::id`] of the session with this token hash.
    pub fn id_of(token_hash: &str) -> String {
        token_hash.chars().take(ID_DIGITS).collect()
    }
}

impl Operations {
    /// Keeps a login session and notes the login; expired ones go.
    ///
    /// # Errors
    /// If there is no such user or the database cannot be written.
    pub async fn session_create(&self, session: SessionCreate) -> Result<()> {
        let now = Timestamp::now();
        let network = &session.network.clone();
        let record = &session.record(now);
        self.store()
            .await?
            .transact(|mut tx| async move {
                let mut user = existing(&mut tx, &record.user).await?;
                user.last_login = Some(now);
                user.last_login_from = Some(network.clone());
                tx.user_update(&user).await?;
                tx.session_delete_expired(now).await?;
                tx.session_insert(record).await?;
                Ok(())
            })
            .await
    }

    /// The session with this token hash, if it is valid now and its user may be logged in.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn session_fetch(&self, token_hash: &str) -> Result<Option<SessionView>> {
        let mut tx = self.read().await?;
        let session = tx.session_fetch(token_hash).await?;
        let Some(session) = session.filter(|session| session.expires > Timestamp::now()) else {
            return Ok(None);
        };
        let user = tx.user_fetch(&session.user).await?;
        Ok(user.filter(|user| !user.disabled).map(|user| SessionView {
            user: session.user,
            role: user.role,
            csrf: session.csrf,
            expires: session.expires,
        }))
    }

    /// A user's valid sessions, the newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn session_list(&self, user: &str) -> Result<Vec<OpenSession>> {
        let now = Timestamp::now();
        let sessions = self.read().await?.session_list(user).await?;
        Ok(sessions
            .into_iter()
            .filter(|session| session.expires > now)
            .map(|session| OpenSession {
                id: OpenSession::id_of(&session.token_hash),
                peer: session.peer,
                agent: session.agent,
                created: session.created,
                expires: session.expires,
            })
            .collect())
    }

    /// Ends a session; unknown ones are no error.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn session_end(&self, token_hash: &str) -> Result<()> {
        self.store()
            .await?
            .transact(|mut tx| async move {
                tx.session_delete(token_hash).await?;
                Ok(())
            })
            .await
    }

    /// Ends the session of a user that [`OpenSession::id`] names.
    ///
    /// # Errors
    /// [`OperationError::NotFound`] if the user has none of this id.
    pub async fn session_end_of(&self, user: &str, id: &str) -> Result<()> {
        let actor = &*self.actor;
        self.store()
            .await?
            .transact(|mut tx| async move {
                let sessions = tx.session_list(user).await?;
                let found = sessions
                    .into_iter()
                    .find(|session| OpenSession::id_of(&session.token_hash) == id);
                let session = found.ok_or_else(|| OperationError::not_found("session", id))?;
                tx.session_delete(&session.token_hash).await?;
                let details = json!({ "from": session.peer, "browser": session.agent });
                audit(&mut tx, actor, "session.end", user, details).await?;
                Ok(())
            })
            .await
    }

    /// Ends all sessions of a user but the one with the token hash `kept`; answers how many.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn session_end_others(&self, user: &str, kept: &str) -> Result<u64> {
        let actor = &*self.actor;
        self.store()
            .await?
            .transact(|mut tx| async move {
                let ended = tx.session_delete_others(user, kept).await?;
                let details = json!({ "ended": ended });
                audit(&mut tx, actor, "session.end_others", user, details).await?;
                Ok(ended)
            })
            .await
    }
}
