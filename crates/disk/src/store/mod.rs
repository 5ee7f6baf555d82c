//! The store of disks: makes, opens, rotates, resets and removes them. One process owns it.

mod bases;
mod directory;
mod maintenance;
mod room;
mod snapshots;
mod tidy;
mod usage;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use dess_model::{BootPolicy, DiskId, DiskState, LayerId, VersionRef};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tracing::info;
use uuid::Uuid;

use crate::disk::Disk;
use crate::error::DiskError;
use crate::files;
use crate::overlay::live::live_path;
use crate::overlay::{AfterFailure, BootId, Overlay, OverlayDescriptor, OverlayKind};
use crate::space::{Budget, Pool};
use crate::version::{Version, version_directory};
use crate::{BlockRead, DiskFigures};
pub use bases::overlays_in_use;
use directory::{DiskDirectory, Found, Stage};
pub(crate) use directory::{disk_directories, disk_ids};
pub use maintenance::{SealedOverlay, sealed_directory};
pub use room::OverlayFill;
pub(crate) use snapshots::{SnapshotBuilder, snapshot_directories};
pub use snapshots::{SnapshotInfo, snapshot_directory};
use tidy::Tidier;
pub use usage::{DiskUsage, SpaceUsage, VersionUsage, space_usage};

/// Where the store keeps its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorePaths {
    /// Images: one directory per image, in it one per version. Only read.
    pub images: PathBuf,
    /// Overlays: one directory per disk.
    pub overlays: PathBuf,
    /// Live maps; on a file system in memory.
    pub live_maps: PathBuf,
}

/// How the store behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// How many earlier overlays of a disk are kept for forensics. Default 2.
    pub keep_old: usize,
    /// The boot in which the live maps are valid.
    pub boot_id: BootId,
}

impl StoreOptions {
    /// The defaults, in the running boot.
    ///
    /// # Errors
    /// If the kernel does not tell its boot id.
    pub fn current() -> io::Result<Self> {
        Ok(Self {
            keep_old: 2,
            boot_id: BootId::current()?,
        })
    }
}

/// What a disk shall be, as the site snapshot says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskSpec {
    /// Which disk.
    pub disk: DiskId,
    /// The assigned version.
    pub version: VersionRef,
    /// Directory of that version.
    pub version_dir: PathBuf,
    /// What happens to writes.
    pub policy: BootPolicy,
    /// A persistent overlay of an older epoch is dropped at power-on.
    pub reset_epoch: u32,
}

/// A disk that can be used.
#[derive(Clone)]
pub struct PoweredDisk {
    /// The disk.
    pub disk: Arc<Disk>,
    /// True if the disk holds no writes because of this power-on: its overlay was made just now, or had none.
    pub fresh: bool,
    /// Counts the overlays that this disk has had, from 1.
    pub generation: u64,
}

/// A disk of the store, open or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskInfo {
    /// What its current overlay is.
    pub descriptor: OverlayDescriptor,
    /// Its figures, if it is open.
    pub open: Option<DiskFigures>,
    /// Bytes of storage that the overlay takes, open or not.
    pub allocated_bytes: u64,
    /// True if it is a maintenance overlay that is being published.
    pub sealed: bool,
}

/// A disk of the store with its state, or why that cannot be told.
pub type ListedDisk = (DiskId, Result<DiskInfo, DiskError>);

/// All disks of this server. Methods may wait for the storage (milliseconds, whatever the disks' sizes): call them from a
/// thread that may wait. Calls for different disks do not wait for each other.
pub struct DiskStore {
    paths: StorePaths,
    options: StoreOptions,
    disks: Mutex<HashMap<DiskId, Arc<Slot>>>,
    versions: Mutex<HashMap<VersionRef, Weak<Version>>>,
    pool: Arc<Pool>,
    budgets: Mutex<HashMap<DiskId, Arc<Budget>>>,
    tidier: Tidier,
    /// Locked while this process owns the overlays; the kernel unlocks it however the process ends.
    _lock: File,
    /// The next attempt to make an overlay finds no space.
    #[cfg(test)]
    full: std::sync::atomic::AtomicBool,
}

