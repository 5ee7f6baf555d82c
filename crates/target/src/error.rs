//! Errors of the service.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use dess_disk::{DiskError, RawError};

/// The service cannot start, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A portal cannot be bound.
    #[error("cannot listen on {address}: {hint}")]
    Bind {
        /// The portal.
        address: SocketAddr,
        /// What to do about it.
        hint: &'static str,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The control socket cannot be bound.
    #[error("cannot bind the control socket {}; does the directory exist, and may this user write to it?", path.display())]
    Control {
        /// The socket.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The overlays cannot be opened.
    #[error("cannot open the disks")]
    Disks(#[source] DiskError),
    /// The notes on which disks are in use cannot be read.
    #[error("cannot use the directory {}", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The secret of the probe disk cannot be written.
    #[error("cannot write {}", path.display())]
    ProbeSecret {
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The disk threads cannot be started.
    #[error("cannot start the disk threads")]
    Threads(#[source] io::Error),
    /// The image of the standalone mode cannot be used.
    #[error("cannot serve the image")]
    Image(#[source] RawError),
    /// The overlay of the standalone mode cannot be used.
    #[error("cannot serve the image with an overlay")]
    Overlay(#[source] DiskError),
}

impl ServeError {
    pub(crate) fn bind(address: SocketAddr, source: io::Error) -> Self {
        let hint = match source.kind() {
            io::ErrorKind::AddrInUse => {
                "another program has the port (tgt, LIO, or a second DESS?); `ss -ltnp` names it"
            }
            io::ErrorKind::AddrNotAvailable => {
                "this server does not have the address; check `ip addr` and the site's settings"
            }
            io::ErrorKind::PermissionDenied => "a port below 1024 needs root",
            _ => "see the cause",
        };
        Self::Bind {
            address,
            hint,
            source,
        }
    }
}
