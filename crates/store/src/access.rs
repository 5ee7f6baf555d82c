//! Users and login sessions of the page.

use dess_model::Timestamp;

use crate::row::Columns;
use crate::statement::query;
use crate::{StoreError, Tx};

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    /// Name, unique.
    pub name: String,
    /// Password hash in PHC string form.
    pub password_hash: String,
    /// When the user was made.
    pub created: Timestamp,
}

/// A login session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// Hash of the token that the browser holds.
    pub token_hash: String,
    /// Name of the user.
    pub user: String,
    /// Token against cross-site requests.
    pub csrf: String,
    /// When it began.
    pub created: Timestamp,
    /// End of validity.
    pub expires: Timestamp,
}

impl Tx {
    /// How many users there are.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn user_count(&mut self) -> Result<u64, StoreError> {
        let statement = query("SELECT COUNT(*) AS users FROM users");
        let row = self.fetch_optional("count users", statement).await?;
        row.map_or(Ok(0), |row| Columns(&row).number("users"))
    }

    /// Name of the user that was made first: the owner.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn user_first(&mut self) -> Result<Option<String>, StoreError> {
        let statement = query("SELECT name FROM users ORDER BY created_at, name LIMIT 1");
        let row = self
            .fetch_optional("read the first user", statement)
            .await?;
        row.map(|row| Columns(&row).text("name")).transpose()
    }

    /// One user.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn user_fetch(&mut self, name: &str) -> Result<Option<UserRecord>, StoreError> {
        let statement = query("SELECT name, password_hash, created_at FROM users WHERE name = ?")
            .bind(name.to_owned());
        let row = self.fetch_optional("read a user", statement).await?;
        row.map(|row| {
            let row = Columns(&row);
            Ok(UserRecord {
                name: row.text("name")?,
                password_hash: row.text("password_hash")?,
                created: row.time("created_at")?,
            })
        })
        .transpose()
    }

    /// Adds a user.
    ///
    /// # Errors
    /// If the name is taken, or the database cannot be written.
    pub async fn user_insert(&mut self, user: &UserRecord) -> Result<(), StoreError> {
        let statement =
            query("INSERT INTO users (name, password_hash, created_at) VALUES (?, ?, ?)")
                .bind(user.name.clone())
                .bind(user.password_hash.clone())
                .bind(user.created.0);
        self.execute("add a user", statement).await.map(drop)
    }

    /// Sets a user's password hash; false if there is no such user.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn user_password_update(
        &mut self,
        name: &str,
        password_hash: &str,
    ) -> Result<bool, StoreError> {
        let statement = query("UPDATE users SET password_hash = ? WHERE name = ?")
            .bind(password_hash.to_owned())
            .bind(name.to_owned());
        Ok(self.execute("set a password", statement).await? > 0)
    }

    /// Keeps a session.
    ///
    /// # Errors
    /// If there is no such user, or the database cannot be written.
    pub async fn session_insert(&mut self, session: &SessionRecord) -> Result<(), StoreError> {
        let statement = query(
            "INSERT INTO sessions (token_hash, user_name, csrf, created_at, expires_at) \
             VALUES (?, ?, ?, ?, ?)",
        )
        .bind(session.token_hash.clone())
        .bind(session.user.clone())
        .bind(session.csrf.clone())
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
            "SELECT token_hash, user_name, csrf, created_at, expires_at FROM sessions \
             WHERE token_hash = ?",
        )
        .bind(token_hash.to_owned());
        let row = self.fetch_optional("read a session", statement).await?;
        row.map(|row| {
            let row = Columns(&row);
            Ok(SessionRecord {
                token_hash: row.text("token_hash")?,
                user: row.text("user_name")?,
                csrf: row.text("csrf")?,
                created: row.time("created_at")?,
                expires: row.time("expires_at")?,
            })
        })
        .transpose()
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
