//! What the supervisor tells and takes over its control socket: one JSON line each way.

use std::fmt;
use std::str::FromStr;

use dess_model::Timestamp;
use serde::{Deserialize, Serialize};

/// The five services, each a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceName {
    /// Addresses and boot information.
    Dhcp,
    /// Boot files and scripts.
    Boot,
    /// Disks.
    Iscsi,
    /// Management daemon.
    Node,
    /// Admin page.
    Web,
}

impl ServiceName {
    /// All services in the order in which they start.
    pub const START_ORDER: [Self; 5] = [Self::Node, Self::Iscsi, Self::Boot, Self::Dhcp, Self::Web];

    /// The name of the subcommand and of the process.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dhcp => "dhcp",
            Self::Boot => "boot",
            Self::Iscsi => "iscsi",
            Self::Node => "node",
            Self::Web => "web",
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not one of the five services.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a service; the services are dhcp, boot, iscsi, node and web")]
pub struct UnknownService(pub String);

impl FromStr for ServiceName {
    type Err = UnknownService;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::START_ORDER
            .into_iter()
            .find(|name| name.as_str() == text)
            .ok_or_else(|| UnknownService(text.to_owned()))
    }
}

/// Condition of a service.
///
/// ```text
/// Starting --ready--> Ready --exit--> Backoff --delay over--> Starting
///     `----exit---------------------->'    `--shutdown--> Stopped
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// One service as people and checks see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// How it last ended, in words; none if it never did.
    pub last_exit: Option<String>,
    /// Its last log lines, oldest first.
    pub log_tail: Vec<String>,
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
