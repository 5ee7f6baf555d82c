//! The daemon itself: receives events, keeps boot attempts, publishes the snapshot, runs jobs.
//!
//! Nothing here is on a boot path. Each part is a task that works by a timer and a nudge, holds
//! no state that it could not rebuild, and goes on when the database cannot be used: events are
//! folded in memory and written later, in order.

mod backup;
mod cases;
mod chronicle;
mod control;
mod error;
mod expected;
mod forget;
mod import;
mod jobs;
mod looks;
mod pending;
mod probes;
mod publish;
mod scrub;
mod shared;
mod versions;
mod work;

pub use control::{NodeReply, NodeRequest, NodeStatus};
pub use error::ServeError;
pub use forget::Retention;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dess_model::Event;
use dess_model::host::{EventReceiver, Paths, bind_control, serve_control};
use dess_probe::Endpoints;
use dess_store::Database;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use chronicle::{Chronicle, gather};
use probes::Probes;
pub use scrub::{ScrubOptions, ScrubState};
use shared::Shared;
pub(crate) use shared::chain;

/// Events that wait to be folded; beyond that they wait in the socket and with their senders.
const EVENTS_WAITING_MAX: usize = 8192;
/// Looks at the server that wait to be taken.
const LOOKS_WAITING_MAX: usize = 4;
/// How often the database is checked for changes that nobody told of.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);

/// What the daemon needs to know.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// The files of the site.
    pub paths: Paths,
    /// How the versions are scrubbed.
    pub scrub: ScrubOptions,
    /// Its database.
    pub database: Database,
    /// Daily backups of a database file that are kept; 0 for none.
    pub backups_kept: u32,
    /// How long the history is kept.
    pub retention: Retention,
    /// Where the services are that are probed every minute; none: nothing is probed.
    pub probed: Option<Endpoints>,
}

/// Runs the daemon until `cancel`. `ready` is sent when its sockets are bound, whether the
/// database can be used or not: without one it keeps events in memory and tries again.
///
/// # Errors
/// If a socket cannot be bound.
pub async fn serve(
    options: NodeOptions,
    ready: oneshot::Sender<()>,
    cancel: CancellationToken,
) -> Result<(), ServeError> {
    let NodeOptions {
        paths,
        scrub,
        database,
        backups_kept,
        retention,
        probed,
    } = options;
    for directory in [&paths.state, &paths.runtime] {
        create(directory)?;
    }
    let events = paths.events();
    let receiver = EventReceiver::bind(&events).map_err(|source| ServeError::Socket {
        path: events.clone(),
        source,
    })?;
    let socket = paths.node_control();
    let listener = bind_control(&socket).map_err(|source| ServeError::Socket {
        path: socket,
        source,
    })?;
    let shared = Arc::new(Shared::new(paths, database));
    let tasks = TaskTracker::new();
    let (event_in, event_out) = mpsc::channel(EVENTS_WAITING_MAX);
    let (looks_in, looks_out) = mpsc::channel(LOOKS_WAITING_MAX);
    let (batch_in, batch_out) = mpsc::channel(1);
    let (expected_in, expected_out) = mpsc::channel(expected::WAITING_MAX);
    let chronicle = Chronicle::new(Arc::clone(&shared), batch_out, looks_out, expected_in);
    // Both end when nobody sends any more; the chronicle after it has written what it has.
    tasks.spawn(gather(event_out, batch_in));
    tasks.spawn(chronicle.run());
    tasks.spawn(jobs::run(Arc::clone(&shared), cancel.clone()));
    tasks.spawn(until(cancel.clone(), keep_published(Arc::clone(&shared))));
    let looks = looks::watch(Arc::clone(&shared), looks_in);
    tasks.spawn(until(cancel.clone(), looks));
    tasks.spawn(until(
        cancel.clone(),
        expected::tell(Arc::clone(&shared), expected_out),
    ));
    let housekeeping = keep_house(Arc::clone(&shared), retention, scrub, backups_kept);
    tasks.spawn(until(cancel.clone(), housekeeping));
    let probes = Arc::new(Probes::new(probed));
    let watched = probes::run(Arc::clone(&shared), Arc::clone(&probes));
    tasks.spawn(until(cancel.clone(), watched));
    let answering = Arc::clone(&shared);
    let control = serve_control(
        listener,
        move |question| answer(Arc::clone(&answering), Arc::clone(&probes), question),
        |message| NodeReply::Error { message },
    );
    tasks.spawn(until(cancel.clone(), control));
    tasks.close();
    let _ = ready.send(());
    tracing::info!("node is ready");
    let received = receive(receiver, event_in, &cancel).await;
    cancel.cancel();
    tasks.wait().await;
    shared.database.close().await;
    received.map_err(|source| ServeError::Events {
        path: events,
        source,
    })
}

/// What is done now and then: old history goes, versions are scrubbed, the database is backed up.
async fn keep_house(
    shared: Arc<Shared>,
    retention: Retention,
    scrub: ScrubOptions,
    backups_kept: u32,
) {
    tokio::join!(
        forget::run(Arc::clone(&shared), retention),
        scrub::run(Arc::clone(&shared), scrub),
        backup::back_up_daily(Arc::clone(&shared), backups_kept),
    );
}

fn create(directory: &Path) -> Result<(), ServeError> {
    std::fs::create_dir_all(directory).map_err(|source| ServeError::Directory {
        path: directory.to_owned(),
        source,
    })
}

async fn until(cancel: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = cancel.cancelled() => {}
        () = work => {}
    }
}

/// Takes events off the socket until `cancel`.
async fn receive(
    mut receiver: EventReceiver,
    events: mpsc::Sender<Event>,
    cancel: &CancellationToken,
) -> std::io::Result<()> {
    loop {
        let event = tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            event = receiver.recv() => event?,
        };
        if events.send(event).await.is_err() {
            return Ok(());
        }
    }
}

async fn answer(shared: Arc<Shared>, probes: Arc<Probes>, question: NodeRequest) -> NodeReply {
    match question {
        NodeRequest::Status => NodeReply::Status(shared.status()),
        NodeRequest::Probes => NodeReply::Probes {
            reports: probes.reports(),
        },
        NodeRequest::Probe { service } => NodeReply::Probes {
            reports: probes.probe(service).await,
        },
        NodeRequest::Publish => {
            shared.jobs.notify_one();
            match shared.publish().await {
                Ok(revision) => NodeReply::Published {
                    revision: revision.unwrap_or(0),
                },
                Err(error) => NodeReply::Error {
                    message: shared::chain(&error),
                },
            }
        }
    }
}

/// Publishes whatever was changed without a word: by another process, or while this one was
/// away.
async fn keep_published(shared: Arc<Shared>) {
    let mut ticks = interval(PUBLISH_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = None;
    loop {
        ticks.tick().await;
        let counter = match shared.database.change_counter().await {
            Ok(counter) => Some(counter),
            Err(error) => {
                shared.degraded(&error);
                continue;
            }
        };
        if counter == seen {
            continue;
        }
        if shared.publish_if_changed().await.is_ok() {
            seen = counter;
        }
    }
}

#[cfg(test)]
mod tests;
