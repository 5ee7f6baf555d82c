//! Which data disks a client has: its group's, and its own in their place.

use std::collections::BTreeMap;

use dess_model::{ClientId, DataAccess, DataDiskEntry, ImageId, VersionRef};
use dess_store::{
    ClientRecord, DataContent, DataDiskRecord, Holder, MaintenanceRecord, StoreError, Tx,
    VersionRecord,
};

/// What all groups and clients were given, and what that is now.
#[derive(Debug)]
pub(crate) struct DataDisks {
    records: Vec<DataDiskRecord>,
    newest: BTreeMap<ImageId, u32>,
}

/// A data disk that a client has at its next power-on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DataDisk {
    /// Its logical unit number.
    pub(crate) lun: u8,
    /// What is on it.
    pub(crate) version: VersionRef,
    /// True if that is the image's newest version, whichever it is.
    pub(crate) newest: bool,
    /// Whether it may be written.
    pub(crate) access: DataAccess,
    /// True if it is the group's.
    pub(crate) inherited: bool,
}

impl DataDisks {
    pub(crate) async fn read(tx: &mut Tx) -> Result<Self, StoreError> {
        let records = tx.data_disk_list().await?;
        Ok(Self::new(records, &tx.version_list().await?))
    }

    fn new(records: Vec<DataDiskRecord>, versions: &[VersionRecord]) -> Self {
        let mut newest = BTreeMap::new();
        for VersionRef { image, number } in versions.iter().map(|record| record.version) {
            let known = newest.entry(image).or_insert(number);
            *known = number.max(*known);
        }
        Self { records, newest }
    }

    /// What somebody was given, by number.
    pub(crate) fn of_holder(&self, holder: Holder) -> impl Iterator<Item = &DataDiskRecord> {
        self.records
            .iter()
            .filter(move |record| record.holder == holder)
    }

    /// The version that is on a disk; none if the image has no version any more.
    pub(crate) fn version(&self, content: DataContent) -> Option<VersionRef> {
        let newest = || self.newest.get(&content.image).copied();
        Some(VersionRef {
            image: content.image,
            number: content.version.or_else(newest)?,
        })
    }

    /// What a client has at its next power-on, by number: what is lent to it while it maintains a data disk, then its
    /// own, then its group's. Each number and each image is there once, as the first of them says.
    pub(crate) fn of_client(
        &self,
        client: &ClientRecord,
        maintenance: Option<&MaintenanceRecord>,
    ) -> Vec<DataDisk> {
        let lent = maintenance.and_then(|record| {
            Some(DataDisk {
                lun: record.data_lun?,
                version: record.version,
                newest: false,
                access: DataAccess::Maintenance,
                inherited: false,
            })
        });
        let mut disks: BTreeMap<u8, Option<DataDisk>> = BTreeMap::new();
        disks.extend(lent.map(|disk| (disk.lun, Some(disk))));
        let own = self.of_holder(Holder::Client(client.id));
        let group = self.of_holder(Holder::Group(client.group));
        for record in own.chain(group) {
            let disk = record.content.and_then(|content| {
                Some(DataDisk {
                    lun: record.lun,
                    version: self.version(content)?,
                    newest: content.version.is_none(),
                    access: content.access,
                    inherited: matches!(record.holder, Holder::Group(_)),
                })
            });
            let mut known = disks.values().flatten();
            let twice = disk
                .is_some_and(|disk| known.any(|known| known.version.image == disk.version.image));
            if !twice {
                disks.entry(record.lun).or_insert(disk);
            }
        }
        disks.into_values().flatten().collect()
    }

    /// The same for the site snapshot.
    pub(crate) fn entries(
        &self,
        client: &ClientRecord,
        maintenance: Option<&MaintenanceRecord>,
    ) -> Vec<DataDiskEntry> {
        let disks = self.of_client(client, maintenance).into_iter();
        disks
            .map(|disk| DataDiskEntry {
                lun: disk.lun,
                version: disk.version,
                access: disk.access,
                disk: client.disk.data_disk(disk.version.image),
            })
            .collect()
    }

    /// Who is given the version: the groups and clients, each with the number of the disk.
    pub(crate) fn holders(&self, version: VersionRef) -> impl Iterator<Item = (Holder, u8)> {
        self.records
            .iter()
            .filter(move |record| {
                let content = record.content;
                content.and_then(|content| self.version(content)) == Some(version)
            })
            .map(|record| (record.holder, record.lun))
    }
}

/// The maintenance of a client.
pub(crate) fn maintenance_of(
    maintenances: &[MaintenanceRecord],
    client: ClientId,
) -> Option<&MaintenanceRecord> {
    maintenances.iter().find(|record| record.client == client)
}

#[cfg(test)]
mod tests;
