//! The job that publishes what a maintenance client wrote (`docs/format/overlay.md`, "Publishing").

use std::path::Path;
use std::time::Duration;

use dess_disk::{
    BLOCK_BYTES, LayerError, Manifest, PublishRequest, publish, sealed_directory,
    version_directory, version_numbers,
};
use dess_model::host::{RequestError, request};
use dess_model::{
    ClientId, ControlError, DiskId, DiskState, DiskStatus, SealedStatus, TargetReply,
    TargetRequest, Timestamp, VersionRef,
};
use dess_store::{JobRecord, StoreError, Tx, VersionRecord};
use tokio_util::sync::CancellationToken;

use super::jobs::Outcome;
use super::shared::{Shared, chain};
use super::work;
use crate::operations::{IMAGE_PUBLISH, PublishPayload};

/// How long the iSCSI service may take; it listens for ten seconds whether the client runs.
const TARGET_TIMEOUT: Duration = Duration::from_secs(20);

/// A published version that is not in the database yet.
#[derive(Debug)]
pub(super) struct Published {
    manifest: Manifest,
    client: ClientId,
}

/// Why the iSCSI service did not do what it was asked.
#[derive(Debug, thiserror::Error)]
enum TargetError {
    #[error(transparent)]
    Refused(#[from] ControlError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("the iSCSI service gave an answer that does not fit the question")]
    Unexpected,
}

/// Makes the version that the job orders.
pub(super) async fn run(shared: &Shared, job: &JobRecord, cancel: &CancellationToken) -> Outcome {
    let payload: PublishPayload = match serde_json::from_str(&job.payload) {
        Ok(payload) => payload,
        Err(error) => return Outcome::Failed(format!("the job cannot be understood: {error}")),
    };
    let known = match Known::read(shared, &payload).await {
        Ok(Some(known)) => known,
        Ok(None) => return Outcome::Failed("the maintenance has ended meanwhile".to_owned()),
        Err(error) => return Outcome::Failed(chain(&error)),
    };
    let client = payload.client;
    let images = shared.paths.images();
    if let Some(manifest) = known.made_before(&images, job) {
        return Outcome::Published(Box::new(Published { manifest, client }));
    }
    let sealed = match seal(shared, client).await {
        Ok(sealed) => sealed,
        Err(error) => return Outcome::Failed(chain(&error)),
    };
    let order = PublishRequest {
        number: known.next_number(&images),
        sealed: sealed_directory(&shared.paths.overlays(), sealed.disk, sealed.generation),
        images,
        comment: payload.comment,
        author: payload.author,
        created: Timestamp::now(),
    };
    let done = work::watched(shared, job, cancel, move |progress, cancelled| {
        publish(&order, progress, cancelled)
    })
    .await;
    let outcome = match done {
        Ok(Ok(manifest)) => {
            return Outcome::Published(Box::new(Published { manifest, client }));
        }
        // The overlay stays sealed: the job goes on with it.
        Ok(Err(LayerError::Cancelled)) if cancel.is_cancelled() => return Outcome::Interrupted,
        Ok(Err(LayerError::Cancelled)) => Outcome::Cancelled,
        Ok(Err(error)) => Outcome::Failed(chain(&error)),
        Err(error) => Outcome::Failed(format!("the publication died: {error}")),
    };
    give_back(shared, client).await;
    outcome
}

/// What the database knows of the image.
struct Known {
    disk: DiskId,
    /// The version that the maintenance client writes on.
    base: VersionRef,
    numbers: Vec<u32>,
    /// The highest one that a version of the image has or had.
    last: u32,
}

impl Known {
    /// None if the client is not the image's maintenance client any more.
    async fn read(shared: &Shared, payload: &PublishPayload) -> Result<Option<Self>, StoreError> {
        let mut tx = shared.database.store().await?.read().await?;
        let maintenances = tx.maintenance_list().await?;
        let maintenance = maintenances.into_iter().find(|record| {
            record.version.image == payload.image && record.client == payload.client
        });
        let client = tx.client_fetch(payload.client).await?;
        let Some((maintenance, client)) = maintenance.zip(client) else {
            return Ok(None);
        };
        let versions = tx.version_list().await?;
        let images = tx.image_list().await?;
        let image = images.iter().find(|image| image.id == payload.image);
        Ok(Some(Self {
            disk: match maintenance.data_lun {
                None => client.disk.id,
                Some(_) => client.disk.data_disk(payload.image).id,
            },
            last: image.map_or(0, |image| image.last_version),
            base: maintenance.version,
            numbers: versions
                .into_iter()
                .filter(|record| record.version.image == payload.image)
                .map(|record| record.version.number)
                .collect(),
        }))
    }

