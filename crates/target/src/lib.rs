//! The iSCSI service: connections, sessions and disks over the pure protocol crates.
//!
//! One task owns one connection (`connection`), on one of a few threads (`workers`): it reads what has
//! arrived, carries out what is in memory at once, hands the rest to the disk threads (`engine`) and
//! sends all answers by one write. `site` says who may reach which disk, `control` takes orders of the other services.

mod accounts;
mod admission;
mod boot_profiles;
mod boots;
mod connection;
mod control;
mod data_disks;
mod engine;
mod error;
mod listener;
mod maintenance;
mod metrics;
mod portals;
mod power;
mod presence;
mod probe;
mod returning;
mod service;
mod session_log;
mod sessions;
mod site;
mod snapshots;
mod space;
mod standalone;
mod tcp_info;
mod workers;

pub use error::ServeError;
pub use service::{TargetOptions, serve};
pub use standalone::{Geometry, StandaloneChap, StandaloneOptions, serve_file};
