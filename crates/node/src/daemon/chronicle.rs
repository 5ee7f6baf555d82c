//! Folds events and writes what came of them.

use std::sync::Arc;
use std::time::Duration;

use dess_diagnosis::{Change, Folding};
use dess_model::host::SnapshotReader;
use dess_model::{AttemptId, ClientId, DhcpPhase, Event, EventKind, MacAddr, Timestamp};
use dess_store::{ClientRecord, NoticeKind, StoreError};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};
use uuid::Uuid;

use super::cases::{Cases, Look};
use super::pending::Pending;
use super::shared::Shared;
use crate::registration::Newcomer;
use crate::timeline::attempt_of;

/// Events of several services arrive nearly in order of time; so long one waits for another.
const REORDER_WINDOW: Duration = Duration::from_millis(25);
/// After the start the services send what they kept, each on its own, within a quarter second.
const REORDER_WINDOW_AT_START: Duration = Duration::from_millis(600);
/// Most events folded at once.
const BATCH_MAX: usize = 4096;
/// How often silence is looked for, and what could not be written is tried again.
const TICK: Duration = Duration::from_secs(1);
/// Longest pause between two tries to write.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How long writing may take when the daemon stops.
const LAST_WRITE_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Chronicle {
    shared: Arc<Shared>,
    batches: mpsc::Receiver<Vec<Event>>,
    looks: mpsc::Receiver<Look>,
    /// Clients that were switched on, for the iSCSI service.
    expected: mpsc::Sender<ClientId>,
    folding: Folding,
    cases: Cases,
    snapshot: SnapshotReader,
    /// Revision of the snapshot whose clients are known to `folding`.
    revision: Option<u64>,
    /// True when the attempts of before the start were taken up.
    restored: bool,
    pending: Pending,
    retry_at: Instant,
    retry_pause: Duration,
}

/// What the task waits for.
enum Next {
    Events(Vec<Event>),
    Look(Look),
    Retry,
    Tick,
    Stop,
}

impl Chronicle {
    pub(super) fn new(
        shared: Arc<Shared>,
        batches: mpsc::Receiver<Vec<Event>>,
        looks: mpsc::Receiver<Look>,
        expected: mpsc::Sender<ClientId>,
    ) -> Self {
        Self {
            snapshot: SnapshotReader::new(shared.paths.snapshot()),
            shared,
            batches,
            looks,
            expected,
            folding: Folding::new(),
            cases: Cases::new(),
            revision: None,
            restored: false,
            pending: Pending::default(),
            retry_at: Instant::now(),
            retry_pause: TICK,
        }
    }

    /// Works until nobody sends events any more, then writes what is left.
    pub(super) async fn run(mut self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.restore().await;
        loop {
            let next = tokio::select! {
                biased;
                batch = self.batches.recv() => batch.map_or(Next::Stop, Next::Events),
                Some(look) = self.looks.recv() => Next::Look(look),
                () = self.shared.retry.notified() => Next::Retry,
                _ = ticks.tick() => Next::Tick,
            };
            self.clients_refresh();
            match next {
                Next::Events(events) => self.fold(events),
                Next::Look(look) => {
                    let now = Timestamp::now();
                    if let Look::Disks { sessions, .. } = &look {
                        let changes = self.folding.sessions_seen(now, sessions);
                        self.take(changes);
                    }
                    self.cases.look_seen(now, &look);
                }
                Next::Tick => {
                    let changes = self.folding.handle_timeout(Timestamp::now());
                    self.take(changes);
                }
                Next::Retry => self.retry_at = Instant::now(),
                Next::Stop => break,
            }
            for case in self.cases.diagnose(Timestamp::now()) {
                self.pending.case(case);
            }
            self.write_when_due().await;
        }
        if timeout(LAST_WRITE_TIMEOUT, self.write()).await.is_err() || !self.pending.is_empty() {
            tracing::error!(
                changes.lost = self.pending.len(),
                "node stops while the database cannot be written; some boot events are lost"
            );
        }
    }

    /// The clients of the snapshot in force: known even without a database.
    fn clients_refresh(&mut self) {
        let Some(snapshot) = self.snapshot.current() else {
            return;
        };
        if self.revision != Some(snapshot.revision) {
            self.revision = Some(snapshot.revision);
            let clients = snapshot.clients.iter();
            self.folding
                .clients_set(clients.map(|client| (client.id, client.mac)));
            self.cases.snapshot_seen(&snapshot);
        }
    }

    fn fold(&mut self, events: Vec<Event>) {
        self.shared.lock().events_received += u64::try_from(events.len()).unwrap_or(u64::MAX);
        for event in events {
            self.note(&event);
            let fresh = AttemptId(Uuid::now_v7());
            let changes = self.folding.handle(&event, fresh);
            self.take(changes);
            self.cases
                .event_seen(&event, self.folding.client_of(&event));
        }
    }

    /// Keeps what folding changed, to be diagnosed and written.
    fn take(&mut self, changes: Vec<Change>) {
        self.cases.changes_seen(&changes);
        for change in changes {
            self.pending.change(change);
        }
    }

    /// The first that is heard of a boot: the iSCSI service may prepare for it.
    fn expect(&self, mac: MacAddr) {
        let snapshot = self.snapshot.current();
        let client = snapshot.as_deref().and_then(|all| all.client_by_mac(mac));
        if let Some(client) = client.filter(|client| client.approved) {
            // If too many wait, it boots without.
            let _ = self.expected.try_send(client.id);
        }
    }

