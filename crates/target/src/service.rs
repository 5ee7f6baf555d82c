//! The service: start, orderly stop, and what all connections share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dess_disk::{DiskStore, StoreOptions, StorePaths};
use dess_iscsi::{
    Access, InitiatorFamily, Limits, LoginIdentity, LoginStatus, TargetDirectory, TargetPortals,
};
use dess_model::host::{EventSender, Paths, SnapshotReader, bind_control};
use dess_model::{EventKind, LoginKind, MalformedTally, PeerTally};
use dess_scsi::Sense;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accounts::Accounts;
use crate::boot_profiles::{self, BootProfiles};
use crate::boots::Boots;
use crate::control;
use crate::engine::{Buffers, DiskPool, Units};
use crate::error::ServeError;
use crate::listener::{self, Places};
use crate::metrics;
use crate::portals;
use crate::probe::ProbeDisk;
use crate::returning::Returning;
use crate::session_log::SessionLog;
use crate::sessions::{InitiatorPort, Session, Sessions};
use crate::site::{Room, Site, UnitError};
use crate::space::{self, Space};
use crate::workers::{self, Workers};

/// How the service runs.
#[derive(Clone, Debug)]
pub struct TargetOptions {
    /// Where snapshot, images, overlays and sockets are.
    pub paths: Paths,
    /// Portals to listen on. Empty: those of the site snapshot, which is waited for.
    pub listen: Vec<SocketAddr>,
    /// Where counters for Prometheus are served (`/metrics`); nowhere if empty.
    pub metrics: Vec<SocketAddr>,
    /// Threads for reads that are not in memory, and as many for flushes.
    pub disk_threads: usize,
    /// Whether a client with a reserved address must come from it. True; false only where
    /// addresses are translated between client and server.
    pub check_addresses: bool,
    /// How long after a power-on it is noted what a boot reads. Default 3 minutes.
    pub boot_window: Duration,
}

impl TargetOptions {
    /// The defaults for a site.
    pub fn new(paths: Paths) -> Self {
        Self {
            paths,
            listen: Vec::new(),
            metrics: Vec::new(),
            disk_threads: 8,
            check_addresses: true,
            boot_window: BOOT_WINDOW,
        }
    }
}

/// What all connections share.
pub(crate) struct Service {
    pub(crate) site: Arc<Site>,
    pub(crate) sessions: Sessions,
    pub(crate) pool: Arc<DiskPool>,
    pub(crate) buffers: Arc<Buffers>,
    pub(crate) places: Places,
    pub(crate) tasks: TaskTracker,
    /// Threads for connections.
    pub(crate) workers: workers::Places,
    pub(crate) stopping: CancellationToken,
    pub(crate) malformed: Mutex<MalformedTally>,
    /// Connections that were closed for want of room.
    pub(crate) crowds: Mutex<MalformedTally>,
    /// Refused logins, told once per peer and minute.
    pub(crate) refusals: Mutex<PeerTally>,
    /// Connections that did not log in in time.
    pub(crate) late_logins: Mutex<PeerTally>,
    /// Which sessions are logged.
    pub(crate) session_log: Mutex<SessionLog>,
    pub(crate) limits: Limits,
    /// What is kept of each client.
    pub(crate) accounts: Accounts,
    /// How full the pool of the overlays is.
    pub(crate) space: Space,
    events: Option<EventSender>,
    targets: Mutex<HashMap<String, Target>>,
    /// The portals that are listened on.
    portals: Mutex<Vec<SocketAddr>>,
}

/// One target that somebody used since the service started.
#[derive(Default)]
struct Target {
    /// Orders logins, power-on and reset.
    gate: Arc<tokio::sync::Mutex<()>>,
    units: Option<Arc<Units>>,
}

