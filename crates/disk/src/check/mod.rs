//! Check of versions and overlays: read-only, without the services, every fault with its place. Repair is a step of its own.
//!
//! | what | is checked against | repaired from |
//! |---|---|---|
//! | header of a map | its checksum, both slots | the other slot |
//! | records of a version's map | `map_crc32c` | the data, if the result has that checksum (base layers) |
//! | records of an overlay's map | the checksum of each | the whole records; what only the broken one named is lost, and said |
//! | `sums` | its checksum, `image_crc32c` | the content, if that has `image_crc32c` |
//! | content of a version | `sums`, `image_crc32c` | nothing here: a backup |
//! | `manifest.json`, `overlay.json` | their form, checksum, directory, parent and base | nothing here: a backup |

mod map;
mod overlay;
mod repair;
mod scrub;
#[cfg(test)]
mod tests;
mod version;

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use overlay::{OverlayCheck, check_disk, check_overlay, disks_in_store};
pub use repair::{RepairError, Repaired, repair_overlay, repair_version};
pub use scrub::{LayerScrub, Scrubbed};
pub use version::{Depth, VersionCheck, check_version, versions_in_store};

/// How bad a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is lost, and nothing has to be done.
    Note,
    /// Nothing is lost yet: a second fault of the kind would be damage.
    Warning,
    /// Something cannot be read, or is not what was written.
    Damage,
}

/// What can be done about a fault by a repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Remedy {
    /// The map is written anew.
    Map,
    /// The checksums are computed anew.
    Sums,
    /// The file is made as long as the disk.
    Length,
    /// The files are made read-only.
    Mode,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The file or directory.
    pub path: PathBuf,
    /// Which bytes of the file; of the data file these are the bytes of the disk too.
    pub bytes: Option<Range<u64>>,
    /// What is wrong with it, for people.
    pub problem: String,
    /// How bad that is.
    pub severity: Severity,
    /// What a repair does about it; `None` if only a backup helps, or nothing has to be done.
    pub remedy: Option<Remedy>,
}

impl Fault {
    fn new(path: &Path, severity: Severity, problem: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            bytes: None,
            problem: problem.into(),
            severity,
            remedy: None,
        }
    }

    fn damage(path: &Path, problem: impl Into<String>) -> Self {
        Self::new(path, Severity::Damage, problem)
    }

    fn unreadable(path: &Path, error: &io::Error) -> Self {
        Self::damage(path, format!("it cannot be read: {error}"))
    }

    fn at(mut self, bytes: Range<u64>) -> Self {
        self.bytes = Some(bytes);
        self
    }

    fn remedy(mut self, remedy: Remedy) -> Self {
        self.remedy = Some(remedy);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(bytes) = &self.bytes {
            write!(
                f,
                ", bytes {} to {}",
                bytes.start,
                bytes.end.saturating_sub(1)
            )?;
        }
        write!(f, ": {}", self.problem)
    }
}

/// True if something is damaged.
pub fn is_damaged(faults: &[Fault]) -> bool {
    faults
        .iter()
        .any(|fault| fault.severity == Severity::Damage)
}

/// A check that was not done.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// There is nothing of that name.
    #[error("there is no {path}")]
    Missing {
        /// What should be there.
        path: PathBuf,
    },
    /// The store cannot be read at all.
    #[error("cannot read {path}")]
    Store {
        /// Its directory.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The caller asked to stop.
    #[error("the check was cancelled")]
    Cancelled,
}

impl CheckError {
    fn store(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Store { path, source }
    }
}
