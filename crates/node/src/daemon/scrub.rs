//! Compares the stored versions with their checksums, slowly and all the time.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dess_disk::Note;
use dess_disk::check::{Fault, LayerScrub, Scrubbed, versions_in_store};
use dess_model::{ClientCounters, Timestamp, VersionRef};
use dess_store::NoticeKind;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::shared::{Shared, chain};
use crate::operations::Operations;

/// Clients that move more than this per second have the storage for themselves.
const BUSY_BYTES_PER_SECOND: u64 = 16 << 20;
/// What clients moved is not known any more after this.
const LOAD_KNOWN: Duration = Duration::from_secs(30);
/// How often it is looked whether clients still move much.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often it is looked whether a pass is due.
const DUE_EVERY: Duration = Duration::from_secs(60);
/// Bytes after which the place is noted.
const NOTE_EVERY_BYTES: u64 = 256 << 20;
/// Most faults of one pass that are kept.
const FAULTS_MAX: usize = 100;
const FORMAT: u32 = 1;

/// How versions are scrubbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubOptions {
    /// Most bytes read per second; 0: nothing is scrubbed.
    pub bytes_per_second: u64,
    /// From the end of one pass to the begin of the next.
    pub every: Duration,
    /// After the start of the daemon: a room that boots has the storage for itself.
    pub start_after: Duration,
}

impl ScrubOptions {
    /// No scrub.
    pub const OFF: Self = Self {
        bytes_per_second: 0,
        every: Duration::MAX,
        start_after: Duration::MAX,
    };
}

/// How far the scrub is, and what it found; noted in a file, so that it goes on after a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubState {
    format: u32,
    /// The version under way and the byte of its disk at which it goes on; `None` between passes.
    pub at: Option<(VersionRef, u64)>,
    /// When the pass under way, or the last one, began.
    pub begun: Option<Timestamp>,
    /// When the last whole pass ended.
    pub ended: Option<Timestamp>,
    /// Bytes compared in the pass under way, or in the last one.
    pub compared_bytes: u64,
    /// What was found in that pass, with the version in whose layer it lies.
    pub faults: Vec<(VersionRef, Fault)>,
}

impl ScrubState {
    /// That of a site; the default if nothing was scrubbed yet, or if the note is not readable.
    pub(crate) fn read(note: &Note) -> Self {
        let content = note.read().ok().flatten();
        let state = content.and_then(|content| serde_json::from_slice::<Self>(&content).ok());
        state
            .filter(|state| state.format == FORMAT)
            .unwrap_or_else(|| Self {
                format: FORMAT,
                ..Self::default()
            })
    }

    fn write(&self, note: &Note) {
        let content = serde_json::to_vec(self).expect("numbers and strings have a JSON form");
        if let Err(error) = note.replace(&content) {
            tracing::warn!(%error, "cannot note how far the scrub is; a restart goes back a little");
        }
    }

    fn is_due(&self, now: Timestamp, every: Duration) -> bool {
        match (self.at, self.ended) {
            (Some(_), _) | (None, None) => true,
            (None, Some(ended)) => u128::from(now.millis_since(ended)) >= every.as_millis(),
        }
    }
}

/// What clients move, as the iSCSI service says now and then.
#[derive(Debug, Default)]
pub(crate) struct Load {
    seen: Mutex<Option<Seen>>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Instant,
    bytes: u64,
    bytes_per_second: u64,
}

impl Load {
    pub(super) fn observe(&self, now: Instant, clients: &[ClientCounters]) {
        let bytes = clients
            .iter()
            .map(|client| client.read.bytes + client.write.bytes)
            .sum();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes_per_second = seen.map_or(0, |last: Seen| {
            let moved = u64::saturating_sub(bytes, last.bytes);
            let millis = now.duration_since(last.at).as_millis().max(1);
            u64::try_from(u128::from(moved) * 1000 / millis).unwrap_or(u64::MAX)
        });
        *seen = Some(Seen {
            at: now,
            bytes,
            bytes_per_second,
        });
    }

    fn is_high(&self, now: Instant) -> bool {
        let seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.is_some_and(|seen| {
            now.duration_since(seen.at) < LOAD_KNOWN
                && seen.bytes_per_second > BUSY_BYTES_PER_SECOND
        })
    }
}

