//! What would mend a case.

use dess_model::{ClientId, VersionRef};
use serde::{Deserialize, Serialize};

/// A repair that a case proposes. A person carries it out; its precondition is checked then.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Start a service again.
    RestartService {
        /// Which.
        service: String,
    },
    /// Make the PC's disk anew: what it has written is put away for forensics. Never while the
    /// PC's operating system runs.
    ResetDisk {
        /// Whose.
        client: ClientId,
    },
    /// Give the seats back what they booted before this version was rolled out.
    RollBack {
        /// The version that does not start.
        version: VersionRef,
    },
}

impl Action {
    /// The stable key, e.g. `reset_disk`.
    pub fn key(&self) -> &'static str {
        match self {
            Self::RestartService { .. } => "restart_service",
            Self::ResetDisk { .. } => "reset_disk",
            Self::RollBack { .. } => "roll_back",
        }
    }
}
