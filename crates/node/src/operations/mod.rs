//! What the page, the CLI and later the API can do: one function per action, used in-process.
//!
//! Every change writes an audit row and raises the site's revision in the same transaction, then
//! nudges `node` to publish a new site snapshot. If `node` is down the change still stands;
//! `node` publishes it when it starts.

mod access;
mod boots;
mod clients;
mod error;
mod images;
mod jobs;
mod records;
mod site;

pub use access::{SessionCreate, SessionView, UserView};
pub use boots::{BootAttemptView, BootSummary, StepView};
pub use clients::{ClientAdd, ClientChange, ClientView, Hardware, ImageAssignment, Traffic};
pub use error::OperationError;
pub use images::{AssignTo, GroupView, ImageImport, ImageView, VersionView};
pub use jobs::{JobState, JobView};
pub use records::{AuditView, NoticeKind, NoticeView};
pub use site::{SiteSetup, SiteView};

use dess_model::host::Paths;

/// Result of an operation.
pub type Result<T> = std::result::Result<T, OperationError>;

/// All operations on one site. Cheap to clone; the database is opened at the first use and
/// reopened after a failure, so one value serves the life of a process.
#[derive(Clone, Debug)]
pub struct Operations {
    paths: Paths,
    actor: String,
}

impl Operations {
    /// The operations on the site whose files are at `paths`. Opens nothing yet.
    pub fn new(paths: Paths) -> Self {
        Self {
            paths,
            actor: "system".to_owned(),
        }
    }

    /// The same operations, with `actor` named in the audit log, e.g. `cli:root` or
    /// `web:owner@192.168.0.7`.
    pub fn acting_as(&self, actor: impl Into<String>) -> Self {
        Self {
            actor: actor.into(),
            ..self.clone()
        }
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
        Err(OperationError::NoSite)
    }
}
