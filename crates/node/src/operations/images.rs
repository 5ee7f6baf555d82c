//! Images, their versions, import and assignment.

use std::path::PathBuf;

use dess_model::{BootPolicy, ClientId, GroupId, ImageId, JobId, Timestamp, VersionRef};
use serde::{Deserialize, Serialize};

use super::{ImageAssignment, OperationError, Operations, Result};

/// One image with its versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageView {
    /// Identity.
    pub id: ImageId,
    /// Name, unique at the site.
    pub name: String,
    /// Versions, oldest first.
    pub versions: Vec<VersionView>,
}

/// One version of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionView {
    /// Which.
    pub version: VersionRef,
    /// For people: `debian@1`.
    pub label: String,
    /// Size of the disk in bytes.
    pub size_bytes: u64,
    /// When it was published.
    pub created: Timestamp,
    /// Groups that boot it.
    pub groups: Vec<String>,
    /// How many clients boot it at their next power-on.
    pub clients: u32,
}

/// An image to import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageImport {
    /// File on the server: raw or qcow2.
    pub source: PathBuf,
    /// Name of the image: letters of any script, digits, `-`, `_`, `.`; a new name makes a new
    /// image, a known one its next version.
    pub name: String,
}

/// Whom an image is assigned to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AssignTo {
    /// The default group: all clients without a version of their own.
    DefaultGroup,
    /// One client.
    Client(ClientId),
}

/// A group of clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupView {
    /// Identity.
    pub id: GroupId,
    /// Name.
    pub name: String,
    /// True for the group of clients that nobody put in another.
    pub default: bool,
    /// What its clients boot.
    pub image: Option<ImageAssignment>,
    /// What happens to their writes.
    pub policy: BootPolicy,
}

impl Operations {
    /// All images by name.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn image_list(&self) -> Result<Vec<ImageView>> {
        Ok(Vec::new())
    }

    /// Queues the import of an image; `node` carries it out.
    ///
    /// # Errors
    /// If the file cannot be read or the name is wrong.
    pub async fn image_import_start(&self, import: ImageImport) -> Result<JobId> {
        let _ = import;
        Err(OperationError::NoSite)
    }

    /// Assigns an image, as `name` (its newest version) or `name@version`; none takes the
    /// assignment away.
    ///
    /// # Errors
    /// If there is no such image or client.
    pub async fn image_assign(&self, image: Option<&str>, to: AssignTo) -> Result<()> {
        let _ = (image, to);
        Err(OperationError::NoSite)
    }

    /// All groups, the default one first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn group_list(&self) -> Result<Vec<GroupView>> {
        Ok(Vec::new())
    }

    /// Sets the boot policy of the default group.
    ///
    /// # Errors
    /// If the site is not set up.
    pub async fn default_policy_set(&self, policy: BootPolicy) -> Result<()> {
        let _ = policy;
        Err(OperationError::NoSite)
    }
}
