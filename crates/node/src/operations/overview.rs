//! The clients in numbers, without reading each of them.

use dess_diagnosis::{Attempt, BootOutcome, ClientState};
use dess_model::{AttemptId, MacAddr, Timestamp};
use dess_store::ClientCount;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Operations, Result};
use crate::timeline::attempt_of;

/// How many clients do what, and which have a fault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Overview {
    /// All of them.
    pub clients: u64,
    /// Their operating systems are up.
    pub running: u64,
    /// On the way there.
    pub booting: u64,
    /// Nothing is heard of them.
    pub off: u64,
    /// They wait for approval.
    pub pending: u64,
    /// Their last boot failed.
    pub fault: u64,
    /// Those with a fault, in seat order.
    pub faults: Vec<FaultyClient>,
}

/// A client with a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FaultyClient {
    /// Seat number.
    pub seat: u32,
    /// Name.
    pub name: String,
    /// What it does, which is a fault.
    pub state: ClientState,
}

impl Operations {
    /// The clients in numbers.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn overview(&self) -> Result<Overview> {
        let mut tx = self.read().await?;
        let mut overview = Overview::default();
        for count in tx.client_count().await? {
            overview.add(&count);
        }
        if overview.fault > 0 {
            let failed = tx.attempt_list_open_with(BootOutcome::Failed.key()).await?;
            overview.faults = failed
                .into_iter()
                .map(|one| FaultyClient {
                    seat: one.seat,
                    name: one.name,
                    state: ClientState::of(true, Some(&attempt_of(&one.attempt))),
                })
                .collect();
        }
        Ok(overview)
    }
}

impl Overview {
    fn add(&mut self, count: &ClientCount) {
        let state = ClientState::of(count.approved, last_of(count).as_ref());
        self.clients += count.clients;
        *match state {
            ClientState::Pending => &mut self.pending,
            ClientState::Off => &mut self.off,
            ClientState::Booting { .. } => &mut self.booting,
            ClientState::Running { .. } => &mut self.running,
            ClientState::Fault { .. } => &mut self.fault,
        } += count.clients;
    }
}

/// An attempt as such clients have it: only its outcome counts, and that it has not ended.
fn last_of(count: &ClientCount) -> Option<Attempt> {
    let outcome = count.outcome.as_deref()?;
    let id = AttemptId(Uuid::nil());
    let mut attempt = Attempt::new(id, MacAddr([0; 6]), None, Timestamp(0));
    attempt.outcome = BootOutcome::from_key(outcome).unwrap_or(BootOutcome::Abandoned);
    Some(attempt)
}