/// Scrubs for ever; may be dropped at any time.
pub(super) async fn run(shared: Arc<Shared>, options: ScrubOptions) {
    if options.bytes_per_second == 0 {
        return;
    }
    sleep(options.start_after).await;
    let note = Note::new(shared.paths.scrub());
    let mut state = ScrubState::read(&note);
    loop {
        if state.is_due(Timestamp::now(), options.every) {
            pass(&shared, options, &note, &mut state).await;
        }
        sleep(DUE_EVERY).await;
    }
}

/// All versions from where the last pass was interrupted.
async fn pass(shared: &Shared, options: ScrubOptions, note: &Note, state: &mut ScrubState) {
    let images = shared.paths.images();
    let versions = match on_thread(move || versions_in_store(&images)).await {
        Some(Ok(versions)) => versions,
        Some(Err(error)) => {
            tracing::warn!("cannot scrub the versions: {}", chain(&error));
            return;
        }
        None => return,
    };
    if state.at.is_none() {
        state.begun = Some(Timestamp::now());
        state.compared_bytes = 0;
        state.faults.clear();
    }
    for version in versions {
        let from = match state.at {
            Some((at, _)) if version < at => continue,
            Some((at, offset)) if version == at => offset,
            _ => 0,
        };
        scrub(shared, options, note, state, version, from).await;
    }
    state.at = None;
    state.ended = Some(Timestamp::now());
    state.write(note);
    tracing::info!(
        state.compared_bytes,
        faults = state.faults.len(),
        "compared all stored versions with their checksums"
    );
}

/// One version from byte `from` of its disk on.
async fn scrub(
    shared: &Shared,
    options: ScrubOptions,
    note: &Note,
    state: &mut ScrubState,
    version: VersionRef,
    from: u64,
) {
    state.at = Some((version, from));
    let images = shared.paths.images();
    let directory = dess_disk::version_directory(&images, version);
    let mut layer = match on_thread(move || LayerScrub::open(&images, version, from)).await {
        Some(Ok(layer)) => layer,
        Some(Err(error)) => {
            // Removed meanwhile is no damage.
            if directory.is_dir() {
                let fault = unusable(directory, chain(&error));
                found(shared, state, version, fault).await;
            }
            return;
        }
        None => return,
    };
    let mut unnoted = 0;
    loop {
        while shared.load.is_high(Instant::now()) {
            sleep(LOOK_EVERY).await;
        }
        let begun = Instant::now();
        let work = on_thread(move || {
            let step = layer.step();
            (layer, step)
        });
        let Some((same, Some(step))) = work.await else {
            return;
        };
        layer = same;
        let Scrubbed {
            next_offset,
            bytes,
            fault,
        } = step;
        state.at = Some((version, next_offset));
        state.compared_bytes += bytes;
        unnoted += bytes;
        // A version that was removed while it was read is no damage.
        if let Some(fault) = fault.filter(|_| directory.is_dir()) {
            found(shared, state, version, fault).await;
            unnoted = NOTE_EVERY_BYTES;
        }
        if unnoted >= NOTE_EVERY_BYTES {
            state.write(note);
            unnoted = 0;
        }
        let share = Duration::from_secs_f64(bytes as f64 / options.bytes_per_second as f64);
        sleep(share.saturating_sub(begun.elapsed())).await;
    }
}

fn unusable(path: PathBuf, problem: String) -> Fault {
    Fault {
        path,
        bytes: None,
        problem,
        severity: dess_disk::check::Severity::Damage,
        remedy: None,
    }
}

/// Keeps a fault and tells people of it, with who uses the version.
async fn found(shared: &Shared, state: &mut ScrubState, version: VersionRef, fault: Fault) {
    let operations = Operations::with_database(shared.paths.clone(), shared.database.clone());
    let used = operations.version_dependents(version).await;
    let (label, users) = used.unwrap_or_else(|_| (version.to_string(), Vec::new()));
    let mut detail = fault.to_string();
    if !users.is_empty() {
        let _ = write!(detail, "; in use: {}", users.join("; "));
    }
    tracing::error!(%version, "the version {label} is damaged: {detail}");
    if state.faults.len() < FAULTS_MAX {
        state.faults.push((version, fault));
    }
    let (label, detail) = (&*label, &*detail);
    let counted = match shared.database.store().await {
        Ok(store) => {
            store
                .transact(|mut tx| async move {
                    let kind = NoticeKind::VersionDamaged;
                    tx.notice_count(kind, label, detail, 1, Timestamp::now())
                        .await
                })
                .await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = counted {
        shared.degraded(&error);
    }
}

/// Runs file work where it may wait; `None` if it panicked.
async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Some(done),
        Err(error) => {
            tracing::error!(%error, "the scrub died");
            None
        }
    }
}
