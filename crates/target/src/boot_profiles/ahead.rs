//! Reading ahead: what is cold, a little at a time, and never before others.

use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use dess_disk::{BlockRead, BootProfile, PROFILE_UNIT_BYTES, Version};

/// Most bytes that are under way at once: the storage's own speed sets the pace.
const UNDER_WAY_MAX: u64 = 1 << 20;
/// Most bytes per second, so that a fast storage serves others too.
const BYTES_PER_SEC: u64 = 512 << 20;
/// How long to step aside while commands of clients wait for the storage.
const STEP_ASIDE: Duration = Duration::from_millis(2);
/// A profile that takes longer comes too late.
const AT_MOST: Duration = Duration::from_secs(60);

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// Bytes that were read.
    pub(super) read: u64,
    /// Bytes that were in memory already.
    pub(super) warm: u64,
    /// How long it took.
    pub(super) took: Duration,
}

/// Reads what of the profile is not in memory; steps aside while `others_wait`, and ends when `cancelled`.
pub(super) fn read_ahead(
    version: &Version,
    profile: &BootProfile,
    others_wait: &dyn Fn() -> bool,
    cancelled: &dyn Fn() -> bool,
) -> Done {
    let started = Instant::now();
    let mut done = Done::default();
    let mut batch: Vec<Range<u64>> = Vec::new();
    for range in profile.wanted().into_iter().flat_map(units) {
        if cancelled() || started.elapsed() > AT_MOST {
            break;
        }
        if !is_cold(version, &range) {
            done.warm += PROFILE_UNIT_BYTES;
            continue;
        }
        batch.push(range);
        if batch.len() as u64 * PROFILE_UNIT_BYTES >= UNDER_WAY_MAX {
            done.read += read_batch(version, &mut batch, others_wait, cancelled);
            let due = Duration::from_secs_f64(done.read as f64 / BYTES_PER_SEC as f64);
            thread::sleep(due.saturating_sub(started.elapsed()));
        }
    }
    done.read += read_batch(version, &mut batch, others_wait, cancelled);
    done.took = started.elapsed();
    done
}

fn units(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let step = PROFILE_UNIT_BYTES as usize;
    range
        .step_by(step)
        .map(|start| start..start + PROFILE_UNIT_BYTES)
}

/// Places of a unit that are looked at: both ends, as the kernel drops memory in runs of pages.
fn places(version: &Version, range: &Range<u64>) -> [u64; 2] {
    let last = version.size_bytes().min(range.end).saturating_sub(1);
    [range.start.min(last), last]
}

/// True if a part of it is not in memory. Where the file system cannot tell (tmpfs), all is.
fn is_cold(version: &Version, range: &Range<u64>) -> bool {
    places(version, range)
        .iter()
        .any(|&place| match version.try_read_at(place, &mut [0]) {
            Ok(()) => false,
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
        })
}

/// Has a batch read, and waits for it. What fails is left to who needs it.
fn read_batch(
    version: &Version,
    batch: &mut Vec<Range<u64>>,
    others_wait: &dyn Fn() -> bool,
    cancelled: &dyn Fn() -> bool,
) -> u64 {
    let aside = Instant::now();
    while others_wait() && !cancelled() && aside.elapsed() < AT_MOST {
        thread::sleep(STEP_ASIDE);
    }
    let ranges = std::mem::take(batch);
    let asked = ranges
        .iter()
        .filter(|range| version.read_ahead((*range).clone()).is_ok());
    let asked = asked.count() as u64;
    for range in &ranges {
        for place in places(version, range) {
            let _ = version.read_at(place, &mut [0]);
        }
    }
    asked * PROFILE_UNIT_BYTES
}
