//! Named snapshots of persistent disks (`docs/format/overlay.md`, "Snapshots").

use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use dess_model::{DiskId, Timestamp};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::{DiskStore, lock, retire};
use crate::block_map::{BlockMap, Word};
use crate::data_file::DataFile;
use crate::device::{BLOCK_BYTES, BlockDevice, BlockRead};
use crate::error::DiskError;
use crate::files::{self, StoreFile, sync_parent};
use crate::map_file::MapKind;
use crate::overlay::durable::DurableMap;
use crate::overlay::live::{LiveMap, live_path};
use crate::overlay::{
    AfterFailure, DATA_FILE, DESCRIPTOR_FILE, MAP_FILE, OverlayDescriptor, OverlayKind, read_map,
};
use crate::version::version_directory;

/// In the directory of a disk.
pub(crate) const SNAPSHOTS_DIRECTORY: &str = "snapshots";
const NOTE_FILE: &str = "snapshot.json";
const FORMAT: u32 = 1;
/// A snapshot that is being made.
const NEW_PREFIX: &str = ".new-";
/// One that is being removed.
const DROP_PREFIX: &str = ".drop-";
const NAME_CHARS_MAX: usize = 63;
/// Bytes that are copied at once.
const COPY_BYTES: u64 = 1 << 20;

/// A snapshot of a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotInfo {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// What the overlay was.
    pub descriptor: OverlayDescriptor,
    /// Bytes of storage that it takes.
    pub allocated_bytes: u64,
}

/// Content of `snapshot.json`.
#[derive(Serialize, Deserialize)]
struct SnapshotNote {
    format: u32,
    created: Timestamp,
}

/// Where a snapshot of a disk lies.
pub fn snapshot_directory(overlays: &Path, disk: DiskId, name: &str) -> PathBuf {
    overlays
        .join(disk.simple())
        .join(SNAPSHOTS_DIRECTORY)
        .join(name)
}

impl DiskStore {
    /// Keeps what a persistent disk holds now under a name. Costs as much as was written, unless the file system can share blocks
    /// (reflink). Open handles to the disk fail from now on; the caller sees to it that no session is open.
    ///
    /// Order: flush, fence off writers; copy aside; sync all; rename; sync the names. A crash before the rename leaves what the next
    /// start removes, after it the snapshot. The disk itself is not changed.
    ///
    /// # Errors
    /// If the name is wrong or taken, the disk is not persistent or cannot be flushed, or the store cannot be written.
    pub fn snapshot_create(
        &self,
        disk: DiskId,
        name: &str,
        created: Timestamp,
    ) -> Result<SnapshotInfo, DiskError> {
        check_name(name)?;
        let slot = self.slot(disk);
        let mut open = lock(&slot);
        let target = snapshot_directory(&self.paths.overlays, disk, name);
        if target.exists() {
            return Err(DiskError::SnapshotExists {
                disk,
                name: name.to_owned(),
            });
        }
        let found = self.directory(disk).current()?;
        let Some(found) = found.filter(|found| found.kind == OverlayKind::Persistent) else {
            return Err(DiskError::NotPersistent { disk });
        };
        let powered = self.open_existing(disk, &found, &mut open, AfterFailure::ReadOnly)?;
        let flushed = powered.disk.flush();
        flushed.map_err(DiskError::store("flush", &found.path))?;
        retire(&mut open);
        let unfinished = Unfinished::begin(&target)?;
        let descriptor = OverlayDescriptor::read(&found.path)?;
        let words = copy_overlay(&found.path, &unfinished.path, &descriptor, &descriptor)?;
        let note = SnapshotNote {
            format: FORMAT,
            created,
        };
        finish(&unfinished.path, &note)?;
        unfinished.publish(&target)?;
        info!(disk.id = %disk, blocks = words.len(), "snapshot {name} of disk {disk} was made");
        read_snapshot(&target, name)
    }

