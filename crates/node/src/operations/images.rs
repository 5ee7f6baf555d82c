//! Images, their versions, import and assignment.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use dess_disk::{DiskLint, Manifest, version_directory};
use dess_model::{
    BootPolicy, ClientId, GroupId, ImageId, IoLimits, JobId, OverlayLimits, Timestamp, VersionRef,
};
use dess_store::{
    ClientRecord, GroupRecord, Holder, ImageRecord, MaintenanceRecord, Tx, VersionRecord,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::jobs::new_job;
use super::maintenance::no_maintenance_policy;
use super::{
    DataDiskView, ImageAssignment, OperationError, Operations, Result, Revision, audit,
    differences, is_plain_name, record,
};
use crate::data_disks::DataDisks;

/// One image with its versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImageView {
    /// Identity.
    pub id: ImageId,
    /// Name, unique at the site.
    pub name: String,
    /// Versions, oldest first.
    pub versions: Vec<VersionView>,
    /// Its maintenance client.
    pub maintenance: Option<MaintenanceView>,
}

/// The maintenance client of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MaintenanceView {
    /// The client.
    pub client: ClientId,
    /// Its name.
    pub name: String,
    /// Its seat.
    pub seat: u32,
    /// The version that it writes on.
    pub version: VersionRef,
    /// Since when.
    pub since: Timestamp,
}

/// One version of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VersionView {
    /// Which.
    pub version: VersionRef,
    /// For people: `debian@1`.
    pub label: String,
    /// Size of the disk in bytes.
    pub size_bytes: u64,
    /// The version on which it was made; none if it is whole.
    pub parent: Option<VersionRef>,
    /// For people.
    pub comment: String,
    /// Who made it; empty if that is not known.
    pub author: String,
    /// Bytes that it holds beyond its parent; none if that is not known.
    pub layer_bytes: Option<u64>,
    /// When it was published.
    pub created: Timestamp,
    /// Groups that boot it.
    pub groups: Vec<String>,
    /// How many clients boot it at their next power-on.
    pub clients: u32,
    /// What was seen of the disk when it was imported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lint: Option<DiskLint>,
}

/// An image to import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImageImport {
    /// File on the server: raw, qcow2, VHD, VHDX or VMDK, also packed with gzip or zstd; or a pipe.
    pub source: PathBuf,
    /// Name of the image: letters of any script, digits, `-`, `_`, `.`; a new name makes a new
    /// image, a known one its next version.
    pub name: String,
}

/// Whom an image is assigned to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AssignTo {
    /// The default group: all clients without a version of their own.
    DefaultGroup,
    /// One client.
    Client(ClientId),
}

/// Which version an assignment gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Follow {
    /// The one that is named, until the assignment is changed.
    #[default]
    Pinned,
    /// That, and each newer one as soon as it is published.
    Latest,
}

/// A group of clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupView {
    /// Identity.
    pub id: GroupId,
    /// Name.
    pub name: String,
    /// True for the group of clients that nobody put in another.
    pub default: bool,
    /// What its clients boot.
    pub image: Option<ImageAssignment>,
    /// What happens to their writes.
    pub policy: BootPolicy,
    /// Their data disks, by number.
    #[serde(default)]
    pub data_disks: Vec<DataDiskView>,
    /// How much of the storage they may use together.
    pub limits: IoLimits,
    /// How large the overlay of each of them may get.
    #[serde(default)]
    pub overlay_limits: OverlayLimits,
    /// Fingerprint of its settings, to change them only as they were seen.
    #[serde(default)]
    pub revision: Revision,
}

impl GroupView {
    pub(super) fn of(group: GroupRecord, disks: &DataDisks, catalogue: &Catalogue) -> Self {
        Self {
            data_disks: disks
                .of_holder(Holder::Group(group.id))
                .map(|record| DataDiskView::of_record(record, disks, catalogue))
                .collect(),
            id: group.id,
            name: group.name,
            default: group.default,
            image: group
                .version
                .map(|version| catalogue.assignment(version, false)),
            policy: group.policy,
            limits: group.limits,
            overlay_limits: group.overlay_limits,
            revision: Revision::default(),
        }
        .revised()
    }
}

const PIPE_PREFIX: &str = "image-import-";
const PIPE_EXTENSION: &str = "pipe";

