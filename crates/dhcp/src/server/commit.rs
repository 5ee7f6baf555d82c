//! Group commit: answers that give a lease leave only after the lease is on disk.
//!
//! One thread owns the journal. While it waits for the disk, requests queue up; the next sync
//! takes all of them at once, so the rate does not depend on how slow a sync is.
//!
//! Two things spare most answers that wait. A lease is written when its address is offered, and
//! is on disk when the client asks for it (or nearly so: then the ACK waits for that sync and no
//! other). And it is written with a longer end than its client was told, so that the next requests
//! of the same client (a PC asks three times per boot, and renews) find it on disk; after a
//! restart such an address merely stays reserved for a while longer. What is on disk and what is
//! under way is kept by the [`Ledger`].
//!
//! If the disk refuses (full, broken), the error is logged and the answers leave all the same: a
//! room that boots with leases in memory only beats one that does not boot.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dess_model::host::EventSender;
use dess_model::{EventKind, PeerTally, Timestamp};
use tokio::net::UdpSocket;

use super::journal::Journal;
use super::ledger::{Ledger, Position};
use super::transmit;
use crate::Exchange;
use crate::exchange::Transmit;
use crate::lease::{Ahead, Binding, BindingState};

/// Most requests waiting for the disk; more are dropped (clients ask again).
const WAITING_MAX: usize = 8192;
/// Most requests in one sync.
const BATCH_MAX: usize = 2048;
/// How often a failing disk is logged.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// What one request leaves to be done when its leases are durable.
pub(crate) struct Commit {
    pub(crate) records: Vec<Binding>,
    pub(crate) transmit: Option<(Arc<UdpSocket>, Transmit)>,
    pub(crate) events: Vec<EventKind>,
}

/// What waits for the disk.
struct Waiting {
    /// To be written, at positions up to `at`.
    writes: Vec<Binding>,
    at: Position,
    transmit: Option<(Arc<UdpSocket>, Transmit)>,
    events: Vec<EventKind>,
}

/// The queue to the journal's thread.
#[derive(Clone)]
pub(crate) struct Committer {
    queue: SyncSender<Waiting>,
    ledger: Arc<Mutex<Ledger>>,
    dropped: Arc<Mutex<PeerTally>>,
}

impl Committer {
    /// Starts the thread; it ends when all committers are gone and the queue is empty.
    pub(crate) fn start(
        journal: Journal,
        exchange: Arc<Mutex<Exchange>>,
        events: EventSender,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (queue, waiting) = sync_channel(WAITING_MAX);
        let ledger = Arc::default();
        let mut writer = Writer {
            journal,
            ledger: Arc::clone(&ledger),
            exchange,
            events,
            complained_at: None,
        };
        let thread = std::thread::Builder::new()
            .name("dhcp-journal".to_owned())
            .spawn(move || writer.run(&waiting))?;
        let committer = Self {
            queue,
            ledger,
            dropped: Arc::default(),
        };
        Ok((committer, thread))
    }

    /// Sends the answer if all it promises is on disk, else queues it; never waits. Returns the
    /// events of what is done.
    pub(crate) fn commit(&self, now: Timestamp, commit: Commit) -> Vec<EventKind> {
        let mut waiting = Waiting {
            writes: Vec::new(),
            at: Position::default(),
            transmit: commit.transmit,
            events: commit.events,
        };
        // Held until the request is in the queue: positions are in the order of the queue.
        let mut ledger = lock(&self.ledger);
        for record in commit.records {
            let noted = ledger.note(now, record);
            waiting.writes.extend(noted.write);
            waiting.at = waiting.at.max(noted.at);
        }
        if ledger.is_durable(waiting.at) {
            drop(ledger);
            if let Some((socket, datagram)) = waiting.transmit {
                transmit(&socket, &datagram);
            }
            return waiting.events;
        }
        self.enqueue(ledger, waiting);
        Vec::new()
    }

    /// Has a lease written that is about to be asked for.
    pub(crate) fn write_ahead(&self, now: Timestamp, ahead: Ahead) {
        let mut ledger = lock(&self.ledger);
        if let Some(noted) = ledger.note_ahead(now, ahead) {
            self.enqueue(ledger, Waiting::without_answer(noted.write, noted.at));
        }
    }

    /// To be called about once a second: ends the offers that nobody took up.
    pub(crate) fn handle_timeout(&self, now: Timestamp) {
        let mut ledger = lock(&self.ledger);
        let mut ended = Waiting::without_answer(None, Position::default());
        while let Some(noted) = ledger.end_untaken(now, now) {
            ended.writes.extend(noted.write);
            ended.at = noted.at;
        }
        if !ended.writes.is_empty() {
            self.enqueue(ledger, ended);
        }
    }

