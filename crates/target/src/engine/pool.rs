//! Threads that may wait for a disk.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

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
            // A job that panics ends its own command (its answer channel closes), not the thread.
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)).is_err() {
                tracing::error!("a disk command failed by a bug; its session is ended");
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

/// Disk jobs have no deep call chains and keep their data on the heap.
const THREAD_STACK_BYTES: usize = 512 * 1024;
