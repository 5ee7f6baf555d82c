//! Overlays: what one client wrote.

mod boot_id;
mod descriptor;
pub(crate) mod durable;
pub(crate) mod live;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing::{info, warn};

pub use boot_id::BootId;
pub(crate) use descriptor::DESCRIPTOR_FILE;
pub use descriptor::{OverlayDescriptor, OverlayKind};

use crate::BLOCK_BYTES;
use crate::block_map::BlockMap;
use crate::data_file::DataFile;
use crate::error::DiskError;
use crate::files::{self, StoreFile};
use crate::map_file::{self, MapContent, MapEnd, MapHeader, MapKind};
use durable::DurableMap;
use live::{LiveMap, failure_path};

pub(crate) const DATA_FILE: &str = "data";
pub(crate) const MAP_FILE: &str = "map";

/// How an overlay is opened on which a flush failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterFailure {
    /// As it is, to be read only: a system that runs on it has seen its writes.
    ReadOnly,
    /// As after a power cut: what was not flushed may be gone.
    FromLastFlush,
}

/// The open files of one overlay and its map in memory.
pub(crate) struct Overlay {
    pub(crate) directory: PathBuf,
    pub(crate) descriptor: OverlayDescriptor,
    pub(crate) data: DataFile,
    pub(crate) map: BlockMap,
    pub(crate) live: LiveMap,
    /// A flush failed, and what it should have made durable is still in doubt.
    pub(crate) failed: bool,
    /// Persistent overlays only.
    pub(crate) durable: Option<Mutex<DurableMap>>,
}

impl Overlay {
    /// Makes the files of an empty overlay in `directory`, which must exist and be empty, and its live map.
    ///
    /// Order: files, then (persistent) sync of each and of the directory; all are written before the first sync, which on
    /// most file systems then carries the others. The caller renames the directory afterwards, so a crash in here leaves only
    /// what the next start removes.
    pub(crate) fn create(
        directory: &Path,
        live_path: &Path,
        descriptor: &OverlayDescriptor,
    ) -> Result<(), DiskError> {
        let descriptor_file = directory.join(DESCRIPTOR_FILE);
        files::write(&descriptor_file, descriptor.encode().as_bytes())
            .map_err(DiskError::store("write", &descriptor_file))?;
        let data = directory.join(DATA_FILE);
        StoreFile::create_new(&data)
            .and_then(|file| file.set_len(descriptor.size_bytes.next_multiple_of(BLOCK_BYTES)))
            .map_err(DiskError::store("create", &data))?;
        let mut unsynced = Vec::new();
        if descriptor.kind.is_durable() {
            let map = directory.join(MAP_FILE);
            files::write(&map, &descriptor.map_header(MapKind::Overlay).encode_file())
                .map_err(DiskError::store("write", &map))?;
            unsynced = vec![descriptor_file, data, map];
        }
        let empty = BlockMap::new(descriptor.size_bytes);
        LiveMap::create(live_path, &descriptor.map_header(MapKind::Live), &empty)
            .map_err(DiskError::store("create", live_path))?;
        for path in unsynced {
            StoreFile::open(&path)
                .and_then(|file| file.sync_all())
                .map_err(DiskError::store("sync", &path))?;
        }
        if descriptor.kind.is_durable() {
            files::sync_dir(directory).map_err(DiskError::store("sync", directory))?;
        }
        Ok(())
    }

