//! Connections: how many, how long, how large.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Extension;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Ends, Service, router};

/// Connections at once.
pub const CONNECTIONS_MAX: usize = 1024;
/// Connections at once from one address.
pub const CONNECTIONS_PER_PEER_MAX: usize = 64;
/// Bytes of a request's line and headers.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// How long a peer may take for the head of a request; also how long a connection may idle.
const HEAD_LIMIT: Duration = Duration::from_secs(15);
/// How long sent bytes may stay unacknowledged before the peer counts as dead.
const PEER_DEAD_AFTER: Duration = Duration::from_secs(30);
/// The longest life of a connection, however slowly its peer reads.
const CONNECTION_LIMIT: Duration = Duration::from_secs(3600);
/// How long a stop waits for answers under way.
const STOP_WAIT: Duration = Duration::from_secs(2);
/// Wait after a connection could not be accepted, e.g. for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Accepts and serves until `cancel`, then lets answers under way finish.
pub(super) async fn accept_all(
    listener: &TcpListener,
    service: &Arc<Service>,
    cancel: &CancellationToken,
) {
    let tasks = TaskTracker::new();
    let places = Arc::new(Places::default());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = cancel.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => match places.take(peer.ip().to_canonical()) {
                Some(place) => {
                    let (service, cancel) = (Arc::clone(service), cancel.clone());
                    tasks.spawn(async move {
                        serve_one(stream, peer, &service, &cancel).await;
                        drop(place);
                    });
                }
                None => service.count_malformed(peer.ip(), "too many connections at once"),
            },
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    tasks.close();
    if tokio::time::timeout(STOP_WAIT, tasks.wait()).await.is_err() {
        tracing::warn!(connections = tasks.len(), "stopped with connections open");
    }
}

async fn serve_one(
    stream: TcpStream,
    peer: SocketAddr,
    service: &Arc<Service>,
    cancel: &CancellationToken,
) {
    let Ok(local) = stream.local_addr() else {
        return;
    };
    prepare(&stream);
    let app = router(service).layer(Extension(Ends { peer, local }));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = tokio::time::sleep(CONNECTION_LIMIT) => return,
        () = cancel.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    match ended {
        Err(error) if error.is_parse() => service.count_malformed(peer.ip(), &error.to_string()),
        Err(error) => tracing::debug!(client.address = %peer.ip(), %error, "connection broke"),
        Ok(()) => {}
    }
}

/// Without these a dead peer would hold its place; each failure only costs that protection.
fn prepare(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new().with_time(PEER_DEAD_AFTER);
    let socket = SockRef::from(stream);
    let set = socket
        .set_tcp_nodelay(true)
        .and_then(|()| socket.set_tcp_keepalive(&keepalive))
        .and_then(|()| socket.set_tcp_user_timeout(Some(PEER_DEAD_AFTER)));
    if let Err(error) = set {
        tracing::debug!(%error, "cannot set up a connection's timers");
    }
}

/// Connections by address.
#[derive(Debug, Default)]
struct Places {
    peers: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection's place; given back when dropped.
struct Place {
    places: Arc<Places>,
    peer: IpAddr,
}

impl Places {
    fn take(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let own = peers.get(&peer).copied().unwrap_or(0);
        if own >= CONNECTIONS_PER_PEER_MAX || peers.values().sum::<usize>() >= CONNECTIONS_MAX {
            return None;
        }
        peers.insert(peer, own + 1);
        Some(Place {
            places: Arc::clone(self),
            peer,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut peers = self
            .places
            .peers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match peers.get_mut(&self.peer) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                peers.remove(&self.peer);
            }
        }
    }
}
