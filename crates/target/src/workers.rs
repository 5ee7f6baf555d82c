//! Threads that own connections, one for each processor.
//!
//! A connection stays with its thread: its data and its answers are made where its commands arrive, and a thread that
//! looks for the next command of one connection finds those of all its others.

use std::future::Future;
use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// The threads. They end when this is dropped, with what still runs on them.
#[derive(Debug)]
pub(crate) struct Workers {
    places: Places,
    threads: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

/// Where tasks can be run.
#[derive(Clone, Debug)]
pub(crate) struct Places(Vec<Place>);

#[derive(Clone, Debug)]
struct Place {
    runtime: Handle,
    tasks: Arc<AtomicUsize>,
}

/// A place on a thread; what it has is counted, so that the next one goes where there are least.
pub(crate) struct Assigned {
    runtime: Handle,
    counted: Counted,
}

struct Counted(Arc<AtomicUsize>);

impl Workers {
    /// Starts one thread for each processor that we may use.
    pub(crate) fn start() -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, NonZero::get);
        let mut workers = Self {
            places: Places(Vec::new()),
            threads: Vec::new(),
            stop: CancellationToken::new(),
        };
        for _ in 0..count {
            workers.start_one()?;
        }
        Ok(workers)
    }

    /// Where tasks can be run, as long as this is there.
    pub(crate) fn places(&self) -> Places {
        self.places.clone()
    }

    fn start_one(&mut self) -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let place = Place {
            runtime: runtime.handle().clone(),
            tasks: Arc::default(),
        };
        let stop = self.stop.clone();
        let thread = thread::Builder::new()
            .name("connections".to_owned())
            .spawn(move || runtime.block_on(stop.cancelled()))?;
        self.places.0.push(place);
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.cancel();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of connections failed by a bug");
            }
        }
    }
}

impl Places {
    /// The one that has least to do.
    pub(crate) fn assign(&self) -> Assigned {
        let tasks = |place: &&Place| place.tasks.load(Ordering::Relaxed);
        let Some(place) = self.0.iter().min_by_key(tasks) else {
            unreachable!("at least one thread is started");
        };
        place.tasks.fetch_add(1, Ordering::Relaxed);
        Assigned {
            runtime: place.runtime.clone(),
            counted: Counted(Arc::clone(&place.tasks)),
        }
    }
}

impl Assigned {
    /// Runs a task there; sockets that it makes belong to the thread.
    pub(crate) fn spawn<F: Future<Output = ()> + Send + 'static>(self, task: F) {
        let Self { runtime, counted } = self;
        runtime.spawn(async move {
            task.await;
            drop(counted);
        });
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread::ThreadId;
    use std::time::Duration;

    use super::*;

    #[test]
    fn tasks_are_spread_and_end_with_the_threads() {
        let workers = Workers::start().unwrap();
        let count = workers.threads.len();
        let places = workers.places();
        let (sender, receiver) = mpsc::channel::<ThreadId>();
        for _ in 0..count * 3 {
            let sender = sender.clone();
            places.assign().spawn(async move {
                let _ = sender.send(thread::current().id());
                std::future::pending::<()>().await;
            });
        }
        let mut used = Vec::new();
        for _ in 0..count * 3 {
            used.push(receiver.recv_timeout(Duration::from_secs(20)).unwrap());
        }
        for thread in &workers.threads {
            let here = |id: &&ThreadId| **id == thread.thread().id();
            assert_eq!(used.iter().filter(here).count(), 3);
        }
        drop(workers);
        drop(sender);
        assert!(receiver.recv().is_err(), "all tasks are dropped");
        let tasks = |place: &Place| place.tasks.load(Ordering::Relaxed);
        assert_eq!(places.0.iter().map(tasks).sum::<usize>(), 0);
    }
}