    fn enqueue(&self, mut ledger: MutexGuard<'_, Ledger>, waiting: Waiting) {
        let refused = match self.queue.try_send(waiting) {
            Ok(()) => return,
            Err(TrySendError::Full(refused)) => {
                let mut dropped = lock(&self.dropped);
                if let Some(told) = dropped.record(Timestamp::now(), "all", "full") {
                    tracing::warn!(
                        requests.dropped = told.count,
                        "the disk is too slow for the leases; requests are dropped"
                    );
                }
                refused
            }
            Err(TrySendError::Disconnected(refused)) => {
                tracing::error!("the lease journal's thread is gone; a request was dropped");
                refused
            }
        };
        for record in refused.writes {
            ledger.forget(record.address);
        }
    }
}

impl Waiting {
    fn without_answer(write: Option<Binding>, at: Position) -> Self {
        Self {
            writes: write.into_iter().collect(),
            at,
            transmit: None,
            events: Vec::new(),
        }
    }
}

struct Writer {
    journal: Journal,
    ledger: Arc<Mutex<Ledger>>,
    exchange: Arc<Mutex<Exchange>>,
    events: EventSender,
    complained_at: Option<Instant>,
}

impl Writer {
    fn run(&mut self, waiting: &Receiver<Waiting>) {
        while let Ok(first) = waiting.recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH_MAX
                && let Ok(next) = waiting.try_recv()
            {
                batch.push(next);
            }
            self.carry_out(batch);
        }
        self.end_offers();
    }

    fn carry_out(&mut self, batch: Vec<Waiting>) {
        // What waited for the sync before this one does not wait for this one too.
        let (done, batch): (Vec<_>, Vec<_>) = {
            let ledger = lock(&self.ledger);
            batch
                .into_iter()
                .partition(|waiting| waiting.writes.is_empty() && ledger.is_durable(waiting.at))
        };
        self.answer(done);
        // In the order of the queue: a release and a new lease may be in the same batch.
        let records: Vec<Binding> = batch
            .iter()
            .flat_map(|waiting| &waiting.writes)
            .copied()
            .collect();
        if let Err(error) = self.journal.append(&records) {
            lock(&self.ledger).forget_all();
            self.complain(&error);
        }
        if let Some(at) = batch.iter().map(|waiting| waiting.at).max() {
            lock(&self.ledger).reached(at);
        }
        self.answer(batch);
        self.compact();
    }

    fn answer(&self, batch: Vec<Waiting>) {
        let mut events = Vec::new();
        for waiting in batch {
            if let Some((socket, datagram)) = waiting.transmit {
                transmit(&socket, &datagram);
            }
            events.extend(waiting.events);
        }
        for event in events {
            self.events.send(event);
        }
    }

    /// No ACK leaves any more: the offers not taken up are no leases after a restart.
    fn end_offers(&mut self) {
        let now = Timestamp::now();
        let mut records = Vec::new();
        while let Some(noted) = lock(&self.ledger).end_untaken(now, Timestamp(i64::MAX)) {
            records.extend(noted.write);
        }
        if let Err(error) = self.journal.append(&records) {
            self.complain(&error);
        }
    }

    fn compact(&mut self) {
        // Even a journal of one lease is left alone below this size; do not lock for nothing.
        if !self.journal.wants_compaction(0) {
            return;
        }
        let count = lock(&self.exchange).leases().iter().count();
        if !self.journal.wants_compaction(count) {
            return;
        }
        // Forgotten first: a lease granted after the table is copied is not in the new file, and
        // must find no word of the old one. The new file has the ends as they were told.
        lock(&self.ledger).forget_all();
        let live: Vec<Binding> = {
            let exchange = lock(&self.exchange);
            let lasting = |binding: &&Binding| binding.state != BindingState::Offered;
            exchange.leases().iter().filter(lasting).copied().collect()
        };
        if let Err(error) = self.journal.compact(&live) {
            self.complain(&error);
        }
    }

    fn complain(&mut self, error: &super::JournalError) {
        if self
            .complained_at
            .is_some_and(|at| at.elapsed() < COMPLAIN_EVERY)
        {
            return;
        }
        self.complained_at = Some(Instant::now());
        tracing::error!(
            error = error as &dyn std::error::Error,
            "leases are not stored; clients are still answered, but a restart forgets them"
        );
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
