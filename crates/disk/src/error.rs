//! Errors, one enum per kind of caller.

use std::io;
use std::path::{Path, PathBuf};

use dess_model::{DiskId, VersionRef};

use crate::building::BuildError;

/// A version that cannot be opened or verified.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// A file of it cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A file of it is not what this release writes.
    #[error("{path} is damaged or of another release: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, for people.
        reason: String,
    },
    /// The content does not have the recorded checksum.
    #[error(
        "{path} does not hold what was imported: wrong checksum from byte {offset} of the disk on"
    )]
    Checksum {
        /// The data file.
        path: PathBuf,
        /// First byte of the chunk that differs.
        offset: u64,
    },
    /// The caller asked to stop.
    #[error("verification was cancelled")]
    Cancelled,
}

impl VersionError {
    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }

    pub(crate) fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }
}

/// A raw file that cannot be used as a disk.
#[derive(Debug, thiserror::Error)]
pub enum RawError {
    /// It cannot be opened or read.
    #[error("cannot open {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// It is a directory or a device.
    #[error("{path} is not a regular file")]
    NoFile {
        /// What it is not.
        path: PathBuf,
    },
    /// No disk has this size.
    #[error(
        "{path} is {bytes} bytes long; a raw disk image has a multiple of 512 (is it whole, and not of another format?)"
    )]
    Size {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        bytes: u64,
    },
    /// Another process has locked it.
    #[error("{path} is in use by another process that serves it as a disk")]
    InUse {
        /// The file.
        path: PathBuf,
    },
}

impl RawError {
    pub(crate) fn open(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Open { path, source }
    }
}

/// A disk that cannot be made, opened, reset or removed.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// A file or directory of the store fails.
    #[error("cannot {action} {path}")]
    Store {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Another process owns the overlays.
    #[error(
        "the overlays in {path} are in use by another process (is another iSCSI service running?)"
    )]
    InUse {
        /// The overlay directory.
        path: PathBuf,
    },
    /// The overlay cannot be trusted.
    #[error("the overlay {path} is damaged: {reason}; check it, or reset the disk")]
    Damaged {
        /// Its directory or file.
        path: PathBuf,
        /// What is wrong, for people.
        reason: String,
    },
    /// The version below the overlay cannot be opened.
    #[error("the version {version} that disk {disk} was made from cannot be opened")]
    Base {
        /// The disk.
        disk: DiskId,
        /// Its version.
        version: VersionRef,
        /// Cause.
        #[source]
        source: VersionError,
    },
    /// The version's content is not that from which the overlay was made.
    #[error(
        "the overlay of disk {disk} was made from other content of version {version}; reset the disk"
    )]
    ForeignBase {
        /// The disk.
        disk: DiskId,
        /// Its version.
        version: VersionRef,
    },
    /// The raw file below the overlay cannot be used.
    #[error(transparent)]
    File(#[from] RawError),
    /// The raw file below is not that over which the overlay was made.
    #[error(
        "the overlay in {directory} was made over another file than {file}, or {file} has changed since; give another directory, or remove this one to drop what it holds"
    )]
    ForeignFile {
        /// Where the overlay is.
        directory: PathBuf,
        /// The file.
        file: PathBuf,
    },
    /// The map of a volatile overlay was removed while the machine ran.
    #[error(
        "the live map {path} is gone, and with it what disk {disk} wrote since its power-on; power the client on again"
    )]
    LiveMapLost {
        /// The disk.
        disk: DiskId,
        /// Where it was.
        path: PathBuf,
    },
    /// A version is being made of what the maintenance client wrote.
    #[error("what disk {disk} holds is being published as a version; try again in a moment")]
    Sealed {
        /// The disk.
        disk: DiskId,
    },
    /// The overlay is a version already, or becomes one just now.
    #[error("what disk {disk} held is published as a version, or is being published")]
    Published {
        /// The disk.
        disk: DiskId,
    },
    /// It is not the disk of a maintenance client that has powered on.
    #[error("disk {disk} has no maintenance overlay; has the maintenance client powered on?")]
    NoMaintenance {
        /// The disk.
        disk: DiskId,
    },
    /// Only what a persistent client wrote can be kept as a snapshot or replaced by one.
    #[error("disk {disk} holds nothing persistent, or is maintained just now")]
    NotPersistent {
        /// The disk.
        disk: DiskId,
    },
    /// No name of a snapshot.
    #[error(
        "\"{name}\" is no name of a snapshot: it has at most 63 letters, digits, -, _ and ., and begins with a letter or digit"
    )]
    SnapshotName {
        /// As given.
        name: String,
    },
    /// There is one of that name.
    #[error("disk {disk} has a snapshot {name} already")]
    SnapshotExists {
        /// The disk.
        disk: DiskId,
        /// Its name.
        name: String,
    },
    /// There is none of that name.
    #[error("disk {disk} has no snapshot {name}")]
    NoSnapshot {
        /// The disk.
        disk: DiskId,
        /// As given.
        name: String,
    },
    /// The storage is nearly full, and overlays that are in use come first.
    #[error(
        "the storage for clients' writes is full to {used_percent} %; disk {disk} gets no new overlay"
    )]
    NoRoom {
        /// The disk.
        disk: DiskId,
        /// Percent in use.
        used_percent: u8,
    },
    /// Nothing has been made for it by a power-on.
    #[error("disk {disk} has no content yet; power the client on")]
    NoOverlay {
        /// The disk.
        disk: DiskId,
        /// True if it had content before: it was reset, or lived only as long as the former boot of this machine.
        dropped: bool,
    },
}

