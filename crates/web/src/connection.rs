//! Connections: how many, how long, how large. One slow or greedy peer must not take the page
//! away from the others.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::{Extension, Router};
use dess_model::{EventKind, MalformedTally, Timestamp};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::network;

/// Connections at once. A browser keeps one per open page for the live updates and a few more
/// while it loads.
const CONNECTIONS_MAX: usize = 512;
/// Connections at once from one address (IPv6: from one /64).
const CONNECTIONS_PER_PEER_MAX: usize = 64;
/// Bytes of a request's line and headers.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// How long a peer may take for the head of a request; also how long a connection may idle.
const HEAD_LIMIT: Duration = Duration::from_secs(15);
/// How long sent bytes may stay unacknowledged before the peer counts as dead.
const PEER_DEAD_AFTER: Duration = Duration::from_secs(30);
/// After this long a connection takes no further request.
const REQUESTS_UNTIL: Duration = Duration::from_secs(10 * 60);
/// How long the last answer may take then: longer than a live stream lasts (5 minutes).
const LAST_ANSWER_LIMIT: Duration = Duration::from_secs(6 * 60);
/// How long a stop waits for answers under way.
const STOP_WAIT: Duration = Duration::from_secs(3);
/// Wait after a connection could not be accepted, e.g. for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Accepts and serves until `cancel`, then lets answers under way finish for a moment.
pub(crate) async fn accept_all(
    listener: &TcpListener,
    router: &Router,
    cancel: &CancellationToken,
) {
    let tasks = TaskTracker::new();
    let places = Arc::new(Places::default());
    let mut refusals = MalformedTally::new("http");
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = cancel.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => match places.take(network(peer.ip())) {
                Some(place) => {
                    let (router, cancel) = (router.clone(), cancel.clone());
                    tasks.spawn(async move {
                        serve_one(stream, peer, router, &cancel).await;
                        drop(place);
                    });
                }
                None => warn_of_refusal(&mut refusals, network(peer.ip())),
            },
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    tasks.close();
    // A browser that does not take its answer must not hold us up.
    if tokio::time::timeout(STOP_WAIT, tasks.wait()).await.is_err() {
        tracing::info!(connections = tasks.len(), "stopped with connections open");
    }
}

/// Once per peer and minute.
fn warn_of_refusal(refusals: &mut MalformedTally, peer: IpAddr) {
    let reason = "too many connections at once";
    let report = refusals.record(Timestamp::now(), &peer.to_string(), reason);
    if let Some(EventKind::Malformed { count, .. }) = report {
        tracing::warn!(peer = %peer, count, "connection of {peer} refused: {reason}");
    }
}

async fn serve_one(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    cancel: &CancellationToken,
) {
    prepare(&stream);
    let app = router.layer(Extension(ConnectInfo(peer)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = tokio::time::sleep(REQUESTS_UNTIL) => {
            connection.as_mut().graceful_shutdown();
            let last = tokio::time::timeout(LAST_ANSWER_LIMIT, connection);
            last.await.unwrap_or(Ok(()))
        }
        () = cancel.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(peer = %peer, %error, "connection broke");
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
struct Places(Mutex<HashMap<IpAddr, usize>>);

/// One connection's place; given back when dropped.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    peer: IpAddr,
}

impl Places {
    fn take(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        let mut peers = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        match peers.get_mut(&self.peer) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                peers.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests;
