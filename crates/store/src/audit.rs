//! The audit log.

use dess_model::Timestamp;
use uuid::Uuid;

use crate::row::Columns;
use crate::statement::{Statement, Value, delete_by, query, query_of};
use crate::{StoreError, Tx};

/// One line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Identity; sorts by age.
    pub id: Uuid,
    /// When.
    pub at: Timestamp,
    /// Who, e.g. `web:owner`.
    pub actor: String,
    /// From where: an address, `console`, or empty for the system itself.
    pub origin: String,
    /// Stable key of the action.
    pub action: String,
    /// What it was done to.
    pub subject: String,
    /// Details as JSON; never a secret.
    pub details: String,
}

/// Which lines of the audit log are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Those of this actor, e.g. `web:owner`.
    pub actor: Option<String>,
    /// Those whose action is this one or starts with it and a dot, e.g. `client`.
    pub action: Option<String>,
    /// Those about this subject.
    pub subject: Option<String>,
    /// Those from this time on.
    pub since: Option<Timestamp>,
    /// Those older than this line.
    pub before: Option<(Timestamp, Uuid)>,
}

impl AuditFilter {
    /// The query of the newest `limit` lines.
    fn statement(&self, limit: u32) -> Statement {
        let mut conditions = vec!["1 = 1"];
        let mut values: Vec<Value> = Vec::new();
        if let Some(actor) = &self.actor {
            conditions.push("actor = ?");
            values.push(actor.clone().into());
        }
        if let Some(action) = &self.action {
            // A range, which an index serves: `/` follows `.`.
            conditions.push("(action = ? OR (action >= ? AND action < ?))");
            values.push(action.clone().into());
            values.push(format!("{action}.").into());
            values.push(format!("{action}/").into());
        }
        if let Some(subject) = &self.subject {
            conditions.push("subject = ?");
            values.push(subject.clone().into());
        }
        if let Some(since) = self.since {
            conditions.push("at >= ?");
            values.push(since.0.into());
        }
        if let Some((at, id)) = self.before {
            conditions.push("(at < ? OR (at = ? AND id < ?))");
            values.push(at.0.into());
            values.push(at.0.into());
            values.push(id.to_string().into());
        }
        let sql = format!(
            "SELECT id, at, actor, origin, action, subject, details FROM audit WHERE {} \
             ORDER BY at DESC, id DESC LIMIT ?",
            conditions.join(" AND ")
        );
        let statement = values.into_iter().fold(query_of(sql), Statement::bind);
        statement.bind(i64::from(limit))
    }
}

impl Tx {
    /// Adds a line.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn audit_insert(&mut self, line: &AuditRecord) -> Result<(), StoreError> {
        let statement = query(
            "INSERT INTO audit (id, at, actor, origin, action, subject, details) \
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(line.id.to_string())
        .bind(line.at.0)
        .bind(line.actor.clone())
        .bind(line.origin.clone())
        .bind(line.action.clone())
        .bind(line.subject.clone())
        .bind(line.details.clone());
        self.execute("write the audit log", statement)
            .await
            .map(drop)
    }

    /// Removes at most `limit` lines older than `before`, the oldest first; answers how many.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn audit_delete_old(
        &mut self,
        before: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let old = query("SELECT id FROM audit WHERE at < ? ORDER BY at LIMIT ?")
            .bind(before.0)
            .bind(i64::from(limit));
        let ids = self.ids("find old lines of the audit log", old).await?;
        let Some(delete) = delete_by("audit", "id", ids) else {
            return Ok(0);
        };
        self.execute("remove old lines of the audit log", delete)
            .await
    }

    /// The last `limit` lines that pass the filter, newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn audit_list(
        &mut self,
        filter: &AuditFilter,
        limit: u32,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        let statement = filter.statement(limit);
        let rows = self.fetch_all("read the audit log", statement).await?;
        rows.iter()
            .map(|row| {
                let row = Columns(row);
                Ok(AuditRecord {
                    id: row.parsed("id")?,
                    at: row.time("at")?,
                    actor: row.text("actor")?,
                    origin: row.text("origin")?,
                    action: row.text("action")?,
                    subject: row.text("subject")?,
                    details: row.text("details")?,
                })
            })
            .collect()
    }
}