    /// Opens the overlay in `directory`. `boot_id` is that of the running kernel.
    pub(crate) fn open(
        directory: &Path,
        live_path: &Path,
        mut descriptor: OverlayDescriptor,
        boot_id: BootId,
        after_failure: AfterFailure,
    ) -> Result<Self, DiskError> {
        let path = directory.join(DATA_FILE);
        let data = DataFile::open_writable(&path).map_err(DiskError::store("open", &path))?;
        let length = data.len().map_err(DiskError::store("read", &path))?;
        if length != descriptor.size_bytes.next_multiple_of(BLOCK_BYTES) {
            return Err(DiskError::damaged(&path, "it has the wrong length"));
        }
        // A live map names the boot in which it was written, which for a persistent overlay is not the boot in
        // which the overlay was made.
        let made_in = std::mem::replace(&mut descriptor.boot_id, boot_id);
        let live_header = descriptor.map_header(MapKind::Live);
        descriptor.boot_id = made_in;
        let live =
            LiveMap::open(live_path, &live_header).map_err(DiskError::store("open", live_path))?;
        let failed = live.is_some() && failure_path(live_path).exists();
        if failed && after_failure == AfterFailure::FromLastFlush {
            return Self::start_over(directory, live_path, descriptor, data, &live_header);
        }
        let map = BlockMap::new(descriptor.size_bytes);
        let durable = match descriptor.kind {
            OverlayKind::Volatile => None,
            OverlayKind::Persistent | OverlayKind::Maintenance => {
                let path = directory.join(MAP_FILE);
                let content = read_map(&path, &descriptor)?;
                join_all(&map, &content.words, false, &path)?;
                Some(Mutex::new(resume(&path, &content, &map)?))
            }
        };
        let live = match live {
            Some(live) => {
                let words = live.words().map_err(DiskError::store("read", live_path))?;
                join_all(&map, &words, true, live_path)?;
                live
            }
            None if durable.is_some() => {
                info!(
                    disk.id = %descriptor.disk, descriptor.generation,
                    "disk {} starts from its last flush (no live map of this boot)", descriptor.disk
                );
                LiveMap::create(live_path, &live_header, &map)
                    .map_err(DiskError::store("create", live_path))?
            }
            None => {
                return Err(DiskError::LiveMapLost {
                    disk: descriptor.disk,
                    path: live_path.to_owned(),
                });
            }
        };
        Ok(Self {
            directory: directory.to_owned(),
            descriptor,
            data,
            map,
            live,
            failed,
            durable,
        })
    }

    /// Opens a persistent overlay from its last flush, in the boot in which a later one failed. The kernel may have dropped what it
    /// could not write and would report success next time, so nothing is believed that is only in its memory: a sync must succeed,
    /// the data is read from the storage again, blocks mapped since are the version's again, and the map is written anew.
    ///
    /// Order: sync, forget, map, live map, which takes the mark away. A crash in between leaves the mark, and all is done once more.
    fn start_over(
        directory: &Path,
        live_path: &Path,
        descriptor: OverlayDescriptor,
        data: DataFile,
        live_header: &MapHeader,
    ) -> Result<Self, DiskError> {
        let data_path = directory.join(DATA_FILE);
        data.sync_data()
            .and_then(|()| data.forget_cached())
            .map_err(DiskError::store("sync", &data_path))?;
        let path = directory.join(MAP_FILE);
        let content = read_map(&path, &descriptor)?;
        let map = BlockMap::new(descriptor.size_bytes);
        join_all(&map, &content.words, false, &path)?;
        let durable = DurableMap::create(&path, &content.header, &map.words())
            .map_err(DiskError::store("write", &path))?;
        let live = LiveMap::create(live_path, live_header, &map)
            .map_err(DiskError::store("create", live_path))?;
        warn!(
            disk.id = %descriptor.disk, descriptor.generation,
            "disk {} starts from its last flush, as a later one failed", descriptor.disk
        );
        Ok(Self {
            directory: directory.to_owned(),
            descriptor,
            data,
            map,
            live,
            failed: false,
            durable: Some(Mutex::new(durable)),
        })
    }
}

/// Reads and judges the map of an overlay.
pub(crate) fn read_map(
    path: &Path,
    descriptor: &OverlayDescriptor,
) -> Result<MapContent, DiskError> {
    let bytes = fs::read(path).map_err(DiskError::store("read", path))?;
    let content = map_file::decode_map(&bytes)
        .map_err(|error| DiskError::damaged(path, error.to_string()))?;
    if content.header != descriptor.map_header(MapKind::Overlay) {
        return Err(DiskError::damaged(path, "it belongs to another overlay"));
    }
    if content.end == MapEnd::Damaged {
        let reason = format!("the record at byte {} is broken", content.valid_bytes);
        return Err(DiskError::damaged(path, reason));
    }
    Ok(content)
}

/// A torn end is the rest of a flush that was never acknowledged: the map is written anew without it, so that
/// later flushes follow whole ones only.
fn resume(path: &Path, content: &MapContent, map: &BlockMap) -> Result<DurableMap, DiskError> {
    match content.end {
        MapEnd::Clean => DurableMap::resume(path, content),
        MapEnd::Torn | MapEnd::Damaged => {
            warn!(path = %path.display(), bytes = content.valid_bytes, "cut an unfinished flush off an overlay's map");
            DurableMap::create(path, &content.header, &map.words())
        }
    }
    .map_err(DiskError::store("write", path))
}

fn join_all(
    map: &BlockMap,
    words: &[(u32, u64)],
    dirty: bool,
    path: &Path,
) -> Result<(), DiskError> {
    if words.iter().all(|&word| map.join(word, dirty)) {
        Ok(())
    } else {
        Err(DiskError::damaged(path, "it names blocks outside the disk"))
    }
}

#[cfg(test)]
mod tests;