    /// The version that this job made before the daemon died over it: it is in the store, but not in the database.
    fn made_before(&self, images: &Path, job: &JobRecord) -> Option<Manifest> {
        let numbers = version_numbers(images, self.base.image).ok()?;
        numbers
            .into_iter()
            .filter(|number| !self.numbers.contains(number))
            .filter_map(|number| {
                let version = VersionRef {
                    number,
                    ..self.base
                };
                Manifest::read(&version_directory(images, version)).ok()
            })
            .find(|manifest| {
                manifest.created >= job.created
                    && manifest
                        .overlay
                        .is_some_and(|overlay| overlay.disk == self.disk)
            })
    }

    /// Above all numbers that the image has or had, known or not.
    fn next_number(&self, images: &Path) -> u32 {
        let stored = version_numbers(images, self.base.image).unwrap_or_default();
        stored.into_iter().fold(self.last, u32::max) + 1
    }
}

impl Published {
    /// Bytes that it holds beyond its parent.
    pub(super) fn layer_bytes(&self) -> u64 {
        self.manifest.data_blocks * BLOCK_BYTES
    }

    pub(super) fn client(&self) -> ClientId {
        self.client
    }

    /// Makes the version known, ends the maintenance, and gives the version to those who follow the latest one. Answers
    /// the version's label.
    pub(super) async fn write(&self, tx: &mut Tx, name: &str) -> Result<String, StoreError> {
        let manifest = &self.manifest;
        let version = manifest.version;
        tx.version_insert(&VersionRecord {
            version,
            directory: format!("{}/{}", version.image.simple(), version.number),
            size_bytes: manifest.size_bytes,
            parent: manifest.parent,
            comment: manifest.comment.clone(),
            author: manifest.author.clone(),
            layer_bytes: Some(self.layer_bytes()),
            created: manifest.created,
        })
        .await?;
        tx.maintenance_delete(version.image).await?;
        let follows = |latest: bool, assigned: Option<VersionRef>| {
            latest && assigned.is_some_and(|assigned| assigned.image == version.image)
        };
        for mut group in tx.group_list().await? {
            if follows(group.follows_latest, group.version) {
                group.version = Some(version);
                tx.group_update(&group).await?;
            }
        }
        for mut client in tx.client_list().await? {
            if follows(client.follows_latest, client.version) {
                client.version = Some(version);
                tx.client_update(&client).await?;
            }
        }
        Ok(format!("{name}@{}", version.number))
    }
}

/// The version is known: the overlay that it was made of is no longer needed. If the iSCSI service does not hear of it
/// now, its next start finds out by itself.
pub(super) async fn release(shared: &Shared, client: ClientId) {
    if let Err(error) = ask(shared, &TargetRequest::Release { client }).await {
        tracing::info!(
            client.id = %client,
            "the iSCSI service drops the published overlay later: {}", chain(&error)
        );
    }
}

async fn give_back(shared: &Shared, client: ClientId) {
    if let Err(error) = ask(shared, &TargetRequest::Unseal { client }).await {
        tracing::warn!(
            client.id = %client,
            "the maintenance client cannot power on until its overlay is given back: {}", chain(&error)
        );
    }
}

/// Gives overlays back, or drops them, whose publication has ended without a word to the iSCSI service: it was down, or this
/// daemon died.
pub(super) async fn reconcile(shared: &Shared, disks: &[DiskStatus]) {
    let sealed: Vec<ClientId> = disks
        .iter()
        .filter(|disk| disk.state == DiskState::Sealed)
        .map(|disk| disk.client)
        .collect();
    if sealed.is_empty() {
        return;
    }
    let open = match open_jobs(shared).await {
        Ok(open) => open,
        Err(error) => return shared.degraded(&error),
    };
    for client in sealed {
        let publishes = open.iter().any(|job| {
            job.kind == IMAGE_PUBLISH
                && serde_json::from_str::<PublishPayload>(&job.payload)
                    .is_ok_and(|payload| payload.client == client)
        });
        if !publishes {
            release(shared, client).await;
            give_back(shared, client).await;
        }
    }
}

async fn open_jobs(shared: &Shared) -> Result<Vec<JobRecord>, StoreError> {
    let store = shared.database.store().await?;
    store.read().await?.job_list_open().await
}

async fn seal(shared: &Shared, client: ClientId) -> Result<SealedStatus, TargetError> {
    match ask(shared, &TargetRequest::Seal { client }).await? {
        TargetReply::Sealed(sealed) => Ok(sealed),
        _ => Err(TargetError::Unexpected),
    }
}

async fn ask(shared: &Shared, question: &TargetRequest) -> Result<TargetReply, TargetError> {
    let socket = shared.paths.target_control();
    match request(&socket, question, TARGET_TIMEOUT).await? {
        TargetReply::Error(error) => Err(error.into()),
        reply => Ok(reply),
    }
}
