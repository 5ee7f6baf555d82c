//! The listening sockets.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dess_model::{EventKind, MalformedTally, Timestamp};
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::complaints::Complaints;
use super::registry::{Admission, Registry};
use super::session::Session;
use super::{Notice, ServeError, ServeOptions};
use crate::packet::{DecodeError, ErrorCode, Packet};

/// Room for the requests of a whole room at power-on, in bytes.
const RECEIVE_BUFFER_BYTES: usize = 1024 * 1024;
/// Longest request in bytes and some more, to tell that it is too long.
const DATAGRAM_BYTES_MAX: usize = 1500;
/// Stack of a transfer's thread in bytes.
const STACK_BYTES: usize = 128 * 1024;
/// How long a stop waits for the transfers to notice it.
const STOP_WAIT: Duration = Duration::from_secs(2);
/// How often it looks.
const STOP_LOOK: Duration = Duration::from_millis(20);
/// Wait after the socket could not be read, e.g. for want of memory.
const RECEIVE_RETRY: Duration = Duration::from_millis(50);

/// Serves until `cancel`; `ready` is told once all sockets are bound.
///
/// # Errors
/// If a socket cannot be bound.
pub async fn serve(
    options: ServeOptions,
    ready: oneshot::Sender<()>,
    cancel: CancellationToken,
) -> Result<(), ServeError> {
    let mut sockets = Vec::new();
    for &address in &options.listen {
        sockets.push(bind(address).await?);
    }
    let registry = Registry::new(options.transfers_max, options.transfers_per_peer_max);
    let options = Arc::new(options);
    let malformed = Arc::new(Mutex::new(MalformedTally::new("tftp")));
    let complaints = Arc::new(Complaints::default());
    let mut listeners = JoinSet::new();
    for (socket, local) in sockets {
        tracing::info!(listen.address = %local, "TFTP listens on {local}");
        let listener = Listener {
            socket,
            local,
            options: Arc::clone(&options),
            registry: Arc::clone(&registry),
            malformed: Arc::clone(&malformed),
            complaints: Arc::clone(&complaints),
            cancel: cancel.clone(),
        };
        listeners.spawn(async move { listener.run().await });
    }
    // The receiver may have lost interest; that is its business.
    let _ = ready.send(());
    while listeners.join_next().await.is_some() {}
    let stopped = async {
        while registry.count() > 0 {
            tokio::time::sleep(STOP_LOOK).await;
        }
    };
    if tokio::time::timeout(STOP_WAIT, stopped).await.is_err() {
        tracing::warn!(transfers = registry.count(), "stopped with transfers open");
    }
    Ok(())
}

async fn bind(address: SocketAddr) -> Result<(UdpSocket, SocketAddr), ServeError> {
    let failed = |source| ServeError::Bind { address, source };
    let socket = UdpSocket::bind(address).await.map_err(failed)?;
    // Less is enough to work.
    let _ = SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
    let local = socket.local_addr().map_err(failed)?;
    Ok((socket, local))
}

struct Listener {
    socket: UdpSocket,
    local: SocketAddr,
    options: Arc<ServeOptions>,
    registry: Arc<Registry>,
    malformed: Arc<Mutex<MalformedTally>>,
    complaints: Arc<Complaints>,
    cancel: CancellationToken,
}

impl Listener {
    async fn run(&self) {
        let mut datagram = [0; DATAGRAM_BYTES_MAX];
        loop {
            let received = tokio::select! {
                received = self.socket.recv_from(&mut datagram) => received,
                () = self.cancel.cancelled() => return,
            };
            match received {
                Ok((length, peer)) => {
                    if let Some((code, message)) = self.handle(peer, &datagram[..length]) {
                        let packet = Packet::Error { code, message }.to_vec();
                        if let Err(error) = self.socket.send_to(&packet, peer).await {
                            tracing::debug!(%error, "cannot answer {peer}");
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot receive on {}", self.local);
                    tokio::time::sleep(RECEIVE_RETRY).await;
                }
            }
        }
    }

    /// Takes a datagram on the well-known port; the ERROR to answer with, if any.
    fn handle(&self, peer: SocketAddr, datagram: &[u8]) -> Option<(ErrorCode, &'static str)> {
        match Packet::decode(datagram) {
            Ok(Packet::ReadRequest(_)) => self.start(peer, datagram),
            Ok(Packet::WriteRequest(request)) => {
                let file = request.file.escape_debug();
                let what = format!("wanted to write {file}; this server is read only");
                self.complaints.refused(peer.ip(), &what);
                Some((ErrorCode::AccessViolation, "This server is read only"))
            }
            // Late packets of a transfer whose port the client confuses with ours; no answer, so
            // that two servers can never answer each other.
            Ok(_) => {
                self.count_malformed(peer, "no request on the request port");
                None
            }
            Err(error) => {
                self.count_malformed(peer, &error.to_string());
                // Only requests are answered, and with less than they bring.
                let is_request = matches!(datagram, [0, 1 | 2, _, ..]);
                is_request.then(|| refusal(error))
            }
        }
    }

    fn start(&self, peer: SocketAddr, request: &[u8]) -> Option<(ErrorCode, &'static str)> {
        let place = match self.registry.admit(peer, request) {
            Admission::Start(place) => place,
            Admission::Repeated => return None,
            Admission::Full => return self.too_busy(peer, self.options.transfers_max),
            Admission::PeerFull => {
                return self.too_busy(peer, self.options.transfers_per_peer_max);
            }
        };
        let session = Session {
            options: Arc::clone(&self.options),
            local: self.local,
            peer,
            request: request.to_vec(),
            place,
            complaints: Arc::clone(&self.complaints),
            cancel: self.cancel.clone(),
        };
        let spawned = std::thread::Builder::new()
            .name("tftp-transfer".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || session.run());
        match spawned {
            Ok(_) => None,
            Err(error) => {
                tracing::error!(%error, "cannot start a thread for {peer}");
                Some((ErrorCode::NotDefined, "The server is too busy; try again"))
            }
        }
    }

    fn too_busy(&self, peer: SocketAddr, limit: usize) -> Option<(ErrorCode, &'static str)> {
        let what = format!("was refused: {limit} transfers are under way");
        self.complaints.refused(peer.ip(), &what);
        Some((ErrorCode::NotDefined, "The server is too busy; try again"))
    }

    fn count_malformed(&self, peer: SocketAddr, reason: &str) {
        let mut tally = self
            .malformed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let report = tally.record(Timestamp::now(), &peer.ip().to_string(), reason);
        drop(tally);
        if let Some(event) = report {
            if let EventKind::Malformed { reason, count, .. } = &event {
                tracing::warn!(
                    client.address = %peer.ip(), count,
                    "malformed TFTP from {}: {reason}", peer.ip()
                );
            }
            (self.options.on_notice)(Notice::Malformed(event));
        }
    }
}

fn refusal(error: DecodeError) -> (ErrorCode, &'static str) {
    match error {
        DecodeError::UnknownMode => (
            ErrorCode::IllegalOperation,
            "Only the modes octet and netascii are served",
        ),
        DecodeError::TooLong(_)
        | DecodeError::Truncated(_)
        | DecodeError::UnknownOperation(_)
        | DecodeError::NotText
        | DecodeError::NoFileName => (ErrorCode::IllegalOperation, "Malformed request"),
    }
}
