//! The jobs that make a version whole and that remove its files.

use dess_disk::{BLOCK_BYTES, LayerError, flatten, remove_version};
use dess_model::VersionRef;
use dess_store::JobRecord;
use tokio_util::sync::CancellationToken;

use super::jobs::Outcome;
use super::shared::{Shared, chain};
use super::work;
use crate::operations::VersionPayload;

/// Makes the version whole that the job names.
pub(super) async fn run_flatten(
    shared: &Shared,
    job: &JobRecord,
    cancel: &CancellationToken,
) -> Outcome {
    let version = match version_of(job) {
        Ok(version) => version,
        Err(error) => return Outcome::Failed(error),
    };
    let images = shared.paths.images();
    let store_images = images.clone();
    let done = work::watched(shared, job, cancel, move |progress, cancelled| {
        flatten(&images, version, progress, cancelled)
    })
    .await;
    match done {
        Ok(Ok(manifest)) => Outcome::Flattened {
            version,
            layer_bytes: manifest.data_blocks * BLOCK_BYTES,
            size_bytes: manifest.size_bytes,
        },
        Ok(Err(LayerError::Cancelled)) if cancel.is_cancelled() => Outcome::Interrupted,
        Ok(Err(LayerError::Cancelled)) => {
            work::discard(&store_images, version);
            Outcome::Cancelled
        }
        Ok(Err(error)) => Outcome::Failed(chain(&error)),
        Err(error) => Outcome::Failed(format!("the flattening died: {error}")),
    }
}

/// Removes the files of the version that the job names; the database knows it no longer.
pub(super) async fn run_remove(shared: &Shared, job: &JobRecord) -> Outcome {
    let version = match version_of(job) {
        Ok(version) => version,
        Err(error) => return Outcome::Failed(error),
    };
    let images = shared.paths.images();
    match tokio::task::spawn_blocking(move || remove_version(&images, version)).await {
        Ok(Ok(())) => Outcome::Removed,
        Ok(Err(error)) => Outcome::Failed(chain(&error)),
        Err(error) => Outcome::Failed(format!("the removal died: {error}")),
    }
}

fn version_of(job: &JobRecord) -> Result<VersionRef, String> {
    serde_json::from_str(&job.payload)
        .map(|payload: VersionPayload| payload.version)
        .map_err(|error| format!("the job cannot be understood: {error}"))
}
