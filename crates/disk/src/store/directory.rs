//! Directory of one disk: names, generations and the renames between them (`docs/format/overlay.md`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use dess_model::DiskId;

use super::snapshots::SNAPSHOTS_DIRECTORY;
use crate::error::DiskError;
use crate::files::{self, sync_parent};
use crate::overlay::{OverlayDescriptor, OverlayKind};

/// An empty file with this name and a number: the epoch of the last reset.
const EPOCH_PREFIX: &str = "epoch-";

/// State of one overlay directory, as its name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    New,
    Current(OverlayKind),
    /// Was persistent when the policy became volatile: stays until it is reset or removed.
    Kept,
    /// Persistent, and waits for the end of the maintenance.
    Parked,
    /// A maintenance overlay that is being published.
    Sealed,
    Old,
    Drop,
}

/// One overlay directory.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) stage: Stage,
    pub(super) generation: u64,
    pub(super) path: PathBuf,
}

/// The current overlay.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) kind: OverlayKind,
    pub(super) generation: u64,
    pub(super) path: PathBuf,
}

pub(super) struct DiskDirectory {
    path: PathBuf,
}

impl DiskDirectory {
    pub(super) fn new(overlays: &Path, disk: DiskId) -> Self {
        Self {
            path: overlays.join(disk.simple()),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Overlay directories by generation, lowest first.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, DiskError> {
        let mut entries = Vec::new();
        for name in self.names()? {
            if let Some((stage, generation)) = parse_name(&name) {
                entries.push(Entry {
                    stage,
                    generation,
                    path: self.path.join(name),
                });
            }
        }
        entries.sort_by_key(|entry| entry.generation);
        Ok(entries)
    }

    fn names(&self) -> Result<Vec<String>, DiskError> {
        let error = || DiskError::store("read", &self.path);
        let directory = match fs::read_dir(&self.path) {
            Ok(directory) => directory,
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(other) => return Err(error()(other)),
        };
        let mut names = Vec::new();
        for entry in directory {
            // Other names than ours are none of our business.
            names.extend(entry.map_err(error())?.file_name().into_string().ok());
        }
        Ok(names)
    }

    /// The current overlay: that with the highest generation.
    pub(super) fn current(&self) -> Result<Option<Found>, DiskError> {
        let entries = self.entries()?;
        Ok(entries
            .into_iter()
            .rev()
            .find_map(|entry| match entry.stage {
                Stage::Current(kind) => Some(Found {
                    kind,
                    generation: entry.generation,
                    path: entry.path,
                }),
                Stage::New
                | Stage::Kept
                | Stage::Parked
                | Stage::Sealed
                | Stage::Old
                | Stage::Drop => None,
            }))
    }

    /// The newest overlay in a stage.
    pub(super) fn newest(&self, stage: Stage) -> Result<Option<Entry>, DiskError> {
        let entries = self.entries()?;
        Ok(entries.into_iter().rev().find(|entry| entry.stage == stage))
    }

    pub(super) fn next_generation(&self) -> Result<u64, DiskError> {
        let highest = self.entries()?.last().map_or(0, |entry| entry.generation);
        Ok(highest + 1)
    }

    /// Makes the empty directory in which an overlay is built.
    pub(super) fn begin(&self, generation: u64) -> Result<PathBuf, DiskError> {
        let path = self.path.join(format!("new-{generation}"));
        files::create_dir_all(&self.path).map_err(DiskError::store("create", &self.path))?;
        for entry in self.entries()? {
            if entry.stage == Stage::New {
                remove(&entry.path)?;
            }
        }
        // With parents: the tidying thread may have removed the empty directory just now.
        files::create_dir_all(&path).map_err(DiskError::store("create", &path))?;
        Ok(path)
    }

    /// Gives a whole overlay its name. A persistent one is durable when this returns.
    pub(super) fn publish(
        &self,
        unfinished: &Path,
        descriptor: &OverlayDescriptor,
    ) -> Result<Found, DiskError> {
        let prefix = prefix_of(descriptor.kind);
        let path = self
            .path
            .join(format!("{prefix}-{}", descriptor.generation));
        files::rename(unfinished, &path).map_err(DiskError::store("rename", unfinished))?;
        if descriptor.kind.is_durable() {
            self.sync_names()?;
        }
        Ok(Found {
            kind: descriptor.kind,
            generation: descriptor.generation,
            path,
        })
    }

    /// Puts current overlays older than `current` away. A persistent one that gives way to a volatile one was not
    /// dropped by anybody: it is kept until it is; one that gives way to a maintenance overlay comes back after it. That is durable: a client
    /// that runs on the newer one must not find the persistent one in its place after a power cut of the server.
    pub(super) fn retire_older(&self, current: &Found) -> Result<(), DiskError> {
        let mut kept = false;
        for entry in self.entries()? {
            use OverlayKind::{Maintenance, Persistent, Volatile};
            let prefix = match (entry.stage, current.kind) {
                (Stage::Current(Persistent), Maintenance) => "parked",
                (Stage::Current(Persistent | Maintenance) | Stage::Parked, Volatile)
                | (Stage::Current(Maintenance), _) => "kept",
                (Stage::Current(_), _) => "old",
                (Stage::New | Stage::Kept | Stage::Parked, _)
                | (Stage::Sealed | Stage::Old | Stage::Drop, _) => continue,
            };
            if entry.generation < current.generation {
                self.rename(&entry, prefix)?;
                kept |= matches!(prefix, "kept" | "parked");
            }
        }
        match kept {
            true => self.sync_names(),
            false => Ok(()),
        }
    }

    /// Whether a persistent overlay gave way to a volatile one and was not dropped since.
    pub(super) fn keeps_persistent(&self) -> Result<bool, DiskError> {
        let entries = self.entries()?;
        Ok(entries.iter().any(|entry| entry.stage == Stage::Kept))
    }

    /// Puts all overlays away, durably: what was reset must not come back with a power cut. Notes the epoch first, so
    /// that a crash in between leaves overlays which are dropped at the next power-on.
    pub(super) fn retire_all(&self, epoch: u32) -> Result<(), DiskError> {
        files::create_dir_all(&self.path).map_err(DiskError::store("create", &self.path))?;
        let note = self.path.join(format!("{EPOCH_PREFIX}{epoch}"));
        files::write(&note, &[]).map_err(DiskError::store("create", &note))?;
        for entry in self.entries()? {
            if matches!(
                entry.stage,
                Stage::Current(_) | Stage::Kept | Stage::Parked | Stage::Sealed
            ) {
                self.rename(&entry, "old")?;
            }
        }
        for (older, path) in self.epochs()? {
            if older < epoch {
                remove_file(&path)?;
            }
        }
        self.sync_names()
    }

    /// The epoch of the last reset that was carried out; 0 if there was none.
    pub(super) fn reset_epoch(&self) -> Result<u32, DiskError> {
        let epochs = self.epochs()?;
        Ok(epochs
            .into_iter()
            .map(|(epoch, _)| epoch)
            .max()
            .unwrap_or(0))
    }

    fn epochs(&self) -> Result<Vec<(u32, PathBuf)>, DiskError> {
        let epoch = |name: &str| name.strip_prefix(EPOCH_PREFIX)?.parse().ok();
        let names = self.names()?;
        Ok(names
            .iter()
            .filter_map(|name| Some((epoch(name)?, self.path.join(name))))
            .collect())
    }

    /// True if the disk was used before.
    pub(super) fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Marks everything for removal, durably.
    pub(super) fn drop_all(&self) -> Result<(), DiskError> {
        for entry in self.entries()? {
            if entry.stage != Stage::Drop {
                self.rename(&entry, "drop")?;
            }
        }
        for (_, path) in self.epochs()? {
            remove_file(&path)?;
        }
        let snapshots = self.path.join(SNAPSHOTS_DIRECTORY);
        if snapshots.exists() {
            let doomed = self.path.join(format!("drop-{}", self.next_generation()?));
            files::rename(&snapshots, &doomed).map_err(DiskError::store("rename", &snapshots))?;
        }
        self.sync()
    }

    /// Puts right what a crash has left: unfinished overlays go, of several current ones the highest stays.
    pub(super) fn recover(&self) -> Result<(), DiskError> {
        for entry in self.entries()? {
            if entry.stage == Stage::New {
                remove(&entry.path)?;
            }
        }
        match self.current()? {
            Some(found) => self.retire_older(&found),
            None => Ok(()),
        }
    }

    pub(super) fn rename(&self, entry: &Entry, prefix: &str) -> Result<(), DiskError> {
        let to = self.path.join(format!("{prefix}-{}", entry.generation));
        files::rename(&entry.path, &to).map_err(DiskError::store("rename", &entry.path))
    }

    /// Makes the names in the directory and its own durable.
    pub(super) fn sync_names(&self) -> Result<(), DiskError> {
        files::sync_dir(&self.path)
            .and_then(|()| sync_parent(&self.path))
            .map_err(DiskError::store("sync", &self.path))
    }

    pub(super) fn sync(&self) -> Result<(), DiskError> {
        match files::sync_dir(&self.path) {
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(()),
            synced => synced.map_err(DiskError::store("sync", &self.path)),
        }
    }
}

/// The directories of a disk's overlays, oldest first.
pub(crate) fn disk_directories(overlays: &Path, disk: DiskId) -> Result<Vec<PathBuf>, DiskError> {
    let entries = DiskDirectory::new(overlays, disk).entries()?;
    Ok(entries.into_iter().map(|entry| entry.path).collect())
}

/// The disks that have a directory.
pub(crate) fn disk_ids(overlays: &Path) -> Result<Vec<DiskId>, DiskError> {
    let error = || DiskError::store("read", overlays);
    let mut disks = Vec::new();
    for entry in fs::read_dir(overlays).map_err(error())? {
        let name = entry.map_err(error())?.file_name();
        if let Some(disk) = name.to_str().and_then(|name| DiskId::from_str(name).ok()) {
            disks.push(disk);
        }
    }
    disks.sort();
    Ok(disks)
}

fn remove_file(path: &Path) -> Result<(), DiskError> {
    files::remove_file(path).map_err(DiskError::store("remove", path))
}

fn remove(path: &Path) -> Result<(), DiskError> {
    files::remove_dir_all(path).map_err(DiskError::store("remove", path))
}

/// First part of a current overlay's name.
pub(super) fn prefix_of(kind: OverlayKind) -> &'static str {
    match kind {
        OverlayKind::Volatile => "volatile",
        OverlayKind::Persistent => "persistent",
        OverlayKind::Maintenance => "maintenance",
    }
}

fn parse_name(name: &str) -> Option<(Stage, u64)> {
    let (prefix, generation) = name.split_once('-')?;
    let stage = match prefix {
        "new" => Stage::New,
        "volatile" => Stage::Current(OverlayKind::Volatile),
        "persistent" => Stage::Current(OverlayKind::Persistent),
        "maintenance" => Stage::Current(OverlayKind::Maintenance),
        "kept" => Stage::Kept,
        "parked" => Stage::Parked,
        "sealed" => Stage::Sealed,
        "old" => Stage::Old,
        "drop" => Stage::Drop,
        _ => return None,
    };
    Some((stage, generation.parse().ok()?))
}
