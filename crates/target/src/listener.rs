//! Portals: bind, accept, and how many connections there may be.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dess_model::{EventKind, Timestamp};
use rustix::net::sockopt;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

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
const CLOSELY_EVERY: Duration = Duration::from_secs(1);
const CLOSELY_UNACKNOWLEDGED: Duration = Duration::from_secs(2);
/// A second of silence, the probes, and a little for a loaded machine.
pub(crate) const SILENT_FOUND_GONE: Duration = Duration::from_millis(4500);
/// A peer that acknowledges nothing for this time is gone.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(60);
/// Whose a crowd is that no peer makes alone.
const EVERYBODY: &str = "all peers";
/// How often a failed accept is logged.
const ACCEPT_FAILURE_EVERY: Duration = Duration::from_secs(60);
/// Pause after a failed accept (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Room for connections.
///
/// Those that have not logged in are few, and a new one always gets a place: the one that waits
/// longest gives way, of the peer that has most. A crowd that connects and says nothing so keeps
/// nobody out who logs in in the ordinary way.
pub(crate) struct Places {
    connections: Arc<Semaphore>,
    half_open: Arc<Mutex<HalfOpen>>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            half_open: Arc::default(),
        }
    }
}

/// A connection's place; until its login it may have to give way.
pub(crate) struct Place {
    _connection: OwnedSemaphorePermit,
    waiting: Option<Waiting>,
}

/// The connections that have not logged in.
#[derive(Default)]
struct HalfOpen {
    last_number: u64,
    count: usize,
    /// Of each peer, the oldest first. No peer is without any.
    peers: HashMap<IpAddr, VecDeque<(u64, Arc<Notify>)>>,
}

/// One of them.
struct Waiting {
    half_open: Arc<Mutex<HalfOpen>>,
    peer: IpAddr,
    number: u64,
    gives_way: Arc<Notify>,
}

/// Why somebody did not get or keep a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Crowded {
    /// There are as many connections as there may be.
    Everywhere,
    /// One peer has too many that have not logged in.
    Peer,
    /// All peers together have.
    HalfOpen,
}

impl Places {
    /// A place for a connection from `peer`, if there is one, and whether it was crowded.
    fn take(&self, peer: IpAddr) -> (Option<Place>, Option<Crowded>) {
        let Ok(connection) = Arc::clone(&self.connections).try_acquire_owned() else {
            return (None, Some(Crowded::Everywhere));
        };
        let (number, gives_way, crowded) = lock(&self.half_open).enter(peer);
        let place = Place {
            _connection: connection,
            waiting: Some(Waiting {
                half_open: Arc::clone(&self.half_open),
                peer,
                number,
                gives_way,
            }),
        };
        (Some(place), crowded)
    }
}

impl HalfOpen {
    fn enter(&mut self, peer: IpAddr) -> (u64, Arc<Notify>, Option<Crowded>) {
        let own = self.peers.get(&peer).map_or(0, VecDeque::len);
        let crowded = match own >= HALF_OPEN_PER_PEER_MAX {
            true => Some((peer, Crowded::Peer)),
            false if self.count >= HALF_OPEN_MAX => {
                self.longest().map(|peer| (peer, Crowded::HalfOpen))
            }
            false => None,
        };
        if let Some((peer, _)) = crowded
            && let Some(&(number, ref gives_way)) =
                self.peers.get(&peer).and_then(|queue| queue.front())
        {
            gives_way.notify_one();
            self.leave(peer, number);
        }
        self.last_number += 1;
        self.count += 1;
        let gives_way = Arc::new(Notify::new());
        let queue = self.peers.entry(peer).or_default();
        queue.push_back((self.last_number, Arc::clone(&gives_way)));
        let crowded = crowded.map(|(_, crowded)| crowded);
        (self.last_number, gives_way, crowded)
    }

    /// The peer that has most; of several, the one that waits longest.
    fn longest(&self) -> Option<IpAddr> {
        let oldest = |queue: &VecDeque<(u64, _)>| queue.front().map(|&(number, _)| number);
        self.peers
            .iter()
            .max_by_key(|(_, queue)| (queue.len(), Reverse(oldest(queue))))
            .map(|(&peer, _)| peer)
    }

    fn leave(&mut self, peer: IpAddr, number: u64) {
        let Some(queue) = self.peers.get_mut(&peer) else {
            return;
        };
        let before = queue.len();
        queue.retain(|&(other, _)| other != number);
        self.count -= before - queue.len();
        if queue.is_empty() {
            self.peers.remove(&peer);
        }
    }
}

impl Place {
    /// The connection has logged in.
    pub(crate) fn logged_in(&mut self) {
        self.waiting = None;
    }

