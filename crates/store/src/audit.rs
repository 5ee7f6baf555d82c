//! The audit log.

use dess_model::Timestamp;
use uuid::Uuid;

use crate::row::Columns;
use crate::statement::query;
use crate::{StoreError, Tx};

/// One line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Identity; sorts by age.
    pub id: Uuid,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// Stable key of the action.
    pub action: String,
    /// What it was done to.
    pub subject: String,
    /// Details as JSON; never a secret.
    pub details: String,
}

impl Tx {
    /// Adds a line.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn audit_insert(&mut self, line: &AuditRecord) -> Result<(), StoreError> {
        let statement = query(
            "INSERT INTO audit (id, at, actor, action, subject, details) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(line.id.to_string())
        .bind(line.at.0)
        .bind(line.actor.clone())
        .bind(line.action.clone())
        .bind(line.subject.clone())
        .bind(line.details.clone());
        self.execute("write the audit log", statement)
            .await
            .map(drop)
    }

    /// Removes lines older than `before`; answers how many.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn audit_delete_old(&mut self, before: Timestamp) -> Result<u64, StoreError> {
        let statement = query("DELETE FROM audit WHERE at < ?").bind(before.0);
        self.execute("remove old lines of the audit log", statement)
            .await
    }

    /// The last `limit` lines, newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn audit_list(&mut self, limit: u32) -> Result<Vec<AuditRecord>, StoreError> {
        let statement = query(
            "SELECT id, at, actor, action, subject, details FROM audit \
             ORDER BY at DESC, id DESC LIMIT ?",
        )
        .bind(i64::from(limit));
        let rows = self.fetch_all("read the audit log", statement).await?;
        rows.iter()
            .map(|row| {
                let row = Columns(row);
                Ok(AuditRecord {
                    id: row.parsed("id")?,
                    at: row.time("at")?,
                    actor: row.text("actor")?,
                    action: row.text("action")?,
                    subject: row.text("subject")?,
                    details: row.text("details")?,
                })
            })
            .collect()
    }
}
