//! Faults of overlays.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use dess_model::DiskId;
use serde::Serialize;

use super::{CheckError, Fault, Remedy, Severity, is_damaged, map};
use crate::block_map::BlockMap;
use crate::device::BLOCK_BYTES;
use crate::map_file::MapKind;
use crate::overlay::{DATA_FILE, DESCRIPTOR_FILE, MAP_FILE, OverlayDescriptor};
use crate::store::{disk_directories, disk_ids, snapshot_directories};
use crate::version::{Manifest, version_directory};

/// What a check of one overlay found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OverlayCheck {
    /// Name of its directory, e.g. `persistent-3`.
    pub name: String,
    /// What it is, if that can be read.
    pub descriptor: Option<OverlayDescriptor>,
    /// Blocks in the durable map; `None` if it has none (a volatile overlay in use).
    pub mapped_blocks: Option<u64>,
    /// Bytes of storage that the data takes.
    pub allocated_bytes: u64,
    /// What is wrong with it.
    pub faults: Vec<Fault>,
}

impl OverlayCheck {
    /// True if something of it cannot be read or is not what was written.
    pub fn is_damaged(&self) -> bool {
        is_damaged(&self.faults)
    }
}

/// The disks that have overlays; none if no overlay was ever made.
///
/// # Errors
/// If the store cannot be read.
pub fn disks_in_store(overlays: &Path) -> Result<Vec<DiskId>, CheckError> {
    if !overlays.exists() {
        return Ok(Vec::new());
    }
    disk_ids(overlays).map_err(|error| CheckError::Store {
        path: overlays.to_owned(),
        source: io::Error::other(error),
    })
}

/// Checks all overlays of a disk, and that the versions below them are what they were made on. Changes nothing. While the disk is in use the
/// end of its map may be a flush under way.
///
/// # Errors
/// If the store cannot be read.
pub fn check_disk(
    overlays: &Path,
    images: &Path,
    disk: DiskId,
) -> Result<Vec<OverlayCheck>, CheckError> {
    let found = disk_directories(overlays, disk).map_err(|error| CheckError::Store {
        path: overlays.to_owned(),
        source: io::Error::other(error),
    })?;
    let snapshots = snapshot_directories(overlays, disk).map_err(|error| CheckError::Store {
        path: overlays.to_owned(),
        source: io::Error::other(error),
    })?;
    let mut checks: Vec<OverlayCheck> = found.iter().map(|path| check_overlay(path)).collect();
    checks.extend(snapshots.iter().map(|path| check_snapshot(path)));
    for (check, path) in checks.iter_mut().zip(found.iter().chain(&snapshots)) {
        check_base(images, path, check);
    }
    Ok(checks)
}

/// Checks the overlay in `directory` (`<overlays>/<disk id>/<kind>-<generation>`) without changing anything.
pub fn check_overlay(directory: &Path) -> OverlayCheck {
    let name = directory.file_name().unwrap_or_default();
    let mut check = check_files(directory, name.to_string_lossy().into_owned());
    if let Some(descriptor) = &check.descriptor {
        check_name(directory, descriptor, &mut check.faults);
    }
    check
}

fn check_snapshot(directory: &Path) -> OverlayCheck {
    let name = directory.file_name().unwrap_or_default();
    check_files(directory, format!("snapshots/{}", name.to_string_lossy()))
}

fn check_files(directory: &Path, name: String) -> OverlayCheck {
    let mut check = OverlayCheck {
        name,
        descriptor: None,
        mapped_blocks: None,
        allocated_bytes: 0,
        faults: Vec::new(),
    };
    let path = directory.join(DESCRIPTOR_FILE);
    let descriptor = match fs::read(&path) {
        Ok(text) => OverlayDescriptor::decode(&text).map_err(|reason| Fault::damage(&path, reason)),
        Err(error) => Err(Fault::unreadable(&path, &error)),
    };
    let descriptor = match descriptor {
        Ok(descriptor) => descriptor,
        Err(fault) => {
            check.faults.push(fault);
            return check;
        }
    };
    check_data(directory, &descriptor, &mut check);
    check_map(directory, &descriptor, &mut check);
    check.descriptor = Some(descriptor);
    check
}

fn check_name(directory: &Path, descriptor: &OverlayDescriptor, faults: &mut Vec<Fault>) {
    let ends = format!("-{}", descriptor.generation);
    let own = directory.to_string_lossy().ends_with(&ends);
    let disk = directory.parent().and_then(Path::file_name);
    let of_disk = disk.is_some_and(|name| name.to_str() == Some(&*descriptor.disk.simple()));
    if !own || !of_disk {
        let problem = format!(
            "it says that it is overlay {} of disk {}, but lies elsewhere",
            descriptor.generation, descriptor.disk
        );
        faults.push(Fault::damage(&directory.join(DESCRIPTOR_FILE), problem));
    }
}

fn check_data(directory: &Path, descriptor: &OverlayDescriptor, check: &mut OverlayCheck) {
    let path = directory.join(DATA_FILE);
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) => {
            check.faults.push(Fault::unreadable(&path, &error));
            return;
        }
    };
    check.allocated_bytes = metadata.blocks() * 512;
    let (found, wanted) = (
        metadata.len(),
        descriptor.size_bytes.next_multiple_of(BLOCK_BYTES),
    );
    if found < wanted {
        let problem = format!(
            "it is {found} bytes long instead of {wanted}; what was written beyond is lost"
        );
        let fault = Fault::damage(&path, problem).at(found..wanted);
        check.faults.push(fault.remedy(Remedy::Length));
    } else if found > wanted {
        let problem = format!("it is {found} bytes long instead of {wanted}");
        check
            .faults
            .push(Fault::damage(&path, problem).at(wanted..found));
    }
}

fn check_map(directory: &Path, descriptor: &OverlayDescriptor, check: &mut OverlayCheck) {
    let path = directory.join(MAP_FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !descriptor.kind.is_durable() => {
            return;
        }
        Err(error) => {
            check.faults.push(Fault::unreadable(&path, &error));
            return;
        }
    };
    let header = descriptor.map_header(MapKind::Overlay);
    if let Some(content) = map::check(&path, &bytes, &header, &mut check.faults) {
        let map = BlockMap::new(descriptor.size_bytes);
        for &word in &content.words {
            map.join(word, false);
        }
        check.mapped_blocks = Some(map.held());
    }
}

/// The version below must be there, and be the one on which the overlay was made.
fn check_base(images: &Path, directory: &Path, check: &mut OverlayCheck) {
    let Some(descriptor) = &check.descriptor else {
        return;
    };
    let path = directory.join(DESCRIPTOR_FILE);
    let base = version_directory(images, descriptor.base);
    // Nobody goes on with those, so their version may be gone.
    let put_away = ["old-", "drop-", "new-"]
        .iter()
        .any(|prefix| check.name.starts_with(prefix));
    let severity = match put_away {
        true => Severity::Note,
        false => Severity::Damage,
    };
    let problem = match Manifest::read(&base) {
        Ok(manifest)
            if manifest.image_crc32c == descriptor.base_crc32c
                && manifest.size_bytes == descriptor.size_bytes =>
        {
            return;
        }
        Ok(_) => format!(
            "it was made on other content of version {} than is in {}",
            descriptor.base,
            base.display()
        ),
        Err(error) => format!("version {}, on which it was made: {error}", descriptor.base),
    };
    check.faults.push(Fault::new(&path, severity, problem));
}
