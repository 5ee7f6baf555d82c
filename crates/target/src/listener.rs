//! Portals: bind, accept, and how many connections there may be.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::connection::ConnectionTask;
use crate::error::ServeError;
use crate::service::Service;

/// Most connections at once.
const CONNECTIONS_MAX: usize = 4096;
/// Most connections at once that have not logged in.
const HALF_OPEN_MAX: usize = 512;
/// Most of them from one address, so that one peer cannot keep the others out.
const HALF_OPEN_PER_PEER_MAX: usize = 64;
/// Connections that the kernel may hold ready for us.
const BACKLOG: i32 = 1024;
/// A silent peer is probed after this time (no client says goodbye when its power is cut).
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;
/// A peer that acknowledges nothing for this time is gone.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(60);
/// How often a lack of room is logged.
const FULL_EVERY: Duration = Duration::from_secs(10);
/// Pause after a failed accept (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Room for connections.
pub(crate) struct Places {
    connections: Arc<Semaphore>,
    half_open: Arc<Semaphore>,
    peers: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            half_open: Arc::new(Semaphore::new(HALF_OPEN_MAX)),
            peers: Arc::default(),
        }
    }
}

/// A connection's place; it has a second one until its login.
pub(crate) struct Place {
    _connection: OwnedSemaphorePermit,
    half_open: Option<HalfOpen>,
}

struct HalfOpen {
    _permit: OwnedSemaphorePermit,
    peers: Arc<Mutex<HashMap<IpAddr, usize>>>,
    peer: IpAddr,
}

impl Places {
    fn take(&self, peer: IpAddr) -> Option<Place> {
        let connection = Arc::clone(&self.connections).try_acquire_owned().ok()?;
        let permit = Arc::clone(&self.half_open).try_acquire_owned().ok()?;
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let open = peers.entry(peer).or_default();
        if *open >= HALF_OPEN_PER_PEER_MAX {
            return None;
        }
        *open += 1;
        drop(peers);
        Some(Place {
            _connection: connection,
            half_open: Some(HalfOpen {
                _permit: permit,
                peers: Arc::clone(&self.peers),
                peer,
            }),
        })
    }
}

impl Place {
    /// The connection has logged in.
    pub(crate) fn logged_in(&mut self) {
        self.half_open = None;
    }
}

impl Drop for HalfOpen {
    fn drop(&mut self) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = peers.get_mut(&self.peer) {
            *open -= 1;
            if *open == 0 {
                peers.remove(&self.peer);
            }
        }
    }
}

/// Binds all portals, or none.
pub(crate) fn bind_all(portals: &[SocketAddr]) -> Result<Vec<TcpListener>, ServeError> {
    portals
        .iter()
        .map(|&address| {
            let listener = bind(address).map_err(|source| ServeError::bind(address, source))?;
            tracing::info!(
                portal.address = %listener.local_addr().unwrap_or(address),
                "listening for iSCSI initiators"
            );
            Ok(listener)
        })
        .collect()
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts on all portals until the future is dropped.
pub(crate) async fn accept_all(service: &Arc<Service>, listeners: Vec<TcpListener>) {
    let mut accepting = tokio::task::JoinSet::new();
    for listener in listeners {
        accepting.spawn(accept(Arc::clone(service), listener));
    }
    while accepting.join_next().await.is_some() {}
    // Without a portal there is still the control socket.
    std::future::pending::<()>().await;
}

async fn accept(service: Arc<Service>, listener: TcpListener) {
    let mut tsih = 0;
    let mut told = None;
    loop {
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = service.places.take(peer.ip()) else {
            report_full(&mut told, peer);
            continue;
        };
        if let Err(error) = prepare(&socket) {
            tracing::debug!(%error, "connection from {peer} is gone already");
            continue;
        }
        tsih = next_tsih(&service, tsih);
        let task = ConnectionTask::new(Arc::clone(&service), socket, peer, tsih, place);
        service.tasks.spawn(task.run());
    }
}

/// Says that there is no room, at most once in a while.
fn report_full(told: &mut Option<Instant>, peer: SocketAddr) {
    if told.is_none_or(|told| told.elapsed() >= FULL_EVERY) {
        *told = Some(Instant::now());
        tracing::warn!("too many connections; that from {peer} and others are closed");
    }
}

fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_EVERY)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))
}

/// The next session handle that is not 0 and not in use.
fn next_tsih(service: &Service, last: u16) -> u16 {
    let mut next = last;
    loop {
        next = next.checked_add(1).unwrap_or(1);
        if !service.sessions.has_tsih(next) {
            return next;
        }
    }
}
