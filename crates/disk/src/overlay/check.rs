//! Offline, read-only check of one overlay directory.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{DATA_FILE, MAP_FILE, OverlayDescriptor, read_map};
use crate::BLOCK_BYTES;
use crate::block_map::BlockMap;
use crate::error::DiskError;
use crate::map_file::MapEnd;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// What the overlay is.
    pub descriptor: OverlayDescriptor,
    /// Blocks in the durable map; `None` if it has none (a volatile overlay in use).
    pub mapped_blocks: Option<u64>,
    /// Bytes of storage that the data takes.
    pub allocated_bytes: u64,
    /// True if the map ends in a flush that was never acknowledged (as after a power cut); the next open cuts it off.
    pub torn_flush: bool,
}

/// Checks the overlay in `directory` (`<overlays>/<disk id>/<kind>-<generation>`) without changing anything.
///
/// # Errors
/// If a file is missing, damaged or does not belong to the others.
pub fn check(directory: &Path) -> Result<CheckReport, DiskError> {
    let descriptor = OverlayDescriptor::read(directory)?;
    let path = directory.join(DATA_FILE);
    let metadata = fs::metadata(&path).map_err(DiskError::store("read", &path))?;
    if metadata.len() != descriptor.size_bytes.next_multiple_of(BLOCK_BYTES) {
        return Err(DiskError::damaged(&path, "it has the wrong length"));
    }
    let path = directory.join(MAP_FILE);
    let content = match path.exists() {
        true => Some(read_map(&path, &descriptor)?),
        false => None,
    };
    let mapped_blocks = match &content {
        Some(content) => {
            let map = BlockMap::new(descriptor.size_bytes);
            super::join_all(&map, &content.words, false, &path)?;
            Some(map.held())
        }
        None => None,
    };
    Ok(CheckReport {
        descriptor,
        mapped_blocks,
        allocated_bytes: metadata.blocks() * 512,
        torn_flush: content.is_some_and(|content| content.end == MapEnd::Torn),
    })
}
