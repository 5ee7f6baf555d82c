//! Creations that were ordered with an idempotency key.

use dess_model::Timestamp;

use crate::row::Columns;
use crate::statement::query;
use crate::{StoreError, Tx};

/// One order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRecord {
    /// Who ordered it.
    pub owner: String,
    /// The key that they gave it.
    pub key: String,
    /// Digest of what was ordered.
    pub fingerprint: String,
    /// JSON of what came of it; none while it is under way.
    pub answer: Option<String>,
    /// When.
    pub created: Timestamp,
}

impl Tx {
    /// The order under a key.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn request_fetch(
        &mut self,
        owner: &str,
        key: &str,
    ) -> Result<Option<RequestRecord>, StoreError> {
        let statement = query(
            "SELECT owner, request_key, fingerprint, answer, created_at FROM requests \
             WHERE owner = ? AND request_key = ?",
        )
        .bind(owner.to_owned())
        .bind(key.to_owned());
        let row = self.fetch_optional("read an order", statement).await?;
        row.map(|row| {
            let row = Columns(&row);
            Ok(RequestRecord {
                owner: row.text("owner")?,
                key: row.text("request_key")?,
                fingerprint: row.text("fingerprint")?,
                answer: row.text_opt("answer")?,
                created: row.time("created_at")?,
            })
        })
        .transpose()
    }

    /// Notes an order.
    ///
    /// # Errors
    /// If there is one under the same key, or the database cannot be written.
    pub async fn request_insert(&mut self, request: &RequestRecord) -> Result<(), StoreError> {
        let statement = query(
            "INSERT INTO requests (owner, request_key, fingerprint, answer, created_at) \
             VALUES (?, ?, ?, ?, ?)",
        )
        .bind(request.owner.clone())
        .bind(request.key.clone())
        .bind(request.fingerprint.clone())
        .bind(request.answer.clone())
        .bind(request.created.0);
        self.execute("note an order", statement).await.map(drop)
    }

    /// Notes what came of an order.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn request_answer(
        &mut self,
        owner: &str,
        key: &str,
        answer: &str,
    ) -> Result<(), StoreError> {
        let statement = query("UPDATE requests SET answer = ? WHERE owner = ? AND request_key = ?")
            .bind(answer.to_owned())
            .bind(owner.to_owned())
            .bind(key.to_owned());
        self.execute("note what came of an order", statement)
            .await
            .map(drop)
    }

    /// Forgets an order.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn request_delete(&mut self, owner: &str, key: &str) -> Result<(), StoreError> {
        let statement = query("DELETE FROM requests WHERE owner = ? AND request_key = ?")
            .bind(owner.to_owned())
            .bind(key.to_owned());
        self.execute("forget an order", statement).await.map(drop)
    }

    /// Forgets orders older than `before`; answers how many.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn request_delete_old(&mut self, before: Timestamp) -> Result<u64, StoreError> {
        let statement = query("DELETE FROM requests WHERE created_at < ?").bind(before.0);
        self.execute("forget old orders", statement).await
    }
}
