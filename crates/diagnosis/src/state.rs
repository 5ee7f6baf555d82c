//! What a boot came to, and what a client does now.

use dess_model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Attempt, Stage};

/// What a boot attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum BootOutcome {
    /// Still under way.
    InProgress,
    /// The operating system came up.
    Up,
    /// It failed.
    Failed,
    /// It stopped without a word: the client was switched off, or powered on again.
    Abandoned,
}

impl BootOutcome {
    /// The stable key, e.g. `in_progress`.
    pub fn key(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Up => "up",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
        }
    }

    /// The outcome with this key.
    pub fn from_key(key: &str) -> Option<Self> {
        [Self::InProgress, Self::Up, Self::Failed, Self::Abandoned]
            .into_iter()
            .find(|outcome| outcome.key() == key)
    }
}

/// Why a boot failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Fault {
    /// Stable code, e.g. `E22`: shown on the client's screen, in the page and in the docs.
    pub code: String,
    /// What happened, in English, with the details that the code leaves out.
    pub text: String,
}

/// What a client does now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ClientState {
    /// Waits for the operator's approval.
    Pending,
    /// Nothing is heard of it.
    Off,
    /// It boots.
    Booting {
        /// The stage that it reached last.
        stage: Stage,
        /// When it powered on.
        since: Timestamp,
    },
    /// Its operating system is up.
    Running {
        /// When it came up.
        since: Timestamp,
    },
    /// Its last boot failed and it has not been switched off since, as far as is known.
    Fault {
        /// Stable code, e.g. `E22`.
        code: String,
        /// What happened, in English.
        text: String,
        /// When.
        since: Timestamp,
    },
}

impl ClientState {
    /// The stable key: `pending`, `off`, `booting`, `running` or `fault`.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Off => "off",
            Self::Booting { .. } => "booting",
            Self::Running { .. } => "running",
            Self::Fault { .. } => "fault",
        }
    }
}

impl ClientState {
    /// What a client does, by its approval and its last boot attempt.
    pub fn of(approved: bool, last: Option<&Attempt>) -> Self {
        match last {
            _ if !approved => Self::Pending,
            Some(attempt) if attempt.ended.is_none() => match (attempt.outcome, attempt.up) {
                (BootOutcome::Up, up) => Self::Running {
                    since: up.unwrap_or(attempt.started),
                },
                (BootOutcome::InProgress, _) => Self::Booting {
                    stage: attempt.stage,
                    since: attempt.started,
                },
                (BootOutcome::Failed, _) => failed(attempt),
                (BootOutcome::Abandoned, _) => Self::Off,
            },
            _ => Self::Off,
        }
    }
}

fn failed(attempt: &Attempt) -> ClientState {
    let fault = attempt.fault.clone();
    ClientState::Fault {
        code: fault
            .as_ref()
            .map_or_else(String::new, |fault| fault.code.clone()),
        text: fault.map_or_else(String::new, |fault| fault.text),
        since: attempt.last_event,
    }
}
