//! Names of versions and disks for commands that work on the files of the store themselves.

use std::collections::BTreeMap;

use dess_model::{ClientId, DiskId, VersionRef};

use super::images::Catalogue;
use super::{Operations, Result};

/// A disk of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedDisk {
    /// For people: `seat 7 (PC-07)`.
    pub label: String,
    /// Identity.
    pub disk: DiskId,
    /// Whose; `None` if no client has it.
    pub client: Option<ClientId>,
}

impl Operations {
    /// The versions that `text` names, with their labels: all of an image (`name`), or one (`name@version`).
    ///
    /// # Errors
    /// If there is none, or the database cannot be read.
    pub async fn versions_named(&self, text: &str) -> Result<Vec<(String, VersionRef)>> {
        let catalogue = Catalogue::read(&mut self.read().await?).await?;
        let versions = match text.contains('@') {
            true => vec![catalogue.find(text)?],
            false => {
                let image = catalogue.image(text)?.id;
                let versions = catalogue.versions_of(image);
                versions.map(|record| record.version).collect()
            }
        };
        let label = |version| (catalogue.label(version), version);
        Ok(versions.into_iter().map(label).collect())
    }

    /// The version that `text` names: the newest of an image (`name`), or `name@version`.
    ///
    /// # Errors
    /// If there is none, or the database cannot be read.
    pub async fn version_named(&self, text: &str) -> Result<(String, VersionRef)> {
        let catalogue = Catalogue::read(&mut self.read().await?).await?;
        let version = catalogue.find(text)?;
        Ok((catalogue.label(version), version))
    }

    /// Labels of versions, as far as they are known.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn version_labels(
        &self,
        versions: Vec<VersionRef>,
    ) -> Result<Vec<(String, VersionRef)>> {
        let catalogue = Catalogue::read(&mut self.read().await?).await?;
        let label = |version| (catalogue.label(version), version);
        Ok(versions.into_iter().map(label).collect())
    }

    /// The disk of a client: seat number, name, MAC address or id.
    ///
    /// # Errors
    /// If there is none, or the database cannot be read.
    pub async fn disk_named(&self, client: &str) -> Result<NamedDisk> {
        let id = self.client_find(client).await?.id;
        let clients = self.read().await?.client_list().await?;
        let found = clients.into_iter().find(|client| client.id == id);
        let client = found.ok_or_else(|| super::OperationError::not_found("client", client))?;
        Ok(NamedDisk {
            label: format!("seat {} ({})", client.seat, client.name),
            disk: client.disk.id,
            client: Some(client.id),
        })
    }

    /// Disks with their clients, as far as they are known.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn disk_labels(&self, disks: Vec<DiskId>) -> Result<Vec<NamedDisk>> {
        let mut tx = self.read().await?;
        let mut known = BTreeMap::new();
        let images = tx.image_list().await?;
        for client in tx.client_list().await? {
            let label = format!("seat {} ({})", client.seat, client.name);
            for image in &images {
                let label = format!("{label}, data disk {}", image.name);
                known.insert(client.disk.data_disk(image.id).id, (label, client.id));
            }
            known.insert(client.disk.id, (label, client.id));
        }
        let named = |disk| {
            let (label, client) = match known.get(&disk) {
                Some((label, client)) => (label.clone(), Some(*client)),
                None => (format!("disk {disk}"), None),
            };
            NamedDisk {
                label,
                disk,
                client,
            }
        };
        Ok(disks.into_iter().map(named).collect())
    }
}
