//! Requests to the daemon over its local control socket: one JSON line each way.

use dess_model::{ProbeReport, ServiceName};
use serde::{Deserialize, Serialize};

/// What the CLI, the page and the operations may ask of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum NodeRequest {
    /// The database was changed: publish a new snapshot and look for jobs. Answered when done.
    Publish,
    /// How the daemon is.
    Status,
    /// What the last probes of the services found.
    Probes,
    /// Probe a service, or all, now.
    Probe {
        /// Which; none: all.
        service: Option<ServiceName>,
    },
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum NodeReply {
    /// Published; the snapshot in force.
    Published {
        /// Its revision.
        revision: u64,
    },
    /// How the daemon is.
    Status(NodeStatus),
    /// What the last probes found; those that were asked for, in the order in which services start.
    Probes {
        /// One per service that was probed.
        reports: Vec<ProbeReport>,
    },
    /// Not done.
    Error {
        /// Why, for people.
        message: String,
    },
}

/// How the daemon is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Why the database cannot be used, for people; none if all is well.
    pub degraded: Option<String>,
    /// Revision of the snapshot in force; 0 before the first.
    pub revision: u64,
    /// Events received since the start.
    pub events_received: u64,
    /// Changes of boot attempts that wait for the database.
    pub changes_waiting: u64,
}
