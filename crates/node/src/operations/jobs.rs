//! Jobs: work that `node` carries out and that survives a crash.

use dess_model::{JobId, Timestamp};
use dess_store::JobRecord;
pub use dess_store::JobState;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{OperationError, Operations, Result, audit};

/// One job, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobView {
    /// Identity.
    pub id: JobId,
    /// Stable key of its kind, e.g. `image_import`.
    pub kind: String,
    /// What it works on, e.g. the image's name.
    pub subject: String,
    /// Where it stands.
    pub state: JobState,
    /// Units done, of `total`.
    pub progress: u64,
    /// Units in all (bytes for an import); 0 while unknown.
    pub total: u64,
    /// Result for people, e.g. `debian@1`.
    pub result: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// When it was asked for.
    pub created: Timestamp,
    /// When `node` took it up (last).
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

/// A job that waits for `node`.
pub(super) fn new_job(
    id: JobId,
    kind: &str,
    subject: &str,
    payload: serde_json::Value,
) -> JobRecord {
    JobRecord {
        id,
        kind: kind.to_owned(),
        subject: subject.to_owned(),
        state: JobState::Queued,
        payload: payload.to_string(),
        progress: 0,
        total: 0,
        runs: 0,
        cancel_requested: false,
        result: None,
        error: None,
        created: Timestamp::now(),
        started: None,
        ended: None,
    }
}

impl Operations {
    /// One job.
    ///
    /// # Errors
    /// If there is none, or the database cannot be read.
    pub async fn job_get(&self, id: JobId) -> Result<JobView> {
        let job = self.read().await?.job_fetch(id).await?;
        job.map(view)
            .ok_or_else(|| OperationError::not_found("job", id))
    }

    /// The last `limit` jobs, newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn job_list(&self, limit: u32) -> Result<Vec<JobView>> {
        let jobs = self.read().await?.job_list(limit).await?;
        Ok(jobs.into_iter().map(view).collect())
    }

    /// The last `limit` jobs that are older than `before`, or of all, newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn job_list_before(&self, before: Option<JobId>, limit: u32) -> Result<Vec<JobView>> {
        let jobs = self.read().await?.job_list_before(before, limit).await?;
        Ok(jobs.into_iter().map(view).collect())
    }

    /// Asks for the end of a job: a queued one is cancelled at once, a running one soon.
    ///
    /// # Errors
    /// If there is no such job, or it has ended.
    pub async fn job_cancel(&self, id: JobId) -> Result<()> {
        let actor = &*self.actor;
        self.store()
            .await?
            .transact(|mut tx| async move {
                let mut job = tx
                    .job_fetch(id)
                    .await?
                    .ok_or_else(|| OperationError::not_found("job", id))?;
                if job.state.is_final() {
                    let reason = format!("the job {id} has ended already");
                    return Err(OperationError::Refused(reason));
                }
                tx.job_cancel_request(id).await?;
                if job.state == JobState::Queued {
                    job.state = JobState::Cancelled;
                    job.ended = Some(Timestamp::now());
                    tx.job_update(&job).await?;
                }
                audit(
                    &mut tx,
                    actor,
                    "job.cancel",
                    &job.subject,
                    json!({"job": id}),
                )
                .await?;
                Ok(())
            })
            .await
    }
}

fn view(job: JobRecord) -> JobView {
    JobView {
        id: job.id,
        kind: job.kind,
        subject: job.subject,
        state: job.state,
        progress: job.progress,
        total: job.total,
        result: job.result,
        error: job.error,
        created: job.created,
        started: job.started,
        ended: job.ended,
    }
}