/// One disk; the lock orders power-on, attach, reset and removal of it.
type Slot = Mutex<Option<Arc<Disk>>>;

impl DiskStore {
    /// Opens the store, creating its directories, and puts away what a crash has left.
    ///
    /// # Errors
    /// If another process owns it, or a directory cannot be used.
    pub fn open(paths: StorePaths, options: StoreOptions) -> Result<Self, DiskError> {
        for path in [&paths.overlays, &paths.live_maps] {
            files::create_dir_all(path).map_err(DiskError::store("create", path))?;
        }
        files::sync_parent(&paths.overlays).map_err(DiskError::store("sync", &paths.overlays))?;
        let lock = lock_overlays(&paths.overlays)?;
        let tidier =
            Tidier::start(&paths, options).map_err(DiskError::store("tidy", &paths.overlays))?;
        let overlays = paths.overlays.clone();
        let store = Self {
            paths,
            options,
            disks: Mutex::default(),
            versions: Mutex::default(),
            pool: Arc::new(Pool::new(overlays)),
            budgets: Mutex::default(),
            tidier,
            _lock: lock,
            #[cfg(test)]
            full: std::sync::atomic::AtomicBool::new(false),
        };
        for disk in store.disk_ids()? {
            store.directory(disk).recover()?;
            snapshots::recover(&store.paths.overlays, disk)?;
            store.release_published(disk)?;
            store.tidier.tidy(disk);
        }
        Ok(store)
    }

    /// The client powers on: a volatile disk gets a fresh overlay, a persistent one keeps its overlay unless it was reset
    /// meanwhile or was volatile before. Makes what is missing.
    ///
    /// A persistent disk stays on the version that it was made from until it is reset, whatever is assigned.
    ///
    /// # Errors
    /// If the version or the overlay cannot be used. The earlier overlay is then as it was.
    pub fn power_on(&self, spec: &DiskSpec) -> Result<PoweredDisk, DiskError> {
        let slot = self.slot(spec.disk);
        let mut open = lock(&slot);
        let directory = self.directory(spec.disk);
        let kind = OverlayKind::from(spec.policy);
        if kind == OverlayKind::Maintenance {
            self.refuse_sealed(spec.disk)?;
        } else {
            self.release_published(spec.disk)?;
        }
        match directory.current()? {
            Some(found) if kind == OverlayKind::Maintenance && found.kind == kind => {
                let after = AfterFailure::FromLastFlush;
                return self.open_existing(spec.disk, &found, &mut open, after);
            }
            None if kind == OverlayKind::Persistent => {
                if let Some(powered) = self.take_up_parked(spec, &mut open)? {
                    return Ok(powered);
                }
            }
            Some(found) if kind == OverlayKind::Persistent && found.kind == kind => {
                let epoch = spec.reset_epoch.max(directory.reset_epoch()?);
                if OverlayDescriptor::read(&found.path)?.reset_epoch >= epoch {
                    return self.open_existing(
                        spec.disk,
                        &found,
                        &mut open,
                        AfterFailure::FromLastFlush,
                    );
                }
            }
            Some(found) if kind == OverlayKind::Volatile && found.kind == kind => {
                if let Some(empty) = self.reuse_empty(spec, &found, &mut open) {
                    return Ok(empty);
                }
            }
            _ => {}
        }
        self.make_fresh(spec, &mut open)
    }

    /// A volatile overlay that nobody wrote to is as good as a fresh one: a PC that tries to boot again and again does not push
    /// out the overlays kept for forensics. Handles from before fail from now on all the same.
    fn reuse_empty(
        &self,
        spec: &DiskSpec,
        found: &Found,
        open: &mut Option<Arc<Disk>>,
    ) -> Option<PoweredDisk> {
        let descriptor = OverlayDescriptor::read(&found.path).ok()?;
        if descriptor.base != spec.version || descriptor.boot_id != self.options.boot_id {
            return None;
        }
        if self.pool.is_closed() {
            // It will be written: whether it may is decided as for a new one.
            return None;
        }
        retire(open);
        // What cannot be opened is replaced.
        let powered = self
            .open_existing(spec.disk, found, open, AfterFailure::FromLastFlush)
            .ok()?;
        let figures = powered.disk.figures().ok()?;
        (figures.mapped_blocks == 0).then_some(PoweredDisk {
            fresh: true,
            ..powered
        })
    }

