//! Data disks: what groups and clients see beside their system disk.

use dess_model::{ClientId, DataAccess, ImageId};

use crate::row::{Columns, name_of, text_of};
use crate::statement::query;
use crate::{Holder, StoreError, Tx};

/// One data disk of a group or client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataDiskRecord {
    /// Who has it.
    pub holder: Holder,
    /// Its logical unit number, 1 or more; what a client has there takes the place of what its group has.
    pub lun: u8,
    /// What is on it; none for a client that has nothing there although its group does.
    pub content: Option<DataContent>,
}

/// What is on a data disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataContent {
    /// The image.
    pub image: ImageId,
    /// The version of it; none for the newest one.
    pub version: Option<u32>,
    /// Whether it may be written.
    pub access: DataAccess,
}

impl Tx {
    /// The data disks of all groups and clients, by their numbers.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn data_disk_list(&mut self) -> Result<Vec<DataDiskRecord>, StoreError> {
        let statement = query(
            "SELECT holder_kind, holder_id, lun, image_id, version_number, access FROM data_disks \
             ORDER BY lun, holder_kind, holder_id",
        );
        let rows = self.fetch_all("list data disks", statement).await?;
        rows.iter()
            .map(|row| {
                let row = Columns(row);
                let image: Option<ImageId> = row.parsed_opt("image_id")?;
                let version = row.number_opt("version_number")?;
                let access = row.named("access")?;
                Ok(DataDiskRecord {
                    holder: Holder::of(&row)?,
                    lun: row.number("lun")?,
                    content: image.map(|image| DataContent {
                        image,
                        version,
                        access,
                    }),
                })
            })
            .collect()
    }

    /// Gives a data disk to a group or client, in the place of what it has there.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn data_disk_put(&mut self, disk: &DataDiskRecord) -> Result<(), StoreError> {
        self.data_disk_delete(disk.holder, disk.lun).await?;
        let (kind, id) = disk.holder.columns();
        let content = disk.content;
        let access = content.map_or(DataAccess::ReadOnly, |content| content.access);
        let version = content.and_then(|content| content.version);
        let statement = query(
            "INSERT INTO data_disks (holder_kind, holder_id, lun, image_id, version_number, access) \
             VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(kind)
        .bind(id)
        .bind(i64::from(disk.lun))
        .bind(text_of(content.map(|content| content.image)))
        .bind(version.map(i64::from))
        .bind(name_of(access));
        self.execute("give a data disk", statement).await.map(drop)
    }

    /// Takes a data disk from a group or client; nothing if it has none there.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn data_disk_delete(&mut self, holder: Holder, lun: u8) -> Result<(), StoreError> {
        let (kind, id) = holder.columns();
        let statement =
            query("DELETE FROM data_disks WHERE holder_kind = ? AND holder_id = ? AND lun = ?")
                .bind(kind)
                .bind(id)
                .bind(i64::from(lun));
        self.execute("take a data disk", statement).await.map(drop)
    }

    /// Takes all data disks that a client has of its own.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub(crate) async fn data_disks_delete_of(
        &mut self,
        client: ClientId,
    ) -> Result<(), StoreError> {
        let (kind, id) = Holder::Client(client).columns();
        let statement = query("DELETE FROM data_disks WHERE holder_kind = ? AND holder_id = ?")
            .bind(kind)
            .bind(id);
        self.execute("take the data disks of a client", statement)
            .await
            .map(drop)
    }
}
