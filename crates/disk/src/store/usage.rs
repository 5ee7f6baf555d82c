//! Who takes the space: looked up in the file system, so it needs no running service.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use dess_model::{DiskId, ImageId, VersionRef};
use serde::{Deserialize, Serialize};

use super::directory::{DiskDirectory, Stage, disk_ids};
use crate::error::DiskError;

/// What is kept of one disk, in bytes of storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DiskUsage {
    /// The disk.
    pub disk: DiskId,
    /// Its overlay.
    pub overlay_bytes: u64,
    /// Overlays that somebody may go on with later: of another policy, or being published.
    pub aside_bytes: u64,
    /// How many earlier overlays are kept for forensics.
    pub kept: u32,
    /// What they take.
    pub kept_bytes: u64,
}

/// What one version takes beyond the versions below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionUsage {
    /// The version.
    pub version: VersionRef,
    /// Bytes of storage.
    pub bytes: u64,
}

/// What the files of a store take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceUsage {
    /// Disks, by id.
    pub disks: Vec<DiskUsage>,
    /// Versions, by image and number.
    pub versions: Vec<VersionUsage>,
    /// Imports, publications and flattenings under way, or interrupted.
    pub unfinished_bytes: u64,
    /// What is about to be removed.
    pub leaving_bytes: u64,
}

/// Looks up what the files of a store take. Reads only; the store may be in use, and what vanishes meanwhile is not counted.
///
/// # Errors
/// If a directory cannot be read.
pub fn space_usage(images: &Path, overlays: &Path) -> Result<SpaceUsage, DiskError> {
    let mut usage = SpaceUsage::default();
    let mut counted = HashSet::new();
    // Versions first: a version that is being made of a sealed overlay shares its data.
    for (image, path) in images_in(images)? {
        for (name, version) in entries(&path)? {
            let bytes = bytes_of(&version, &mut counted)?;
            match name.parse() {
                Ok(number) => usage.versions.push(VersionUsage {
                    version: VersionRef { image, number },
                    bytes,
                }),
                Err(_) => usage.unfinished_bytes += bytes,
            }
        }
    }
    usage.versions.sort_by_key(|one| one.version);
    if overlays.exists() {
        for disk in disk_ids(overlays)? {
            let found = disk_usage(overlays, disk, &mut counted, &mut usage.leaving_bytes)?;
            usage.disks.push(found);
        }
    }
    Ok(usage)
}

/// A file by its device and inode: a second name of it takes no space.
type Counted = HashSet<(u64, u64)>;

fn disk_usage(
    overlays: &Path,
    disk: DiskId,
    counted: &mut Counted,
    leaving: &mut u64,
) -> Result<DiskUsage, DiskError> {
    let mut usage = DiskUsage {
        disk,
        overlay_bytes: 0,
        aside_bytes: 0,
        kept: 0,
        kept_bytes: 0,
    };
    for entry in DiskDirectory::new(overlays, disk).entries()? {
        let bytes = bytes_of(&entry.path, counted)?;
        match entry.stage {
            Stage::Current(_) => usage.overlay_bytes += bytes,
            Stage::Kept | Stage::Parked | Stage::Sealed => usage.aside_bytes += bytes,
            Stage::Old => {
                usage.kept += 1;
                usage.kept_bytes += bytes;
            }
            Stage::New | Stage::Drop => *leaving += bytes,
        }
    }
    Ok(usage)
}

/// The images that have a directory.
fn images_in(images: &Path) -> Result<Vec<(ImageId, PathBuf)>, DiskError> {
    let entries = entries(images)?.into_iter();
    Ok(entries
        .filter_map(|(name, path)| Some((ImageId::from_str(&name).ok()?, path)))
        .collect())
}

/// What a directory holds, by name; nothing if it is not there.
fn entries(directory: &Path) -> Result<Vec<(String, PathBuf)>, DiskError> {
    let error = || DiskError::store("read", directory);
    let listing = match fs::read_dir(directory) {
        Ok(listing) => listing,
        Err(missing) if is_gone(&missing) => return Ok(Vec::new()),
        Err(other) => return Err(error()(other)),
    };
    let mut found = Vec::new();
    for entry in listing {
        let entry = match entry {
            Ok(entry) => entry,
            Err(missing) if is_gone(&missing) => continue,
            Err(other) => return Err(error()(other)),
        };
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

/// Storage of the files in a directory (overlays and versions have no directories in theirs).
fn bytes_of(directory: &Path, counted: &mut Counted) -> Result<u64, DiskError> {
    let mut bytes = 0;
    for (_, path) in entries(directory)? {
        match fs::symlink_metadata(&path) {
            Ok(data) if data.nlink() > 1 && !counted.insert((data.dev(), data.ino())) => {}
            Ok(data) => bytes += data.blocks() * 512,
            Err(missing) if is_gone(&missing) => {}
            Err(other) => return Err(DiskError::store("read", &path)(other)),
        }
    }
    Ok(bytes)
}

/// It was removed or renamed just now, or is a file of somebody else.
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}
