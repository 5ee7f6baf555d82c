//! Threads that may wait for a disk.

use std::collections::VecDeque;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use dess_scsi::Sense;

use super::Failure;

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

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
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

    /// Runs a job on one of the lane's threads.
    pub(crate) fn submit(&self, lane: Lane, job: Job) {
        let queue = match lane {
            Lane::Data => &self.data,
            Lane::Flush => &self.flush,
        };
        queue.lock().jobs.push_back(job);
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
            if let Some(job) = state.jobs.pop_front() {
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
            pool.submit(Lane::Data, Box::new(run));
        }
        let limit = std::time::Duration::from_secs(10);
        let first = answered.recv_timeout(limit).unwrap();
        assert!(matches!(
            first,
            Err(Failure::Sense(Sense::INTERNAL_FAILURE))
        ));
        assert!(answered.recv_timeout(limit).unwrap().is_ok());
    }
}
