//! Users and login sessions of the page. Hashing is the page's business; here are only texts.

use dess_model::Timestamp;
use dess_store::{SessionRecord, UserRecord};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{OperationError, Operations, Result, audit, is_plain_name};

/// A user with the hash of the password (never sent out).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserView {
    /// Name, unique.
    pub name: String,
    /// Password hash in PHC string form (argon2id).
    pub password_hash: String,
    /// When the user was made.
    pub created: Timestamp,
}

/// A login session to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionCreate {
    /// Hash of the token that the browser holds; the token itself is never stored.
    pub token_hash: String,
    /// Name of the user.
    pub user: String,
    /// Token against cross-site requests.
    pub csrf: String,
    /// End of validity.
    pub expires: Timestamp,
}

/// A valid login session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionView {
    /// Name of the user.
    pub user: String,
    /// Token against cross-site requests.
    pub csrf: String,
    /// End of validity.
    pub expires: Timestamp,
}

impl Operations {
    /// How many users there are; 0 means that the first one is to be set up.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn user_count(&self) -> Result<u64> {
        Ok(self.read().await?.user_count().await?)
    }

    /// Makes the first user.
    ///
    /// # Errors
    /// [`OperationError::Refused`] if there is a user already.
    pub async fn user_create_first(&self, name: &str, password_hash: &str) -> Result<()> {
        if !is_plain_name(name) {
            let reason = "1 to 63 letters, digits, \"-\", \"_\" or \".\"";
            return Err(OperationError::invalid("user name", reason));
        }
        let actor = &*self.actor;
        self.store()
            .await?
            .transact(|mut tx| async move {
                if tx.user_count().await? > 0 {
                    let reason = "the first user exists already; log in".to_owned();
                    return Err(OperationError::Refused(reason));
                }
                tx.user_insert(&UserRecord {
                    name: name.to_owned(),
                    password_hash: password_hash.to_owned(),
                    created: Timestamp::now(),
                })
                .await?;
                audit(&mut tx, actor, "user.create", name, json!({})).await?;
                Ok(())
            })
            .await
    }

    /// The user of this name.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn user_fetch(&self, name: &str) -> Result<Option<UserView>> {
        let user = self.read().await?.user_fetch(name).await?;
        Ok(user.map(|user| UserView {
            name: user.name,
            password_hash: user.password_hash,
            created: user.created,
        }))
    }

    /// Sets a user's password and ends all of the user's sessions.
    ///
    /// # Errors
    /// If there is no such user.
    pub async fn user_password_set(&self, name: &str, password_hash: &str) -> Result<()> {
        let actor = &*self.actor;
        self.store()
            .await?
            .transact(|mut tx| async move {
                if !tx.user_password_update(name, password_hash).await? {
                    return Err(OperationError::not_found("user", name));
                }
                tx.session_delete_of(name).await?;
                audit(&mut tx, actor, "user.password", name, json!({})).await?;
                Ok(())
            })
            .await
    }

    /// Name of the owner: the user that was made first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn owner_name(&self) -> Result<Option<String>> {
        Ok(self.read().await?.user_first().await?)
    }

    /// Keeps a login session; expired ones go.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn session_create(&self, session: SessionCreate) -> Result<()> {
        let now = Timestamp::now();
        let record = &SessionRecord {
            token_hash: session.token_hash,
            user: session.user,
            csrf: session.csrf,
            created: now,
            expires: session.expires,
        };
        self.store()
            .await?
            .transact(|mut tx| async move {
                tx.session_delete_expired(now).await?;
                tx.session_insert(record).await?;
                Ok(())
            })
            .await
    }

    /// The session with this token hash, if it is valid now.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn session_fetch(&self, token_hash: &str) -> Result<Option<SessionView>> {
        let session = self.read().await?.session_fetch(token_hash).await?;
        let valid = session.filter(|session| session.expires > Timestamp::now());
        Ok(valid.map(|session| SessionView {
            user: session.user,
            csrf: session.csrf,
            expires: session.expires,
        }))
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
}
