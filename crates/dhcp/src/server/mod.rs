//! The DHCP service: sockets, journal and timers around [`Exchange`].

mod boot_id;
mod commit;
mod error;
mod interface;
mod journal;
mod port;
mod probe;
mod router_advertisement;
mod socket;

pub use error::{JournalError, ServeError};
pub use journal::Journal;

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dess_model::host::{EventSender, Paths, SnapshotReader};
use dess_model::{SiteSnapshot, Subnet, Timestamp};
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::exchange::{Exchange, Transmit};
use crate::lease::{Binding, BindingState, LeaseTable};
use crate::record::{JournalContent, Session};
use crate::site::SiteIndex;
use crate::supply::QUARANTINE_MS;
use commit::Committer;
use port::Link;

/// How often timers and the interface list are looked at.
const TICK: Duration = Duration::from_secs(1);
/// How often a port is tried again that our own former socket may still hold.
const REBIND_TRIES: u32 = 30;
/// How often a missing snapshot is looked for at the start.
const SNAPSHOT_EVERY: Duration = Duration::from_millis(100);

/// What the DHCP service is told at its start; all else is in the site snapshot.
#[derive(Clone, Debug)]
pub struct DhcpOptions {
    /// Where snapshot, leases and the event socket are.
    pub paths: Paths,
    /// Answer IPv6 router solicitations of booting clients, which spares iPXE a wait of 13 s.
    pub router_advertisement: bool,
    /// Probe addresses of the pool before they are offered (ahead of need; never a wait).
    pub address_probe: bool,
}

impl DhcpOptions {
    /// The usual settings: everything on.
    pub fn new(paths: Paths) -> Self {
        Self {
            paths,
            router_advertisement: true,
            address_probe: true,
        }
    }
}

