//! Takes up jobs, one after the other.

use std::sync::Arc;
use std::time::Duration;

use dess_model::{Timestamp, VersionRef};
use dess_store::{JobRecord, JobState, StoreError, Tx};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::import::{self, Imported};
use super::publish::{self, Published};
use super::shared::{Shared, chain};
use super::versions;
use crate::operations::{IMAGE_IMPORT, IMAGE_PUBLISH, VERSION_FLATTEN, VERSION_REMOVE, audit};

/// How often jobs are looked for without a nudge.
const POLL_EVERY: Duration = Duration::from_secs(2);
/// How often a job is taken up again after the daemon died over it.
const RUNS_MAX: u32 = 3;
/// Pause between two tries to write a result.
const RETRY_EVERY: Duration = Duration::from_secs(2);

/// Works on jobs until `cancel`. A job under way is then stopped and taken up at the next start.
pub(super) async fn run(shared: Arc<Shared>, cancel: CancellationToken) {
    let mut recovered = false;
    while !cancel.is_cancelled() {
        let taken = if recovered {
            take_up_next(&shared, &cancel).await
        } else {
            recover(&shared).await.map(|()| {
                recovered = true;
                true
            })
        };
        match taken {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => shared.degraded(&error),
        }
        tokio::select! {
            () = cancel.cancelled() => {}
            _ = timeout(POLL_EVERY, shared.jobs.notified()) => {}
        }
    }
}

/// Queues the jobs over which the daemon died, and removes what they left.
async fn recover(shared: &Shared) -> Result<(), StoreError> {
    let store = shared.database.store().await?;
    store
        .transact(|mut tx| async move {
            for mut job in tx.job_list_open().await? {
                if job.state != JobState::Running {
                    continue;
                }
                if job.cancel_requested {
                    finish(&mut job, JobState::Cancelled);
                } else if job.runs >= RUNS_MAX {
                    finish(&mut job, JobState::Failed);
                    job.error = Some(format!("node died {RUNS_MAX} times while it worked on this"));
                } else {
                    job.state = JobState::Queued;
                }
                tx.job_update(&job).await?;
                tracing::warn!(
                    job.id = %job.id, job.runs = job.runs,
                    "the job {} ({}) was interrupted; it is now {:?}", job.kind, job.subject, job.state
                );
            }
            Ok::<_, StoreError>(())
        })
        .await?;
    let images = shared.paths.images();
    let cleaned = tokio::task::spawn_blocking(move || {
        if images.exists() {
            dess_disk::clean_unfinished(&images).map(drop)
        } else {
            Ok(())
        }
    });
    match cleaned.await {
        Ok(Err(error)) => tracing::warn!(
            error = &error as &dyn std::error::Error,
            "cannot remove what interrupted imports have left"
        ),
        Err(error) => tracing::warn!(%error, "cannot remove what interrupted imports have left"),
        Ok(Ok(())) => {}
    }
    Ok(())
}

/// Works on the oldest queued job; false if there is none.
async fn take_up_next(
    shared: &Arc<Shared>,
    cancel: &CancellationToken,
) -> Result<bool, StoreError> {
    let store = shared.database.store().await?;
    let taken = store
        .transact(|mut tx| async move {
            let open = tx.job_list_open().await?;
            let Some(mut job) = open.into_iter().find(|job| job.state == JobState::Queued) else {
                return Ok::<_, StoreError>(None);
            };
            job.state = JobState::Running;
            job.runs += 1;
            job.started = Some(Timestamp::now());
            tx.job_update(&job).await?;
            Ok(Some(job))
        })
        .await?;
    let Some(job) = taken else {
        return Ok(false);
    };
    tracing::info!(job.id = %job.id, "job {} ({}) begins", job.kind, job.subject);
    let outcome = match job.kind.as_str() {
        IMAGE_IMPORT => import::run(shared, &job, cancel).await,
        IMAGE_PUBLISH => publish::run(shared, &job, cancel).await,
        VERSION_FLATTEN => versions::run_flatten(shared, &job, cancel).await,
        VERSION_REMOVE => versions::run_remove(shared, &job).await,
        kind => Outcome::Failed(format!("this release knows no job of kind \"{kind}\"")),
    };
    let published = match &outcome {
        Outcome::Published(published) => Some(published.client()),
        _ => None,
    };
    let known = conclude(shared, job, outcome, cancel).await;
    if let Some(client) = published.filter(|_| known) {
        publish::release(shared, client).await;
    }
    Ok(true)
}

