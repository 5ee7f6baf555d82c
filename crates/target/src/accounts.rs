//! What is kept of each client while the service runs: its limits and its counters.

mod histogram;
mod meter;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dess_iscsi::Budget;
use dess_model::{ClientCounters, ClientId, GroupId, OperationCounters, SiteSnapshot};
use dess_scsi::Medium;

use crate::admission::{Direction, Gate, Gates};

pub(crate) use histogram::{Histogram, LE_MICROS};
pub(crate) use meter::Meter;

/// What a command does, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Read,
    Write,
    Flush,
    Unmap,
}

/// One client's limits and counters; they last from its first session to the end of the service.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) gates: Gates,
    /// Memory that the data of its commands may take.
    pub(crate) memory: Arc<Budget>,
    operations: [Tally; Operation::ALL.len()],
    /// Commands that are under way in all sessions.
    depth: AtomicU64,
    depth_max: AtomicU64,
    throttled: AtomicU64,
    throttled_nanos: AtomicU64,
    /// TCP retransmissions of connections that have ended.
    retransmits: AtomicU64,
}

/// One kind of operation.
#[derive(Debug, Default)]
struct Tally {
    bytes: AtomicU64,
    latency: Histogram,
}

/// The accounts of all clients, and the limits of the groups.
#[derive(Debug)]
pub(crate) struct Accounts {
    /// That of all clients together.
    memory: Arc<Budget>,
    clients: Mutex<HashMap<ClientId, Arc<Account>>>,
    groups: Mutex<HashMap<GroupId, Arc<Gate>>>,
}

/// Most memory for the data of one client's commands, in bytes; a session that does all that it may at once needs about
/// as much.
const CLIENT_MEMORY_MAX: usize = 64 << 20;
/// What of it a client always gets, however much others use: its longest write.
const CLIENT_MEMORY_ASSURED: usize = 8 << 20;
/// Most memory for the data of all clients' commands, in bytes, besides what is assured.
const MEMORY_MAX: usize = 1 << 30;

impl Default for Accounts {
    fn default() -> Self {
        Self {
            memory: Arc::new(Budget::new(MEMORY_MAX)),
            clients: Mutex::default(),
            groups: Mutex::default(),
        }
    }
}

impl Operation {
    /// In the order of their numbers.
    pub(crate) const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Flush, Self::Unmap];

    /// How a command is counted; none for those that only ask.
    pub(crate) fn of(medium: &Medium) -> Option<Self> {
        match medium {
            Medium::Read(_) => Some(Self::Read),
            Medium::Write { .. }
            | Medium::WriteAndVerify { .. }
            | Medium::CompareAndWrite { .. }
            | Medium::OrWrite { .. }
            | Medium::WriteSame { .. }
            | Medium::Copy { .. } => Some(Self::Write),
            Medium::SynchronizeCache(_) => Some(Self::Flush),
            Medium::Unmap { .. } => Some(Self::Unmap),
            Medium::Verify { .. } | Medium::Prefetch(_) | Medium::LbaStatus { .. } => None,
        }
    }

    /// The limits that it falls under; flushes fall under none.
    pub(crate) fn direction(self) -> Option<Direction> {
        match self {
            Self::Read => Some(Direction::Read),
            Self::Write | Self::Unmap => Some(Direction::Write),
            Self::Flush => None,
        }
    }

    /// As it is called in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Unmap => "unmap",
        }
    }
}

impl Account {
    /// One whose memory is a part of that of all.
    fn new(memory: &Arc<Budget>) -> Self {
        let memory = Budget::within(Arc::clone(memory), CLIENT_MEMORY_MAX, CLIENT_MEMORY_ASSURED);
        Self {
            gates: Gates::default(),
            memory: Arc::new(memory),
            operations: Default::default(),
            depth: AtomicU64::new(0),
            depth_max: AtomicU64::new(0),
            throttled: AtomicU64::new(0),
            throttled_nanos: AtomicU64::new(0),
            retransmits: AtomicU64::new(0),
        }
    }

    /// Bytes that commands of a kind moved.
    pub(crate) fn bytes(&self, operation: Operation) -> u64 {
        self.tally(operation).bytes.load(Ordering::Relaxed)
    }

