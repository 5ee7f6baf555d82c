//! Maintenance clients: who writes the next version of an image.

use dess_model::{ClientId, ImageId, Timestamp, VersionRef};

use crate::row::Columns;
use crate::statement::query;
use crate::{StoreError, Tx};

/// The maintenance client of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaintenanceRecord {
    /// The client.
    pub client: ClientId,
    /// The version that it writes on.
    pub version: VersionRef,
    /// Number of the data disk on which it does; none for its system disk.
    pub data_lun: Option<u8>,
    /// Who ordered it.
    pub actor: String,
    /// Since when.
    pub created: Timestamp,
}

impl Tx {
    /// The maintenance clients of all images.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn maintenance_list(&mut self) -> Result<Vec<MaintenanceRecord>, StoreError> {
        let statement = query(
            "SELECT image_id, client_id, version_number, data_lun, actor, created_at FROM maintenance \
             ORDER BY created_at, image_id",
        );
        let rows = self
            .fetch_all("list maintenance clients", statement)
            .await?;
        rows.iter()
            .map(|row| {
                let row = Columns(row);
                Ok(MaintenanceRecord {
                    client: row.parsed("client_id")?,
                    version: VersionRef {
                        image: row.parsed("image_id")?,
                        number: row.number("version_number")?,
                    },
                    data_lun: row.number_opt("data_lun")?,
                    actor: row.text("actor")?,
                    created: row.time("created_at")?,
                })
            })
            .collect()
    }

    /// Makes a client the maintenance client of an image.
    ///
    /// # Errors
    /// If the image has one, the client is one, or the database cannot be written.
    pub async fn maintenance_insert(
        &mut self,
        maintenance: &MaintenanceRecord,
    ) -> Result<(), StoreError> {
        let statement = query(
            "INSERT INTO maintenance (image_id, client_id, version_number, data_lun, actor, created_at) \
             VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(maintenance.version.image.to_string())
        .bind(maintenance.client.to_string())
        .bind(i64::from(maintenance.version.number))
        .bind(maintenance.data_lun.map(i64::from))
        .bind(maintenance.actor.clone())
        .bind(maintenance.created.0);
        self.execute("begin a maintenance", statement)
            .await
            .map(drop)
    }

    /// Ends the maintenance of an image; nothing if there is none.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn maintenance_delete(&mut self, image: ImageId) -> Result<(), StoreError> {
        let statement = query("DELETE FROM maintenance WHERE image_id = ?").bind(image.to_string());
        self.execute("end a maintenance", statement).await.map(drop)
    }
}
