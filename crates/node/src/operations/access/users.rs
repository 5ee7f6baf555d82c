//! Users.

use dess_model::{Role, Timestamp};
use dess_store::{Tx, UserRecord};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::operations::{OperationError, Operations, Result, audit, differences, is_plain_name};

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserView {
    /// Name, unique.
    pub name: String,
    /// What the user may do.
    pub role: Role,
    /// True if the user may not log in now.
    pub disabled: bool,
    /// True if a code of an authenticator is asked for at the login.
    pub second_factor: bool,
    /// When the user was made.
    pub created: Timestamp,
    /// The last good login.
    pub last_login: Option<Timestamp>,
}

/// What a login is checked against. Without `Debug` and never sent out.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Password hash in PHC string form (argon2id).
    pub password_hash: String,
    /// True if the user may not log in now.
    pub disabled: bool,
    /// Key of the second factor in base32; none without one.
    pub totp_secret: Option<String>,
    /// The network of the last good login.
    pub last_login_from: Option<String>,
}

/// A user to make. Without `Debug`: it holds the hash.
#[derive(Clone)]
pub struct UserCreate {
    /// Name, unique.
    pub name: String,
    /// What the user may do.
    pub role: Role,
    /// Password hash in PHC string form.
    pub password_hash: String,
}

/// What to change of a user; none stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserChange {
    /// What the user may do.
    pub role: Option<Role>,
    /// True to keep the user out.
    pub disabled: Option<bool>,
}

impl From<&UserRecord> for UserView {
    fn from(user: &UserRecord) -> Self {
        Self {
            name: user.name.clone(),
            role: user.role,
            disabled: user.disabled,
            second_factor: user.totp_secret.is_some(),
            created: user.created,
            last_login: user.last_login,
        }
    }
}

impl UserCreate {
    fn record(&self) -> Result<UserRecord> {
        if !is_plain_name(&self.name) {
            let reason = "1 to 63 letters, digits, \"-\", \"_\" or \".\"";
            return Err(OperationError::invalid("user name", reason));
        }
        Ok(UserRecord {
            name: self.name.clone(),
            role: self.role,
            disabled: false,
            password_hash: self.password_hash.clone(),
            totp_secret: None,
            totp_step: None,
            created: Timestamp::now(),
            last_login: None,
            last_login_from: None,
        })
    }
}