/// Kind of the job that imports an image.
pub(crate) const IMAGE_IMPORT: &str = "image_import";

/// What the job needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImportPayload {
    /// File on the server.
    pub(crate) source: PathBuf,
}

impl MaintenanceView {
    fn of(record: &MaintenanceRecord, clients: &[ClientRecord]) -> Option<Self> {
        let client = clients.iter().find(|client| client.id == record.client)?;
        Some(Self {
            client: client.id,
            name: client.name.clone(),
            seat: client.seat,
            version: record.version,
            since: record.created,
        })
    }
}

impl Operations {
    /// All images by name.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn image_list(&self) -> Result<Vec<ImageView>> {
        let mut tx = self.read().await?;
        let groups = tx.group_list().await?;
        let clients = tx.client_list().await?;
        let maintenances = tx.maintenance_list().await?;
        let catalogue = Catalogue::read(&mut tx).await?;
        let lints = self.lints(&catalogue).await;
        let boots = |client: &ClientRecord| {
            let group = groups.iter().find(|group| group.id == client.group);
            let maintenance = maintenances
                .iter()
                .find(|record| record.client == client.id && record.data_lun.is_none());
            maintenance
                .map(|record| record.version)
                .or(client.version)
                .or(group.and_then(|group| group.version))
        };
        let version_view = |record: &VersionRecord| VersionView {
            version: record.version,
            label: catalogue.label(record.version),
            size_bytes: record.size_bytes,
            parent: record.parent.map(|number| VersionRef {
                number,
                ..record.version
            }),
            comment: record.comment.clone(),
            author: record.author.clone(),
            layer_bytes: record.layer_bytes,
            created: record.created,
            groups: groups
                .iter()
                .filter(|group| group.version == Some(record.version))
                .map(|group| group.name.clone())
                .collect(),
            clients: clients
                .iter()
                .map(|client| u32::from(boots(client) == Some(record.version)))
                .sum(),
            lint: lints.get(&record.version).cloned(),
        };
        Ok(catalogue
            .images
            .iter()
            .map(|image| ImageView {
                id: image.id,
                name: image.name.clone(),
                versions: catalogue.versions_of(image.id).map(version_view).collect(),
                maintenance: maintenances
                    .iter()
                    .find(|record| record.version.image == image.id)
                    .and_then(|record| MaintenanceView::of(record, &clients)),
            })
            .collect())
    }

    /// What was seen of the disks of all versions, where that can be read.
    async fn lints(&self, catalogue: &Catalogue) -> HashMap<VersionRef, DiskLint> {
        let images = self.paths.images();
        let versions: Vec<_> = catalogue
            .versions
            .iter()
            .map(|record| record.version)
            .collect();
        let read = tokio::task::spawn_blocking(move || {
            let lint = |version: VersionRef| {
                let manifest = Manifest::read(&version_directory(&images, version)).ok()?;
                Some((version, manifest.lint?))
            };
            versions.into_iter().filter_map(lint).collect()
        });
        read.await.unwrap_or_default()
    }

    /// The version that `image` names (`name` or `name@version`), to be written to `target`: its label and its directory.
    ///
    /// # Errors
    /// If there is no such version, or the database cannot be written.
    pub async fn image_export_start(&self, image: &str, target: &str) -> Result<(String, PathBuf)> {
        let actor = &*self.actor;
        let (label, version) = self
            .store()
            .await?
            .transact(|mut tx| async move {
                let catalogue = Catalogue::read(&mut tx).await?;
                let version = catalogue.find(image)?;
                let label = catalogue.label(version);
                audit(
                    &mut tx,
                    actor,
                    "image.export",
                    &label,
                    json!({"target": target}),
                )
                .await?;
                Result::Ok((label, version))
            })
            .await?;
        Ok((label, version_directory(&self.paths.images(), version)))
    }

    /// Where a command that sends an image to [`image_import_start`](Self::image_import_start) makes its pipe. When all is sent, and
    /// before it closes the pipe, it writes the number of bytes to [`end_marker`].
    pub fn import_pipe(&self) -> PathBuf {
        let name = format!("{PIPE_PREFIX}{}.{PIPE_EXTENSION}", Uuid::now_v7().simple());
        self.paths.node_control().with_file_name(name)
    }

    /// Queues the import of an image; `node` carries it out.
    ///
    /// # Errors
    /// If the file cannot be read or the name is wrong.
    pub async fn image_import_start(&self, import: ImageImport) -> Result<JobId> {
        check_import(&import).await?;
        let id = JobId(Uuid::now_v7());
        let payload = ImportPayload {
            source: import.source.clone(),
        };
        let job = &new_job(id, IMAGE_IMPORT, &import.name, json!(payload));
        let (actor, source) = (&*self.actor, &import.source);
        self.store()
            .await?
            .transact(|mut tx| async move {
                tx.site_fetch().await?.ok_or(OperationError::NoSite)?;
                tx.job_insert(job).await?;
                let details = json!({"source": source, "job": id});
                audit(&mut tx, actor, "image.import", &job.subject, details).await?;
                Result::Ok(())
            })
            .await?;
        self.publish().await;
        Ok(id)
    }

    /// Assigns an image, as `name` (its newest version) or `name@version`; none takes the
    /// assignment away.
    ///
    /// # Errors
    /// If there is no such image or client, or `follow` contradicts the name.
    pub async fn image_assign(
        &self,
        image: Option<&str>,
        to: AssignTo,
        follow: Follow,
    ) -> Result<()> {
        let (actor, to) = (&*self.actor, &to);
        self.store()
            .await?
            .transact(|tx| assign(tx, image, to, follow, actor))
            .await?;
        self.publish().await;
        Ok(())
    }

    /// All groups, the default one first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn group_list(&self) -> Result<Vec<GroupView>> {
        let mut tx = self.read().await?;
        let groups = tx.group_list().await?;
        let catalogue = Catalogue::read(&mut tx).await?;
        let disks = DataDisks::read(&mut tx).await?;
        Ok(groups
            .into_iter()
            .map(|group| GroupView::of(group, &disks, &catalogue))
            .collect())
    }

    /// The group with this name.
    ///
    /// # Errors
    /// If there is none, or the database cannot be read.
    pub(super) async fn group_find(&self, name: &str) -> Result<GroupView> {
        let groups = self.group_list().await?;
        let found = groups.into_iter().find(|view| view.name == name);
        found.ok_or_else(|| OperationError::not_found("group", name))
    }

    /// Sets the boot policy of the default group.
    ///
    /// # Errors
    /// If the site is not set up.
    pub async fn default_policy_set(&self, policy: BootPolicy) -> Result<()> {
        if policy == BootPolicy::Maintenance {
            return Err(no_maintenance_policy());
        }
        let actor = &*self.actor;
        self.store()
            .await?
            .transact(|mut tx| async move {
                let mut group = default_group(&mut tx).await?;
                let details = json!({"before": group.policy, "after": policy});
                group.policy = policy;
                tx.group_update(&group).await?;
                record(&mut tx, actor, "group.policy", &group.name, details).await?;
                Result::Ok(())
            })
            .await?;
        self.publish().await;
        Ok(())
    }
}