    /// Takes what an event says beside the boot.
    fn note(&mut self, event: &Event) {
        let at = event.at;
        if let EventKind::DhcpOffer {
            mac,
            phase: DhcpPhase::Firmware,
            ..
        } = &event.kind
        {
            self.expect(*mac);
        }
        match &event.kind {
            EventKind::UnknownClient {
                mac,
                architecture,
                uuid,
                address,
            } => self.pending.newcomer(Newcomer {
                mac: *mac,
                architecture: *architecture,
                uuid: uuid.clone(),
                address: *address,
            }),
            EventKind::DhcpOffer {
                mac,
                phase: DhcpPhase::Firmware | DhcpPhase::Ipxe,
                architecture: Some(architecture),
                ..
            } => self.pending.architecture(*mac, *architecture),
            EventKind::RogueDhcp {
                server,
                mac,
                interface,
            } => {
                let mac = mac.map_or_else(String::new, |mac| format!(" ({mac})"));
                let detail = format!("DHCP server {server}{mac} answers on {interface}");
                self.pending
                    .notice(NoticeKind::RogueDhcp, server.to_string(), detail, 1, at);
            }
            EventKind::DiskError { client, message } => {
                let subject = client.to_string();
                self.pending
                    .notice(NoticeKind::DiskError, subject, message.clone(), 1, at);
            }
            EventKind::LoginRefused {
                peer,
                initiator,
                status,
                ..
            } => {
                let detail = format!("{initiator} from {peer}, iSCSI status {status:#06x}");
                // Not by its name: the peer makes that up.
                let subject = peer.to_string();
                self.pending
                    .notice(NoticeKind::LoginRefused, subject, detail, 1, at);
            }
            EventKind::Malformed {
                protocol,
                peer,
                reason,
                count,
            } => {
                let subject = format!("{protocol} {peer}").chars().take(191).collect();
                self.pending
                    .notice(NoticeKind::Malformed, subject, reason.clone(), *count, at);
            }
            _ => {}
        }
    }

    async fn write_when_due(&mut self) {
        if Instant::now() >= self.retry_at && !(self.pending.is_empty() && self.restored) {
            self.restore().await;
            self.write().await;
        }
        self.shared.lock().changes_waiting = self.pending.len();
    }

    /// Takes up the attempts that were under way when the daemon stopped, once.
    async fn restore(&mut self) {
        if self.restored {
            return;
        }
        self.clients_refresh();
        match self.restore_from_store().await {
            Ok(()) => {
                self.restored = true;
                self.shared.writes_work(true);
            }
            Err(error) => self.failed(&error),
        }
    }

    async fn restore_from_store(&mut self) -> Result<(), StoreError> {
        let mut tx = self.shared.database.store().await?.read().await?;
        for record in tx.attempt_list_open().await? {
            let mut attempt = attempt_of(&record);
            match self.folding.attempt(record.mac) {
                // It powered on anew while the database was away.
                Some(newer) if newer.id != record.id => {
                    let at = newer.started;
                    attempt = attempt.ended_by(at);
                    self.pending.change(Change {
                        attempt,
                        steps: Vec::new(),
                    });
                }
                Some(_) => {}
                None => {
                    let steps = tx.step_list(record.id).await?;
                    let os_login = steps.iter().find(|step| step.stage == "os_login");
                    let count = u32::try_from(steps.len()).unwrap_or(u32::MAX);
                    let os_login = os_login.map(|step| step.at);
                    self.folding.restore(attempt.restored(count, os_login));
                }
            }
        }
        self.cases.restore(&tx.case_list_open().await?);
        Ok(())
    }

    async fn write(&mut self) {
        if self.pending.is_empty() || !self.restored {
            return;
        }
        match self.write_pending().await {
            Ok(registered) => {
                self.retry_pause = TICK;
                self.shared.writes_work(true);
                self.shared.recovered();
                if !registered.is_empty() {
                    self.announce(&registered).await;
                }
            }
            Err(error) => self.failed(&error),
        }
    }

    async fn write_pending(&mut self) -> Result<Vec<ClientRecord>, StoreError> {
        let store = self.shared.database.store().await?;
        self.pending.write_boots(&store).await?;
        self.pending.write_newcomers(&store).await
    }

    /// Makes new clients known to the data path.
    async fn announce(&mut self, registered: &[ClientRecord]) {
        for client in registered {
            self.folding.client_add(client.id, client.mac);
            tracing::info!(
                client.mac = %client.mac, client.seat = client.seat,
                client.approved = client.approved, "registered {} as {}",
                client.mac, client.name
            );
        }
        // An error is noted there, and the publisher tries again.
        let _ = self.shared.publish().await;
    }

    fn failed(&mut self, error: &StoreError) {
        self.shared.writes_work(false);
        self.shared.degraded(error);
        self.retry_at = Instant::now() + self.retry_pause;
        self.retry_pause = (self.retry_pause * 2).min(RETRY_MAX);
    }
}

/// Puts events in order of time, and passes them on in batches until there are no more.
pub(super) async fn gather(mut events: mpsc::Receiver<Event>, batches: mpsc::Sender<Vec<Event>>) {
    let start_until = Instant::now() + REORDER_WINDOW_AT_START;
    while let Some(first) = events.recv().await {
        let until = start_until.max(Instant::now() + REORDER_WINDOW);
        let mut batch = vec![first];
        while batch.len() < BATCH_MAX
            && let Ok(Some(event)) = timeout_at(until, events.recv()).await
        {
            batch.push(event);
        }
        batch.sort_by_key(|event| event.at);
        if batches.send(batch).await.is_err() {
            return;
        }
    }
}
