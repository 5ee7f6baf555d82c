//! The long part of a job: on a thread of its own, watched for progress and for requests to stop.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use dess_disk::Progress;
use dess_model::VersionRef;
use dess_store::{JobRecord, StoreError};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use super::shared::Shared;

/// How often progress is written and a request to cancel is looked for.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// Between the thread and the task that watches it.
#[derive(Debug, Default)]
struct Watch {
    done_bytes: AtomicU64,
    total_bytes: AtomicU64,
    cancelled: AtomicBool,
}

/// Runs `work` on a thread that may wait. It is told to stop if a person cancels the job or the daemon stops.
///
/// # Errors
/// If it panics.
pub(super) async fn watched<T: Send + 'static>(
    shared: &Shared,
    job: &JobRecord,
    cancel: &CancellationToken,
    work: impl FnOnce(&mut dyn FnMut(Progress), &(dyn Fn() -> bool + Sync)) -> T + Send + 'static,
) -> Result<T, JoinError> {
    let watch = Arc::new(Watch::default());
    let working = Arc::clone(&watch);
    let work = tokio::task::spawn_blocking(move || {
        let report = &working;
        work(
            &mut |progress: Progress| {
                report
                    .done_bytes
                    .store(progress.done_bytes, Ordering::Relaxed);
                report
                    .total_bytes
                    .store(progress.total_bytes, Ordering::Relaxed);
            },
            &|| report.cancelled.load(Ordering::Relaxed),
        )
    });
    tokio::select! {
        biased;
        done = work => done,
        never = supervise(shared, job, cancel, &watch) => match never {},
    }
}

/// Writes progress, and passes on requests to stop, until the work ends.
async fn supervise(
    shared: &Shared,
    job: &JobRecord,
    cancel: &CancellationToken,
    watch: &Watch,
) -> Infallible {
    let mut ticks = tokio::time::interval(PROGRESS_EVERY);
    let mut written = 0;
    loop {
        tokio::select! {
            () = cancel.cancelled() => {
                watch.cancelled.store(true, Ordering::Relaxed);
                std::future::pending::<()>().await;
            }
            _ = ticks.tick() => {}
        }
        let done = watch.done_bytes.load(Ordering::Relaxed);
        match look(shared, job, watch, done != written).await {
            Ok(true) => watch.cancelled.store(true, Ordering::Relaxed),
            Ok(false) => written = done,
            // The work goes on without; the end is written when the database is back.
            Err(error) => shared.degraded(&error),
        }
    }
}

/// Writes the progress if it has changed; true if a person asked for the job's end.
async fn look(
    shared: &Shared,
    job: &JobRecord,
    watch: &Watch,
    changed: bool,
) -> Result<bool, StoreError> {
    let store = shared.database.store().await?;
    let current = store.read().await?.job_fetch(job.id).await?;
    if current.is_none_or(|job| job.cancel_requested) {
        return Ok(true);
    }
    if changed {
        let mut job = job.clone();
        job.progress = watch.done_bytes.load(Ordering::Relaxed);
        job.total = watch.total_bytes.load(Ordering::Relaxed);
        let job = &job;
        store
            .transact(|mut tx| async move { tx.job_update(job).await })
            .await?;
    }
    Ok(false)
}

/// Nobody will go on with a version whose making a person cancelled.
pub(super) fn discard(images: &Path, version: VersionRef) {
    if let Err(error) = dess_disk::discard_unfinished(images, version) {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(
            error,
            "cannot remove what was made of a version before it was cancelled"
        );
    }
}
