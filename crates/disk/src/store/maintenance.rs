//! Overlays of maintenance clients: sealed for publication, given back, released, discarded
//! (`docs/format/overlay.md`, "Publishing").

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dess_model::{DiskId, LayerId, VersionRef};
use tracing::info;

use super::directory::{Entry, Stage, prefix_of};
use super::{DiskSpec, DiskStore, PoweredDisk, lock, retire};
use crate::BLOCK_BYTES;
use crate::block_map::BlockMap;
use crate::building::sync_names;
use crate::device::BlockDevice;
use crate::disk::Disk;
use crate::error::DiskError;
use crate::files::StoreFile;
use crate::overlay::{self, AfterFailure, DATA_FILE, MAP_FILE, OverlayDescriptor, OverlayKind};
use crate::version::{self, version_directory};

/// A maintenance overlay that nobody writes any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedOverlay {
    /// Number of the overlay among those of its disk.
    pub generation: u64,
    /// Its name for ever.
    pub layer: LayerId,
    /// The version on which it was made.
    pub base: VersionRef,
    /// Bytes that it maps, in whole blocks.
    pub changed_bytes: u64,
}

/// Where a sealed overlay lies.
pub fn sealed_directory(overlays: &Path, disk: DiskId, generation: u64) -> PathBuf {
    overlays
        .join(disk.simple())
        .join(format!("sealed-{generation}"))
}

impl DiskStore {
    /// Ends the writing of the disk's maintenance overlay, so that a version can be made of it. Done already: answers the
    /// same. Open handles to the disk fail from now on. The caller sees to it that no session is open.
    ///
    /// Order: flush (data, then map), fence off writers, rename, sync. A crash before the rename leaves the maintenance overlay as
    /// it was, after it the sealed one.
    ///
    /// # Errors
    /// [`DiskError::NoMaintenance`] if there is none, or if it cannot be read or flushed.
    pub fn seal(&self, disk: DiskId) -> Result<SealedOverlay, DiskError> {
        let slot = self.slot(disk);
        let mut open = lock(&slot);
        let directory = self.directory(disk);
        if let Some(entry) = directory.newest(Stage::Sealed)? {
            return sealed_overlay(&entry.path);
        }
        let found = directory.current()?;
        let Some(found) = found.filter(|found| found.kind == OverlayKind::Maintenance) else {
            return Err(DiskError::NoMaintenance { disk });
        };
        let powered = self.open_existing(disk, &found, &mut open, AfterFailure::ReadOnly)?;
        let flushed = powered.disk.flush();
        flushed.map_err(DiskError::store("flush", &found.path))?;
        retire(&mut open);
        let entry = Entry {
            stage: Stage::Current(found.kind),
            generation: found.generation,
            path: found.path,
        };
        directory.rename(&entry, "sealed")?;
        directory.sync()?;
        let sealed = sealed_overlay(&sealed_directory(
            &self.paths.overlays,
            disk,
            found.generation,
        ))?;
        info!(disk.id = %disk, sealed.changed_bytes, "the maintenance overlay of disk {disk} is sealed");
        Ok(sealed)
    }

    /// Gives a sealed overlay back to its client: it was not published. Nothing sealed: does nothing.
    ///
    /// # Errors
    /// [`DiskError::Published`] if a version was made of it, or is being made; or if the store cannot be written.
    pub fn unseal(&self, disk: DiskId) -> Result<(), DiskError> {
        let slot = self.slot(disk);
        let _open = lock(&slot);
        let directory = self.directory(disk);
        let Some(entry) = directory.newest(Stage::Sealed)? else {
            return Ok(());
        };
        let data = entry.path.join(DATA_FILE);
        let shared = fs::metadata(&data)
            .map_err(DiskError::store("read", &data))?
            .nlink()
            > 1;
        if shared || self.published_as(&entry.path)?.is_some() {
            return Err(DiskError::Published { disk });
        }
        StoreFile::open(&data)
            .and_then(|file| file.make_writable())
            .map_err(DiskError::store("unlock", &data))?;
        directory.rename(&entry, prefix_of(OverlayKind::Maintenance))?;
        directory.sync()?;
        info!(disk.id = %disk, "the maintenance overlay of disk {disk} was not published and goes on");
        Ok(())
    }

