//! The job that imports an image.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use dess_disk::{ImportError, ImportRequest, ImportSource, Manifest, Progress, version_directory};
use dess_model::{ImageId, Timestamp, VersionRef};
use dess_store::{ImageRecord, JobRecord, StoreError, Tx, VersionRecord};
use tokio_util::sync::CancellationToken;

use super::jobs::Outcome;
use super::shared::{Shared, chain};
use crate::operations::{ImportPayload, end_marker};

/// How often progress is written and a request to cancel is looked for.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// An imported version that is not in the database yet.
#[derive(Debug)]
pub(super) struct Imported {
    version: VersionRef,
    size_bytes: u64,
    created: Timestamp,
}

/// Between the importing thread and the task that watches it.
#[derive(Debug, Default)]
struct Watch {
    done_bytes: AtomicU64,
    total_bytes: AtomicU64,
    cancelled: AtomicBool,
}

/// Imports the file that the job names.
pub(super) async fn run(
    shared: &Arc<Shared>,
    job: &JobRecord,
    cancel: &CancellationToken,
) -> Outcome {
    let payload: ImportPayload = match serde_json::from_str(&job.payload) {
        Ok(payload) => payload,
        Err(error) => return Outcome::Failed(format!("the job cannot be understood: {error}")),
    };
    let version = match next_version(shared, job).await {
        Ok(version) => version,
        Err(error) => return Outcome::Failed(chain(&error)),
    };
    let request = ImportRequest {
        images: shared.paths.images(),
        version,
        source: ImportSource {
            end_marker: end_marker(&payload.source),
            path: payload.source,
            format: None,
        },
        comment: job.subject.clone(),
        created: Timestamp::now(),
    };
    let directory = version_directory(&request.images, version);
    let watch = Arc::new(Watch::default());
    let importing = Arc::clone(&watch);
    let work = tokio::task::spawn_blocking(move || {
        let report = &importing;
        dess_disk::import(
            &request,
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
    let done = tokio::select! {
        biased;
        done = work => done,
        never = supervise(shared, job, cancel, &watch) => match never {},
    };
    match done {
        Ok(Ok(manifest)) => imported(&manifest),
        Ok(Err(ImportError::Cancelled)) if cancel.is_cancelled() => Outcome::Interrupted,
        Ok(Err(ImportError::Cancelled)) => {
            discard(&shared.paths.images(), version);
            Outcome::Cancelled
        }
        Ok(Err(error @ ImportError::Exists { .. })) => adopt(&directory, job, &error),
        Ok(Err(error)) => Outcome::Failed(chain(&error)),
        Err(error) => Outcome::Failed(format!("the import died: {error}")),
    }
}

/// Which version the import makes: the next one of a known image, the first of a new one. The
/// same after an interruption, because a new image is named by its job.
async fn next_version(shared: &Shared, job: &JobRecord) -> Result<VersionRef, StoreError> {
    let mut tx = shared.database.store().await?.read().await?;
    let images = tx.image_list().await?;
    let known = images.iter().find(|image| image.name == job.subject);
    let image = known.map_or(ImageId(job.id.0), |image| image.id);
    let versions = tx.version_list().await?;
    let newest = versions
        .iter()
        .filter(|record| record.version.image == image)
        .map(|record| record.version.number)
        .max();
    Ok(VersionRef {
        image,
        number: newest.unwrap_or(0) + 1,
    })
}

/// Writes progress, and passes on requests to stop, until the import ends.
async fn supervise(
    shared: &Shared,
    job: &JobRecord,
    cancel: &CancellationToken,
    watch: &Watch,
) -> std::convert::Infallible {
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
            // The import goes on without; the end is written when the database is back.
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

/// Nobody will go on with an import that a person cancelled.
fn discard(images: &Path, version: VersionRef) {
    if let Err(error) = dess_disk::discard_unfinished(images, version) {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, "cannot remove what a cancelled import has left");
    }
}

fn imported(manifest: &Manifest) -> Outcome {
    Outcome::Imported(Imported {
        version: manifest.version,
        size_bytes: manifest.size_bytes,
        created: manifest.created,
    })
}

/// A version that exists but is in no database was made by this job before it was interrupted.
fn adopt(directory: &Path, job: &JobRecord, error: &ImportError) -> Outcome {
    match Manifest::read(directory) {
        Ok(manifest) if manifest.created >= job.created && manifest.comment == job.subject => {
            imported(&manifest)
        }
        _ => Outcome::Failed(chain(error)),
    }
}

impl Imported {
    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Makes the version known; the site's first image becomes the default group's. Answers the
    /// version's label.
    pub(super) async fn write(&self, tx: &mut Tx, name: &str) -> Result<String, StoreError> {
        let images = tx.image_list().await?;
        if !images.iter().any(|image| image.id == self.version.image) {
            tx.image_insert(&ImageRecord {
                id: self.version.image,
                name: name.to_owned(),
                created: self.created,
            })
            .await?;
        }
        tx.version_insert(&VersionRecord {
            version: self.version,
            directory: format!("{}/{}", self.version.image.simple(), self.version.number),
            size_bytes: self.size_bytes,
            created: self.created,
        })
        .await?;
        let groups = tx.group_list().await?;
        let default = groups.into_iter().find(|group| group.default);
        if let Some(mut group) = default
            && group.version.is_none()
        {
            group.version = Some(self.version);
            tx.group_update(&group).await?;
        }
        Ok(format!("{name}@{}", self.version.number))
    }
}
