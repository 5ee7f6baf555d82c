//! Versions of an image: compare, make whole, remove.

use std::collections::BTreeSet;

use dess_disk::{
    BLOCK_BYTES, Difference, Manifest, Note, OverlayDescriptor, OverlayKind, overlays_in_use,
};
use dess_model::{DiskId, DiskStatus, JobId, TargetReply, TargetRequest, Timestamp, VersionRef};
use dess_store::{ClientRecord, Holder, ImageRecord, Tx, VersionRecord};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::images::Catalogue;
use super::jobs::new_job;
use super::maintenance::target_is_down;
use super::{OperationError, Operations, Result, audit, is_plain_name, record};
use crate::ScrubState;
use crate::data_disks::DataDisks;

/// How much differs between two versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DifferenceView {
    /// One of them, for people: `debian@1`.
    pub one: String,
    /// The other.
    pub other: String,
    /// Bytes that were written between them.
    pub changed_bytes: u64,
    /// Unit in which they were counted.
    pub unit_bytes: u64,
}

/// Kind of the job that makes a version whole.
pub(crate) const VERSION_FLATTEN: &str = "version_flatten";
/// Kind of the job that removes the files of a version.
pub(crate) const VERSION_REMOVE: &str = "version_remove";

/// Disks that somebody may go on with, each with the version that it needs.
type DisksInUse = BTreeSet<(DiskId, VersionRef)>;

/// What these jobs need to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VersionPayload {
    /// Which version.
    pub(crate) version: VersionRef,
}

impl Operations {
    /// How much was written between two versions, named as `name@version`.
    ///
    /// # Errors
    /// If there is no such version, or its files are damaged.
    pub async fn version_difference(&self, one: &str, other: &str) -> Result<DifferenceView> {
        let catalogue = Catalogue::read(&mut self.read().await?).await?;
        let (one, other) = (catalogue.find(one)?, catalogue.find(other)?);
        let images = self.paths.images();
        let compare = move || dess_disk::difference(&images, one, other);
        let Difference {
            changed_bytes,
            unit_bytes,
        } = on_thread(compare).await?;
        Ok(DifferenceView {
            one: catalogue.label(one),
            other: catalogue.label(other),
            changed_bytes,
            unit_bytes,
        })
    }

    /// Queues the job that makes a version whole, so that it needs no other one.
    ///
    /// # Errors
    /// If there is no such version, or it is whole.
    pub async fn version_flatten_start(&self, version: &str) -> Result<JobId> {
        let catalogue = Catalogue::read(&mut self.read().await?).await?;
        let found = catalogue.find(version)?;
        let label = catalogue.label(found);
        if catalogue.parent(found).is_none() {
            return Err(OperationError::Refused(format!("{label} is whole already")));
        }
        let id = JobId(Uuid::now_v7());
        let payload = json!(VersionPayload { version: found });
        let job = &new_job(id, VERSION_FLATTEN, &label, payload);
        let actor = &*self.actor;
        self.store()
            .await?
            .transact(|mut tx| async move {
                tx.job_insert(job).await?;
                audit(
                    &mut tx,
                    actor,
                    "version.flatten",
                    &job.subject,
                    json!({"job": id}),
                )
                .await?;
                Result::Ok(())
            })
            .await?;
        self.publish().await;
        Ok(id)
    }

    /// Removes a version, named as `name@version`; `node` removes its files.
    ///
    /// # Errors
    /// If there is no such version; or if it is assigned, booted, or needed by a disk or a later version: these are named.
    pub async fn version_remove(&self, version: &str) -> Result<JobId> {
        if !version.contains('@') {
            let reason = format!("write it as {version}@ and the number of the version");
            return Err(OperationError::invalid("version", reason));
        }
        let needed_by = self.disks_in_use().await?;
        let id = JobId(Uuid::now_v7());
        let (actor, needed_by) = (&*self.actor, &needed_by);
        self.store()
            .await?
            .transact(|tx| remove(tx, version, needed_by, id, actor))
            .await?;
        self.publish().await;
        Ok(id)
    }

