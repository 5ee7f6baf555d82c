//! The job that imports an image.

use std::path::Path;
use std::sync::Arc;

use dess_disk::{
    BLOCK_BYTES, BuildError, ImportError, ImportRequest, ImportSource, Manifest, version_directory,
};
use dess_model::{ImageId, Timestamp, VersionRef};
use dess_store::{ImageRecord, JobRecord, StoreError, Tx, VersionRecord};
use tokio_util::sync::CancellationToken;

use super::jobs::Outcome;
use super::shared::{Shared, chain};
use super::work;
use crate::operations::{ImportPayload, end_marker};

/// An imported version that is not in the database yet.
#[derive(Debug)]
pub(super) struct Imported {
    version: VersionRef,
    size_bytes: u64,
    layer_bytes: u64,
    author: String,
    created: Timestamp,
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
    let done = work::watched(shared, job, cancel, move |progress, cancelled| {
        dess_disk::import(&request, progress, cancelled)
    })
    .await;
    match done {
        Ok(Ok(manifest)) => imported(&manifest),
        Ok(Err(ImportError::Cancelled)) if cancel.is_cancelled() => Outcome::Interrupted,
        Ok(Err(ImportError::Cancelled)) => {
            work::discard(&shared.paths.images(), version);
            Outcome::Cancelled
        }
        Ok(Err(error @ ImportError::Build(BuildError::Exists { .. }))) => {
            adopt(&directory, job, &error)
        }
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
    Ok(VersionRef {
        image,
        number: known.map_or(0, |image| image.last_version) + 1,
    })
}

fn imported(manifest: &Manifest) -> Outcome {
    Outcome::Imported(Imported {
        version: manifest.version,
        size_bytes: manifest.size_bytes,
        layer_bytes: manifest.data_blocks * BLOCK_BYTES,
        author: manifest.author.clone(),
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
                last_version: 0,
                created: self.created,
            })
            .await?;
        }
        tx.version_insert(&VersionRecord {
            version: self.version,
            directory: format!("{}/{}", self.version.image.simple(), self.version.number),
            size_bytes: self.size_bytes,
            parent: None,
            comment: String::new(),
            author: self.author.clone(),
            layer_bytes: Some(self.layer_bytes),
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
