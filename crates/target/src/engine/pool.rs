//! Threads that may wait for a disk.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use dess_scsi::Sense;

use super::Failure;
use crate::admission::FairQueue;

/// Something to do on a disk thread.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// Which threads a job runs on, so that slow flushes never hold up reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Reads and writes.
    Data,
    /// Flushes.
    Flush,
}

/// Where a job waits for a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Which threads.
    pub(crate) lane: Lane,
    /// Whose turn it takes: disks that have work get equal parts of the threads.
    pub(crate) flow: FlowId,
    /// Bytes that it moves.
    pub(crate) bytes: u64,
}

/// Names those whose jobs take turns with others': a disk in service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FlowId(u64);

impl FlowId {
    /// One that no other has.
    pub(crate) fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

/// Cost that a disk may use before others get their turn, in bytes: one piece of a long read.
const QUANTUM: u64 = 256 * 1024;
/// What a job costs besides its bytes: a disk seeks as long as it moves so many.
const JOB_COST: u64 = 16 * 1024;

/// A fixed number of threads per lane. The queues are bounded by the command windows of the open
/// sessions. Threads end when the pool is dropped.
#[derive(Debug)]
pub(crate) struct DiskPool {
    data: Arc<Queue>,
    flush: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    filled: Condvar,
}

struct State {
    jobs: FairQueue<FlowId, Job>,
    closed: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            jobs: FairQueue::new(QUANTUM),
            closed: false,
        }
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl DiskPool {
    /// Starts `threads` threads for each lane, at least one.
    pub(crate) fn start(threads: usize) -> io::Result<Self> {
        let pool = Self {
            data: Arc::default(),
            flush: Arc::default(),
        };
        for (queue, name) in [(&pool.data, "disk"), (&pool.flush, "flush")] {
            for _ in 0..threads.max(1) {
                let queue = Arc::clone(queue);
                thread::Builder::new()
                    .name(name.to_owned())
                    .stack_size(THREAD_STACK_BYTES)
                    .spawn(move || queue.work())?;
            }
        }
        Ok(pool)
    }

    /// True if no command waits for a thread to read or write data.
    pub(crate) fn is_idle(&self) -> bool {
        self.data.lock().jobs.is_empty()
    }

    /// Runs a job on one of the lane's threads, in its turn.
    pub(crate) fn submit(&self, slot: Slot, job: Job) {
        let queue = match slot.lane {
            Lane::Data => &self.data,
            Lane::Flush => &self.flush,
        };
        let cost = slot.bytes.saturating_add(JOB_COST);
        queue.lock().jobs.push(slot.flow, cost, job);
        queue.filled.notify_one();
    }
}

impl Drop for DiskPool {
    fn drop(&mut self) {
        for queue in [&self.data, &self.flush] {
            queue.lock().closed = true;
            queue.filled.notify_all();
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(job) = self.next() {
            // Commands are contained already; whatever else panics must not end the thread.
            if panic::catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("a disk job failed by a bug");
            }
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state = self
                .filled
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The result of a command's work; a bug in it is a failure of the hardware to the initiator, which
/// would wait for ever else.
pub(crate) fn contained<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        tracing::error!("a disk command failed by a bug");
        Err(Sense::INTERNAL_FAILURE.into())
    })
}

/// Disk jobs have no deep call chains and keep their data on the heap.
const THREAD_STACK_BYTES: usize = 512 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_command_that_panics_is_answered_with_a_hardware_error_and_its_thread_goes_on() {
        let pool = DiskPool::start(1).unwrap();
        let (answers, answered) = mpsc::channel();
        for fails in [true, false] {
            let answers = answers.clone();
            let run = move || {
                let result = contained(|| match fails {
                    true => panic!("a bug"),
                    false => Ok(()),
                });
                answers.send(result).unwrap();
            };
            let slot = Slot {
                lane: Lane::Data,
                flow: FlowId::next(),
                bytes: 0,
            };
            pool.submit(slot, Box::new(run));
        }
        let limit = std::time::Duration::from_secs(10);
        let first = answered.recv_timeout(limit).unwrap();
        assert!(matches!(
            first,
            Err(Failure::Sense(Sense::INTERNAL_FAILURE))
        ));
        assert!(answered.recv_timeout(limit).unwrap().is_ok());
    }
    #[test]
    fn a_disk_with_a_long_queue_does_not_hold_up_another() {
        let pool = DiskPool::start(1).unwrap();
        let (order, served) = mpsc::channel();
        let (open, gate) = mpsc::channel::<()>();
        let slot = |flow, bytes| Slot {
            lane: Lane::Data,
            flow,
            bytes,
        };
        let (greedy, other) = (FlowId::next(), FlowId::next());
        // The only thread is busy until all the others wait.
        pool.submit(
            slot(FlowId::next(), 0),
            Box::new(move || gate.recv().unwrap()),
        );
        for _ in 0..32 {
            let order = order.clone();
            let job = move || order.send(greedy).unwrap();
            pool.submit(slot(greedy, QUANTUM), Box::new(job));
        }
        pool.submit(
            slot(other, 4096),
            Box::new(move || order.send(other).unwrap()),
        );
        open.send(()).unwrap();
        let served: Vec<_> = served.iter().collect();
        assert_eq!(served.len(), 33);
        let place = served.iter().position(|&flow| flow == other).unwrap();
        assert!(place <= 1, "served as number {place}");
    }
}
