//! Data disks of a client: made ready with its system disk at a power-on, and found again as they were booted.

use std::sync::Arc;

use dess_disk::{
    BlockDevice, Disk, DiskError, DiskSpec, PoweredDisk, ReadOnlyDisk, version_directory,
};
use dess_model::{ClientEntry, DataAccess, DataDiskEntry, DiskId, SiteSnapshot};
use serde::{Deserialize, Serialize};

use crate::site::{Room, chain};

/// What a client has at its next power-on beside its system disk.
pub(crate) struct DataSpec {
    disks: Vec<DataDiskEntry>,
    /// Disks that it may have had and is not given any more.
    former: Vec<DiskId>,
    reset_epoch: u32,
}

/// A client's disks in service.
pub(crate) struct ClientDisks {
    /// LUN 0.
    pub(crate) system: PoweredDisk,
    /// The others.
    pub(crate) data: Vec<DataDisk>,
    /// What is the matter with those that are missing, for people.
    pub(crate) missing: Vec<String>,
}

/// A data disk in service.
pub(crate) struct DataDisk {
    pub(crate) entry: DataDiskEntry,
    pub(crate) content: Content,
}

/// Where the data is.
pub(crate) enum Content {
    /// A version that all clients share.
    Shared(ReadOnlyDisk),
    /// An overlay of the client's own.
    Own(Arc<Disk>),
}

/// Content of the note beside a system disk, as JSON: which data disks were booted with it.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Booted {
    format: u32,
    disks: Vec<DataDiskEntry>,
}

const FORMAT: u32 = 1;

impl DataSpec {
    pub(crate) fn of(snapshot: &SiteSnapshot, client: &ClientEntry) -> Self {
        let given = |disk: &DiskId| {
            let mut data = client.data_disks.iter();
            *disk == client.disk.id || data.any(|data| data.disk.id == *disk)
        };
        Self {
            disks: client.data_disks.clone(),
            former: snapshot
                .disks_of(client)
                .filter(|disk| !given(disk))
                .collect(),
            reset_epoch: client.reset_epoch,
        }
    }
}

impl Room {
    /// A power-on: makes the system disk and the data disks ready. A data disk that cannot be used is left out and told of, as a PC
    /// that does not boot helps nobody; but for one that is being maintained.
    ///
    /// Order: data disks, system disk, note of what was booted. A crash in between leaves a power-on that was not answered, which
    /// the client asks for again.
    pub(crate) fn power_on(
        &self,
        spec: &DiskSpec,
        data: &DataSpec,
    ) -> Result<ClientDisks, DiskError> {
        let mut disks = Vec::new();
        let mut missing = Vec::new();
        for entry in &data.disks {
            match self.power_on_data(entry, data.reset_epoch) {
                Ok(content) => disks.push(DataDisk {
                    entry: entry.clone(),
                    content,
                }),
                Err(error) if entry.access == DataAccess::Maintenance => return Err(error),
                Err(error) => missing.push(trouble(entry, &error)),
            }
        }
        for &disk in data.former.iter().filter(|disk| self.store.holds(**disk)) {
            if let Err(error) = self.store.remove_volatile(disk) {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    disk.id = %disk,
                    "a data disk that is not given any more stays"
                );
            }
        }
        let system = self.store.power_on(spec)?;
        note(&system.disk, disks.iter().map(|disk| &disk.entry))?;
        Ok(ClientDisks {
            system,
            data: disks,
            missing,
        })
    }

    fn power_on_data(&self, entry: &DataDiskEntry, epoch: u32) -> Result<Content, DiskError> {
        let Some(policy) = entry.access.policy() else {
            return self.shared(entry);
        };
        let spec = DiskSpec {
            disk: entry.disk.id,
            version: entry.version,
            version_dir: version_directory(&self.paths.images(), entry.version),
            policy,
            reset_epoch: epoch,
        };
        Ok(Content::Own(self.store.power_on(&spec)?.disk))
    }

    /// The data disks that were booted with a system disk, as they are. One whose content is gone is left out: the system
    /// would write what it holds in memory over a fresh one.
    pub(crate) fn attach_data(&self, system: PoweredDisk) -> Result<ClientDisks, DiskError> {
        let mut data = Vec::new();
        let mut missing = Vec::new();
        for entry in booted(&system.disk)? {
            let found = match entry.access {
                DataAccess::ReadOnly => self.shared(&entry),
                _ => self
                    .store
                    .attach(entry.disk.id)
                    .map(|powered| Content::Own(powered.disk)),
            };
            match found {
                Ok(content) => data.push(DataDisk { entry, content }),
                Err(error) => missing.push(trouble(&entry, &error)),
            }
        }
        Ok(ClientDisks {
            system,
            data,
            missing,
        })
    }

    fn shared(&self, entry: &DataDiskEntry) -> Result<Content, DiskError> {
        let directory = version_directory(&self.paths.images(), entry.version);
        let version = self.store.version(entry.version, &directory);
        let version = version.map_err(|source| DiskError::Base {
            disk: entry.disk.id,
            version: entry.version,
            source,
        })?;
        Ok(Content::Shared(ReadOnlyDisk::new(version)))
    }
}

fn trouble(entry: &DataDiskEntry, error: &DiskError) -> String {
    format!("data disk {} is missing: {}", entry.lun, chain(error))
}

/// Notes which data disks were booted with a system disk; writes nothing if the note says so already.
fn note<'a>(
    system: &Disk,
    disks: impl Iterator<Item = &'a DataDiskEntry>,
) -> Result<(), DiskError> {
    let note = system.companions();
    let failed = |source| DiskError::Store {
        action: "write",
        path: note.path().to_owned(),
        source,
    };
    let wanted = Booted {
        format: FORMAT,
        disks: disks.cloned().collect(),
    };
    if wanted.disks.is_empty() {
        return note.remove().map_err(failed);
    }
    let wanted = serde_json::to_vec(&wanted).map_err(|error| failed(error.into()))?;
    // One that cannot be read is replaced.
    match note.read() {
        Ok(Some(known)) if known == wanted => Ok(()),
        _ => note.replace(&wanted).map_err(failed),
    }
}

fn booted(system: &Disk) -> Result<Vec<DataDiskEntry>, DiskError> {
    let note = system.companions();
    let path = note.path().to_owned();
    let content = note.read().map_err(|source| DiskError::Store {
        action: "read",
        path: path.clone(),
        source,
    })?;
    let Some(content) = content else {
        return Ok(Vec::new());
    };
    let damaged = |reason: String| DiskError::Damaged {
        path: path.clone(),
        reason,
    };
    let booted: Booted =
        serde_json::from_slice(&content).map_err(|error| damaged(error.to_string()))?;
    match booted.format {
        FORMAT => Ok(booted.disks),
        other => Err(damaged(format!("it has format {other}"))),
    }
}

impl Content {
    /// The device.
    pub(crate) fn device(self) -> Arc<dyn BlockDevice> {
        match self {
            Self::Shared(disk) => Arc::new(disk),
            Self::Own(disk) => disk,
        }
    }
}