/// Serves DHCP until `cancel`. `ready` is sent when all sockets are bound; before that, the
/// service waits for the first site snapshot, which names the interfaces.
///
/// # Errors
/// If an interface is missing, a port is taken, or the lease file cannot be used.
pub async fn serve(
    options: DhcpOptions,
    ready: oneshot::Sender<()>,
    cancel: CancellationToken,
) -> Result<(), ServeError> {
    let reader = SnapshotReader::new(options.paths.snapshot());
    let Some(first) = first_snapshot(&reader, &options.paths, &cancel).await else {
        return Ok(());
    };
    let mut interfaces = first.server.interfaces.clone();
    interface::check(&interfaces)?;
    let (journal, content) = Journal::open(&options.paths.leases())?;
    let clock = Clock::start();
    let session = session(&content, &first, clock.now());
    let leases = loaded(content.records, &first, clock.now());
    let mut exchange = Exchange::new(leases);
    if options.address_probe {
        exchange.doubt(session.doubt_until);
    }
    let exchange = Arc::new(Mutex::new(exchange));
    let events = EventSender::new(options.paths.events());
    let (committer, journal_thread) =
        Committer::start(journal, session, Arc::clone(&exchange)).map_err(ServeError::Thread)?;
    let shared = Arc::new(Shared {
        options,
        reader,
        exchange,
        adopted: Mutex::default(),
        events,
        committer,
        clock,
    });
    let mut ready = Some(ready);
    let mut result = Ok(());
    while !cancel.is_cancelled() {
        match serve_interfaces(&shared, &interfaces, &mut ready, &cancel).await {
            Ok(changed) => interfaces = changed,
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    // The last committer goes with `shared`; the thread then syncs, records the stop and ends.
    drop(shared);
    if tokio::task::spawn_blocking(|| journal_thread.join())
        .await
        .is_err()
    {
        tracing::warn!("the lease journal's thread did not end cleanly");
    }
    result
}

/// Binds all sockets and serves until `cancel` or until the site names other interfaces, which
/// are returned.
async fn serve_interfaces(
    shared: &Arc<Shared>,
    interfaces: &[String],
    ready: &mut Option<oneshot::Sender<()>>,
    cancel: &CancellationToken,
) -> Result<Vec<String>, ServeError> {
    let links = bind_all(interfaces, &shared.options, ready.is_some()).await?;
    shared.adopt_current(&links);
    let mut tasks = JoinSet::new();
    for link in &links {
        link.spawn(shared, &mut tasks);
    }
    let events = shared.events.clone();
    tasks.spawn(async move {
        events.keep_flushing().await;
        Ok(())
    });
    tracing::info!(dhcp.interfaces = interfaces.join(","), "DHCP is served");
    if let Some(ready) = ready.take() {
        // Nobody may be waiting for it.
        let _ = ready.send(());
    }
    let ended = watch(shared, interfaces, &links, &mut tasks, cancel).await;
    // Ends the tasks, so that their sockets are closed before others are bound.
    tasks.shutdown().await;
    ended
}

/// Waits until other interfaces are to be served (or the same ones anew), which are returned.
async fn watch(
    shared: &Shared,
    interfaces: &[String],
    links: &[Link],
    tasks: &mut JoinSet<Result<(), ServeError>>,
    cancel: &CancellationToken,
) -> Result<Vec<String>, ServeError> {
    let mut timer = tokio::time::interval(TICK);
    let mut refused: Vec<String> = Vec::new();
    loop {
        tokio::select! {
            () = cancel.cancelled() => return Ok(interfaces.to_vec()),
            Some(ended) = tasks.join_next() => ended.map_err(ServeError::Task)??,
            _ = timer.tick() => {
                let wanted = shared.handle_tick(links);
                if links.iter().any(Link::is_replaced) {
                    tracing::warn!("a network interface was replaced; its sockets are bound anew");
                    return Ok(interfaces.to_vec());
                }
                if wanted == interfaces || wanted == refused {
                    continue;
                }
                match interface::check(&wanted) {
                    Ok(()) => return Ok(wanted),
                    Err(error) => {
                        tracing::error!(%error, "the new interface list cannot be used; the old one stays");
                        refused = wanted;
                    }
                }
            }
        }
    }
}

/// Binds the sockets of all interfaces. When they are bound anew, the old ones may be open for a
/// moment more: then it tries for a while.
async fn bind_all(
    interfaces: &[String],
    options: &DhcpOptions,
    is_first: bool,
) -> Result<Vec<Link>, ServeError> {
    let mut tries_left = if is_first { 0 } else { REBIND_TRIES };
    loop {
        let bound = interfaces
            .iter()
            .map(|name| Link::bind(name, options))
            .collect();
        match bound {
            Err(ServeError::PortTaken { .. }) if tries_left > 0 => {
                tries_left -= 1;
                tokio::time::sleep(SNAPSHOT_EVERY).await;
            }
            bound => return bound,
        }
    }
}

/// The run of the service that begins now.
fn session(content: &JournalContent, site: &SiteSnapshot, now: Timestamp) -> Session {
    let boot_id = boot_id::current().unwrap_or_else(|error| {
        tracing::warn!(%error, "the kernel's boot id cannot be read; a power failure is assumed");
        [0; 16]
    });
    let longest_secs = site.subnets.iter().map(|subnet| subnet.lease_secs).max();
    let longest_ms = i64::from(longest_secs.unwrap_or(0)) * 1000;
    let doubt_until = content.doubt_until(boot_id, now, longest_ms);
    if now < doubt_until {
        tracing::warn!(
            doubt.secs = (doubt_until.0 - now.0) / 1000,
            "the machine went down without stopping DHCP; the last leases may be missing, so \
             addresses are probed before they are offered"
        );
    }
    Session {
        boot_id,
        doubt_until,
        stopped: false,
    }
}

/// The journal's leases, none longer than the site gives them for.
fn loaded(records: Vec<Binding>, site: &SiteSnapshot, now: Timestamp) -> LeaseTable {
    let mut leases = LeaseTable::from_records(records);
    leases.shorten(now, |binding| match binding.state {
        BindingState::Quarantined => QUARANTINE_MS,
        BindingState::Leased | BindingState::Offered => {
            let of = |subnet: &Subnet| i64::from(subnet.lease_secs) * 1000;
            site.subnet_of(binding.address).map_or(0, of)
        }
    });
    leases
}

/// Waits until `node` has written a snapshot; none if cancelled meanwhile.
async fn first_snapshot(
    reader: &SnapshotReader,
    paths: &Paths,
    cancel: &CancellationToken,
) -> Option<Arc<SiteSnapshot>> {
    let mut told = false;
    loop {
        if let Some(snapshot) = reader.current() {
            return Some(snapshot);
        }
        if !told {
            tracing::warn!(
                "no site snapshot at {} yet; DHCP stays silent until `dess node` writes it",
                paths.snapshot().display()
            );
            told = true;
        }
        tokio::select! {
            () = cancel.cancelled() => return None,
            () = tokio::time::sleep(SNAPSHOT_EVERY) => {}
        }
    }
}

/// What all tasks of the service share.
struct Shared {
    options: DhcpOptions,
    reader: SnapshotReader,
    exchange: Arc<Mutex<Exchange>>,
    adopted: Mutex<Adopted>,
    events: EventSender,
    committer: Committer,
    clock: Clock,
}

/// What the exchange's site index was made of.
#[derive(Default)]
struct Adopted {
    revision: Option<u64>,
    own: Vec<Ipv4Addr>,
}

impl Shared {
    fn exchange(&self) -> MutexGuard<'_, Exchange> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the site index up to date; cheap when nothing changed.
    fn refresh(&self) {
        let Some(snapshot) = self.reader.current() else {
            return;
        };
        let mut adopted = self.adopted.lock().unwrap_or_else(PoisonError::into_inner);
        if adopted.revision == Some(snapshot.revision) {
            return;
        }
        adopted.revision = Some(snapshot.revision);
        let site = SiteIndex::new(snapshot, adopted.own.iter().copied());
        self.exchange().adopt(Arc::new(site));
    }

    /// As [`refresh`](Self::refresh), with the addresses that the links have now.
    fn adopt_current(&self, links: &[Link]) {
        if let Ok(found) = interface::interfaces() {
            for link in links {
                link.set_addresses(found.get(link.name()).cloned().unwrap_or_default());
            }
            let own: Vec<_> = found.into_values().flatten().collect();
            let mut adopted = self.adopted.lock().unwrap_or_else(PoisonError::into_inner);
            if adopted.own != own {
                adopted.own = own;
                adopted.revision = None;
            }
        }
        self.refresh();
    }

    /// Once a second: addresses, snapshot, accounts. Returns the interfaces that the site names.
    fn handle_tick(&self, links: &[Link]) -> Vec<String> {
        self.adopt_current(links);
        let due = self.exchange().handle_timeout(self.clock.now());
        for event in due {
            self.events.send(event);
        }
        let snapshot = self.reader.current();
        snapshot.map_or_else(Vec::new, |snapshot| snapshot.server.interfaces.clone())
    }
}

/// Sends a datagram without waiting. A full send buffer drops it, as a full wire would.
fn transmit(socket: &UdpSocket, datagram: &Transmit) {
    if let Err(error) = socket.try_send_to(&datagram.payload, datagram.destination.into()) {
        tracing::debug!(%error, "cannot send to {}", datagram.destination);
    }
}

/// The wall clock at the start plus the time since: steps of the wall clock end no lease early.
struct Clock {
    wall: Timestamp,
    started: Instant,
}

impl Clock {
    fn start() -> Self {
        Self {
            wall: Timestamp::now(),
            started: Instant::now(),
        }
    }

    fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        Timestamp(self.wall.0.saturating_add(elapsed))
    }
}