    /// The snapshots of a disk, oldest first. Those that cannot be read are left out and logged.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn snapshot_list(&self, disk: DiskId) -> Result<Vec<SnapshotInfo>, DiskError> {
        let mut list = Vec::new();
        for path in snapshot_directories(&self.paths.overlays, disk)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            match read_snapshot(&path, &name) {
                Ok(info) => list.push(info),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    warn!(disk.id = %disk, error, "a snapshot cannot be read; check the disk");
                }
            }
        }
        list.sort_by_key(|info| info.created);
        Ok(list)
    }

    /// Makes the disk hold what it held when the snapshot was made. What it holds now is put away like what was reset. Answers the
    /// generation of the overlay. The caller sees to it that no session is open.
    ///
    /// Order: copy the snapshot aside as a new overlay; sync all; rename; put the former away. A crash before the rename leaves the
    /// former overlay, after it the restored one.
    ///
    /// # Errors
    /// If there is no such snapshot, it or its version cannot be used, a maintenance goes on, or the store cannot be written.
    pub fn snapshot_restore(
        &self,
        disk: DiskId,
        name: &str,
        reset_epoch: u32,
    ) -> Result<u64, DiskError> {
        check_name(name)?;
        let slot = self.slot(disk);
        let mut open = lock(&slot);
        let source = snapshot_directory(&self.paths.overlays, disk, name);
        let kept = self.existing(disk, name)?.descriptor;
        self.refuse_sealed(disk)?;
        let directory = self.directory(disk);
        let current = directory.current()?;
        if current.is_some_and(|found| found.kind == OverlayKind::Maintenance) {
            return Err(DiskError::NotPersistent { disk });
        }
        let version = self
            .version(kept.base, &version_directory(&self.paths.images, kept.base))
            .map_err(super::base_error(disk, kept.base))?;
        if version.manifest().image_crc32c != kept.base_crc32c
            || version.size_bytes() != kept.size_bytes
        {
            let version = kept.base;
            return Err(DiskError::ForeignBase { disk, version });
        }
        let descriptor = OverlayDescriptor {
            generation: directory.next_generation()?,
            reset_epoch: reset_epoch.max(directory.reset_epoch()?),
            boot_id: self.options.boot_id,
            ..kept.clone()
        };
        let unfinished = directory.begin(descriptor.generation)?;
        let words = copy_overlay(&source, &unfinished, &kept, &descriptor)?;
        files::sync_dir(&unfinished).map_err(DiskError::store("sync", &unfinished))?;
        let live = live_path(&self.paths.live_maps, disk, descriptor.generation);
        let map = BlockMap::new(descriptor.size_bytes);
        for word in words {
            map.join(word, false);
        }
        LiveMap::create(&live, &descriptor.map_header(MapKind::Live), &map)
            .map_err(DiskError::store("create", &live))?;
        let found = directory.publish(&unfinished, &descriptor)?;
        retire(&mut open);
        directory.retire_older(&found)?;
        self.tidier.tidy(disk);
        info!(disk.id = %disk, "disk {disk} is as in its snapshot {name} again");
        Ok(descriptor.generation)
    }

    /// Removes a snapshot.
    ///
    /// # Errors
    /// If there is none, or the store cannot be written.
    pub fn snapshot_remove(&self, disk: DiskId, name: &str) -> Result<(), DiskError> {
        check_name(name)?;
        let slot = self.slot(disk);
        let _open = lock(&slot);
        let path = snapshot_directory(&self.paths.overlays, disk, name);
        if !path.exists() {
            return Err(no_snapshot(disk, name));
        }
        let doomed = path.with_file_name(format!("{DROP_PREFIX}{name}"));
        remove_tree(&doomed)?;
        files::rename(&path, &doomed).map_err(DiskError::store("rename", &path))?;
        sync_parent(&path).map_err(DiskError::store("sync", &path))?;
        remove_tree(&doomed)?;
        info!(disk.id = %disk, "snapshot {name} of disk {disk} was removed");
        Ok(())
    }

    fn existing(&self, disk: DiskId, name: &str) -> Result<SnapshotInfo, DiskError> {
        let path = snapshot_directory(&self.paths.overlays, disk, name);
        match path.exists() {
            true => read_snapshot(&path, name),
            false => Err(no_snapshot(disk, name)),
        }
    }
}

/// The directories of a disk's snapshots, by name.
pub(crate) fn snapshot_directories(
    overlays: &Path,
    disk: DiskId,
) -> Result<Vec<PathBuf>, DiskError> {
    let mut found = entries(overlays, disk)?;
    found.retain(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| check_name(name).is_ok())
    });
    found.sort();
    Ok(found)
}

/// Removes what a crash has left of snapshots that were being made or removed.
pub(super) fn recover(overlays: &Path, disk: DiskId) -> Result<(), DiskError> {
    for path in entries(overlays, disk)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(NEW_PREFIX) || name.starts_with(DROP_PREFIX) {
            remove_tree(&path)?;
        }
    }
    Ok(())
}

