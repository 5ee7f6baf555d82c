//! Group commit: an answer that gives a lease leaves when the lease is in the lease file, and the
//! file is synced right after that.
//!
//! What was written survives the process, killed or not. A power cut can take what the sync under
//! way has not reached: some tenths of a millisecond on an idle disk. One thread syncs, again and
//! again while there is something unsynced, so the rate does not depend on how slow a sync is;
//! writing beside it does not wait for it (the space is there already).
//!
//! If the disk refuses (full, broken), the error is logged and the answers leave all the same: a
//! room that boots with leases in memory only beats one that does not boot. The whole file is
//! then written anew, once a minute until that succeeds: after a failed sync the kernel takes
//! what it could not write for written.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dess_model::EventKind;
use tokio::net::UdpSocket;

use super::journal::Journal;
use super::{JournalError, transmit};
use crate::Exchange;
use crate::exchange::Outcome;
use crate::lease::{Binding, BindingState};
use crate::record::Session;

/// How often a failing disk is logged and tried anew.
const RETRY_EVERY: Duration = Duration::from_secs(60);

/// Writes leases, and has the journal's thread sync them.
#[derive(Clone)]
pub(crate) struct Committer {
    store: Arc<Mutex<Store>>,
    /// One signal is enough for any number of records: it is taken before the sync.
    unsynced: SyncSender<()>,
}

impl Committer {
    /// Records the start and begins to sync. The thread ends when all committers are gone, with
    /// the record of a clean stop.
    pub(crate) fn start(
        journal: Journal,
        session: Session,
        exchange: Arc<Mutex<Exchange>>,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let mut store = Store {
            journal,
            failed_at: None,
        };
        if let Err(error) = store.journal.start(session) {
            store.complain(&error);
        }
        let store = Arc::new(Mutex::new(store));
        let (unsynced, signals) = sync_channel(1);
        let syncer = Syncer {
            store: Arc::clone(&store),
            exchange,
        };
        let thread = std::thread::Builder::new()
            .name("dhcp-journal".to_owned())
            .spawn(move || syncer.run(&signals))?;
        Ok((Self { store, unsynced }, thread))
    }

    /// Writes the outcome's leases, then sends its answer. Returns its events.
    pub(crate) fn carry_out(&self, socket: &UdpSocket, outcome: Outcome) -> Vec<EventKind> {
        let written = self.append(&outcome.records);
        if let Some(datagram) = &outcome.transmit {
            transmit(socket, datagram);
        }
        self.signal(written);
        outcome.events
    }

    /// Writes records that no answer promises.
    pub(crate) fn write(&self, records: &[Binding]) {
        let written = self.append(records);
        self.signal(written);
    }

    /// True if there is something for the journal's thread to do.
    fn append(&self, records: &[Binding]) -> bool {
        if records.is_empty() {
            return false;
        }
        let mut store = lock(&self.store);
        if let Err(error) = store.journal.append(records) {
            store.complain(&error);
        }
        true
    }

    fn signal(&self, written: bool) {
        if written {
            // If it is full, the next sync is still to come.
            let _ = self.unsynced.try_send(());
        }
    }
}

struct Store {
    journal: Journal,
    /// When the disk refused last, if what it has is not whole since.
    failed_at: Option<Instant>,
}

impl Store {
    fn complain(&mut self, error: &JournalError) {
        if self.failed_at.is_some() {
            return;
        }
        self.failed_at = Some(Instant::now());
        tracing::error!(
            error = error as &dyn std::error::Error,
            "leases are not stored; clients are still answered, but a restart forgets them"
        );
    }
}

struct Syncer {
    store: Arc<Mutex<Store>>,
    exchange: Arc<Mutex<Exchange>>,
}

impl Syncer {
    fn run(&self, signals: &Receiver<()>) {
        while signals.recv().is_ok() {
            self.sync();
            if self.wants_rewriting() {
                self.rewrite();
            }
        }
        let mut store = lock(&self.store);
        // Without the record of a clean stop, the next boot knows that leases may be missing.
        if store.failed_at.is_none()
            && let Err(error) = store.journal.stop()
        {
            store.complain(&error);
        }
    }

    fn sync(&self) {
        let file = {
            let mut store = lock(&self.store);
            store.journal.reserve();
            store.journal.file()
        };
        if let Err(source) = file.sync_data() {
            let mut store = lock(&self.store);
            let error = store.journal.sync_failed(source);
            store.complain(&error);
        }
    }

    fn wants_rewriting(&self) -> bool {
        {
            let store = lock(&self.store);
            if let Some(at) = store.failed_at {
                return at.elapsed() >= RETRY_EVERY;
            }
            // Even a journal of one lease is left alone below this size; do not count for nothing.
            if !store.journal.wants_compaction(0) {
                return false;
            }
        }
        let count = lock(&self.exchange).leases().iter().count();
        lock(&self.store).journal.wants_compaction(count)
    }

    /// Writes a new file with the live leases only.
    fn rewrite(&self) {
        let compaction = {
            let mut store = lock(&self.store);
            // What fails from here on is not in the new file.
            store.failed_at = None;
            store.journal.compaction()
        };
        // Leases are in the table before they are appended: none is missed.
        let live: Vec<Binding> = {
            let exchange = lock(&self.exchange);
            let lasting = |binding: &&Binding| binding.state != BindingState::Offered;
            exchange.leases().iter().filter(lasting).copied().collect()
        };
        let compacted = compaction.write(&live);
        let mut store = lock(&self.store);
        if let Err(error) = compacted.and_then(|compacted| store.journal.finish(compacted)) {
            store.complain(&error);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
