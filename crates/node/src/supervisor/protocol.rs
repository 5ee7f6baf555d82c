//! What the supervisor tells and takes over its control socket: one JSON line each way.

use dess_model::{ProbeReport, Timestamp};
pub use dess_model::{ServiceName, UnknownService};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Condition of a service.
///
/// ```text
/// Starting --ready--> Ready --exit--> Backoff --delay over--> Starting
///     `----exit---------------------->'    `--shutdown--> Stopped
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ServiceState {
    /// The process runs and has not said that its sockets are bound.
    Starting,
    /// In service.
    Ready,
    /// It ended by itself; the supervisor starts it again after a delay.
    Backoff,
    /// Ended because the supervisor shuts down.
    Stopped,
}

/// How a service ended. The text is English, for the command line and the log; the page has its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum LastExit {
    /// By itself.
    #[error("ended with exit code {code}")]
    Exited {
        /// Its exit code.
        code: i32,
    },
    /// By a signal.
    #[error("was killed by {signal}")]
    Killed {
        /// `SIGKILL` and the like.
        signal: String,
    },
    /// It never ran.
    #[error("could not be started: {detail}")]
    NotStarted {
        /// What the system said.
        detail: String,
    },
    /// Whoever runs it ended it, because of what the word says (`timeout`, `watchdog`, ...: systemd.service(5)).
    #[error("was ended: {result}")]
    Ended {
        /// The word.
        result: String,
    },
}

/// One service as people and checks see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceStatus {
    /// Which.
    pub name: ServiceName,
    /// Its condition.
    pub state: ServiceState,
    /// Its process, while there is one.
    pub pid: Option<u32>,
    /// Since when it is in this condition.
    pub since: Timestamp,
    /// How often it was started again after an unexpected end.
    pub restarts: u32,
    /// How it last ended; none if it never did.
    pub last_exit: Option<LastExit>,
    /// Its last log lines, oldest first.
    pub log_tail: Vec<String>,
    /// What the last probe of this run found; none if there was none yet.
    #[serde(default)]
    pub probe: Option<ProbeReport>,
}

impl ServiceStatus {
    /// True if it is up: its process is ready, and does what it is for as far as that was tried.
    pub fn works(&self) -> bool {
        self.state == ServiceState::Ready && self.probe.as_ref().is_none_or(ProbeReport::works)
    }
}

/// What may be asked of the supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum SupervisorRequest {
    /// The condition of all services.
    List,
    /// Ends a service and starts it again; answered when it is ready or has failed.
    Restart {
        /// Which.
        service: ServiceName,
    },
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum SupervisorReply {
    /// All services, in start order.
    Services {
        /// Their conditions.
        services: Vec<ServiceStatus>,
    },
    /// The service that was restarted.
    Restarted {
        /// Its condition after the restart.
        service: ServiceStatus,
    },
    /// Not done.
    Error {
        /// Why, for people.
        message: String,
    },
}