/// Most sessions of one client: a boot makes two or three, several portals as many each, and dead
/// ones are kept for a minute.
const SESSIONS_PER_CLIENT_MAX: usize = 32;
/// A login must be done within this time; half-open ones are bounded in number besides.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(15);
/// How long after a power-on it is noted what a boot reads.
const BOOT_WINDOW: Duration = Duration::from_secs(180);
/// How often a missing snapshot is looked for.
const SNAPSHOT_EVERY: Duration = Duration::from_millis(250);
/// How long connections may take to end when the service stops.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Runs the iSCSI service until `cancel`. `ready` is sent when all sockets are bound.
///
/// # Errors
/// If a socket cannot be bound or the disks cannot be opened.
pub async fn serve(
    options: TargetOptions,
    ready: oneshot::Sender<()>,
    cancel: CancellationToken,
) -> Result<(), ServeError> {
    let paths = options.paths.clone();
    let (store, boots) = open_store(&paths).await?;
    let in_use = paths.disks_in_use();
    let returning = Returning::open(in_use.clone()).map_err(|source| ServeError::InUse {
        path: in_use,
        source,
    })?;
    let secret = paths.probe_secret();
    let probe = ProbeDisk::create(&secret).map_err(|source| ServeError::ProbeSecret {
        path: secret,
        source,
    })?;
    let room = Room {
        probe,
        boots,
        returning,
        snapshots: SnapshotReader::new(paths.snapshot()),
        store,
        paths: paths.clone(),
        check_addresses: options.check_addresses,
        profiles: Arc::new(BootProfiles::new(
            paths.boot_profiles(),
            options.boot_window,
        )),
    };
    let events = EventSender::new(paths.events());
    let workers = Workers::start().map_err(ServeError::Threads)?;
    let service = Service::start(
        Site::Room(Box::new(room)),
        workers.places(),
        options.disk_threads,
        Some(events.clone()),
    )?;
    let control_path = paths.target_control();
    let control_socket = bind_control(&control_path).map_err(|source| ServeError::Control {
        path: control_path,
        source,
    })?;
    let portals = tokio::select! {
        portals = portals(&service, options.listen) => portals,
        () = cancel.cancelled() => return Ok(()),
    };
    let listeners = listener::bind_all(&portals)?;
    service.listens_on(&listeners);
    let metrics_listeners = metrics::bind_all(&options.metrics).await;
    // If nobody waits for it, the service runs all the same.
    let _ = ready.send(());
    tokio::select! {
        () = cancel.cancelled() => {}
        () = listener::accept_all(&service, listeners) => {}
        () = control::serve(&service, control_socket) => {}
        () = events.keep_flushing() => {}
        () = metrics::serve(&service, metrics_listeners) => {}
        () = control::follow_snapshot(&service) => {}
        () = space::watch(&service) => {}
        () = boot_profiles::follow(&service) => {}
    }
    service.stop().await;
    Ok(())
}

async fn open_store(paths: &Paths) -> Result<(DiskStore, Boots), ServeError> {
    let store_paths = StorePaths {
        images: paths.images(),
        overlays: paths.overlays(),
        live_maps: paths.live_maps(),
    };
    let open = move || {
        let options = StoreOptions::current().map_err(ServeError::Threads)?;
        let store = DiskStore::open(store_paths, options).map_err(ServeError::Disks)?;
        let disks = store.list().map_err(ServeError::Disks)?;
        let boots = Boots::found(disks.into_iter().map(|(disk, _)| disk));
        Ok((store, boots))
    };
    on_thread(open).await
}

/// The portals to listen on; waits for the first snapshot if they are only there.
async fn portals(service: &Service, listen: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Site::Room(room) = service.site.as_ref() else {
        return listen;
    };
    if !listen.is_empty() {
        return listen;
    }
    let mut told = false;
    loop {
        if let Some(snapshot) = room.snapshots.current() {
            return snapshot
                .server
                .portals
                .iter()
                .map(|&portal| portal.into())
                .collect();
        }
        if !told {
            tracing::info!("waiting for the first site snapshot, which names the portals");
            told = true;
        }
        tokio::time::sleep(SNAPSHOT_EVERY).await;
    }
}

