//! What the page, the CLI and later the API can do: one function per action, used in-process.
//!
//! Every change writes an audit row and raises the site's revision in the same transaction, then
//! asks `node` to publish a new site snapshot. If `node` is down the operation publishes it
//! itself, so that the data path hears of every change at once.

mod access;
mod boots;
mod cases;
mod client_change;
mod clients;
mod data_disks;
mod database;
mod details;
mod dhcpd;
mod error;
mod floor_plan;
mod garbage;
mod group_change;
mod images;
mod jobs;
mod limits;
mod maintenance;
mod names;
mod once;
mod overview;
mod records;
mod revision;
mod rollout;
mod sheet;
mod site;
mod snapshots;
mod space;
mod trial;
mod versions;
mod wake;

pub use access::{
    Credentials, OpenSession, SecondFactor, SessionCreate, SessionView, TokenCreate, TokenLogin,
    TokenView, UserChange, UserCreate, UserView,
};
pub use boots::{BootAttemptView, BootSummary, StepView};
pub use cases::CaseView;
pub use client_change::{ClientAdd, ClientChange};
pub use clients::{BootProfileView, ClientView, DataPathView, Hardware, ImageAssignment, Traffic};
pub use data_disks::{DataDiskChange, DataDiskChoice, DataDiskView};
pub use dhcpd::{DhcpdLeft, DhcpdReport};
pub use error::OperationError;
pub use floor_plan::{FLOOR_SIDE_MAX, FloorPlan, SeatPlace, Zone};
pub use garbage::{GarbageView, Orphan, OrphanKind};
pub use group_change::GroupChange;
pub use images::{
    AssignTo, Follow, GroupView, ImageImport, ImageView, MaintenanceView, VersionView, end_marker,
};
pub use jobs::{JobState, JobView};
pub use limits::LimitsChange;
pub use names::NamedDisk;
pub use overview::{FaultyClient, Overview};
pub use records::{AuditCursor, AuditQuery, AuditView, NoticeKind, NoticeView};
pub use revision::Revision;

use details::{differences, redacted};
pub use sheet::{SheetProblem, SheetReport};
pub use site::{SiteSetup, SiteView};
pub use space::{DiskSpace, PoolChange, SpaceView, VersionSpace};

pub use maintenance::PublishOrder;
pub use rollout::{RolloutTo, RolloutView};
pub use versions::DifferenceView;

pub(crate) use images::{IMAGE_IMPORT, ImportPayload};
pub(crate) use maintenance::{IMAGE_PUBLISH, PublishPayload};
pub(crate) use versions::{VERSION_FLATTEN, VERSION_REMOVE, VersionPayload};

use std::sync::Arc;
use std::time::Duration;

use dess_model::Timestamp;
use dess_model::host::{Paths, RequestError, request};
use dess_store::{AuditRecord, Database, Store, StoreError, Tx};
use uuid::Uuid;

use crate::{NodeReply, NodeRequest, snapshot};

/// Result of an operation.
pub type Result<T> = std::result::Result<T, OperationError>;

/// How long an operation waits for `node` to publish its change.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(3);

/// All operations on one site. Cheap to clone; the database is opened at the first use and
/// reopened after a failure, so one value serves the life of a process.
#[derive(Clone, Debug)]
pub struct Operations {
    paths: Arc<Paths>,
    database: Database,
    actor: Arc<str>,
}

impl Operations {
    /// The operations on the site whose files are at `paths`, its database among them. Opens
    /// nothing yet.
    pub fn new(paths: Paths) -> Self {
        let database = Database::new(paths.database());
        Self::with_database(paths, database)
    }

    /// The operations on the site whose files are at `paths` and whose database is `database`.
    pub fn with_database(paths: Paths, database: Database) -> Self {
        Self {
            database,
            paths: Arc::new(paths),
            actor: "system".into(),
        }
    }

    /// The same operations, with `actor` named in the audit log: `cli:root`,
    /// `web:owner@192.168.0.7`, `token:owner/monitor@192.168.0.7`.
    pub fn acting_as(&self, actor: impl AsRef<str>) -> Self {
        Self {
            actor: actor.as_ref().into(),
            ..self.clone()
        }
    }

    /// Closes the database, so that its file alone holds everything (unless other processes have it
    /// open). The next operation opens it again.
    pub async fn close(&self) {
        self.database.close().await;
    }

    /// The database of the site.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The files of the site.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// A number that differs from the one before whenever the database was changed in between,
    /// by any process. Cheap (no table is read): made to be polled several times a second.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn change_counter(&self) -> Result<u64> {
        Ok(self.database.change_counter().await?)
    }

    async fn store(&self) -> Result<Store> {
        Ok(self.database.store().await?)
    }

    async fn read(&self) -> Result<Tx> {
        Ok(self.store().await?.read().await?)
    }

    /// Makes a change of the site known to the data path. The change itself stands already.
    async fn publish(&self) {
        let socket = self.paths.node_control();
        match request(&socket, &NodeRequest::Publish, PUBLISH_TIMEOUT).await {
            Ok(NodeReply::Error { message }) => {
                tracing::warn!("node could not publish the change yet: {message}");
            }
            Ok(_) => {}
            Err(RequestError::Connect { .. }) => self.publish_without_node().await,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(
                    error,
                    "node was not told of the change; it finds it by itself"
                );
            }
        }
    }

    async fn publish_without_node(&self) {
        let published = match self.database.store().await {
            Ok(store) => snapshot::publish(&store, &self.paths).await.map(drop),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = published {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "node is down and the change could not be published; node will do it when it starts"
            );
        }
    }
}

/// Writes the audit row of a change and raises the site's revision.
async fn record(
    tx: &mut Tx,
    actor: &str,
    action: &str,
    subject: &str,
    details: serde_json::Value,
) -> std::result::Result<(), StoreError> {
    audit(tx, actor, action, subject, details).await?;
    tx.revision_raise(0).await
}

/// Writes an audit row alone.
pub(crate) async fn audit(
    tx: &mut Tx,
    actor: &str,
    action: &str,
    subject: &str,
    details: serde_json::Value,
) -> std::result::Result<(), StoreError> {
    let (actor, origin) = actor_and_origin(actor);
    tx.audit_insert(&AuditRecord {
        id: Uuid::now_v7(),
        at: Timestamp::now(),
        actor: actor.to_owned(),
        origin: origin.to_owned(),
        action: action.to_owned(),
        subject: subject.to_owned(),
        details: redacted(details).to_string(),
    })
    .await
}

/// Who, and from where: `web:owner@192.168.0.7` names both, `cli:root` sits at the console.
fn actor_and_origin(actor: &str) -> (&str, &str) {
    match actor.rsplit_once('@') {
        Some(parts) => parts,
        None if actor.starts_with("cli:") => (actor, "console"),
        None => (actor, ""),
    }
}

/// True for a name that can be shown, typed and given as host name: 1 to 63 letters of any
/// script, digits, `-`, `_`, `.`.
fn is_plain_name(name: &str) -> bool {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=63).contains(&name.chars().count()) && name.chars().all(allowed) && !name.starts_with('.')
}

#[cfg(test)]
mod tests;