    /// The disks that somebody may go on with, with the version that each needs. A volatile one counts only while its
    /// client runs: the next power-on makes a fresh one.
    async fn disks_in_use(&self) -> Result<DisksInUse> {
        let Some(TargetReply::Status {
            sessions, disks, ..
        }) = self.ask_target(&TargetRequest::Status).await?
        else {
            return Err(target_is_down("only it knows who runs"));
        };
        let mut clients = self.read().await?.client_list().await?;
        clients.retain(|client| sessions.iter().any(|session| session.client == client.id));
        let overlays = self.overlays_in_use().await?.into_iter();
        let mut used: DisksInUse = overlays
            .filter(|overlay| {
                overlay.kind != OverlayKind::Volatile
                    || owner(&clients, overlay.disk, overlay.base).is_some()
            })
            .map(|overlay| (overlay.disk, overlay.base))
            .collect();
        used.extend(served_without_overlay(&clients, &disks));
        Ok(used)
    }

    async fn overlays_in_use(&self) -> Result<Vec<OverlayDescriptor>> {
        let overlays = self.paths.overlays();
        on_thread(move || overlays_in_use(&overlays)).await
    }

    /// The label of a version, and who uses it or a version that is made on it. While the iSCSI service does not answer,
    /// clients with nothing but a data disk on it that has no overlay are not among them.
    ///
    /// # Errors
    /// If the database or the store cannot be read.
    pub async fn version_dependents(&self, version: VersionRef) -> Result<(String, Vec<String>)> {
        let served = self.ask_target(&TargetRequest::Status).await;
        let overlays = self.overlays_in_use().await?.into_iter();
        let mut needed_by: DisksInUse = overlays
            .map(|overlay| (overlay.disk, overlay.base))
            .collect();
        let mut tx = self.read().await?;
        if let Ok(Some(TargetReply::Status { disks, .. })) = served {
            needed_by.extend(served_without_overlay(&tx.client_list().await?, &disks));
        }
        let catalogue = Catalogue::read(&mut tx).await?;
        let mut list = Vec::new();
        for later in catalogue.versions_of(version.image) {
            let mut below = Some(later.version.number);
            while below.is_some_and(|number| number > version.number) {
                below = below.and_then(|number| catalogue.parent(VersionRef { number, ..version }));
            }
            if below == Some(version.number) {
                list.extend(users(&mut tx, &catalogue, later.version, &needed_by).await?);
            }
        }
        Ok((catalogue.label(version), list))
    }
}

/// Data disks that are served as they are: no overlay tells of them, only the iSCSI service.
fn served_without_overlay(clients: &[ClientRecord], disks: &[DiskStatus]) -> DisksInUse {
    let data_disks = disks.iter().filter(|disk| disk.lun != 0);
    data_disks
        .filter_map(|disk| {
            let version = disk.version?;
            let client = clients.iter().find(|client| client.id == disk.client)?;
            Some((client.disk.data_disk(version.image).id, version))
        })
        .collect()
}

impl Operations {
    /// How far the scrub of the versions is, and what it found.
    pub fn scrub_state(&self) -> ScrubState {
        ScrubState::read(&Note::new(self.paths.scrub()))
    }

    /// Makes a version known that lies in the store, as after a restoration, with its image, which gets `name` if it is not known yet.
    /// Known already: does nothing. Answers its label.
    ///
    /// # Errors
    /// If another image has the name, or the database cannot be written.
    pub async fn version_adopt(&self, manifest: &Manifest, name: &str) -> Result<String> {
        let actor = &*self.actor;
        let label = self
            .store()
            .await?
            .transact(|tx| adopt(tx, manifest, name, actor))
            .await?;
        self.publish().await;
        Ok(label)
    }
}

async fn adopt(mut tx: Tx, manifest: &Manifest, name: &str, actor: &str) -> Result<String> {
    let version = manifest.version;
    let images = tx.image_list().await?;
    let name = match images.iter().find(|image| image.id == version.image) {
        Some(known) => known.name.clone(),
        None if images.iter().any(|image| image.name == name) => {
            let reason = format!("another image is named {name}; choose another --name");
            return Err(OperationError::Refused(reason));
        }
        None => {
            if !is_plain_name(name) {
                return Err(OperationError::invalid("name", "it is no name of an image"));
            }
            tx.image_insert(&ImageRecord {
                id: version.image,
                name: name.to_owned(),
                last_version: 0,
                created: Timestamp::now(),
            })
            .await?;
            name.to_owned()
        }
    };
    let label = format!("{name}@{}", version.number);
    let known = tx.version_list().await?;
    if known.iter().any(|known| known.version == version) {
        return Ok(label);
    }
    tx.version_insert(&VersionRecord {
        version,
        directory: format!("{}/{}", version.image.simple(), version.number),
        size_bytes: manifest.size_bytes,
        parent: manifest.parent,
        comment: manifest.comment.clone(),
        author: manifest.author.clone(),
        layer_bytes: Some(manifest.data_blocks * BLOCK_BYTES),
        created: manifest.created,
    })
    .await?;
    record(&mut tx, actor, "version.restore", &label, json!({})).await?;
    Ok(label)
}

