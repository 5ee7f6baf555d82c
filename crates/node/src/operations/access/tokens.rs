//! API tokens.

use dess_model::{Role, Scope, Timestamp};
use dess_store::TokenRecord;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::users::existing;
use crate::operations::{OperationError, Operations, Result, audit, is_plain_name};

/// An API token, without what it opens doors with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    /// Identity.
    pub id: String,
    /// Name of the user who made it.
    pub user: String,
    /// What it is called; unique among the user's.
    pub name: String,
    /// What it is good for.
    pub scope: Scope,
    /// When it was made.
    pub created: Timestamp,
    /// End of validity; none if it has none.
    pub expires: Option<Timestamp>,
    /// The last request with it, to within a minute.
    pub last_used: Option<Timestamp>,
}

/// A token to keep. Without `Debug`: it holds the hash.
#[derive(Clone)]
pub struct TokenCreate {
    /// Name of the user whose it is.
    pub user: String,
    /// What it is called; unique among the user's.
    pub name: String,
    /// What it is good for; at most what the user may.
    pub scope: Scope,
    /// Hash of the token, which itself is never stored.
    pub token_hash: String,
    /// End of validity; none if it has none.
    pub expires: Option<Timestamp>,
}

/// A valid token that was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenLogin {
    /// The token.
    pub token: TokenView,
    /// What it may do now: its scope, but never more than its user's role.
    pub role: Role,
}

/// The use of a token is noted at most this often, in milliseconds.
const TOUCH_EVERY_MS: u64 = 60_000;
/// Most tokens of one user.
const TOKENS_MAX: usize = 100;

/// What a token gives, for the audit log.
fn granted(token: &TokenView) -> serde_json::Value {
    json!({ "user": token.user, "scope": token.scope, "expires": token.expires })
}

impl From<TokenRecord> for TokenView {
    fn from(token: TokenRecord) -> Self {
        Self {
            id: token.id,
            user: token.user,
            name: token.name,
            scope: token.scope,
            created: token.created,
            expires: token.expires,
            last_used: token.last_used,
        }
    }
}

impl Operations {
    /// Keeps an API token.
    ///
    /// # Errors
    /// If the scope is above the user's role, the name is taken, or the end is in the past.
    pub async fn token_create(&self, token: TokenCreate) -> Result<TokenView> {
        if !is_plain_name(&token.name) {
            let reason = "1 to 63 letters, digits, \"-\", \"_\" or \".\"";
            return Err(OperationError::invalid("token name", reason));
        }
        let now = Timestamp::now();
        if token.expires.is_some_and(|expires| expires <= now) {
            return Err(OperationError::invalid("expiry", "a day to come"));
        }
        let record = &TokenRecord {
            id: Uuid::now_v7().to_string(),
            user: token.user,
            name: token.name,
            scope: token.scope,
            token_hash: token.token_hash,
            created: now,
            expires: token.expires,
            last_used: None,
        };
        let actor = &*self.actor;
        self.store()
            .await?
            .transact(|mut tx| async move {
                let user = existing(&mut tx, &record.user).await?;
                if !user.role.may(record.scope.role()) {
                    let reason = format!("at most what the role {} may", user.role);
                    return Err(OperationError::invalid("scope", reason));
                }
                let tokens = tx.token_list().await?;
                let own: Vec<_> = tokens.iter().filter(|t| t.user == record.user).collect();
                if own.iter().any(|token| token.name == record.name) {
                    return Err(OperationError::Conflict {
                        field: "token name",
                        value: record.name.clone(),
                        owner: record.user.clone(),
                    });
                }
                if own.len() >= TOKENS_MAX {
                    let reason = format!("{} has {TOKENS_MAX} tokens already", record.user);
                    return Err(OperationError::Refused(reason));
                }
                tx.token_insert(record).await?;
                let view = TokenView::from(record.clone());
                let details = json!({ "after": granted(&view) });
                audit(&mut tx, actor, "token.create", &view.name, details).await?;
                Ok(view)
            })
            .await
    }

    /// All tokens, or those of one user.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn token_list(&self, user: Option<&str>) -> Result<Vec<TokenView>> {
        let tokens = self.read().await?.token_list().await?;
        let wanted = |token: &TokenRecord| user.is_none_or(|user| user == token.user);
        Ok(tokens
            .into_iter()
            .filter(wanted)
            .map(TokenView::from)
            .collect())
    }

    /// Ends a token for good; with `user`, only one of that user.
    ///
    /// # Errors
    /// [`OperationError::NotFound`] if there is none of this id.
    pub async fn token_revoke(&self, id: &str, user: Option<&str>) -> Result<()> {
        let actor = &*self.actor;
        self.store()
            .await?
            .transact(|mut tx| async move {
                let mut tokens = tx.token_list().await?.into_iter();
                let token = tokens
                    .find(|token| token.id == id && user.is_none_or(|user| user == token.user))
                    .ok_or_else(|| OperationError::not_found("token", id))?;
                tx.token_delete(id).await?;
                let name = token.name.clone();
                let details = json!({ "before": granted(&token.into()) });
                audit(&mut tx, actor, "token.revoke", &name, details).await?;
                Ok(())
            })
            .await
    }

    /// The token with this hash, if it is valid now and its user may log in. Its use is noted.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn token_use(&self, token_hash: &str) -> Result<Option<TokenLogin>> {
        let now = Timestamp::now();
        let mut tx = self.read().await?;
        let token = tx.token_fetch(token_hash).await?;
        let Some(token) = token.filter(|token| token.expires.is_none_or(|end| end > now)) else {
            return Ok(None);
        };
        let user = tx.user_fetch(&token.user).await?;
        drop(tx);
        let Some(user) = user.filter(|user| !user.disabled) else {
            return Ok(None);
        };
        let noted = token.last_used.map(|at| now.millis_since(at));
        if noted.is_none_or(|ago| ago >= TOUCH_EVERY_MS) {
            self.note_use(&token.id, now).await;
        }
        let role = token.scope.role().min(user.role);
        let token = TokenView::from(token);
        Ok(Some(TokenLogin { token, role }))
    }

    /// A request does not fail for it.
    async fn note_use(&self, id: &str, now: Timestamp) {
        let noted = async {
            self.store()
                .await?
                .transact(|mut tx| async move {
                    tx.token_touch(id, now).await?;
                    Ok::<(), OperationError>(())
                })
                .await
        };
        if let Err(error) = noted.await {
            tracing::debug!(%error, "the use of an API token was not noted");
        }
    }
}
