//! The database as a whole: check, backup, export and import.

use std::path::{Path, PathBuf};

use dess_model::Timestamp;
use dess_store::{BackupError, Soundness, Transfer, TransferError};
use serde_json::json;

use super::{Operations, Result, audit, record};

impl Operations {
    /// Looks through the whole database. (Opening it has brought its schema up to date.)
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn database_check(&self) -> Result<Soundness> {
        Ok(self.store().await?.check().await?)
    }

    /// Backs the database up into the backup directory, or into another; answers the backup's
    /// path. Of the backups there, the newest `keep` stay.
    ///
    /// # Errors
    /// If the database is not a file, or the backup cannot be written or is not sound.
    pub async fn database_back_up(
        &self,
        directory: Option<&Path>,
        keep: u32,
    ) -> std::result::Result<PathBuf, BackupError> {
        let default = self.paths.backups();
        let directory = directory.unwrap_or(&default);
        let store = self.database.store().await?;
        store.back_up(directory, Timestamp::now(), keep).await
    }

    /// Writes the whole site, with its secrets, into a new file that only its owner may read.
    ///
    /// # Errors
    /// If the file exists or cannot be written, or the database cannot be used.
    pub async fn database_export(
        &self,
        path: &Path,
    ) -> std::result::Result<Transfer, TransferError> {
        let store = self.database.store().await?;
        let transfer = store.export(path, Timestamp::now()).await?;
        let (actor, rows) = (&*self.actor, transfer.rows());
        let file = &path.display().to_string();
        store
            .transact(|mut tx| async move {
                audit(
                    &mut tx,
                    actor,
                    "database.export",
                    file,
                    json!({"rows": rows}),
                )
                .await
            })
            .await?;
        Ok(transfer)
    }

    /// Puts a site from a file into the database, as a whole or not at all, and publishes it. With
    /// `replace` what is there goes first; without, nothing may be there.
    ///
    /// # Errors
    /// If the file is no whole export of this release, the database has rows, or what arrives does
    /// not fit together.
    pub async fn database_import(
        &self,
        path: &Path,
        replace: bool,
    ) -> std::result::Result<Transfer, TransferError> {
        let store = self.database.store_or_create().await?;
        let transfer = store.import(path, replace).await?;
        let (actor, rows) = (&*self.actor, transfer.rows());
        let file = &path.display().to_string();
        store
            .transact(|mut tx| async move {
                let details = json!({"rows": rows, "replace": replace});
                record(&mut tx, actor, "database.import", file, details).await
            })
            .await?;
        self.publish().await;
        Ok(transfer)
    }
}
