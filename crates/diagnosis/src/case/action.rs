//! What DESS can do about a case by itself.

use dess_model::{ClientId, VersionRef};
use serde::{Deserialize, Serialize};

/// A repair. Whether it is carried out is the site's policy; each has a precondition that is
/// checked again at the moment when it is done, and a limit per hour.
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

    /// How often within an hour it is done without a person, for the same thing.
    pub fn hourly_limit(&self) -> u32 {
        match self {
            // A service that fails its probe three times in an hour needs a person.
            Self::RestartService { .. } => 3,
            // What a fresh disk did not mend a second one will not.
            Self::ResetDisk { .. } => 1,
            // There is one version before; back and forth would help nobody.
            Self::RollBack { .. } => 1,
        }
    }

    /// True if it is never done without a person's word: running clients hang on it.
    pub fn needs_consent(&self) -> bool {
        matches!(self, Self::RestartService { service } if service == "iscsi")
    }
}