/// All images and versions, to name and find them.
pub(super) struct Catalogue {
    images: Vec<ImageRecord>,
    versions: Vec<VersionRecord>,
}

impl Catalogue {
    pub(super) async fn read(tx: &mut Tx) -> Result<Self> {
        Ok(Self {
            images: tx.image_list().await?,
            versions: tx.version_list().await?,
        })
    }

    /// For people: `debian@1`.
    pub(super) fn label(&self, version: VersionRef) -> String {
        let image = self.images.iter().find(|image| image.id == version.image);
        match image {
            Some(image) => format!("{}@{}", image.name, version.number),
            None => version.to_string(),
        }
    }

    pub(super) fn image_name(&self, image: ImageId) -> String {
        let found = self.images.iter().find(|found| found.id == image);
        found.map_or_else(|| image.to_string(), |found| found.name.clone())
    }

    pub(super) fn assignment(&self, version: VersionRef, inherited: bool) -> ImageAssignment {
        ImageAssignment {
            version,
            label: self.label(version),
            inherited,
        }
    }

    pub(super) fn versions_of(&self, image: ImageId) -> impl Iterator<Item = &VersionRecord> {
        self.versions
            .iter()
            .filter(move |record| record.version.image == image)
    }

    /// The version on which one was made.
    pub(super) fn parent(&self, version: VersionRef) -> Option<u32> {
        let found = self
            .versions
            .iter()
            .find(|record| record.version == version);
        found.and_then(|record| record.parent)
    }