    /// Drops a sealed overlay of which a version was made; true if there was one.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub fn release(&self, disk: DiskId) -> Result<bool, DiskError> {
        let slot = self.slot(disk);
        let _open = lock(&slot);
        self.release_published(disk)
    }

    /// Puts the disk's maintenance overlay away, also a sealed one of which no version was made; it is kept for a while like those
    /// that were reset. True if there was one. Open handles to the disk fail from now on.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn discard(&self, disk: DiskId) -> Result<bool, DiskError> {
        let slot = self.slot(disk);
        let mut open = lock(&slot);
        let released = self.release_published(disk)?;
        let directory = self.directory(disk);
        let mut found = false;
        for entry in directory.entries()? {
            let current = entry.stage == Stage::Current(OverlayKind::Maintenance);
            if current || entry.stage == Stage::Sealed {
                if current {
                    retire(&mut open);
                }
                directory.rename(&entry, "old")?;
                found = true;
            }
        }
        if found {
            directory.sync()?;
            self.tidier.tidy(disk);
            info!(disk.id = %disk, "the maintenance overlay of disk {disk} was discarded");
        }
        Ok(found || released)
    }

    /// As [`release`](Self::release); the caller holds the disk's slot.
    pub(super) fn release_published(&self, disk: DiskId) -> Result<bool, DiskError> {
        let directory = self.directory(disk);
        let Some(entry) = directory.newest(Stage::Sealed)? else {
            return Ok(false);
        };
        let Some(version) = self.published_as(&entry.path)? else {
            return Ok(false);
        };
        // Who published it may have died before the name was durable; from here on the version alone holds the data.
        let made = version_directory(&self.paths.images, version);
        sync_names(&made).map_err(DiskError::store("sync", &made))?;
        directory.rename(&entry, "drop")?;
        directory.sync()?;
        self.tidier.tidy(disk);
        info!(disk.id = %disk, "the maintenance overlay of disk {disk} is a version now");
        Ok(true)
    }

    /// While a version is being made of the overlay, or the site snapshot does not say yet that it was.
    pub(super) fn refuse_sealed(&self, disk: DiskId) -> Result<(), DiskError> {
        match self.directory(disk).newest(Stage::Sealed)? {
            Some(_) => Err(DiskError::Sealed { disk }),
            None => Ok(()),
        }
    }

    /// The maintenance is over: the client goes on with what it had before.
    pub(super) fn take_up_parked(
        &self,
        spec: &DiskSpec,
        open: &mut Option<Arc<Disk>>,
    ) -> Result<Option<PoweredDisk>, DiskError> {
        let directory = self.directory(spec.disk);
        let Some(entry) = directory.newest(Stage::Parked)? else {
            return Ok(None);
        };
        let epoch = spec.reset_epoch.max(directory.reset_epoch()?);
        if OverlayDescriptor::read(&entry.path)?.reset_epoch < epoch {
            directory.rename(&entry, "old")?;
            return Ok(None);
        }
        directory.rename(&entry, prefix_of(OverlayKind::Persistent))?;
        directory.sync()?;
        match directory.current()? {
            Some(found) => {
                let after = AfterFailure::FromLastFlush;
                self.open_existing(spec.disk, &found, open, after).map(Some)
            }
            None => Ok(None),
        }
    }

    /// The version that was made of a sealed overlay.
    fn published_as(&self, sealed: &Path) -> Result<Option<VersionRef>, DiskError> {
        let descriptor = OverlayDescriptor::read(sealed)?;
        let Some(layer) = descriptor.layer else {
            return Ok(None);
        };
        let found = version::find_layer(&self.paths.images, descriptor.base.image, layer);
        let found = found.map_err(DiskError::store("read", &self.paths.images))?;
        Ok(found.map(|manifest| manifest.version))
    }
}

fn sealed_overlay(path: &Path) -> Result<SealedOverlay, DiskError> {
    let descriptor = OverlayDescriptor::read(path)?;
    let Some(layer) = descriptor.layer else {
        return Err(DiskError::damaged(path, "it names no layer"));
    };
    let map = BlockMap::new(descriptor.size_bytes);
    let content = overlay::read_map(&path.join(MAP_FILE), &descriptor)?;
    for &word in &content.words {
        map.join(word, false);
    }
    Ok(SealedOverlay {
        generation: descriptor.generation,
        layer,
        base: descriptor.base,
        changed_bytes: map.held() * BLOCK_BYTES,
    })
}
