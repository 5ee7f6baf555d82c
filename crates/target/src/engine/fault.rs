//! Failures of the store, and what the initiator is told.

use std::io;

use dess_scsi::Sense;

/// What the store could not do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// No space is left for the client's writes.
    #[error("no space is left for the disk's writes")]
    Full(#[source] io::Error),
    /// The disk takes no writes (read only, or a flush failed before).
    #[error("the disk takes no writes")]
    ReadOnly(#[source] io::Error),
    /// Reading failed.
    #[error("cannot read {length} bytes at {offset}")]
    Read {
        /// Byte of the disk.
        offset: u64,
        /// How many.
        length: u64,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Writing failed.
    #[error("cannot write {length} bytes at {offset}")]
    Write {
        /// Byte of the disk.
        offset: u64,
        /// How many.
        length: u64,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Flushing failed.
    #[error("cannot flush")]
    Flush(#[source] io::Error),
    /// What initiators have reserved cannot be kept.
    #[error("cannot keep the reservations")]
    Reservations(#[source] io::Error),
}

impl Fault {
    pub(crate) fn write(offset: u64, length: u64, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(source),
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                Self::ReadOnly(source)
            }
            _ => Self::Write {
                offset,
                length,
                source,
            },
        }
    }

    pub(crate) fn flush(source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(source),
            _ => Self::Flush(source),
        }
    }

    /// Whether the failure deserves an event: a full or read-only disk answers every write so.
    pub(crate) fn is_failure(&self) -> bool {
        match self {
            Self::ReadOnly(_) => false,
            Self::Full(_)
            | Self::Read { .. }
            | Self::Write { .. }
            | Self::Flush(_)
            | Self::Reservations(_) => true,
        }
    }
}

impl From<&Fault> for Sense {
    fn from(fault: &Fault) -> Self {
        match fault {
            Fault::Full(_) => Self::SPACE_ALLOCATION_FAILED,
            Fault::ReadOnly(_) => Self::WRITE_PROTECTED,
            Fault::Read { offset, .. } => {
                Self::UNRECOVERED_READ.with_information(offset / dess_scsi::LOGICAL_BLOCK_BYTES)
            }
            Fault::Write { offset, .. } => {
                Self::WRITE_ERROR.with_information(offset / dess_scsi::LOGICAL_BLOCK_BYTES)
            }
            Fault::Flush(_) => Self::WRITE_ERROR,
            Fault::Reservations(_) => Self::INTERNAL_FAILURE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_store_and_a_broken_one_are_told_apart() {
        let sense = |kind: io::ErrorKind| Sense::from(&Fault::write(4096, 512, kind.into()));
        assert_eq!(
            sense(io::ErrorKind::StorageFull),
            Sense::SPACE_ALLOCATION_FAILED
        );
        assert_eq!(
            sense(io::ErrorKind::ReadOnlyFilesystem),
            Sense::WRITE_PROTECTED
        );
        assert_eq!(
            sense(io::ErrorKind::Other),
            Sense::WRITE_ERROR.with_information(8)
        );
        let full = Fault::flush(io::ErrorKind::StorageFull.into());
        assert_eq!(Sense::from(&full), Sense::SPACE_ALLOCATION_FAILED);
        assert!(full.is_failure());
    }
}
