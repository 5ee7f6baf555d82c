//! API tokens.

use dess_model::{Scope, Timestamp};

use crate::row::{Columns, Row};
use crate::statement::query;
use crate::{StoreError, Tx};

/// An API token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// Identity.
    pub id: String,
    /// Name of the user who made it.
    pub user: String,
    /// What it is called; unique among the user's.
    pub name: String,
    /// What it is good for.
    pub scope: Scope,
    /// Hash of the token, which itself is never stored.
    pub token_hash: String,
    /// When it was made.
    pub created: Timestamp,
    /// End of validity; none if it has none.
    pub expires: Option<Timestamp>,
    /// The last request with it, to within a minute.
    pub last_used: Option<Timestamp>,
}

impl TokenRecord {
    fn of(row: &Row) -> Result<Self, StoreError> {
        let row = Columns(row);
        Ok(Self {
            id: row.text("id")?,
            user: row.text("user_name")?,
            name: row.text("name")?,
            scope: row.named("scope")?,
            token_hash: row.text("token_hash")?,
            created: row.time("created_at")?,
            expires: row.time_opt("expires_at")?,
            last_used: row.time_opt("last_used_at")?,
        })
    }
}

impl Tx {
    /// Keeps a token.
    ///
    /// # Errors
    /// If the user has one of this name, or the database cannot be written.
    pub async fn token_insert(&mut self, token: &TokenRecord) -> Result<(), StoreError> {
        let statement = query(
            "INSERT INTO api_tokens (id, user_name, name, scope, token_hash, created_at, \
             expires_at, last_used_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(token.id.clone())
        .bind(token.user.clone())
        .bind(token.name.clone())
        .bind(token.scope.as_str())
        .bind(token.token_hash.clone())
        .bind(token.created.0)
        .bind(token.expires.map(|at| at.0))
        .bind(token.last_used.map(|at| at.0));
        self.execute("keep an API token", statement).await.map(drop)
    }

    /// The token with this hash, valid or not.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn token_fetch(
        &mut self,
        token_hash: &str,
    ) -> Result<Option<TokenRecord>, StoreError> {
        let statement = query(
            "SELECT id, user_name, name, scope, token_hash, created_at, expires_at, last_used_at \
             FROM api_tokens WHERE token_hash = ?",
        )
        .bind(token_hash.to_owned());
        let row = self.fetch_optional("read an API token", statement).await?;
        row.as_ref().map(TokenRecord::of).transpose()
    }

    /// All tokens, by user and name.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn token_list(&mut self) -> Result<Vec<TokenRecord>, StoreError> {
        let statement = query(
            "SELECT id, user_name, name, scope, token_hash, created_at, expires_at, last_used_at \
             FROM api_tokens ORDER BY user_name, name",
        );
        let rows = self.fetch_all("list API tokens", statement).await?;
        rows.iter().map(TokenRecord::of).collect()
    }

    /// Notes that a token was used.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn token_touch(&mut self, id: &str, at: Timestamp) -> Result<(), StoreError> {
        let statement = query("UPDATE api_tokens SET last_used_at = ? WHERE id = ?")
            .bind(at.0)
            .bind(id.to_owned());
        self.execute("note the use of an API token", statement)
            .await
            .map(drop)
    }

    /// Removes a token; false if there is none.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn token_delete(&mut self, id: &str) -> Result<bool, StoreError> {
        let statement = query("DELETE FROM api_tokens WHERE id = ?").bind(id.to_owned());
        Ok(self.execute("revoke an API token", statement).await? > 0)
    }
}
