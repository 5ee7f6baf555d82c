//! The sockets: one listener, one thread and one connected socket per transfer.
//!
//! A transfer is a loop of send and receive on one blocking socket. Measured against tasks on an
//! event loop, that is two system calls per block instead of four, and the rate of a single
//! transfer is what the person in front of the PC waits for (`docs/adr/0004-boot-service.md`).

mod complaints;
mod error;
mod listener;
mod lookout;
mod registry;
mod session;
mod source;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dess_model::{EventKind, TftpFailure};

pub use error::ServeError;
pub use listener::serve;
pub use source::{FileBody, FileSource, OpenError};

use crate::{Failure, Limits};

/// Transfers under way at once, if not configured otherwise.
pub const TRANSFERS_MAX: usize = 1024;
/// The same for one client address. Well above what a firmware needs, because rooms behind a
/// router share one address; well below [`TRANSFERS_MAX`], so that one address cannot have all.
pub const TRANSFERS_PER_PEER_MAX: usize = 256;

/// What [`serve`] is to do.
#[derive(Clone)]
pub struct ServeOptions {
    /// Addresses to listen on, each with its port (usually 69). An answer comes from the address
    /// that was asked; with an unspecified address the system chooses it.
    pub listen: Vec<SocketAddr>,
    /// The files.
    pub source: Arc<dyn FileSource>,
    /// The most that is agreed to.
    pub limits: Limits,
    /// Transfers under way at once; more are refused with an ERROR.
    pub transfers_max: usize,
    /// The same for one client address.
    pub transfers_per_peer_max: usize,
    /// Told about each transfer and about malformed input; must not block.
    pub on_notice: Arc<dyn Fn(Notice) + Send + Sync>,
    /// The server's own address: what it fetches from itself to see whether the service works is neither told nor logged.
    pub own_address: Option<IpAddr>,
}

/// Something that the rest of the system may want to know.
#[derive(Clone, Debug)]
pub enum Notice {
    /// A transfer ended. A firmware's size probe is not reported.
    Transfer(TransferReport),
    /// Malformed input, at most once per peer and minute: an [`EventKind::Malformed`].
    Malformed(EventKind),
}

/// How a transfer went.
#[derive(Clone, Debug)]
pub struct TransferReport {
    /// The client's address.
    pub peer: IpAddr,
    /// File asked for, printable.
    pub file: String,
    /// Bytes acknowledged.
    pub bytes: u64,
    /// From the request to the end.
    pub duration: Duration,
    /// Why it failed; none if it was complete.
    pub error: Option<TransferError>,
}

/// Why a client did not get its file.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TransferError {
    /// There is no such file, or it is not served.
    #[error("{0}")]
    Refused(String),
    /// The transfer broke.
    #[error(transparent)]
    Broken(#[from] Failure),
}

impl ServeOptions {
    /// Everything as usual, except what must be given.
    pub fn new(listen: SocketAddr, source: Arc<dyn FileSource>) -> Self {
        Self {
            listen: vec![listen],
            source,
            limits: Limits::default(),
            transfers_max: TRANSFERS_MAX,
            transfers_per_peer_max: TRANSFERS_PER_PEER_MAX,
            on_notice: Arc::new(|_| {}),
            own_address: None,
        }
    }
}

impl fmt::Debug for ServeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeOptions")
            .field("listen", &self.listen)
            .field("limits", &self.limits)
            .field("transfers_max", &self.transfers_max)
            .field("transfers_per_peer_max", &self.transfers_per_peer_max)
            .finish_non_exhaustive()
    }
}

impl From<&TransferError> for TftpFailure {
    fn from(error: &TransferError) -> Self {
        match error {
            TransferError::Refused(_) => Self::Refused,
            TransferError::Broken(Failure::TimedOut) => Self::Silent,
            TransferError::Broken(
                Failure::PeerError { .. } | Failure::PeerGone | Failure::Aborted(_),
            ) => Self::Ended,
        }
    }
}

impl From<TransferReport> for EventKind {
    fn from(report: TransferReport) -> Self {
        Self::TftpTransfer {
            peer: report.peer,
            file: report.file,
            bytes: report.bytes,
            duration_ms: u64::try_from(report.duration.as_millis()).unwrap_or(u64::MAX),
            failure: report.error.as_ref().map(TftpFailure::from),
            error: report.error.map(|error| error.to_string()),
        }
    }
}

impl From<Notice> for EventKind {
    fn from(notice: Notice) -> Self {
        match notice {
            Notice::Transfer(report) => report.into(),
            Notice::Malformed(event) => event,
        }
    }
}