/// Runs what may wait for the storage on a thread of its own.
pub(crate) async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        // The runtime cancels no blocking task that has begun, so it can only be a panic.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// The site's targets, and how many sessions each client may have.
impl TargetDirectory for Service {
    fn access(&self, identity: &LoginIdentity) -> Result<Access, LoginStatus> {
        self.site.access(identity)
    }

    fn admit(&self, identity: &LoginIdentity, family: InitiatorFamily) -> Result<(), LoginStatus> {
        self.site.admit(identity, family)?;
        let target = identity.target_name.as_deref();
        let is_client = |session: &Session| session.client.is_some();
        let open = self
            .sessions
            .count(|session| is_client(session) && Some(session.target.as_str()) == target);
        match open >= SESSIONS_PER_CLIENT_MAX {
            true => Err(LoginStatus::OutOfResources),
            false => Ok(()),
        }
    }

    fn discover(&self, identity: &LoginIdentity) -> Vec<TargetPortals> {
        let portals = portals::reachable(&self.portals(), identity.portal, identity.peer);
        let targets = self.site.targets_of(identity).into_iter();
        targets
            .map(|target_name| TargetPortals {
                target_name,
                portals: portals.clone(),
            })
            .collect()
    }
}

impl Service {
    pub(crate) fn start(
        site: Site,
        workers: workers::Places,
        disk_threads: usize,
        events: Option<EventSender>,
    ) -> Result<Arc<Self>, ServeError> {
        let pool = DiskPool::start(disk_threads).map_err(ServeError::Threads)?;
        Ok(Arc::new(Self {
            site: Arc::new(site),
            sessions: Sessions::default(),
            pool: Arc::new(pool),
            buffers: Arc::default(),
            places: Places::default(),
            tasks: TaskTracker::new(),
            workers,
            stopping: CancellationToken::new(),
            malformed: Mutex::new(MalformedTally::new("iscsi")),
            crowds: Mutex::new(MalformedTally::new("iscsi")),
            refusals: Mutex::default(),
            late_logins: Mutex::default(),
            session_log: Mutex::default(),
            limits: Limits {
                login_timeout: LOGIN_TIMEOUT,
                ..Limits::default()
            },
            accounts: Accounts::default(),
            space: Space::default(),
            events,
            targets: Mutex::default(),
            portals: Mutex::default(),
        }))
    }

    /// Asks the initiators to come back later, answers what runs, ends all connections and waits
    /// until nothing of them runs.
    pub(crate) async fn stop(&self) {
        let sessions = self.sessions.matching(|_| true).len();
        tracing::info!(sessions.open = sessions, "the service stops");
        self.stopping.cancel();
        self.tasks.close();
        if tokio::time::timeout(STOP_WITHIN, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("some disk commands still run; the service stops without them");
        }
    }

    /// Notes the portals.
    pub(crate) fn listens_on(&self, listeners: &[TcpListener]) {
        let addresses = listeners.iter().filter_map(|one| one.local_addr().ok());
        *self.portals.lock().unwrap_or_else(PoisonError::into_inner) = addresses.collect();
    }

