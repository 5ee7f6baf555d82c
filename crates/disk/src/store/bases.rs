//! Which versions the overlays of a store need.

use std::path::Path;

use super::directory::{DiskDirectory, Stage, disk_ids};
use super::snapshots::snapshot_directories;
use crate::error::DiskError;
use crate::overlay::OverlayDescriptor;

/// What every overlay is that somebody may go on with: current, sealed, parked and kept ones, and snapshots. Those that were put away for
/// forensics are not among them. Reads only; the store may be in use.
///
/// # Errors
/// If the store cannot be read, or an overlay is damaged.
pub fn overlays_in_use(overlays: &Path) -> Result<Vec<OverlayDescriptor>, DiskError> {
    if !overlays.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for disk in disk_ids(overlays)? {
        for entry in DiskDirectory::new(overlays, disk).entries()? {
            match entry.stage {
                Stage::Current(_) | Stage::Sealed | Stage::Parked | Stage::Kept => {
                    match OverlayDescriptor::read(&entry.path) {
                        Ok(descriptor) => found.push(descriptor),
                        // It was renamed or removed just now.
                        Err(_) if !entry.path.exists() => {}
                        Err(error) => return Err(error),
                    }
                }
                Stage::New | Stage::Old | Stage::Drop => {}
            }
        }
        for path in snapshot_directories(overlays, disk)? {
            match OverlayDescriptor::read(&path) {
                Ok(descriptor) => found.push(descriptor),
                Err(_) if !path.exists() => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(found)
}
