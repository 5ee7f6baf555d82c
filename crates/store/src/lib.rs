//! Repositories and migrations of the site database.
//!
//! [`Database`] keeps one site's database open and reopens it after a failure; [`Store`] runs
//! transactions; [`Tx`] has the repository methods, one file per resource, named noun first.
//! SQL is portable (`?` parameters, no upserts); only opening, migrating and the transaction's
//! first statement know SQLite.

mod access;
mod audit;
mod boot;
mod client;
mod database;
mod error;
mod image;
mod job;
mod maintenance;
mod migration;
mod notice;
mod rollout;
mod row;
mod site;
mod tx;

pub use access::{SessionRecord, UserRecord};
pub use audit::AuditRecord;
pub use boot::{AttemptRecord, StepRecord};
pub use client::ClientRecord;
pub use database::{Database, Store};
pub use error::StoreError;
pub use image::{ImageRecord, VersionRecord};
pub use job::{JobRecord, JobState};
pub use maintenance::MaintenanceRecord;
pub use notice::{NoticeKind, NoticeRecord};
pub use rollout::{Assigned, Holder, RolloutRecord};
pub use site::{GroupRecord, ServerRecord, SiteRecord};
pub use tx::Tx;

#[cfg(test)]
mod tests;
