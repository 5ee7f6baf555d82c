//! The HTTP side of the boot service: scripts, boot files, failure reports.
//!
//! | path | what |
//! |---|---|
//! | `/boot/<mac>.ipxe` | the client's script; the iSCSI service makes its disk ready first |
//! | `/files/<name>` | boot files, with byte ranges |
//! | `/report/<mac>?stage=..&errno=..` | iPXE tells why it did not boot |
//! | `/healthz` | `ok` |

mod error;
mod file;
mod report;
mod script;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::routing::get;
use axum::{Extension, Router};
use dess_http::{Ends, Host, Limits};
use dess_model::host::{EventSender, Paths, SnapshotReader};
use dess_model::{EventKind, MalformedTally, PeerTally, Timestamp};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub use error::ServeError;

use crate::files::BootFiles;

/// How long the iSCSI service may take to make a disk ready; the client waits for its script.
/// It looks for up to 2 s whether the client runs, gives the sessions of its former life 10 s to end, and then
/// makes the disk.
const POWER_ON_LIMIT: Duration = Duration::from_secs(20);

/// What a peer may do. An hour is enough for any file, however slowly its peer reads.
const LIMITS: Limits = Limits {
    connections: 1024,
    head_bytes: 16 * 1024,
    requests_until: Duration::from_secs(3600),
    last_answer: Duration::ZERO,
    stop_wait: Duration::from_secs(2),
};

/// What [`serve`] is to do.
#[derive(Clone, Debug)]
pub struct BootOptions {
    /// Where to listen: the server's address and its HTTP boot port.
    pub listen: SocketAddr,
    /// Where the snapshot and the control socket of the iSCSI service are.
    pub paths: Paths,
    /// The boot files; share them with the TFTP side.
    pub files: Arc<BootFiles>,
    /// Where events go.
    pub events: EventSender,
    /// How long the iSCSI service may take to make a disk ready.
    pub power_on_limit: Duration,
}

impl BootOptions {
    /// Everything as usual on this machine.
    pub fn new(listen: SocketAddr, paths: Paths) -> Self {
        Self {
            listen,
            files: Arc::new(BootFiles::new(paths.boot_files())),
            events: EventSender::new(paths.events()),
            paths,
            power_on_limit: POWER_ON_LIMIT,
        }
    }
}

/// What the handlers share.
#[derive(Debug)]
struct Service {
    options: BootOptions,
    snapshots: SnapshotReader,
    malformed: Mutex<MalformedTally>,
    refused: Mutex<PeerTally>,
}

/// Serves until `cancel`; `ready` is told once the socket is bound.
///
/// # Errors
/// If the socket cannot be bound.
pub async fn serve(
    options: BootOptions,
    ready: oneshot::Sender<()>,
    cancel: CancellationToken,
) -> Result<(), ServeError> {
    let address = options.listen;
    let failed = |source| ServeError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    tracing::info!(listen.address = %local, "HTTP boot listens on {local}");
    options.files.warn_of_missing_loaders();
    let events = options.events.clone();
    let service = Arc::new(Service {
        snapshots: SnapshotReader::new(options.paths.snapshot()),
        malformed: Mutex::new(MalformedTally::new("http")),
        refused: Mutex::default(),
        options,
    });
    // The receiver may have lost interest; that is its business.
    let _ = ready.send(());
    tokio::select! {
        () = dess_http::serve(&listener, &service, LIMITS, &cancel) => {}
        () = events.keep_flushing() => {}
    }
    Ok(())
}

impl Host for Service {
    fn router(self: &Arc<Self>, ends: Ends) -> Router {
        Router::new()
            .route("/boot/{name}", get(script::handle))
            .route("/files/{*name}", get(file::handle))
            .route("/report/{mac}", get(report::handle))
            .route("/healthz", get(|| async { "ok\n" }))
            .with_state(Arc::clone(self))
            .layer(Extension(ends))
    }

    fn misused(&self, peer: IpAddr, reason: &str) {
        self.count_malformed(peer, reason);
    }
}

impl Service {
    fn send(&self, event: EventKind) {
        self.options.events.send(event);
    }

    /// Counts a request that any peer can make and that is refused; logs it once per peer and
    /// minute, and answers whether it did.
    fn count_refused(&self, peer: IpAddr, what: &str) -> bool {
        let peer = peer.to_canonical();
        let told = self
            .refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .record(Timestamp::now(), &peer.to_string(), what);
        if let Some(told) = &told {
            tracing::warn!(client.address = %peer, count = told.count, "{peer} {}", told.reason);
        }
        told.is_some()
    }

    /// Counts malformed input; logs and tells it once per peer and minute.
    fn count_malformed(&self, peer: IpAddr, reason: &str) {
        let peer = peer.to_canonical();
        let report = self
            .malformed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .record(Timestamp::now(), &peer.to_string(), reason);
        if let Some(event) = report {
            if let EventKind::Malformed { reason, count, .. } = &event {
                tracing::warn!(client.address = %peer, count, "malformed HTTP from {peer}: {reason}");
            }
            self.send(event);
        }
    }
}

#[cfg(test)]
mod tests;