async fn remove(
    mut tx: Tx,
    text: &str,
    needed_by: &DisksInUse,
    job: JobId,
    actor: &str,
) -> Result<()> {
    let catalogue = Catalogue::read(&mut tx).await?;
    let version = catalogue.find(text)?;
    let label = catalogue.label(version);
    let users = users(&mut tx, &catalogue, version, needed_by).await?;
    if !users.is_empty() {
        let reason = format!("{label} is in use: {}", users.join("; "));
        return Err(OperationError::Refused(reason));
    }
    tx.rollout_delete_version(version).await?;
    tx.version_delete(version).await?;
    let payload = json!(VersionPayload { version });
    tx.job_insert(&new_job(job, VERSION_REMOVE, &label, payload))
        .await?;
    record(
        &mut tx,
        actor,
        "version.remove",
        &label,
        json!({"job": job}),
    )
    .await?;
    Ok(())
}

/// Who needs a version, for people.
async fn users(
    tx: &mut Tx,
    catalogue: &Catalogue,
    version: VersionRef,
    needed_by: &DisksInUse,
) -> Result<Vec<String>> {
    let clients = tx.client_list().await?;
    let name = |client: &ClientRecord| format!("seat {} ({})", client.seat, client.name);
    let mut users = Vec::new();
    for later in catalogue.versions_of(version.image) {
        if later.parent == Some(version.number) {
            let label = catalogue.label(later.version);
            users.push(format!("{label} is made on it (flatten that first)"));
        }
    }
    let groups = tx.group_list().await?;
    for group in &groups {
        if group.version == Some(version) {
            users.push(format!("assigned to the group {}", group.name));
        }
    }
    for client in clients
        .iter()
        .filter(|client| client.version == Some(version))
    {
        users.push(format!("assigned to {}", name(client)));
    }
    let disks = DataDisks::read(tx).await?;
    for (holder, lun) in disks.holders(version) {
        users.push(match holder {
            Holder::Group(id) => {
                let group = groups.iter().find(|group| group.id == id);
                let name = group.map_or("?", |group| group.name.as_str());
                format!("data disk {lun} of the group {name}")
            }
            Holder::Client(id) => {
                let client = clients.iter().find(|client| client.id == id);
                let name = client.map_or_else(|| id.to_string(), name);
                format!("data disk {lun} of {name}")
            }
        });
    }
    for maintenance in tx.maintenance_list().await? {
        let holder = clients
            .iter()
            .find(|client| client.id == maintenance.client);
        if let Some(client) = holder.filter(|_| maintenance.version == version) {
            users.push(format!("{} maintains the image on it", name(client)));
        }
    }
    for (disk, _) in needed_by.iter().filter(|(_, base)| *base == version) {
        users.push(match owner(&clients, *disk, version) {
            Some(client) => format!("the disk of {} is based on it", name(client)),
            None => format!("disk {disk} is based on it"),
        });
    }
    Ok(users)
}

/// Whose disk it is, if it is on a version of this image.
fn owner(clients: &[ClientRecord], disk: DiskId, base: VersionRef) -> Option<&ClientRecord> {
    clients
        .iter()
        .find(|client| client.disk.id == disk || client.disk.data_disk(base.image).id == disk)
}

/// Runs file work on a thread that may wait.
async fn on_thread<T, E>(
    work: impl FnOnce() -> std::result::Result<T, E> + Send + 'static,
) -> Result<T>
where
    T: Send + 'static,
    E: std::error::Error + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(OperationError::Refused(crate::daemon::chain(&error))),
        Err(error) => Err(OperationError::Refused(error.to_string())),
    }
}