    /// Latencies of a kind of commands, from their arrival to their answer.
    pub(crate) fn latency(&self, operation: Operation) -> &Histogram {
        &self.tally(operation).latency
    }

    /// Commands under way now.
    pub(crate) fn depth(&self) -> u64 {
        self.depth.load(Ordering::Relaxed)
    }

    /// Most commands that were under way in one session.
    pub(crate) fn depth_max(&self) -> u64 {
        self.depth_max.load(Ordering::Relaxed)
    }

    /// Counts a command that waited for a limit.
    pub(crate) fn count_throttled(&self, waited: Duration) {
        let nanos = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
        self.throttled.fetch_add(1, Ordering::Relaxed);
        self.throttled_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Commands that waited for a limit, and the sum of their waits.
    pub(crate) fn throttled(&self) -> (u64, Duration) {
        (
            self.throttled.load(Ordering::Relaxed),
            Duration::from_nanos(self.throttled_nanos.load(Ordering::Relaxed)),
        )
    }

    /// Adds the retransmissions of a connection that ends.
    pub(crate) fn count_retransmits(&self, count: u64) {
        self.retransmits.fetch_add(count, Ordering::Relaxed);
    }

    /// TCP retransmissions of connections that have ended.
    pub(crate) fn retransmits(&self) -> u64 {
        self.retransmits.load(Ordering::Relaxed)
    }

    /// The counters, for people.
    pub(crate) fn counters(&self, client: ClientId) -> ClientCounters {
        let operation = |operation| {
            let latency = self.latency(operation).summary();
            OperationCounters {
                count: latency.count,
                bytes: self.bytes(operation),
                mean_us: latency.mean_us,
                p50_us: latency.p50_us,
                p99_us: latency.p99_us,
            }
        };
        let (throttled, throttled_time) = self.throttled();
        ClientCounters {
            client,
            read: operation(Operation::Read),
            write: operation(Operation::Write),
            flush: operation(Operation::Flush),
            unmap: operation(Operation::Unmap),
            queue_depth: self.depth(),
            queue_depth_max: self.depth_max(),
            throttled,
            throttled_us: u64::try_from(throttled_time.as_micros()).unwrap_or(u64::MAX),
        }
    }

    fn tally(&self, operation: Operation) -> &Tally {
        &self.operations[operation as usize]
    }
}

impl Accounts {
    /// The account of a client, opened if there is none; one that nobody else has for a session of no client.
    pub(crate) fn open(&self, client: Option<ClientId>) -> Arc<Account> {
        let new = || Arc::new(Account::new(&self.memory));
        match client {
            Some(client) => Arc::clone(lock(&self.clients).entry(client).or_insert_with(new)),
            None => new(),
        }
    }

    /// Memory for those who have not logged in.
    pub(crate) fn memory(&self) -> Arc<Budget> {
        Arc::clone(&self.memory)
    }

    /// All accounts, by client.
    pub(crate) fn all(&self) -> Vec<(ClientId, Arc<Account>)> {
        let mut all: Vec<_> = lock(&self.clients)
            .iter()
            .map(|(client, account)| (*client, Arc::clone(account)))
            .collect();
        all.sort_by_key(|(client, _)| *client);
        all
    }

    /// Lets each client write at most so many bytes per second: the pool is nearly full. None takes that away.
    pub(crate) fn slow_down(&self, now: Instant, bytes_per_sec: Option<u64>) {
        for account in lock(&self.clients).values() {
            account.gates.slow_down(now, bytes_per_sec);
        }
    }

    /// Takes the limits of a snapshot over, and forgets clients and groups that it does not have.
    pub(crate) fn follow(&self, now: Instant, snapshot: &SiteSnapshot) {
        let mut groups = lock(&self.groups);
        groups.retain(|id, _| snapshot.groups.iter().any(|group| group.id == *id));
        for group in &snapshot.groups {
            groups.entry(group.id).or_default().set(now, &group.limits);
        }
        let mut clients = lock(&self.clients);
        clients.retain(|id, _| snapshot.client_by_id(*id).is_some());
        for client in &snapshot.clients {
            let account = clients
                .entry(client.id)
                .or_insert_with(|| Arc::new(Account::new(&self.memory)));
            account.gates.own().set(now, &client.limits);
            let group = client.group.and_then(|group| groups.get(&group));
            account.gates.join(group.cloned().unwrap_or_default());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