    /// A login without power-on (the service restarted, the initiator reconnected): opens the overlay as it is, whatever
    /// policy, version and epoch are assigned by now. Makes none: a system that ran on an overlay which is gone would
    /// write what it still holds in memory over a fresh one.
    ///
    /// # Errors
    /// [`DiskError::NoOverlay`] if there is none, or if it was volatile and the machine has booted since; else if the
    /// version or the overlay cannot be used.
    pub fn attach(&self, disk: DiskId) -> Result<PoweredDisk, DiskError> {
        let slot = self.slot(disk);
        let mut open = lock(&slot);
        let directory = self.directory(disk);
        match directory.current()? {
            Some(found) if self.survived(&found) => {
                self.open_existing(disk, &found, &mut open, AfterFailure::ReadOnly)
            }
            _ => Err(DiskError::NoOverlay {
                disk,
                dropped: directory.exists(),
            }),
        }
    }

    /// Drops what the disk holds, also what a former persistent policy has left; the next power-on makes a fresh overlay, of
    /// at least `epoch`, whose generation is returned. The dropped ones are kept for a while like rotated ones. Open handles to the disk fail from now on.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn reset(&self, disk: DiskId, epoch: u32) -> Result<u64, DiskError> {
        let slot = self.slot(disk);
        let mut open = lock(&slot);
        let directory = self.directory(disk);
        match directory.retire_all(epoch) {
            Err(error) if error.is_full(&self.paths.overlays) && self.drop_kept()? => {
                directory.retire_all(epoch)?;
            }
            retired => retired?,
        }
        let generation = directory.next_generation()?;
        retire(&mut open);
        self.tidier.tidy(disk);
        info!(disk.id = %disk, "disk {disk} was reset");
        Ok(generation)
    }

    /// Removes the disk with all its overlays.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn remove(&self, disk: DiskId) -> Result<(), DiskError> {
        let slot = self.slot(disk);
        let mut open = lock(&slot);
        self.directory(disk).drop_all()?;
        retire(&mut open);
        self.tidier.tidy(disk);
        info!(disk.id = %disk, "disk {disk} was removed");
        Ok(())
    }

    /// True if the disk was used and not removed since.
    pub fn holds(&self, disk: DiskId) -> bool {
        self.directory(disk).exists()
    }

    /// Removes the disk if nobody promised to keep what is on it: a data disk that its client is not given any more.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub fn remove_volatile(&self, disk: DiskId) -> Result<(), DiskError> {
        let volatile = |entry: &directory::Entry| {
            matches!(
                entry.stage,
                Stage::New | Stage::Current(OverlayKind::Volatile) | Stage::Old | Stage::Drop
            )
        };
        let entries = self.directory(disk).entries()?;
        match !entries.is_empty() && entries.iter().all(volatile) {
            true => self.remove(disk),
            false => Ok(()),
        }
    }

    /// State of one disk; `None` if it has no overlay.
    ///
    /// # Errors
    /// If the overlay cannot be read.
    pub fn status(&self, disk: DiskId) -> Result<Option<DiskInfo>, DiskError> {
        let slot = self.slot(disk);
        let open = lock(&slot);
        let directory = self.directory(disk);
        let figures = match open.as_ref() {
            Some(open) => {
                let figures = open.figures();
                Some(figures.map_err(DiskError::store("read", directory.path()))?)
            }
            None => None,
        };
        let sealed = directory.newest(Stage::Sealed)?;
        let closed = |path: &std::path::Path| -> Result<_, DiskError> {
            Ok((OverlayDescriptor::read(path)?, room::allocated_in(path)))
        };
        let (descriptor, allocated_bytes) = match (open.as_ref(), directory.current()?, &sealed) {
            (Some(open), _, _) => {
                let bytes = figures.map_or(0, |figures| figures.allocated_bytes);
                (open.descriptor().clone(), bytes)
            }
            (None, Some(found), _) => closed(&found.path)?,
            (None, None, Some(sealed)) => closed(&sealed.path)?,
            (None, None, None) => return Ok(None),
        };
        Ok(Some(DiskInfo {
            descriptor,
            open: figures,
            allocated_bytes,
            sealed: sealed.is_some(),
        }))
    }

    /// All disks that have an overlay, with their state. A damaged one is an error in its place.
    ///
    /// # Errors
    /// If the store cannot be read at all.
    pub fn list(&self) -> Result<Vec<ListedDisk>, DiskError> {
        let mut list = Vec::new();
        for disk in self.disk_ids()? {
            if let Some(status) = self.status(disk).transpose() {
                list.push((disk, status));
            }
        }
        Ok(list)
    }

    /// The open version, shared by all its clients.
    ///
    /// # Errors
    /// If it is damaged or missing.
    pub fn version(
        &self,
        version: VersionRef,
        directory: &Path,
    ) -> Result<Arc<Version>, crate::VersionError> {
        let mut versions = lock(&self.versions);
        if let Some(open) = versions.get(&version).and_then(Weak::upgrade) {
            return Ok(open);
        }
        let open = Arc::new(Version::open(directory)?);
        if open.manifest().version != version {
            let found = open.manifest().version;
            return Err(crate::VersionError::damaged(
                directory,
                format!("it holds version {found} instead of {version}"),
            ));
        }
        versions.retain(|_, version| version.strong_count() > 0);
        versions.insert(version, Arc::downgrade(&open));
        Ok(open)
    }

    /// Waits until all background work asked for so far is done (removal of old overlays). For tests and tools.
    pub fn wait_for_tidying(&self) {
        self.tidier.wait();
    }

    /// A volatile overlay lives only as long as the machine's boot.
    fn survived(&self, found: &Found) -> bool {
        match found.kind {
            OverlayKind::Persistent | OverlayKind::Maintenance => true,
            OverlayKind::Volatile => OverlayDescriptor::read(&found.path)
                .is_ok_and(|descriptor| descriptor.boot_id == self.options.boot_id),
        }
    }

    fn open_existing(
        &self,
        id: DiskId,
        found: &Found,
        open: &mut Option<Arc<Disk>>,
        after_failure: AfterFailure,
    ) -> Result<PoweredDisk, DiskError> {
        if let Some(disk) = open.as_ref().filter(|disk| {
            disk.state() == DiskState::Ready || after_failure == AfterFailure::ReadOnly
        }) {
            return Ok(powered(disk, false));
        }
        let descriptor = OverlayDescriptor::read(&found.path)?;
        if descriptor.disk != id || descriptor.generation != found.generation {
            return Err(DiskError::damaged(
                &found.path,
                "it belongs to another disk",
            ));
        }
        let base = descriptor.base;
        let version = self
            .version(base, &version_directory(&self.paths.images, base))
            .map_err(base_error(id, base))?;
        if version.manifest().image_crc32c != descriptor.base_crc32c
            || version.size_bytes() != descriptor.size_bytes
        {
            return Err(DiskError::ForeignBase {
                disk: id,
                version: base,
            });
        }
        // The process that made it current may have died before the names were durable.
        let directory = self.directory(id);
        if found.kind.is_durable() || directory.keeps_persistent()? {
            directory.sync_names()?;
        }
        retire(open);
        let live = live_path(&self.paths.live_maps, id, descriptor.generation);
        let boot_id = self.options.boot_id;
        let overlay = Overlay::open(&found.path, &live, descriptor, boot_id, after_failure)?;
        let disk = Arc::new(Disk::new(version, overlay, self.allowance(id)));
        *open = Some(Arc::clone(&disk));
        Ok(powered(&disk, false))
    }

    /// A fresh overlay, if the pool is open for new ones; if it is full, the oldest one that was put away makes room for it.
    fn make_fresh(
        &self,
        spec: &DiskSpec,
        open: &mut Option<Arc<Disk>>,
    ) -> Result<PoweredDisk, DiskError> {
        self.refuse_new(spec.disk)?;
        match self.try_make_fresh(spec, open) {
            Err(error) if error.is_full(&self.paths.overlays) && self.drop_kept()? => {
                self.try_make_fresh(spec, open)
            }
            made => made,
        }
    }

    /// Order: make the new overlay aside, publish it by one rename, then put the former away. A crash between any two leaves
    /// the former overlay in use, or the new one with the former to be put away at the next start.
    fn try_make_fresh(
        &self,
        spec: &DiskSpec,
        open: &mut Option<Arc<Disk>>,
    ) -> Result<PoweredDisk, DiskError> {
        #[cfg(test)]
        if self.full.swap(false, std::sync::atomic::Ordering::Relaxed) {
            let full = io::ErrorKind::StorageFull.into();
            return Err(DiskError::store("create", &self.paths.overlays)(full));
        }
        let version = self
            .version(spec.version, &spec.version_dir)
            .map_err(base_error(spec.disk, spec.version))?;
        let directory = self.directory(spec.disk);
        let descriptor = OverlayDescriptor {
            format: OverlayDescriptor::FORMAT,
            disk: spec.disk,
            generation: directory.next_generation()?,
            kind: spec.policy.into(),
            base: spec.version,
            base_crc32c: version.manifest().image_crc32c,
            size_bytes: version.size_bytes(),
            reset_epoch: spec.reset_epoch.max(directory.reset_epoch()?),
            boot_id: self.options.boot_id,
            layer: (spec.policy == BootPolicy::Maintenance).then(|| LayerId(Uuid::now_v7())),
        };
        let live = live_path(&self.paths.live_maps, spec.disk, descriptor.generation);
        files::create_dir_all(&self.paths.live_maps)
            .map_err(DiskError::store("create", &self.paths.live_maps))?;
        let unfinished = directory.begin(descriptor.generation)?;
        Overlay::create(&unfinished, &live, &descriptor).inspect_err(|_| {
            // What does not go now goes at the next attempt, or at the next start.
            let _ = tidy::remove_overlay(&unfinished, &live);
        })?;
        let found = directory.publish(&unfinished, &descriptor)?;
        retire(open);
        directory.retire_older(&found)?;
        self.tidier.tidy(spec.disk);
        let boot_id = self.options.boot_id;
        let never = AfterFailure::ReadOnly;
        let overlay = Overlay::open(&found.path, &live, descriptor, boot_id, never)?;
        let disk = Arc::new(Disk::new(version, overlay, self.allowance(spec.disk)));
        *open = Some(Arc::clone(&disk));
        Ok(powered(&disk, true))
    }

    fn directory(&self, disk: DiskId) -> DiskDirectory {
        DiskDirectory::new(&self.paths.overlays, disk)
    }

    fn disk_ids(&self) -> Result<Vec<DiskId>, DiskError> {
        directory::disk_ids(&self.paths.overlays)
    }

    fn slot(&self, disk: DiskId) -> Arc<Slot> {
        Arc::clone(lock(&self.disks).entry(disk).or_default())
    }
}