impl DiskError {
    pub(crate) fn store(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Store {
            action,
            path,
            source,
        }
    }

    pub(crate) fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    /// True if no space is left below `directory`.
    pub(crate) fn is_full(&self, directory: &Path) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        match self {
            Self::Store { path, source, .. } => {
                path.starts_with(directory) && matches!(source.kind(), StorageFull | QuotaExceeded)
            }
            _ => false,
        }
    }
}

/// An import that was not done. Nothing of it is visible afterwards.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The source cannot be read.
    #[error("cannot read {path} at byte {offset}")]
    Source {
        /// The source.
        path: PathBuf,
        /// Where in the file, or in the disk for formats with a mapping.
        offset: u64,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The source is not a whole image of a supported kind.
    #[error("{path} cannot be imported: {reason} (at byte {offset})")]
    Refused {
        /// The source, or the backing file at fault.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// Why, for people.
        reason: String,
    },
    /// The store cannot be written, or the version exists or is being made.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The caller asked to stop.
    #[error("the import was cancelled")]
    Cancelled,
}

impl ImportError {
    pub(crate) fn source(path: &Path, offset: u64) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Source {
            path,
            offset,
            source,
        }
    }

    pub(crate) fn refused(path: &Path, offset: u64, reason: impl Into<String>) -> Self {
        Self::Refused {
            path: path.to_owned(),
            offset,
            reason: reason.into(),
        }
    }
}

/// An export that was not done. There is no file afterwards; what went to a stream is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The version cannot be read.
    #[error("cannot read the version at byte {offset}")]
    Version {
        /// Where in the disk.
        offset: u64,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot {action} {path}")]
    Write {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The stream cannot be written.
    #[error("cannot write to the stream")]
    Stream(#[source] io::Error),
    /// The format cannot hold the disk, or not in this way.
    #[error("{reason}")]
    Refused {
        /// Why, for people.
        reason: String,
    },
    /// The caller asked to stop.
    #[error("the export was cancelled")]
    Cancelled,
}

impl ExportError {
    pub(crate) fn write(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Write {
            action,
            path,
            source,
        }
    }

    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self::Refused {
            reason: reason.into(),
        }
    }
}
