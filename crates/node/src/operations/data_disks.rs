//! Data disks of groups and clients: games, course material.

use dess_model::{ClientId, DATA_LUN_MAX, DataAccess, ImageId};
use dess_store::{DataContent, DataDiskRecord, Holder, Tx};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::clients::fetch;
use super::images::Catalogue;
use super::maintenance::no_maintenance_policy;
use super::{ClientView, GroupView, OperationError, Operations, Result, record};
use crate::data_disks::{DataDisk, DataDisks};

/// A data disk, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DataDiskView {
    /// Its logical unit number.
    pub lun: u8,
    /// What is on it, for people: `games@3`; none if the client is given nothing there although its group is.
    pub label: Option<String>,
    /// True if that is the image's newest version, whichever it is at a power-on.
    pub newest: bool,
    /// Whether it may be written.
    pub access: DataAccess,
    /// True if it is the group's.
    pub inherited: bool,
}

/// A change of one data disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DataDiskChange {
    /// Its logical unit number, 1 to [`DATA_LUN_MAX`].
    pub lun: u8,
    /// What shall be there.
    pub to: DataDiskChoice,
}

/// What shall be on a data disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DataDiskChoice {
    /// An image.
    Image {
        /// `name`, its newest version at each power-on, or `name@version`.
        image: String,
        /// Whether it may be written.
        access: DataAccess,
    },
    /// Nothing.
    Nothing,
    /// What the client's group has there; for a group the same as nothing.
    Inherit,
}

impl DataDiskView {
    pub(super) fn of(disk: DataDisk, catalogue: &Catalogue) -> Self {
        Self {
            lun: disk.lun,
            label: Some(catalogue.label(disk.version)),
            newest: disk.newest,
            access: disk.access,
            inherited: disk.inherited,
        }
    }

    /// What somebody was given, not what comes of it.
    pub(super) fn of_record(
        record: &DataDiskRecord,
        disks: &DataDisks,
        catalogue: &Catalogue,
    ) -> Self {
        let content = record.content;
        let version = content.and_then(|content| disks.version(content));
        Self {
            lun: record.lun,
            label: version.map(|version| catalogue.label(version)),
            newest: content.is_some_and(|content| content.version.is_none()),
            access: content.map(|content| content.access).unwrap_or_default(),
            inherited: false,
        }
    }
}

impl Operations {
    /// Changes the data disks of a group. Running clients keep what they booted until their next power-on.
    ///
    /// # Errors
    /// If there is no such group or image, a number is out of range, or an image is on two disks.
    pub async fn group_data_disks(
        &self,
        group: &str,
        changes: &[DataDiskChange],
    ) -> Result<GroupView> {
        let actor = &*self.actor;
        self.store()
            .await?
            .transact(|mut tx| async move {
                let groups = tx.group_list().await?;
                let found = groups.into_iter().find(|found| found.name == group);
                let found = found.ok_or_else(|| OperationError::not_found("group", group))?;
                change(&mut tx, Holder::Group(found.id), changes).await?;
                let details = json!(changes);
                record(&mut tx, actor, "group.data_disks", group, details).await?;
                Result::Ok(())
            })
            .await?;
        self.publish().await;
        self.group_find(group).await
    }

    /// Changes the data disks that a client has of its own. It keeps what it booted until its next power-on.
    ///
    /// # Errors
    /// If there is no such client or image, a number is out of range, or an image is on two disks.
    pub async fn client_data_disks(
        &self,
        id: ClientId,
        changes: &[DataDiskChange],
    ) -> Result<ClientView> {
        let actor = &*self.actor;
        self.store()
            .await?
            .transact(|mut tx| async move {
                let client = fetch(&mut tx, id).await?;
                change(&mut tx, Holder::Client(id), changes).await?;
                let details = json!(changes);
                record(&mut tx, actor, "client.data_disks", &client.name, details).await?;
                Result::Ok(())
            })
            .await?;
        self.publish().await;
        self.client_get(id).await
    }
}

pub(super) async fn change(tx: &mut Tx, holder: Holder, changes: &[DataDiskChange]) -> Result<()> {
    let catalogue = Catalogue::read(tx).await?;
    for DataDiskChange { lun, to } in changes {
        let lun = *lun;
        if !(1..=DATA_LUN_MAX).contains(&lun) {
            let reason = format!("{lun} is not in 1 to {DATA_LUN_MAX}; 0 is the system disk");
            return Err(OperationError::invalid("data disk", reason));
        }
        let content = match (to, holder) {
            (DataDiskChoice::Image { image, access }, _) => {
                Some(content(&catalogue, image, *access)?)
            }
            (DataDiskChoice::Nothing, Holder::Client(_)) => None,
            (DataDiskChoice::Nothing, Holder::Group(_)) | (DataDiskChoice::Inherit, _) => {
                tx.data_disk_delete(holder, lun).await?;
                continue;
            }
        };
        let disk = DataDiskRecord {
            holder,
            lun,
            content,
        };
        tx.data_disk_put(&disk).await?;
    }
    refuse_twice(tx, &catalogue, holder).await
}

fn content(catalogue: &Catalogue, image: &str, access: DataAccess) -> Result<DataContent> {
    if access == DataAccess::Maintenance {
        return Err(no_maintenance_policy());
    }
    let version = catalogue.find(image)?;
    Ok(DataContent {
        image: version.image,
        version: image.contains('@').then_some(version.number),
        access,
    })
}

/// Two disks of the same image would be the same disk to an operating system.
async fn refuse_twice(tx: &mut Tx, catalogue: &Catalogue, holder: Holder) -> Result<()> {
    let mut seen: Vec<(ImageId, u8)> = Vec::new();
    for record in tx.data_disk_list().await? {
        let Some(content) = record.content.filter(|_| record.holder == holder) else {
            continue;
        };
        let image = content.image;
        if let Some((_, other)) = seen.iter().find(|(known, _)| *known == image) {
            let reason = format!(
                "{} is data disk {other} already; it cannot be {} too",
                catalogue.image_name(image),
                record.lun
            );
            return Err(OperationError::invalid("data disk", reason));
        }
        seen.push((image, record.lun));
    }
    Ok(())
}
