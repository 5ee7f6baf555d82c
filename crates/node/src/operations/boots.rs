//! Boot attempts with their timelines.

use dess_diagnosis::{Attempt, BootOutcome, Fault, Stage};
use dess_model::{AttemptId, ClientId, Timestamp};
use dess_store::StepRecord;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{OperationError, Operations, Result};
use crate::timeline::attempt_of;

/// One boot attempt in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BootAttemptView {
    /// The attempt in short.
    #[serde(flatten)]
    pub summary: BootSummary,
    /// Its steps in order.
    pub steps: Vec<StepView>,
}

/// One step of a timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// If there is no such client, or the database cannot be read.
    pub async fn client_boots(&self, id: ClientId, limit: u32) -> Result<Vec<BootAttemptView>> {
        let mut tx = self.read().await?;
        if tx.client_fetch(id).await?.is_none() {
            return Err(OperationError::not_found("client", id));
        }
        let mut attempts = Vec::new();
        for record in tx.attempt_list(id, limit).await? {
            let steps = tx.step_list(record.id).await?;
            attempts.push(BootAttemptView {
                summary: BootSummary::of(&attempt_of(&record)),
                steps: steps
                    .into_iter()
                    .map(|step| step_view(step, record.started))
                    .collect(),
            });
        }
        Ok(attempts)
    }
}

impl BootSummary {
    pub(super) fn of(attempt: &Attempt) -> Self {
        Self {
            id: attempt.id,
            started: attempt.started,
            outcome: attempt.outcome,
            stage: attempt.stage,
            up_after_ms: attempt.up_after_ms(),
            fault: attempt.fault.clone(),
            ended: attempt.ended,
        }
    }
}

fn step_view(step: StepRecord, started: Timestamp) -> StepView {
    StepView {
        at: step.at,
        offset_ms: step.at.millis_since(started),
        stage: step.stage.parse().unwrap_or(Stage::Dhcp),
        detail: step.detail,
    }
}
