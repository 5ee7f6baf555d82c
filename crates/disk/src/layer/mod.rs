//! Layers: publishing what a maintenance client wrote, flattening, comparing and removing versions
//! (`docs/format/version.md`).

mod difference;
mod flatten;
mod publish;
mod remove;

use dess_model::VersionRef;

pub(crate) use difference::chunks_between;
pub use difference::{Difference, difference};
pub use flatten::flatten;
pub use publish::{PublishRequest, publish};
pub use remove::remove_version;

use crate::building::BuildError;
use crate::error::{DiskError, VersionError};

/// A version that was not made, made whole or removed. What was there before is as it was.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The store cannot be read or written, or the number is taken.
    #[error(transparent)]
    Build(#[from] BuildError),
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
    /// The caller asked to stop.
    #[error("it was cancelled")]
    Cancelled,
}

impl LayerError {
    fn version(version: VersionRef) -> impl FnOnce(VersionError) -> Self {
        move |source| Self::Version { version, source }
    }
}

#[cfg(test)]
mod stack_tests;
#[cfg(test)]
mod tests;