fn entries(overlays: &Path, disk: DiskId) -> Result<Vec<PathBuf>, DiskError> {
    let directory = overlays.join(disk.simple()).join(SNAPSHOTS_DIRECTORY);
    let error = || DiskError::store("read", &directory);
    match fs::read_dir(&directory) {
        Ok(listing) => listing
            .map(|entry| entry.map(|entry| entry.path()).map_err(error()))
            .collect(),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(other) => Err(error()(other)),
    }
}

/// A name that is a file name and can be typed: letters, digits, `-`, `_` and `.`, but none first.
fn check_name(name: &str) -> Result<(), DiskError> {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    let begins = name.chars().next().is_some_and(char::is_alphanumeric);
    match begins && name.chars().count() <= NAME_CHARS_MAX && name.chars().all(allowed) {
        true => Ok(()),
        false => Err(DiskError::SnapshotName {
            name: name.to_owned(),
        }),
    }
}

fn no_snapshot(disk: DiskId, name: &str) -> DiskError {
    DiskError::NoSnapshot {
        disk,
        name: name.to_owned(),
    }
}

/// A snapshot that is made of something else than the disk, piece by piece.
pub(crate) struct SnapshotBuilder {
    unfinished: Unfinished,
    target: PathBuf,
    descriptor: OverlayDescriptor,
    data: StoreFile,
    map: BlockMap,
}

impl SnapshotBuilder {
    pub(crate) fn begin(
        overlays: &Path,
        disk: DiskId,
        name: &str,
        descriptor: OverlayDescriptor,
    ) -> Result<Self, DiskError> {
        check_name(name)?;
        let target = snapshot_directory(overlays, disk, name);
        if target.exists() {
            let name = name.to_owned();
            return Err(DiskError::SnapshotExists { disk, name });
        }
        let unfinished = Unfinished::begin(&target)?;
        let path = unfinished.path.join(DATA_FILE);
        let data = StoreFile::create_new(&path).and_then(|file| {
            file.set_len(descriptor.size_bytes.next_multiple_of(BLOCK_BYTES))?;
            Ok(file)
        });
        Ok(Self {
            data: data.map_err(DiskError::store("create", &path))?,
            map: BlockMap::new(descriptor.size_bytes),
            unfinished,
            target,
            descriptor,
        })
    }

    /// Adds whole blocks, up to the end of the disk; `None` for zeros.
    pub(crate) fn add(
        &mut self,
        offset: u64,
        length: u64,
        bytes: Option<&[u8]>,
    ) -> Result<(), DiskError> {
        let written = bytes.map_or(Ok(()), |bytes| self.data.write_all_at(bytes, offset));
        let blocks = offset / BLOCK_BYTES..(offset + length).div_ceil(BLOCK_BYTES);
        written
            .and_then(|()| self.map.add(blocks, &mut |_, _| Ok(())))
            .map_err(DiskError::store("write", &self.unfinished.path))
    }

    pub(crate) fn finish(self, created: Timestamp) -> Result<(), DiskError> {
        let directory = &self.unfinished.path;
        let descriptor = directory.join(DESCRIPTOR_FILE);
        let write = || {
            self.data.sync_all()?;
            let file = StoreFile::create_new(&descriptor)?;
            file.write_all_at(self.descriptor.encode().as_bytes(), 0)?;
            file.sync_all()
        };
        write().map_err(DiskError::store("write", &descriptor))?;
        let path = directory.join(MAP_FILE);
        let header = self.descriptor.map_header(MapKind::Overlay);
        DurableMap::create(&path, &header, &self.map.words())
            .map_err(DiskError::store("write", &path))?;
        let note = SnapshotNote {
            format: FORMAT,
            created,
        };
        finish(directory, &note)?;
        self.unfinished.publish(&self.target)
    }
}

/// The directory in which a snapshot is made; removed unless it is published.
struct Unfinished {
    path: PathBuf,
    published: bool,
}

impl Unfinished {
    fn begin(target: &Path) -> Result<Self, DiskError> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let path = target.with_file_name(format!("{NEW_PREFIX}{name}"));
        remove_tree(&path)?;
        files::create_dir_all(&path).map_err(DiskError::store("create", &path))?;
        Ok(Self {
            path,
            published: false,
        })
    }

    /// Makes its name durable, with those of the directories above, of which the first snapshot makes one.
    fn publish(mut self, target: &Path) -> Result<(), DiskError> {
        files::rename_new(&self.path, target).map_err(DiskError::store("rename", &self.path))?;
        self.published = true;
        let mut names = target.ancestors().take(2);
        names
            .try_for_each(sync_parent)
            .map_err(DiskError::store("sync", target))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = files::remove_dir_all(&self.path)
        {
            warn!(path = %self.path.display(), %error, "an unfinished snapshot stays until the next start");
        }
    }
}

