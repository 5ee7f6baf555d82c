//! Repositories and migrations of the site database.
//!
//! [`Database`] keeps one site's database open and reopens it after a failure; [`Store`] runs
//! transactions; [`Tx`] has the repository methods, one file per resource, named noun first.
//! SQL is portable (`?` parameters, no upserts); only opening, migrating, and the first and last
//! statement of a transaction know whether the database is a SQLite file or on MariaDB servers.

mod access;
mod audit;
mod backup;
mod boot;
mod case;
mod check;
mod client;
mod data_disk;
mod database;
mod error;
mod floor_plan;
mod image;
mod job;
mod location;
mod maintenance;
mod mariadb;
mod migration;
mod notice;
mod request;
mod rollout;
mod row;
mod schema;
mod site;
mod sqlite;
mod statement;
mod transfer;
mod tx;

pub use access::{SessionRecord, TokenRecord, UserRecord};
pub use audit::{AuditFilter, AuditRecord};
pub use backup::{BackupError, newest_backup};
pub use boot::{AttemptRecord, ClientCount, SeatAttempt, StepRecord};
pub use case::CaseRecord;
pub use check::Soundness;
pub use client::ClientRecord;
pub use data_disk::{DataContent, DataDiskRecord};
pub use database::{Database, Store};
pub use error::StoreError;
pub use floor_plan::{SeatPlaceRecord, ZoneRecord};
pub use image::{ImageRecord, VersionRecord};
pub use job::{JobRecord, JobState};
pub use location::{DatabaseLocation, LocationError, ServerList};
pub use maintenance::MaintenanceRecord;
pub use notice::{NoticeKind, NoticeRecord};
pub use request::RequestRecord;
pub use rollout::{Assigned, Holder, RolloutRecord};
pub use site::{GroupRecord, ServerRecord, SiteRecord};
pub use transfer::{Transfer, TransferError};
pub use tx::Tx;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

#[cfg(test)]
mod tests;
