//! Takes up jobs, one after the other.

use std::sync::Arc;
use std::time::Duration;

use dess_model::Timestamp;
use dess_store::{JobRecord, JobState, StoreError};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::import::{self, Imported};
use super::shared::{Shared, chain};
use crate::operations::{IMAGE_IMPORT, audit};

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
        kind => Outcome::Failed(format!("this release knows no job of kind \"{kind}\"")),
    };
    conclude(shared, job, outcome, cancel).await;
    Ok(true)
}

/// What a job came to.
#[derive(Debug)]
pub(super) enum Outcome {
    Imported(Imported),
    Failed(String),
    Cancelled,
    /// The daemon stops; the job goes on at the next start.
    Interrupted,
}

/// Writes what the job came to, however long the database is away. If the daemon stops before,
/// the job is taken up again at the next start and finds its work done.
async fn conclude(shared: &Shared, job: JobRecord, outcome: Outcome, cancel: &CancellationToken) {
    let outcome = &outcome;
    let job = &job;
    loop {
        let concluded = match shared.database.store().await {
            Ok(store) => {
                store
                    .transact(|mut tx| async move {
                        let mut job = job.clone();
                        match outcome {
                            Outcome::Imported(imported) => {
                                let label = imported.write(&mut tx, &job.subject).await?;
                                finish(&mut job, JobState::Done);
                                (job.progress, job.total) = (imported.size_bytes(), imported.size_bytes());
                                job.result = Some(label);
                                tx.revision_raise(0).await?;
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
                        Ok::<_, StoreError>(job)
                    })
                    .await
            }
            Err(error) => Err(error),
        };
        match concluded {
            Ok(job) => return report(shared, &job).await,
            Err(error) => shared.degraded(&error),
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = sleep(RETRY_EVERY) => {}
        }
    }
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
