//! Management daemon: site snapshot, jobs, registration, boot attempts, service supervisor.

mod case_record;
mod daemon;
mod data_disks;
pub mod operations;
mod registration;
pub mod services;
mod snapshot;
pub mod supervisor;
mod timeline;

pub use daemon::{
    NodeOptions, NodeReply, NodeRequest, NodeStatus, Retention, ScrubOptions, ScrubState,
    ServeError, serve,
};
pub use snapshot::PublishError;
