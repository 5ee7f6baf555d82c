//! Repair of what a check found. What is replaced is kept beside it under another name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dess_model::VersionRef;
use serde::Serialize;

use super::{CheckError, Depth, Remedy, check_overlay, check_version, map};
use crate::block_map::{BlockMap, WORD_BLOCKS, Word};
use crate::data_file::DataFile;
use crate::device::{BLOCK_BYTES, BlockRead};
use crate::error::DiskError;
use crate::files::{self, StoreFile};
use crate::map_file::{MapHeader, MapKind, RECORDS_OFFSET, salvage_records};
use crate::overlay::OverlayDescriptor;
use crate::store::lock_overlays;
use crate::version::{
    CHUNK_BYTES, DATA_FILE, MANIFEST_FILE, MAP_FILE, Manifest, SUMS_FILE, Sums, Version,
    combine_sums, version_directory,
};

/// Most copies of one file that are kept.
const COPIES_MAX: u32 = 1000;

/// Something that was repaired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// What was done, for people.
    pub what: String,
    /// The file as it was before, if it was replaced.
    pub copy: Option<PathBuf>,
}

/// A repair that was not done, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// It cannot be looked at.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// The overlays are in use.
    #[error("the disk cannot be repaired while the iSCSI service runs; stop it first")]
    Running(#[source] DiskError),
    /// A file cannot be read or written.
    #[error("cannot {action} {path}")]
    File {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Nothing that could be made of what is there is what was there before.
    #[error("{path} cannot be repaired: {reason}")]
    Hopeless {
        /// The file.
        path: PathBuf,
        /// Why, for people.
        reason: &'static str,
    },
}

impl RepairError {
    fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }
}

/// Repairs what can be repaired of a version, which may be in use. A new map is proven by the checksum that the manifest has of the
/// old one, new checksums by that of the whole disk, so nothing is guessed.
///
/// Order for each file: give the old one a second name; write and sync the new one aside; rename it over the old name; sync the directory. A
/// crash between any two leaves the old file or the new one, and perhaps a copy.
///
/// # Errors
/// If a file cannot be repaired or written. What was repaired before stays so.
pub fn repair_version(images: &Path, version: VersionRef) -> Result<Vec<Repaired>, RepairError> {
    let found = check_version(images, version, Depth::Structure, &mut |_| {}, &|| false)?;
    let directory = version_directory(images, version);
    let wants = |remedy| {
        found
            .faults
            .iter()
            .any(|fault| fault.remedy == Some(remedy))
    };
    let mut repaired = Vec::new();
    if wants(Remedy::Map) {
        repaired.push(repair_version_map(&directory)?);
    }
    // After the map, through which the content is read.
    if wants(Remedy::Sums) {
        repaired.push(repair_sums(&directory)?);
    }
    if wants(Remedy::Mode) {
        for name in [MANIFEST_FILE, DATA_FILE, MAP_FILE, SUMS_FILE] {
            let path = directory.join(name);
            StoreFile::open(&path)
                .and_then(|file| file.make_read_only().and_then(|()| file.sync_all()))
                .map_err(RepairError::file("protect", &path))?;
        }
        repaired.push(Repaired {
            what: "the files are read-only again".to_owned(),
            copy: None,
        });
    }
    Ok(repaired)
}

fn repair_version_map(directory: &Path) -> Result<Repaired, RepairError> {
    let path = directory.join(MAP_FILE);
    let manifest = Manifest::read(directory).map_err(|error| CheckError::Store {
        path: directory.to_owned(),
        source: io::Error::other(error),
    })?;
    let header = manifest.map_header();
    let proven = |map: &Vec<u8>| crc32c::crc32c(map) == manifest.map_crc32c;
    let old = fs::read(&path).unwrap_or_default();
    let mut from_slots = header.encode_file();
    from_slots.extend_from_slice(old.get(RECORDS_OFFSET..).unwrap_or_default());
    if proven(&from_slots) {
        let copy = replace(&path, &from_slots, true)?;
        let what = "the damaged header of the map was written anew".to_owned();
        return Ok(Repaired { what, copy });
    }
    let words = held_blocks(&directory.join(DATA_FILE), manifest.size_bytes)
        .map_err(RepairError::file("read", &directory.join(DATA_FILE)))?;
    let mut from_data = header.encode_file();
    header.encode_flush(&words, 1, 0, &mut from_data);
    if proven(&from_data) {
        let copy = replace(&path, &from_data, true)?;
        let what = "the map was made anew from the data".to_owned();
        return Ok(Repaired { what, copy });
    }
    Err(RepairError::Hopeless {
        path,
        reason: "what the data holds does not lead to the checksum in manifest.json; restore the version from a backup",
    })
}

/// The blocks that are not zero, which is what an import maps.
fn held_blocks(data: &Path, size_bytes: u64) -> io::Result<Vec<Word>> {
    let file = DataFile::open_read_only(data)?;
    let length = file.len()?.min(size_bytes.next_multiple_of(BLOCK_BYTES));
    let mut words: Vec<Word> = Vec::new();
    let mut block = vec![0; BLOCK_BYTES as usize];
    file.extents(length, &mut |extent| {
        for number in extent.start / BLOCK_BYTES..extent.end.div_ceil(BLOCK_BYTES) {
            file.read_at(number * BLOCK_BYTES, &mut block)?;
            if block.iter().all(|&byte| byte == 0) {
                continue;
            }
            let index = u32::try_from(number / WORD_BLOCKS).map_err(io::Error::other)?;
            let bit = 1 << (number % WORD_BLOCKS);
            match words.last_mut() {
                Some((last, bits)) if *last == index => *bits |= bit,
                _ => words.push((index, bit)),
            }
        }
        Ok(())
    })?;
    Ok(words)
}