    /// The image with this name.
    pub(super) fn image(&self, name: &str) -> Result<&ImageRecord> {
        let found = self.images.iter().find(|image| image.name == name);
        found.ok_or_else(|| OperationError::not_found("image", name))
    }

    /// The version that `text` names: `name` (the newest) or `name@version`.
    pub(super) fn find(&self, text: &str) -> Result<VersionRef> {
        let missing = || OperationError::not_found("image", text);
        let (name, number) = match text.split_once('@') {
            Some((name, number)) => (name, Some(number.parse::<u32>().map_err(|_| missing())?)),
            None => (text, None),
        };
        let image = self.images.iter().find(|image| image.name == name);
        let image = image.ok_or_else(missing)?.id;
        self.versions_of(image)
            .map(|record| record.version)
            .filter(|version| number.is_none_or(|number| version.number == number))
            .max()
            .ok_or_else(missing)
    }
}

/// The group of clients that nobody put in another.
pub(crate) async fn default_group(tx: &mut Tx) -> Result<GroupRecord> {
    let groups = tx.group_list().await?;
    groups
        .into_iter()
        .find(|group| group.default)
        .ok_or(OperationError::NoSite)
}

async fn assign(
    mut tx: Tx,
    image: Option<&str>,
    to: &AssignTo,
    follow: Follow,
    actor: &str,
) -> Result<()> {
    let latest = follow == Follow::Latest && image.is_some();
    if latest && image.is_some_and(|image| image.contains('@')) {
        let reason = "an image that is followed is named without a version";
        return Err(OperationError::invalid("image", reason));
    }
    let catalogue = Catalogue::read(&mut tx).await?;
    let version = image.map(|image| catalogue.find(image)).transpose()?;
    let chosen = |version: Option<VersionRef>, latest: bool| {
        let label = version.map(|version| catalogue.label(version));
        let follow = if latest {
            Follow::Latest
        } else {
            Follow::Pinned
        };
        json!({ "image": label, "follow": follow })
    };
    match to {
        AssignTo::DefaultGroup => {
            let mut group = default_group(&mut tx).await?;
            let before = chosen(group.version, group.follows_latest);
            group.version = version;
            group.follows_latest = latest;
            tx.group_update(&group).await?;
            record(
                &mut tx,
                actor,
                "group.image",
                &group.name,
                differences(&before, &chosen(version, latest)),
            )
            .await?;
        }
        AssignTo::Client(id) => {
            let client = tx.client_fetch(*id).await?;
            let mut client = client.ok_or_else(|| OperationError::not_found("client", id))?;
            let before = chosen(client.version, client.follows_latest);
            client.version = version;
            client.follows_latest = latest;
            tx.client_update(&client).await?;
            record(
                &mut tx,
                actor,
                "client.image",
                &client.name,
                differences(&before, &chosen(version, latest)),
            )
            .await?;
        }
    }
    Ok(())
}

/// The file that tells how many bytes were sent through a pipe that [`Operations::import_pipe`] named; `None` for other files.
pub fn end_marker(source: &Path) -> Option<PathBuf> {
    let name = source.file_name()?.to_str()?;
    let pipe = name.starts_with(PIPE_PREFIX) && source.extension()? == PIPE_EXTENSION;
    pipe.then(|| source.with_extension("end"))
}

async fn check_import(import: &ImageImport) -> Result<()> {
    if !is_plain_name(&import.name) {
        let reason = "1 to 63 letters, digits, \"-\", \"_\" or \".\"";
        return Err(OperationError::invalid("name", reason));
    }
    if !import.source.is_absolute() {
        let reason = format!("{} is not an absolute path", import.source.display());
        return Err(OperationError::invalid("source", reason));
    }
    match tokio::fs::metadata(&import.source).await {
        Ok(found) if found.is_dir() => Err(OperationError::invalid(
            "source",
            format!("{} is a directory", import.source.display()),
        )),
        Ok(_) => Ok(()),
        Err(error) => Err(OperationError::invalid(
            "source",
            format!("cannot read {}: {error}", import.source.display()),
        )),
    }
}
