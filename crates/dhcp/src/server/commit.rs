//! Group commit: answers that give a lease leave only after the lease is on disk.
//!
//! One thread owns the journal. While it waits for the disk, requests queue up; the next sync
//! takes all of them at once, so the rate does not depend on how slow a sync is.
//!
//! A lease is written with a longer end than its client was told, so that the next requests of the
//! same client (a PC asks three times per boot, and renews) find it on disk and cost no sync. After
//! a restart such an address merely stays reserved for a while longer.
//!
//! If the disk refuses (full, broken), the error is logged and the answers leave all the same: a
//! room that boots with leases in memory only beats one that does not boot.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dess_model::host::EventSender;
use dess_model::{EventKind, PeerTally, Timestamp};
use tokio::net::UdpSocket;

use super::journal::Journal;
use super::transmit;
use crate::Exchange;
use crate::exchange::Transmit;
use crate::lease::{Binding, BindingState};

/// Most requests waiting for the disk; more are dropped (clients ask again).
const WAITING_MAX: usize = 8192;
/// Most requests in one sync.
const BATCH_MAX: usize = 2048;
/// How much longer than told a lease is written, in milliseconds; at most its own length.
const WRITTEN_AHEAD_MS: i64 = 3_600_000;
/// How often a failing disk is logged.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// What one request leaves to be done when its leases are durable.
pub(crate) struct Commit {
    pub(crate) records: Vec<Binding>,
    pub(crate) transmit: Option<(Arc<UdpSocket>, Transmit)>,
    pub(crate) events: Vec<EventKind>,
}

/// The queue to the journal's thread.
#[derive(Clone)]
pub(crate) struct Committer {
    queue: SyncSender<Commit>,
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
        let mut writer = Writer {
            journal,
            durable: HashMap::new(),
            exchange,
            events,
            complained_at: None,
        };
        let thread = std::thread::Builder::new()
            .name("dhcp-journal".to_owned())
            .spawn(move || writer.run(&waiting))?;
        let dropped = Arc::default();
        Ok((Self { queue, dropped }, thread))
    }

    /// Queues a request; never waits.
    pub(crate) fn commit(&self, commit: Commit) {
        match self.queue.try_send(commit) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(told) = dropped.record(Timestamp::now(), "all", "full") {
                    tracing::warn!(
                        requests.dropped = told.count,
                        "the disk is too slow for the leases; requests are dropped"
                    );
                }
            }
            Err(TrySendError::Disconnected(_)) => {
                tracing::error!("the lease journal's thread is gone; a request was dropped");
            }
        }
    }
}

struct Writer {
    journal: Journal,
    /// What the journal holds after the sync under way, by address; grows with the addresses in use.
    durable: HashMap<Ipv4Addr, Binding>,
    exchange: Arc<Mutex<Exchange>>,
    events: EventSender,
    complained_at: Option<Instant>,
}

impl Writer {
    fn run(&mut self, waiting: &Receiver<Commit>) {
        while let Ok(first) = waiting.recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH_MAX
                && let Ok(next) = waiting.try_recv()
            {
                batch.push(next);
            }
            self.carry_out(batch);
        }
    }

    fn carry_out(&mut self, batch: Vec<Commit>) {
        let now = Timestamp::now();
        let mut records = Vec::new();
        // One after the other: a release and a new lease may be in the same batch.
        for record in batch.iter().flat_map(|commit| &commit.records) {
            if !self.is_durable(now, record) {
                let written = written_ahead(now, *record);
                self.durable.insert(written.address, written);
                records.push(written);
            }
        }
        if let Err(error) = self.journal.append(&records) {
            self.durable.clear();
            self.complain(&error);
        }
        let mut events = Vec::new();
        for commit in batch {
            if let Some((socket, datagram)) = commit.transmit {
                transmit(&socket, &datagram);
            }
            events.extend(commit.events);
        }
        for event in events {
            self.events.send(event);
        }
        self.compact();
    }

    /// True if the journal holds this lease already (or after this batch), with an end that is no earlier.
    fn is_durable(&self, now: Timestamp, record: &Binding) -> bool {
        record.state == BindingState::Leased
            && record.is_live(now)
            && self.durable.get(&record.address).is_some_and(|written| {
                written.state == record.state
                    && written.mac == record.mac
                    && written.expires_at >= record.expires_at
            })
    }

    fn compact(&mut self) {
        // Even a journal of one lease is left alone below this size; do not lock for nothing.
        if !self.journal.wants_compaction(0) {
            return;
        }
        let live: Vec<Binding> = {
            let exchange = self.exchange.lock().unwrap_or_else(PoisonError::into_inner);
            let lasting = |binding: &&Binding| binding.state != BindingState::Offered;
            exchange.leases().iter().filter(lasting).copied().collect()
        };
        if !self.journal.wants_compaction(live.len()) {
            return;
        }
        // The new file has the ends as they were told.
        self.durable.clear();
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

/// The record as it is written: a lease that lasts longer than its client was told.
fn written_ahead(now: Timestamp, record: Binding) -> Binding {
    if record.state != BindingState::Leased || !record.is_live(now) {
        return record;
    }
    let told = record.expires_at.0.saturating_sub(now.0);
    let expires_at = record
        .expires_at
        .0
        .saturating_add(told.min(WRITTEN_AHEAD_MS));
    Binding {
        expires_at: Timestamp(expires_at),
        ..record
    }
}

#[cfg(test)]
mod tests;