    fn portals(&self) -> Vec<SocketAddr> {
        self.portals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Asks the kernel how the TCP connections of the sessions fare.
    pub(crate) async fn observe_tcp(self: &Arc<Self>) {
        let service = Arc::clone(self);
        let mut ports: Vec<u16> = self.portals().iter().map(SocketAddr::port).collect();
        ports.sort_unstable();
        ports.dedup();
        if let Err(error) = on_thread(move || metrics::observe_tcp(&service, &ports)).await {
            tracing::debug!(%error, "the kernel does not tell how TCP connections fare");
        }
    }

    /// What boots read; none in standalone mode.
    pub(crate) fn profiles(&self) -> Option<&Arc<BootProfiles>> {
        match self.site.as_ref() {
            Site::Room(room) => Some(&room.profiles),
            Site::Single(_) => None,
        }
    }

    /// Tells `node`.
    pub(crate) fn report(&self, event: EventKind) {
        if let Some(events) = &self.events {
            events.send(event);
        }
    }

    /// Orders what happens to a target's disk: logins, power-on, reset.
    pub(crate) fn gate(&self, target: &str) -> Arc<tokio::sync::Mutex<()>> {
        self.with_target(target, |target| Arc::clone(&target.gate))
    }

    /// Opens the disks of a target as they are; the caller holds the target's gate.
    pub(crate) async fn units(
        self: &Arc<Self>,
        target: &str,
        kind: LoginKind,
    ) -> Result<Arc<Units>, UnitError> {
        let known = self.known_units(target);
        let site = Arc::clone(&self.site);
        let name = target.to_owned();
        let units = on_thread(move || site.open_units(&name, kind, known.as_ref())).await?;
        self.with_target(target, |target| target.units = Some(Arc::clone(&units)));
        Ok(units)
    }

    /// The disks that a target served last, if they are still its.
    pub(crate) fn known_units(&self, target: &str) -> Option<Arc<Units>> {
        self.with_target(target, |target| target.units.clone())
    }

    /// Forgets the disks that a target served: they are others from now on. The caller holds the
    /// target's gate, and no session of it is open.
    pub(crate) fn forget_units(&self, target: &str) {
        self.with_target(target, |target| target.units = None);
    }

    /// After the end of a session: if it was the last of a client's system, and not the service ends, the system is not
    /// expected back.
    pub(crate) fn note_departure(&self, session: &Session) {
        let Site::Room(room) = self.site.as_ref() else {
            return;
        };
        let is_of_system =
            |one: &Session| one.client == session.client && one.kind == LoginKind::Os;
        if self.stopping.is_cancelled()
            || !is_of_system(session)
            || self.sessions.count(is_of_system) > 0
        {
            return;
        }
        let snapshot = room.snapshots.current();
        let client = session.client.zip(snapshot.as_deref());
        if let Some(client) = client.and_then(|(id, snapshot)| snapshot.client_by_id(id)) {
            room.returning.gone(client.disk.id);
        }
    }

    /// The other sessions of a session's target.
    pub(crate) fn other_sessions(&self, session: &Session) -> Vec<Arc<Session>> {
        self.sessions
            .matching(|other| other.target == session.target && other.id != session.id)
    }

    /// A unit attention of a logical unit for the other sessions of a session's target.
    pub(crate) fn attention_for_others(&self, session: &Session, lun: u8, sense: Sense) {
        for other in self.other_sessions(session) {
            other.add_attention(lun, sense);
        }
    }

    /// Unit attentions of a logical unit for the sessions of certain initiator ports of a session's target.
    pub(crate) fn attention_for_ports(
        &self,
        session: &Session,
        lun: u8,
        attentions: &[(InitiatorPort, Sense)],
    ) {
        for (port, sense) in attentions {
            for other in self.other_sessions(session) {
                if other.port == *port {
                    other.add_attention(lun, *sense);
                }
            }
        }
    }

    /// Aborts the commands of certain initiator ports on a logical unit of a session's target; each receiver resolves when
    /// none of one session runs.
    pub(crate) fn abort_of_ports(
        &self,
        session: &Session,
        lun: u8,
        ports: &[InitiatorPort],
    ) -> Vec<oneshot::Receiver<()>> {
        let others = self.other_sessions(session);
        let hit = others.iter().filter(|other| ports.contains(&other.port));
        hit.map(|other| other.abort_tasks(Some(lun), None))
            .collect()
    }

    /// Names are those of targets that the site knows, so there is a bounded number of them.
    fn with_target<T>(&self, name: &str, with: impl FnOnce(&mut Target) -> T) -> T {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        with(targets.entry(name.to_owned()).or_default())
    }
}
