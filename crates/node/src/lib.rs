//! Management daemon: site snapshot, jobs, registration, boot attempts, service supervisor.

mod daemon;
pub mod operations;
pub mod supervisor;

pub use daemon::{NodeOptions, NodeReply, NodeRequest, NodeStatus, ServeError, serve};