fn repair_sums(directory: &Path) -> Result<Repaired, RepairError> {
    let path = directory.join(SUMS_FILE);
    let hopeless = |reason| RepairError::Hopeless {
        path: path.clone(),
        reason,
    };
    let open = Version::open(directory)
        .map_err(|_| hopeless("the version cannot be read; restore it from a backup"))?;
    let manifest = open.manifest();
    let mut chunks = Vec::new();
    let mut buffer = vec![0; CHUNK_BYTES as usize];
    for offset in (0..open.size_bytes()).step_by(CHUNK_BYTES as usize) {
        let length = (open.size_bytes() - offset).min(CHUNK_BYTES) as usize;
        open.read_at(offset, &mut buffer[..length])
            .map_err(RepairError::file("read", &directory.join(DATA_FILE)))?;
        chunks.push(crc32c::crc32c(&buffer[..length]));
    }
    let sums = Sums {
        image: *manifest.version.image.0.as_bytes(),
        number: u64::from(manifest.version.number),
        size_bytes: manifest.size_bytes,
        chunks,
    };
    if combine_sums(&sums.chunks, sums.size_bytes) != manifest.image_crc32c {
        return Err(hopeless(
            "the content is not what was written either; restore the version from a backup",
        ));
    }
    let copy = replace(&path, &sums.encode(), true)?;
    let what =
        "the checksums were computed anew from the content, which is what was written".to_owned();
    Ok(Repaired { what, copy })
}

/// Repairs what can be repaired of the overlay in `directory`, in the store with these `overlays`. Of a broken map all whole records stay; blocks that
/// only a broken record named are the version's again.
///
/// Order as in [`repair_version`].
///
/// # Errors
/// If the iSCSI service runs, or a file cannot be written.
pub fn repair_overlay(overlays: &Path, directory: &Path) -> Result<Vec<Repaired>, RepairError> {
    let _lock = lock_overlays(overlays).map_err(RepairError::Running)?;
    let found = check_overlay(directory);
    let mut repaired = Vec::new();
    let Some(descriptor) = &found.descriptor else {
        return Ok(repaired);
    };
    let wants = |remedy| {
        found
            .faults
            .iter()
            .any(|fault| fault.remedy == Some(remedy))
    };
    if wants(Remedy::Length) {
        let path = directory.join(DATA_FILE);
        StoreFile::open_writable(&path)
            .and_then(|file| {
                file.set_len(descriptor.size_bytes.next_multiple_of(BLOCK_BYTES))?;
                file.sync_all()
            })
            .map_err(RepairError::file("extend", &path))?;
        repaired.push(Repaired {
            what: "the data is as long as the disk again; what was cut off reads as zeros"
                .to_owned(),
            copy: None,
        });
    }
    if wants(Remedy::Map) {
        repaired.push(repair_overlay_map(directory, descriptor)?);
    }
    Ok(repaired)
}

fn repair_overlay_map(
    directory: &Path,
    descriptor: &OverlayDescriptor,
) -> Result<Repaired, RepairError> {
    let path = directory.join(MAP_FILE);
    let bytes = fs::read(&path).map_err(RepairError::file("read", &path))?;
    let header: MapHeader = descriptor.map_header(MapKind::Overlay);
    let words = salvage_records(&bytes, &header);
    let lost = map::outside(&words, descriptor.size_bytes);
    let map = BlockMap::new(descriptor.size_bytes);
    for &word in &words {
        map.join(word, false);
    }
    let mut new = header.encode_file();
    header.encode_flush(&map.words(), 1, 0, &mut new);
    let copy = replace(&path, &new, false)?;
    let mut what = format!(
        "the map was written anew with the {} blocks of all its whole records",
        map.held()
    );
    if lost > 0 {
        what = format!("{what}; {lost} entries outside the disk were dropped");
    }
    Ok(Repaired { what, copy })
}

/// Writes a file anew; answers where the old one is kept.
fn replace(path: &Path, content: &[u8], read_only: bool) -> Result<Option<PathBuf>, RepairError> {
    let copy = keep(path)?;
    let unfinished = path.with_extension("new");
    let write = || {
        let file = StoreFile::create(&unfinished)?;
        file.write_all_at(content, 0)?;
        if read_only {
            file.make_read_only()?;
        }
        file.sync_all()?;
        files::rename(&unfinished, path)?;
        files::sync_parent(path)
    };
    write().map_err(RepairError::file("write", path))?;
    Ok(copy)
}

/// Gives the file a second name; `None` if there is no such file.
fn keep(path: &Path) -> Result<Option<PathBuf>, RepairError> {
    if !path.exists() {
        return Ok(None);
    }
    for number in 1..COPIES_MAX {
        let copy = path.with_extension(format!("damaged-{number}"));
        match files::link(path, &copy) {
            Ok(()) => return Ok(Some(copy)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(RepairError::file("keep", path)(error)),
        }
    }
    Err(RepairError::Hopeless {
        path: path.to_owned(),
        reason: "too many copies of it are kept; remove those of former repairs",
    })
}