/// What a job came to.
#[derive(Debug)]
pub(super) enum Outcome {
    Imported(Imported),
    Published(Box<Published>),
    Flattened {
        version: VersionRef,
        layer_bytes: u64,
        size_bytes: u64,
    },
    Removed,
    Failed(String),
    Cancelled,
    /// The daemon stops; the job goes on at the next start.
    Interrupted,
}

/// Writes what the job came to, however long the database is away. If the daemon stops before,
/// the job is taken up again at the next start and finds its work done; false then.
async fn conclude(
    shared: &Shared,
    job: JobRecord,
    outcome: Outcome,
    cancel: &CancellationToken,
) -> bool {
    let outcome = &outcome;
    let job = &job;
    loop {
        let concluded = match shared.database.store().await {
            Ok(store) => {
                store
                    .transact(|tx| write_outcome(tx, job.clone(), outcome))
                    .await
            }
            Err(error) => Err(error),
        };
        match concluded {
            Ok(job) => {
                report(shared, &job).await;
                return true;
            }
            Err(error) => shared.degraded(&error),
        }
        tokio::select! {
            () = cancel.cancelled() => return false,
            () = sleep(RETRY_EVERY) => {}
        }
    }
}

async fn write_outcome(
    mut tx: Tx,
    mut job: JobRecord,
    outcome: &Outcome,
) -> Result<JobRecord, StoreError> {
    match outcome {
        Outcome::Imported(imported) => {
            let label = imported.write(&mut tx, &job.subject).await?;
            succeed(&mut job, imported.size_bytes(), label);
            tx.revision_raise(0).await?;
        }
        Outcome::Published(published) => {
            let label = published.write(&mut tx, &job.subject).await?;
            succeed(&mut job, published.layer_bytes(), label);
            tx.revision_raise(0).await?;
        }
        Outcome::Flattened {
            version,
            layer_bytes,
            size_bytes,
        } => {
            tx.version_flattened(*version, *layer_bytes).await?;
            let label = job.subject.clone();
            succeed(&mut job, *size_bytes, label);
        }
        Outcome::Removed => {
            let label = job.subject.clone();
            succeed(&mut job, 0, label);
        }
        Outcome::Failed(error) => {
            finish(&mut job, JobState::Failed);
            job.error = Some(error.clone());
        }
        Outcome::Cancelled => finish(&mut job, JobState::Cancelled),
        Outcome::Interrupted => {
            // Not the job's fault.
            job.state = JobState::Queued;
            job.runs = job.runs.saturating_sub(1);
        }
    }
    tx.job_update(&job).await?;
    if job.state.is_final() {
        let details = serde_json::json!({
            "job": job.id, "state": job.state, "result": job.result, "error": job.error,
        });
        let action = format!("job.{}", job.kind);
        audit(&mut tx, "node", &action, &job.subject, details).await?;
    }
    Ok(job)
}

fn succeed(job: &mut JobRecord, bytes: u64, result: String) {
    finish(job, JobState::Done);
    (job.progress, job.total) = (bytes, bytes);
    job.result = Some(result);
}

async fn report(shared: &Shared, job: &JobRecord) {
    match &job.error {
        Some(error) => {
            tracing::error!(job.id = %job.id, "job {} ({}) failed: {error}", job.kind, job.subject);
        }
        None => {
            tracing::info!(job.id = %job.id, "job {} ({}) is {:?}", job.kind, job.subject, job.state);
        }
    }
    if job.state == JobState::Done
        && let Err(error) = shared.publish().await
    {
        tracing::debug!("the result is published later: {}", chain(&error));
    }
}

fn finish(job: &mut JobRecord, state: JobState) {
    job.state = state;
    job.ended = Some(Timestamp::now());
}