/// Writes and syncs a copy of an overlay, described by `as_descriptor`, into an empty directory; not the directory itself. Answers its map.
fn copy_overlay(
    from: &Path,
    to: &Path,
    descriptor: &OverlayDescriptor,
    as_descriptor: &OverlayDescriptor,
) -> Result<Vec<Word>, DiskError> {
    let content = read_map(&from.join(MAP_FILE), descriptor)?;
    let map = BlockMap::new(descriptor.size_bytes);
    for &word in &content.words {
        map.join(word, false);
    }
    let path = to.join(DESCRIPTOR_FILE);
    let write = || {
        let file = StoreFile::create_new(&path)?;
        file.write_all_at(as_descriptor.encode().as_bytes(), 0)?;
        file.sync_all()
    };
    write().map_err(DiskError::store("write", &path))?;
    let path = to.join(DATA_FILE);
    copy_data(&from.join(DATA_FILE), &path, &map, descriptor.size_bytes)
        .map_err(DiskError::store("copy to", &path))?;
    let words = map.words();
    let path = to.join(MAP_FILE);
    let header = as_descriptor.map_header(MapKind::Overlay);
    DurableMap::create(&path, &header, &words).map_err(DiskError::store("write", &path))?;
    Ok(words)
}

/// Copies the mapped blocks; holes stay holes.
fn copy_data(from: &Path, to: &Path, map: &BlockMap, size_bytes: u64) -> io::Result<()> {
    let source = DataFile::open_read_only(from)?;
    let target = StoreFile::create_new(to)?;
    if !target.share_blocks(&source)? {
        target.set_len(size_bytes.next_multiple_of(BLOCK_BYTES))?;
        let mut block = 0;
        while block < map.blocks() {
            let (held, run) = map.run(block, map.blocks() - block);
            if held {
                let bytes = block * BLOCK_BYTES..(block + run) * BLOCK_BYTES;
                copy_range(&source, &target, bytes)?;
            }
            block += run;
        }
    }
    target.sync_all()
}

fn copy_range(source: &DataFile, target: &StoreFile, range: Range<u64>) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES.min(range.end - range.start) as usize];
    let mut offset = range.start;
    while offset < range.end {
        let length = COPY_BYTES.min(range.end - offset) as usize;
        let part = &mut buffer[..length];
        source.read_at(offset, part)?;
        if part.iter().any(|&byte| byte != 0) {
            target.write_all_at(part, offset)?;
        }
        offset += length as u64;
    }
    Ok(())
}

/// Writes the note and syncs the directory.
fn finish(directory: &Path, note: &SnapshotNote) -> Result<(), DiskError> {
    let path = directory.join(NOTE_FILE);
    let text = serde_json::to_vec(note).expect("two numbers have a JSON form");
    let write = || {
        let file = StoreFile::create_new(&path)?;
        file.write_all_at(&text, 0)?;
        file.sync_all()?;
        files::sync_dir(directory)
    };
    write().map_err(DiskError::store("write", &path))
}

fn read_snapshot(directory: &Path, name: &str) -> Result<SnapshotInfo, DiskError> {
    let path = directory.join(NOTE_FILE);
    let text = fs::read(&path).map_err(DiskError::store("read", &path))?;
    let note: SnapshotNote = serde_json::from_slice(&text)
        .map_err(|error| DiskError::damaged(&path, error.to_string()))?;
    if note.format != FORMAT {
        let reason = format!(
            "it has format {}; this release reads format {FORMAT}",
            note.format
        );
        return Err(DiskError::damaged(&path, reason));
    }
    let data = directory.join(DATA_FILE);
    let metadata = fs::metadata(&data).map_err(DiskError::store("read", &data))?;
    Ok(SnapshotInfo {
        name: name.to_owned(),
        created: note.created,
        descriptor: OverlayDescriptor::read(directory)?,
        allocated_bytes: metadata.blocks() * 512,
    })
}

fn remove_tree(path: &Path) -> Result<(), DiskError> {
    match files::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(DiskError::store("remove", path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
