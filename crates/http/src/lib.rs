//! One hardened HTTP/1.1 listener for the services that speak it.
//!
//! [`serve`] bounds how many connections there are, how long they last and how large a request's
//! head may be, so that one slow or greedy peer never takes a service away from the others.

mod places;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use places::Places;

/// Connections at once from one peer ([`Host::network`]).
pub const CONNECTIONS_PER_PEER_MAX: usize = 64;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// How long a peer may take for the head of a request; also how long a connection may idle.
const HEAD_LIMIT: Duration = Duration::from_secs(15);
/// How long sent bytes may stay unacknowledged before the peer counts as dead.
const PEER_DEAD_AFTER: Duration = Duration::from_secs(30);
/// Wait after a connection could not be accepted, e.g. for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What a service allows its peers.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Bytes of a request's line and headers.
    pub head_bytes: usize,
    /// After this long a connection takes no further request.
    pub requests_until: Duration,
    /// How long the last answer may take then.
    pub last_answer: Duration,
    /// How long a stop waits for answers under way.
    pub stop_wait: Duration,
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Who asks.
    pub peer: SocketAddr,
    /// Which of our addresses was asked.
    pub local: SocketAddr,
}

/// The service behind the listener.
pub trait Host: Send + Sync + 'static {
    /// Answers the requests of one connection.
    fn router(self: &Arc<Self>, ends: Ends) -> Router;

    /// Who shares one peer's places.
    fn network(&self, peer: IpAddr) -> IpAddr {
        peer.to_canonical()
    }

    /// A connection was refused, or what came was not HTTP. May be called as often as a peer likes.
    fn misused(&self, peer: IpAddr, reason: &str);
}

/// Accepts and serves until `cancel`, then lets answers under way finish for a moment.
pub async fn serve<H: Host>(
    listener: &TcpListener,
    host: &Arc<H>,
    limits: Limits,
    cancel: &CancellationToken,
) {
    let tasks = TaskTracker::new();
    let places = Arc::new(Places::new(limits.connections));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = cancel.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => match places.take(host.network(peer.ip())) {
                Some(place) => {
                    let (host, cancel) = (Arc::clone(host), cancel.clone());
                    tasks.spawn(async move {
                        serve_one(stream, peer, &host, limits, &cancel).await;
                        drop(place);
                    });
                }
                None => host.misused(peer.ip(), "too many connections at once"),
            },
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    tasks.close();
    // A peer that does not take its answer must not hold us up.
    if tokio::time::timeout(limits.stop_wait, tasks.wait())
        .await
        .is_err()
    {
        tracing::info!(connections = tasks.len(), "stopped with connections open");
    }
}

async fn serve_one(
    stream: TcpStream,
    peer: SocketAddr,
    host: &Arc<impl Host>,
    limits: Limits,
    cancel: &CancellationToken,
) {
    let Ok(local) = stream.local_addr() else {
        return;
    };
    guard_against_silence(&stream);
    let router = host.router(Ends { peer, local });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(limits.head_bytes)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = tokio::time::sleep(limits.requests_until) => {
            connection.as_mut().graceful_shutdown();
            let last = tokio::time::timeout(limits.last_answer, connection);
            last.await.unwrap_or(Ok(()))
        }
        () = cancel.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    match ended {
        Err(error) if error.is_parse() => host.misused(peer.ip(), &error.to_string()),
        Err(error) => tracing::debug!(peer.address = %peer.ip(), %error, "connection broke"),
        Ok(()) => {}
    }
}

/// Without these a dead peer would hold its place; each failure only costs that protection.
fn guard_against_silence(stream: &TcpStream) {
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

#[cfg(test)]
mod tests;
