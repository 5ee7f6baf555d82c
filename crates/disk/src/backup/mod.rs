//! Backup of versions and of snapshots of disks to a file or stream, and back (`docs/format/backup.md`).

mod archive;
mod directory;
mod disk;
#[cfg(test)]
mod tests;
mod version;

use std::io::{self, Read};
use std::path::PathBuf;

use dess_model::VersionRef;

pub use archive::{BackupBase, BackupHeader};
pub use directory::{backup_file_name, backup_to_directory};
pub use disk::{backup_snapshot, restore_snapshot};
pub use version::{BackupRequest, backup_version, restore_version};

use crate::building::BuildError;
use crate::error::{DiskError, VersionError};
use crate::layer::LayerError;

/// A backup or restoration that was not done. There is no archive, version or snapshot afterwards that looks whole.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The archive cannot be written.
    #[error("cannot write the backup")]
    Write(#[source] io::Error),
    /// A file of a directory of backups cannot be written or read.
    #[error("cannot {action} {path}")]
    File {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The archive cannot be read.
    #[error("cannot read the backup at byte {at}")]
    Read {
        /// Where in the archive.
        at: u64,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The archive is not a whole one.
    #[error("the backup is damaged at byte {at}: {reason}")]
    Damaged {
        /// Where in the archive.
        at: u64,
        /// What is wrong, for people.
        reason: String,
    },
    /// A version cannot be read, or is damaged.
    #[error("the version {version} cannot be used")]
    Version {
        /// Which.
        version: VersionRef,
        /// Cause.
        #[source]
        source: VersionError,
    },
    /// The layers of a version cannot be compared.
    #[error(transparent)]
    Layers(#[from] LayerError),
    /// The disk cannot be read or written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The version cannot be made.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The archive needs a version that is not there, or holds other content.
    #[error(
        "the backup holds only what differs from version {base}, which is not in the store; restore that first"
    )]
    NoBase {
        /// Which.
        base: VersionRef,
    },
    /// The archive does not hold what is asked for.
    #[error("the backup does not hold {wanted}")]
    Other {
        /// What was asked for.
        wanted: &'static str,
    },
    /// The caller asked to stop.
    #[error("it was cancelled")]
    Cancelled,
}

impl BackupError {
    fn damaged(at: u64, reason: impl Into<String>) -> Self {
        Self::Damaged {
            at,
            reason: reason.into(),
        }
    }

    fn version(version: VersionRef) -> impl FnOnce(VersionError) -> Self {
        move |source| Self::Version { version, source }
    }
}

/// What an archive holds, by its first bytes.
///
/// # Errors
/// If it is no archive, or its header is damaged.
pub fn read_header(input: &mut dyn Read) -> Result<BackupHeader, BackupError> {
    Ok(archive::ArchiveReader::open(input)?.header().clone())
}
