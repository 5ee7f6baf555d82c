//! Users and login sessions of the page. Hashing is the page's business; here are only texts.

use dess_model::Timestamp;
use serde::{Deserialize, Serialize};

use super::{OperationError, Operations, Result};

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
        Ok(0)
    }

    /// Makes the first user.
    ///
    /// # Errors
    /// [`OperationError::Refused`] if there is a user already.
    pub async fn user_create_first(&self, name: &str, password_hash: &str) -> Result<()> {
        let _ = (name, password_hash);
        Err(OperationError::NoSite)
    }

    /// The user of this name.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn user_fetch(&self, name: &str) -> Result<Option<UserView>> {
        let _ = name;
        Ok(None)
    }

    /// Sets a user's password and ends all of the user's sessions.
    ///
    /// # Errors
    /// If there is no such user.
    pub async fn user_password_set(&self, name: &str, password_hash: &str) -> Result<()> {
        let _ = password_hash;
        Err(OperationError::NotFound {
            what: "user",
            name: name.to_owned(),
        })
    }

    /// Keeps a login session.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn session_create(&self, session: SessionCreate) -> Result<()> {
        let _ = session;
        Err(OperationError::NoSite)
    }

    /// The session with this token hash, if it is valid now.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn session_fetch(&self, token_hash: &str) -> Result<Option<SessionView>> {
        let _ = token_hash;
        Ok(None)
    }

    /// Ends a session; unknown ones are no error. Expired ones go too.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn session_end(&self, token_hash: &str) -> Result<()> {
        let _ = token_hash;
        Ok(())
    }
}
