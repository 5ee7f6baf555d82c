//! Jobs: work that `node` carries out and that survives a crash.

use dess_model::{JobId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::row::{Columns, Row, count_of, name_of};
use crate::statement::{delete_by, query};
use crate::{StoreError, Tx};

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waits for `node`.
    Queued,
    /// Under way.
    Running,
    /// Done.
    Done,
    /// Failed.
    Failed,
    /// Cancelled by a person.
    Cancelled,
}

impl JobState {
    /// True if nothing more will happen.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// One job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRecord {
    /// Identity.
    pub id: JobId,
    /// Stable key of its kind.
    pub kind: String,
    /// What it works on.
    pub subject: String,
    /// Where it stands.
    pub state: JobState,
    /// What is to be done, as JSON.
    pub payload: String,
    /// Units done.
    pub progress: u64,
    /// Units in all; 0 while unknown.
    pub total: u64,
    /// How often it was taken up.
    pub runs: u32,
    /// True if a person asked for its end.
    pub cancel_requested: bool,
    /// Result for people.
    pub result: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// When it was asked for.
    pub created: Timestamp,
    /// When it was taken up last.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

impl Tx {
    /// The last `limit` jobs, newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn job_list(&mut self, limit: u32) -> Result<Vec<JobRecord>, StoreError> {
        let statement = query("SELECT * FROM jobs ORDER BY created_at DESC, id DESC LIMIT ?")
            .bind(i64::from(limit));
        let rows = self.fetch_all("list jobs", statement).await?;
        rows.iter().map(job_of).collect()
    }

    /// The last `limit` jobs that are older than `before`, or of all, newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn job_list_before(
        &mut self,
        before: Option<JobId>,
        limit: u32,
    ) -> Result<Vec<JobRecord>, StoreError> {
        // Ids sort by age.
        let statement = match before {
            Some(id) => query("SELECT * FROM jobs WHERE id < ? ORDER BY id DESC LIMIT ?")
                .bind(id.to_string()),
            None => query("SELECT * FROM jobs ORDER BY id DESC LIMIT ?"),
        };
        let rows = self
            .fetch_all("list jobs", statement.bind(i64::from(limit)))
            .await?;
        rows.iter().map(job_of).collect()
    }

    /// All jobs that have not ended, oldest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn job_list_open(&mut self) -> Result<Vec<JobRecord>, StoreError> {
        let statement = query(
            "SELECT * FROM jobs WHERE state IN ('queued', 'running') ORDER BY created_at, id",
        );
        let rows = self.fetch_all("list open jobs", statement).await?;
        rows.iter().map(job_of).collect()
    }

    /// One job.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn job_fetch(&mut self, id: JobId) -> Result<Option<JobRecord>, StoreError> {
        let statement = query("SELECT * FROM jobs WHERE id = ?").bind(id.to_string());
        let row = self.fetch_optional("read a job", statement).await?;
        row.as_ref().map(job_of).transpose()
    }

    /// Adds a job.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn job_insert(&mut self, job: &JobRecord) -> Result<(), StoreError> {
        let statement = query(
            "INSERT INTO jobs (id, kind, subject, state, payload, progress, total, runs, \
             cancel_requested, result, error, created_at, started_at, ended_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(job.id.to_string())
        .bind(job.kind.clone())
        .bind(job.subject.clone())
        .bind(name_of(job.state))
        .bind(job.payload.clone())
        .bind(count_of(job.progress))
        .bind(count_of(job.total))
        .bind(i64::from(job.runs))
        .bind(i64::from(job.cancel_requested))
        .bind(job.result.clone())
        .bind(job.error.clone())
        .bind(job.created.0)
        .bind(job.started.map(|at| at.0))
        .bind(job.ended.map(|at| at.0));
        self.execute("add a job", statement).await.map(drop)
    }

    /// Keeps the present state of a job, except a request to cancel it.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn job_update(&mut self, job: &JobRecord) -> Result<(), StoreError> {
        let statement = query(
            "UPDATE jobs SET state = ?, progress = ?, total = ?, runs = ?, result = ?, error = ?, \
             started_at = ?, ended_at = ? WHERE id = ?",
        )
        .bind(name_of(job.state))
        .bind(count_of(job.progress))
        .bind(count_of(job.total))
        .bind(i64::from(job.runs))
        .bind(job.result.clone())
        .bind(job.error.clone())
        .bind(job.started.map(|at| at.0))
        .bind(job.ended.map(|at| at.0))
        .bind(job.id.to_string());
        self.execute("change a job", statement).await.map(drop)
    }

    /// Removes at most `limit` jobs that ended before `before`; answers how many.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn job_delete_old(
        &mut self,
        before: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let old = query(
            "SELECT id FROM jobs WHERE state IN ('done', 'failed', 'cancelled') \
             AND ended_at < ? ORDER BY created_at LIMIT ?",
        )
        .bind(before.0)
        .bind(i64::from(limit));
        let ids = self.ids("find old jobs", old).await?;
        let Some(delete) = delete_by("jobs", "id", ids) else {
            return Ok(0);
        };
        self.execute("remove old jobs", delete).await
    }

    /// Asks for the end of a job.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn job_cancel_request(&mut self, id: JobId) -> Result<(), StoreError> {
        let statement =
            query("UPDATE jobs SET cancel_requested = 1 WHERE id = ?").bind(id.to_string());
        self.execute("cancel a job", statement).await.map(drop)
    }
}

fn job_of(row: &Row) -> Result<JobRecord, StoreError> {
    let row = Columns(row);
    Ok(JobRecord {
        id: row.parsed("id")?,
        kind: row.text("kind")?,
        subject: row.text("subject")?,
        state: row.named("state")?,
        payload: row.text("payload")?,
        progress: row.number("progress")?,
        total: row.number("total")?,
        runs: row.number("runs")?,
        cancel_requested: row.flag("cancel_requested")?,
        result: row.text_opt("result")?,
        error: row.text_opt("error")?,
        created: row.time("created_at")?,
        started: row.time_opt("started_at")?,
        ended: row.time_opt("ended_at")?,
    })
}