impl Operations {
    /// How many users there are; 0 means that the first one is to be set up.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn user_count(&self) -> Result<u64> {
        Ok(self.read().await?.user_count().await?)
    }

    /// Makes the first user, an owner.
    ///
    /// # Errors
    /// [`OperationError::Refused`] if there is a user already.
    pub async fn user_create_first(&self, name: &str, password_hash: &str) -> Result<()> {
        let user = &UserCreate {
            name: name.to_owned(),
            role: Role::Owner,
            password_hash: password_hash.to_owned(),
        }
        .record()?;
        let actor = &*self.actor;
        self.store()
            .await?
            .transact(|mut tx| async move {
                if tx.user_count().await? > 0 {
                    let reason = "the first user exists already; log in".to_owned();
                    return Err(OperationError::Refused(reason));
                }
                insert(&mut tx, actor, user).await
            })
            .await
    }

    /// Makes a user.
    ///
    /// # Errors
    /// If the name is taken or cannot be one.
    pub async fn user_create(&self, user: UserCreate) -> Result<UserView> {
        let user = &user.record()?;
        let actor = &*self.actor;
        self.store()
            .await?
            .transact(|mut tx| async move {
                if tx.user_fetch(&user.name).await?.is_some() {
                    return Err(OperationError::Conflict {
                        field: "user name",
                        value: user.name.clone(),
                        owner: user.name.clone(),
                    });
                }
                insert(&mut tx, actor, user).await
            })
            .await?;
        Ok(user.into())
    }

    /// All users, by name.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn user_list(&self) -> Result<Vec<UserView>> {
        let users = self.read().await?.user_list().await?;
        Ok(users.iter().map(UserView::from).collect())
    }

    /// The user of this name.
    ///
    /// # Errors
    /// [`OperationError::NotFound`] if there is none.
    pub async fn user_get(&self, name: &str) -> Result<UserView> {
        let user = self.read().await?.user_fetch(name).await?;
        let user = user.ok_or_else(|| OperationError::not_found("user", name))?;
        Ok((&user).into())
    }

    /// What a login of this user is checked against.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn user_credentials(&self, name: &str) -> Result<Option<Credentials>> {
        let user = self.read().await?.user_fetch(name).await?;
        Ok(user.map(|user| Credentials {
            password_hash: user.password_hash,
            disabled: user.disabled,
            totp_secret: user.totp_secret,
            last_login_from: user.last_login_from,
        }))
    }

    /// Changes a user's role, or keeps the user out. Who is kept out is logged out.
    ///
    /// # Errors
    /// [`OperationError::Refused`] if no owner would be left who may log in.
    pub async fn user_set(&self, name: &str, change: UserChange) -> Result<UserView> {
        let actor = &*self.actor;
        self.store()
            .await?
            .transact(|mut tx| async move {
                let mut user = existing(&mut tx, name).await?;
                let before = UserView::from(&user);
                user.role = change.role.unwrap_or(user.role);
                user.disabled = change.disabled.unwrap_or(user.disabled);
                let after = UserView::from(&user);
                if after == before {
                    return Ok(after);
                }
                tx.user_update(&user).await?;
                keep_an_owner(&mut tx).await?;
                if user.disabled {
                    tx.session_delete_of(name).await?;
                }
                let details = differences(&json!(before), &json!(after));
                audit(&mut tx, actor, "user.set", name, details).await?;
                Ok(after)
            })
            .await
    }

    /// Removes a user with all sessions and tokens.
    ///
    /// # Errors
    /// [`OperationError::Refused`] if it is the last owner.
    pub async fn user_remove(&self, name: &str) -> Result<()> {
        let actor = &*self.actor;
        self.store()
            .await?
            .transact(|mut tx| async move {
                let user = existing(&mut tx, name).await?;
                tx.user_delete(name).await?;
                keep_an_owner(&mut tx).await?;
                let details = json!({ "before": { "role": user.role } });
                audit(&mut tx, actor, "user.remove", name, details).await?;
                Ok(())
            })
            .await
    }

    /// Sets a user's password and ends the user's sessions, but for the one with the token hash
    /// `kept`.
    ///
    /// # Errors
    /// If there is no such user.
    pub async fn user_password_set(
        &self,
        name: &str,
        password_hash: &str,
        kept: Option<&str>,
    ) -> Result<()> {
        let actor = &*self.actor;
        self.store()
            .await?
            .transact(|mut tx| async move {
                let mut user = existing(&mut tx, name).await?;
                user.password_hash = password_hash.to_owned();
                tx.user_update(&user).await?;
                tx.session_delete_others(name, kept.unwrap_or_default())
                    .await?;
                audit(&mut tx, actor, "user.password", name, json!({})).await?;
                Ok(())
            })
            .await
    }

    /// Name of the owner who was made first, of those who may log in.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn owner_name(&self) -> Result<Option<String>> {
        let users = self.read().await?.user_list().await?;
        let owners = users
            .into_iter()
            .filter(|user| user.role == Role::Owner && !user.disabled);
        Ok(owners.min_by_key(|user| user.created).map(|user| user.name))
    }
}

async fn insert(tx: &mut Tx, actor: &str, user: &UserRecord) -> Result<()> {
    tx.user_insert(user).await?;
    let details = json!({ "after": { "role": user.role } });
    audit(tx, actor, "user.create", &user.name, details).await?;
    Ok(())
}

/// The user, or that there is none.
pub(super) async fn existing(tx: &mut Tx, name: &str) -> Result<UserRecord> {
    let user = tx.user_fetch(name).await?;
    user.ok_or_else(|| OperationError::not_found("user", name))
}

/// Fails, and with it the whole change, if nobody is left who may do everything.
async fn keep_an_owner(tx: &mut Tx) -> Result<()> {
    let users = tx.user_list().await?;
    let owner = |user: &UserRecord| user.role == Role::Owner && !user.disabled;
    if users.iter().any(owner) {
        return Ok(());
    }
    let reason = "this is the last owner who may log in; make another one first".to_owned();
    Err(OperationError::Refused(reason))
}
