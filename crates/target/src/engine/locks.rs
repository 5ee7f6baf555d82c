//! Ordering of commands that touch the same blocks of a disk.
//!
//! Readers of a block share it, a writer has it alone; who comes later waits, in order of arrival.
//! Ranges are rounded out to the unit in which overlays work, as a write of a part of such a unit
//! reads and writes all of it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dess_disk::BLOCK_BYTES;

use super::pool::Job;
use super::{DiskPool, Slot};

/// Bytes of a disk, rounded out to blocks of the overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    start: u64,
    end: u64,
}

impl Span {
    /// The blocks that hold `length` bytes from `offset`.
    pub(crate) fn new(offset: u64, length: u64) -> Self {
        let start = offset / BLOCK_BYTES;
        let end = offset.saturating_add(length).div_ceil(BLOCK_BYTES);
        Self { start, end }
    }

    fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// How a command uses its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reads it.
    Shared,
    /// Changes it.
    Exclusive,
}

/// The ranges of one disk that are in use, and who waits for them.
#[derive(Default)]
pub(crate) struct RangeLocks {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: Vec<Claim>,
    waiting: VecDeque<(Claim, Waiter)>,
    next_id: u64,
}

#[derive(Clone, Copy)]
struct Claim {
    id: u64,
    span: Span,
    access: Access,
}

struct Waiter {
    pool: Arc<DiskPool>,
    slot: Slot,
    job: Box<dyn FnOnce(Held) + Send>,
}

/// A range in use; gives it back when dropped.
pub(crate) struct Held {
    locks: Arc<RangeLocks>,
    id: u64,
}

impl Claim {
    fn conflicts(&self, span: Span, access: Access) -> bool {
        self.span.overlaps(span)
            && (access == Access::Exclusive || self.access == Access::Exclusive)
    }
}

impl RangeLocks {
    /// Takes the range if nobody else uses it or waits for it.
    pub(crate) fn try_hold(self: &Arc<Self>, span: Span, access: Access) -> Option<Held> {
        let mut state = self.lock();
        if state.is_taken(span, access) {
            return None;
        }
        let id = state.hold(span, access);
        Some(Held {
            locks: Arc::clone(self),
            id,
        })
    }

    /// Runs `job` on a disk thread as soon as the range is free.
    pub(crate) fn run_when_free(
        self: &Arc<Self>,
        (span, access): (Span, Access),
        pool: &Arc<DiskPool>,
        slot: Slot,
        job: impl FnOnce(Held) + Send + 'static,
    ) {
        let mut state = self.lock();
        if state.is_taken(span, access) {
            let id = state.take_id();
            let claim = Claim { id, span, access };
            let waiter = Waiter {
                pool: Arc::clone(pool),
                slot,
                job: Box::new(job),
            };
            state.waiting.push_back((claim, waiter));
            return;
        }
        let id = state.hold(span, access);
        drop(state);
        let held = Held {
            locks: Arc::clone(self),
            id,
        };
        pool.submit(slot, Box::new(move || job(held)));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release(self: &Arc<Self>, id: u64) {
        let mut ready: Vec<(Waiter, u64)> = Vec::new();
        let mut state = self.lock();
        state.held.retain(|claim| claim.id != id);
        if !state.waiting.is_empty() {
            ready = state.take_ready();
        }
        drop(state);
        for (waiter, id) in ready {
            let held = Held {
                locks: Arc::clone(self),
                id,
            };
            let run = waiter.job;
            let job: Job = Box::new(move || run(held));
            waiter.pool.submit(waiter.slot, job);
        }
    }
}

impl State {
    fn is_taken(&self, span: Span, access: Access) -> bool {
        self.held.iter().any(|claim| claim.conflicts(span, access))
            || self
                .waiting
                .iter()
                .any(|(claim, _)| claim.conflicts(span, access))
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn hold(&mut self, span: Span, access: Access) -> u64 {
        let id = self.take_id();
        self.held.push(Claim { id, span, access });
        id
    }

    /// Moves those waiters to the holders that conflict with no holder and no older waiter.
    fn take_ready(&mut self) -> Vec<(Waiter, u64)> {
        let mut ready = Vec::new();
        let mut blocked = VecDeque::new();
        for (claim, waiter) in std::mem::take(&mut self.waiting) {
            let taken = |other: &Claim| other.conflicts(claim.span, claim.access);
            let waits = self.held.iter().any(taken)
                || blocked
                    .iter()
                    .any(|(older, _): &(Claim, Waiter)| taken(older));
            if waits {
                blocked.push_back((claim, waiter));
            } else {
                self.held.push(claim);
                ready.push((waiter, claim.id));
            }
        }
        self.waiting = blocked;
        ready
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.locks.release(self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::engine::{FlowId, Lane};

    #[test]
    fn readers_share_and_a_writer_of_the_same_block_waits() {
        let locks = Arc::new(RangeLocks::default());
        let read = locks.try_hold(Span::new(0, 512), Access::Shared).unwrap();
        assert!(
            locks
                .try_hold(Span::new(512, 512), Access::Shared)
                .is_some()
        );
        assert!(
            locks
                .try_hold(Span::new(512, 512), Access::Exclusive)
                .is_none()
        );
        assert!(
            locks
                .try_hold(Span::new(4096, 512), Access::Exclusive)
                .is_some()
        );
        drop(read);
        assert!(
            locks
                .try_hold(Span::new(512, 512), Access::Exclusive)
                .is_some()
        );
    }

    #[test]
    fn waiters_run_in_the_order_in_which_they_came() {
        let locks = Arc::new(RangeLocks::default());
        let pool = Arc::new(DiskPool::start(3).unwrap());
        let (sender, receiver) = mpsc::channel();
        let first = locks
            .try_hold(Span::new(0, 8192), Access::Exclusive)
            .unwrap();
        let slot = Slot {
            lane: Lane::Data,
            flow: FlowId::next(),
            bytes: 0,
        };
        for number in 0..50 {
            let sender = sender.clone();
            let claim = (Span::new(4096, 1), Access::Exclusive);
            locks.run_when_free(claim, &pool, slot, move |_held| {
                sender.send(number).unwrap();
            });
        }
        // A reader that came later does not overtake them.
        assert!(locks.try_hold(Span::new(4096, 1), Access::Shared).is_none());
        assert!(receiver.recv_timeout(Duration::from_millis(20)).is_err());
        drop(first);
        for number in 0..50 {
            assert_eq!(receiver.recv_timeout(Duration::from_secs(5)), Ok(number));
        }
    }
}
