//! Cases: faults that the server found.

use dess_model::{CaseId, Timestamp};

use crate::row::{Columns, Row};
use crate::statement::query;
use crate::{StoreError, Tx};

/// One case. What it means is known to the diagnosis alone; here it is text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseRecord {
    /// Identity; sorts by age.
    pub id: CaseId,
    /// The fault's code, e.g. `E22`.
    pub code: String,
    /// What it is about, e.g. `seat:<client id>`.
    pub subject: String,
    /// Key of the severity.
    pub severity: String,
    /// Why, as JSON.
    pub cause: String,
    /// What was seen, as JSON.
    pub evidence: String,
    /// What would mend it, as JSON.
    pub remedy: Option<String>,
    /// How sure it is, in percent.
    pub confidence: u8,
    /// Since when.
    pub opened: Timestamp,
    /// When it was seen last.
    pub last_seen: Timestamp,
    /// When it was over.
    pub resolved: Option<Timestamp>,
    /// Who took note of it, and when. Not changed by [`Tx::case_put`].
    pub acknowledged: Option<(Timestamp, String)>,
}

impl Tx {
    /// Keeps the present state of a case, new or known; who took note of it stays.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn case_put(&mut self, case: &CaseRecord) -> Result<(), StoreError> {
        let update = query(
            "UPDATE cases SET severity = ?, cause = ?, evidence = ?, remedy = ?, confidence = ?, \
             last_seen_at = ?, resolved_at = ? WHERE id = ?",
        )
        .bind(case.severity.clone())
        .bind(case.cause.clone())
        .bind(case.evidence.clone())
        .bind(case.remedy.clone())
        .bind(i64::from(case.confidence))
        .bind(case.last_seen.0)
        .bind(case.resolved.map(|at| at.0))
        .bind(case.id.to_string());
        if self.execute("change a case", update).await? > 0 {
            return Ok(());
        }
        let insert = query(
            "INSERT INTO cases (id, code, subject, severity, cause, evidence, remedy, confidence, \
             opened_at, last_seen_at, resolved_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(case.id.to_string())
        .bind(case.code.clone())
        .bind(case.subject.clone())
        .bind(case.severity.clone())
        .bind(case.cause.clone())
        .bind(case.evidence.clone())
        .bind(case.remedy.clone())
        .bind(i64::from(case.confidence))
        .bind(case.opened.0)
        .bind(case.last_seen.0)
        .bind(case.resolved.map(|at| at.0));
        self.execute("keep a case", insert).await.map(drop)
    }

    /// Notes who took note of a case; the first one stays. False if there is no such case.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn case_acknowledge(
        &mut self,
        id: CaseId,
        by: &str,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let Some(case) = self.case_fetch(id).await? else {
            return Ok(false);
        };
        if case.acknowledged.is_none() {
            let statement =
                query("UPDATE cases SET acknowledged_at = ?, acknowledged_by = ? WHERE id = ?")
                    .bind(at.0)
                    .bind(by.to_owned())
                    .bind(id.to_string());
            self.execute("acknowledge a case", statement).await?;
        }
        Ok(true)
    }

    /// One case.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn case_fetch(&mut self, id: CaseId) -> Result<Option<CaseRecord>, StoreError> {
        let statement = query("SELECT * FROM cases WHERE id = ?").bind(id.to_string());
        let row = self.fetch_optional("read a case", statement).await?;
        row.as_ref().map(case_of).transpose()
    }

    /// All open cases, oldest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn case_list_open(&mut self) -> Result<Vec<CaseRecord>, StoreError> {
        let statement =
            query("SELECT * FROM cases WHERE resolved_at IS NULL ORDER BY opened_at, id");
        let rows = self.fetch_all("list open cases", statement).await?;
        rows.iter().map(case_of).collect()
    }

    /// The last `limit` cases, open or over, newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn case_list(&mut self, limit: u32) -> Result<Vec<CaseRecord>, StoreError> {
        let statement = query("SELECT * FROM cases ORDER BY opened_at DESC, id DESC LIMIT ?")
            .bind(i64::from(limit));
        let rows = self.fetch_all("list cases", statement).await?;
        rows.iter().map(case_of).collect()
    }

    /// Removes cases that were over before `before`; answers how many.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn case_delete_old(&mut self, before: Timestamp) -> Result<u64, StoreError> {
        let statement = query("DELETE FROM cases WHERE resolved_at < ?").bind(before.0);
        self.execute("remove old cases", statement).await
    }
}

fn case_of(row: &Row) -> Result<CaseRecord, StoreError> {
    let row = Columns(row);
    let by = row.text_opt("acknowledged_by")?;
    Ok(CaseRecord {
        id: row.parsed("id")?,
        code: row.text("code")?,
        subject: row.text("subject")?,
        severity: row.text("severity")?,
        cause: row.text("cause")?,
        evidence: row.text("evidence")?,
        remedy: row.text_opt("remedy")?,
        confidence: row.number("confidence")?,
        opened: row.time("opened_at")?,
        last_seen: row.time("last_seen_at")?,
        resolved: row.time_opt("resolved_at")?,
        acknowledged: row.time_opt("acknowledged_at")?.zip(by),
    })
}
