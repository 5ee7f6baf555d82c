//! Layers: publishing what a maintenance client wrote, flattening, comparing and removing versions
//! (`docs/format/version.md`).

mod building;
mod difference;
mod flatten;
mod publish;
mod remove;

use std::io;
use std::path::{Path, PathBuf};

use dess_model::VersionRef;

pub use difference::{Difference, difference};
pub use flatten::flatten;
pub use publish::{PublishRequest, publish};
pub use remove::remove_version;

use crate::error::{DiskError, VersionError};

/// In the directory of an image: a version that is being published.
pub(crate) const PUBLISH_PREFIX: &str = ".publish-";
/// A version that is being made whole, or the layered files of one that was.
pub(crate) const FLATTEN_PREFIX: &str = ".flatten-";
/// A version that is being removed.
pub(crate) const DELETE_PREFIX: &str = ".delete-";

/// A version that was not made, made whole or removed. What was there before is as it was.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The store cannot be read or written.
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
    /// The version that is worked on, or its parent, cannot be used.
    #[error("the version {version} cannot be used")]
    Version {
        /// Which.
        version: VersionRef,
        /// Cause.
        #[source]
        source: VersionError,
    },
    /// The sealed overlay cannot be used.
    #[error("what the maintenance client wrote cannot be used")]
    Overlay(#[from] DiskError),
    /// The number is taken, or another process works on it.
    #[error("version {version} exists already or is being made")]
    Exists {
        /// Which.
        version: VersionRef,
    },
    /// The caller asked to stop.
    #[error("it was cancelled")]
    Cancelled,
}

impl LayerError {
    fn store(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Store {
            action,
            path,
            source,
        }
    }

    fn version(version: VersionRef) -> impl FnOnce(VersionError) -> Self {
        move |source| Self::Version { version, source }
    }
}

#[cfg(test)]
mod tests;