    /// Resolves when the connection has to give way to another one.
    pub(crate) async fn gives_way(&self) {
        match &self.waiting {
            Some(waiting) => waiting.gives_way.notified().await,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        lock(&self.half_open).leave(self.peer, self.number);
    }
}

fn lock(half_open: &Mutex<HalfOpen>) -> MutexGuard<'_, HalfOpen> {
    half_open.lock().unwrap_or_else(PoisonError::into_inner)
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
    avoid_pacing(&socket);
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Takes a congestion control that sends at once, for the connections of a portal too, if the system's choice is BBR: that sends
/// by timers, which costs a third of the processor's time for long reads, and every ten seconds all but stops for 0.2 s
/// to measure the path again. In a room's own network it gains nothing for that.
fn avoid_pacing(socket: &Socket) {
    let is_bbr = |name: String| name.starts_with("bbr");
    if !sockopt::tcp_congestion(socket).is_ok_and(is_bbr) {
        return;
    }
    // The second one needs no privilege. Without either it works, only slower.
    let chosen = ["cubic", "reno"]
        .into_iter()
        .find(|name| sockopt::set_tcp_congestion(socket, name).is_ok());
    tracing::debug!(?chosen, "connections send without BBR");
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
                report_failure(&mut told, &error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (place, crowded) = service.places.take(peer.ip().to_canonical());
        if let Some(crowded) = crowded {
            report_crowd(&service, peer, crowded);
        }
        let Some(place) = place else {
            continue;
        };
        if let Err(error) = prepare(&socket) {
            tracing::debug!(%error, "connection from {peer} is gone already");
            continue;
        }
        tsih = next_tsih(&service, tsih);
        serve_connection(&service, socket, (peer, tsih, place));
    }
}

/// Hands a connection to the thread that owns it from now on.
fn serve_connection(
    service: &Arc<Service>,
    socket: TcpStream,
    (peer, tsih, place): (SocketAddr, u16, Place),
) {
    let socket = match socket.into_std() {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(%error, "cannot serve the connection of {peer}");
            return;
        }
    };
    let owner = Arc::clone(service);
    let task = async move {
        match TcpStream::from_std(socket) {
            Ok(socket) => {
                ConnectionTask::new(owner, socket, peer, tsih, place)
                    .run()
                    .await;
            }
            Err(error) => tracing::warn!(%error, "cannot serve the connection of {peer}"),
        }
    };
    let task = service.tasks.track_future(task);
    service.workers.assign().spawn(task);
}

/// Counts a connection that was closed for want of room, and says so once a minute.
fn report_crowd(service: &Service, peer: SocketAddr, crowded: Crowded) {
    let peer = peer.ip().to_canonical().to_string();
    let (who, reason) = match crowded {
        Crowded::Everywhere => (EVERYBODY, "too many connections"),
        Crowded::Peer => (
            peer.as_str(),
            "too many connections of one peer that have not logged in",
        ),
        Crowded::HalfOpen => (EVERYBODY, "too many connections that have not logged in"),
    };
    let mut crowds = service
        .crowds
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let told = crowds.record(Timestamp::now(), who, reason);
    drop(crowds);
    let Some(event) = told else {
        return;
    };
    if let EventKind::Malformed { count, .. } = &event {
        let count = *count;
        tracing::warn!(
            crowd.count = count,
            "{reason}; some are closed, the last for one from {peer}"
        );
    }
    service.report(event);
}

/// Says that connections cannot be accepted, at most once a minute.
fn report_failure(told: &mut Option<Instant>, error: &io::Error) {
    if told.is_none_or(|told| told.elapsed() >= ACCEPT_FAILURE_EVERY) {
        *told = Some(Instant::now());
        tracing::warn!(%error, "cannot accept connections");
    }
}

fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    watch_peer(socket, Vigilance::Usual)
}

/// How soon a peer that is gone is found. The kernel asks the peer's, so an initiator that has nothing to say need not
/// answer; and no single lost packet ends a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vigilance {
    /// Within a minute.
    Usual,
    /// Within [`SILENT_FOUND_GONE`] if it has nothing of ours to acknowledge.
    Silent,
    /// Soon if it does not acknowledge what was sent to it.
    Unacknowledged,
}

pub(crate) fn watch_peer(socket: &TcpStream, vigilance: Vigilance) -> io::Result<()> {
    let (after, every, unacknowledged) = match vigilance {
        Vigilance::Usual => (KEEPALIVE_AFTER, KEEPALIVE_EVERY, Some(UNACKNOWLEDGED_MAX)),
        Vigilance::Silent => (CLOSELY_EVERY, CLOSELY_EVERY, None),
        Vigilance::Unacknowledged => (
            KEEPALIVE_AFTER,
            KEEPALIVE_EVERY,
            Some(CLOSELY_UNACKNOWLEDGED),
        ),
    };
    let socket = SockRef::from(socket);
    let keepalive = TcpKeepalive::new()
        .with_time(after)
        .with_interval(every)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_user_timeout(unacknowledged)?;
    socket.set_tcp_keepalive(&keepalive)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_send_without_pacing_and_keep_any_other_choice_of_the_system() {
        for (system, expected) in [("bbr", None), ("reno", Some("reno"))] {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
            if sockopt::set_tcp_congestion(&socket, system).is_err() {
                continue; // A kernel without BBR.
            }
            avoid_pacing(&socket);
            let chosen = sockopt::tcp_congestion(&socket).unwrap();
            assert!(!chosen.starts_with("bbr"), "{chosen}");
            assert!(
                expected.is_none_or(|expected| chosen == expected),
                "{chosen}"
            );
        }
    }
}