/// Keeps every other process from owning the overlays, until it is dropped.
pub(crate) fn lock_overlays(overlays: &Path) -> Result<File, DiskError> {
    let path = overlays.join(".lock");
    let lock = File::create(&path).map_err(DiskError::store("create", &path))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(Errno::WOULDBLOCK) => Err(DiskError::InUse {
            path: overlays.to_owned(),
        }),
        Err(error) => Err(DiskError::store("lock", &path)(error.into())),
    }
}

impl From<BootPolicy> for OverlayKind {
    fn from(policy: BootPolicy) -> Self {
        match policy {
            BootPolicy::Volatile => Self::Volatile,
            BootPolicy::Persistent => Self::Persistent,
            BootPolicy::Maintenance => Self::Maintenance,
        }
    }
}

fn powered(disk: &Arc<Disk>, fresh: bool) -> PoweredDisk {
    PoweredDisk {
        disk: Arc::clone(disk),
        fresh,
        generation: disk.descriptor().generation,
    }
}

fn retire(open: &mut Option<Arc<Disk>>) {
    if let Some(disk) = open.take() {
        disk.retire();
    }
}

fn base_error(disk: DiskId, version: VersionRef) -> impl FnOnce(crate::VersionError) -> DiskError {
    move |source| DiskError::Base {
        disk,
        version,
        source,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
