//! Faults of versions.

use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use dess_model::{ImageId, VersionRef};
use serde::Serialize;

use super::{CheckError, Fault, Remedy, Severity, is_damaged, map};
use crate::device::{BLOCK_BYTES, BlockRead};
use crate::progress::{Progress, Throttle};
use crate::version::{
    CHUNK_BYTES, DATA_FILE, ImageSum, MANIFEST_FILE, MAP_FILE, Manifest, SUMS_FILE, Sums, Version,
    combine_sums, version_directory, version_numbers,
};

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Headers, maps and checksums of the layer. Milliseconds.
    Structure,
    /// Also all content that a client of the version may read, of all layers.
    Content,
}

/// What a check of one version found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VersionCheck {
    /// Which.
    pub version: VersionRef,
    /// Size of the disk in bytes; 0 if that cannot be told.
    pub size_bytes: u64,
    /// Bytes of the disk that were compared with their checksums.
    pub compared_bytes: u64,
    /// What is wrong with it.
    pub faults: Vec<Fault>,
}

impl VersionCheck {
    /// True if something of it cannot be read or is not what was written.
    pub fn is_damaged(&self) -> bool {
        is_damaged(&self.faults)
    }
}

/// The versions that lie in the store, known to anybody or not.
///
/// # Errors
/// If the store cannot be read.
pub fn versions_in_store(images: &Path) -> Result<Vec<VersionRef>, CheckError> {
    let listing = match fs::read_dir(images) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(CheckError::store(images)(error)),
    };
    let mut versions = Vec::new();
    for entry in listing {
        let name = entry.map_err(CheckError::store(images))?.file_name();
        let Some(image) = name.to_str().and_then(|name| ImageId::from_str(name).ok()) else {
            continue;
        };
        let numbers = version_numbers(images, image).map_err(CheckError::store(images))?;
        versions.extend(
            numbers
                .into_iter()
                .map(|number| VersionRef { image, number }),
        );
    }
    versions.sort();
    Ok(versions)
}

/// Checks a version without changing anything; it may be in use. `progress` counts bytes of the disk, `cancelled` is asked once per MiB.
///
/// # Errors
/// If there is no such version, or `cancelled` said so. What is wrong with the version is no error but an answer.
pub fn check_version(
    images: &Path,
    version: VersionRef,
    depth: Depth,
    progress: &mut dyn FnMut(Progress),
    cancelled: &dyn Fn() -> bool,
) -> Result<VersionCheck, CheckError> {
    let directory = version_directory(images, version);
    if !directory.is_dir() {
        return Err(CheckError::Missing { path: directory });
    }
    let mut check = VersionCheck {
        version,
        size_bytes: 0,
        compared_bytes: 0,
        faults: Vec::new(),
    };
    let path = directory.join(MANIFEST_FILE);
    let manifest = match Manifest::read(&directory) {
        Ok(manifest) => manifest,
        Err(error) => {
            check.faults.push(Fault::damage(&path, chain(&error)));
            return Ok(check);
        }
    };
    check.size_bytes = manifest.size_bytes;
    if manifest.version != version {
        let problem = format!("it is that of version {}", manifest.version);
        check.faults.push(Fault::damage(&path, problem));
        return Ok(check);
    }
    let faults = &mut check.faults;
    check_modes(&directory, faults);
    check_map(&directory, &manifest, faults);
    check_length(&directory, &manifest, faults);
    let sums = read_sums(&directory, &manifest, faults);
    if depth == Depth::Content {
        match Version::open(&directory) {
            Ok(open) => {
                let mut comparison = Comparison::new(&open, &directory, sums);
                comparison.run(progress, cancelled)?;
                check.compared_bytes = manifest.size_bytes;
                check.faults.extend(comparison.faults);
            }
            // What lies in its own files has been told.
            Err(_) if check.is_damaged() => {}
            Err(error) => check.faults.push(Fault::damage(&directory, chain(&error))),
        }
    }
    Ok(check)
}

fn check_modes(directory: &Path, faults: &mut Vec<Fault>) {
    for name in [MANIFEST_FILE, DATA_FILE, MAP_FILE, SUMS_FILE] {
        let path = directory.join(name);
        // A missing one is told by whoever reads it.
        let Ok(metadata) = fs::metadata(&path) else {
            continue;
        };
        if metadata.permissions().mode() & 0o222 != 0 {
            let problem = "it can be written; a version never changes";
            let fault = Fault::new(&path, Severity::Warning, problem);
            faults.push(fault.remedy(Remedy::Mode));
        }
    }
}

fn check_map(directory: &Path, manifest: &Manifest, faults: &mut Vec<Fault>) {
    let path = directory.join(MAP_FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) => {
            faults.push(Fault::unreadable(&path, &error).remedy(Remedy::Map));
            return;
        }
    };
    let before = faults.len();
    let content = map::check(&path, &bytes, &manifest.map_header(), faults);
    if faults.len() == before && crc32c::crc32c(&bytes) != manifest.map_crc32c {
        let problem = "its checksum is not the one in manifest.json";
        faults.push(Fault::damage(&path, problem).remedy(Remedy::Map));
    } else if let Some(content) = content.filter(|_| faults.len() == before) {
        let held: u64 = content
            .words
            .iter()
            .map(|(_, word)| u64::from(word.count_ones()))
            .sum();
        if held != manifest.data_blocks {
            let problem = format!(
                "it says {} blocks, the map holds {held}",
                manifest.data_blocks
            );
            let path = directory.join(MANIFEST_FILE);
            faults.push(Fault::new(&path, Severity::Warning, problem));
        }
    }
}

fn check_length(directory: &Path, manifest: &Manifest, faults: &mut Vec<Fault>) {
    let path = directory.join(DATA_FILE);
    let wanted = manifest.size_bytes.next_multiple_of(BLOCK_BYTES);
    match fs::metadata(&path) {
        Ok(metadata) if metadata.len() == wanted => {}
        Ok(metadata) => {
            let found = metadata.len();
            let problem = format!("it is {found} bytes long instead of {wanted}");
            let bytes = found.min(wanted)..found.max(wanted);
            faults.push(Fault::damage(&path, problem).at(bytes));
        }
        Err(error) => faults.push(Fault::unreadable(&path, &error)),
    }
}

fn read_sums(directory: &Path, manifest: &Manifest, faults: &mut Vec<Fault>) -> Option<Sums> {
    let path = directory.join(SUMS_FILE);
    let problem = match fs::read(&path) {
        Ok(bytes) => match Sums::decode(&bytes) {
            Ok(sums) if !sums.belongs_to(manifest) => "it belongs to another version".to_owned(),
            // The file ends in its own checksum, so `sums_crc32c` is the same for all whole ones.
            Ok(sums) if combine_sums(&sums.chunks, sums.size_bytes) == manifest.image_crc32c => {
                return Some(sums);
            }
            Ok(_) => "its checksums are not those of the disk in manifest.json".to_owned(),
            Err(error) => error.to_string(),
        },
        Err(error) => format!("it cannot be read: {error}"),
    };
    faults.push(Fault::damage(&path, problem).remedy(Remedy::Sums));
    None
}

/// Compares the content with its checksums.
struct Comparison<'a> {
    open: &'a Version,
    /// Data files of the layers, newest first.
    layers: Vec<PathBuf>,
    sums: Option<Sums>,
    image: ImageSum,
    faults: Vec<Fault>,
}

impl<'a> Comparison<'a> {
    fn new(open: &'a Version, directory: &Path, sums: Option<Sums>) -> Self {
        let mut layers = vec![directory.join(DATA_FILE)];
        let mut parent = open.manifest().parent;
        while let Some(number) = parent {
            let path = directory.with_file_name(number.to_string());
            parent = Manifest::read(&path)
                .ok()
                .and_then(|manifest| manifest.parent);
            layers.push(path.join(DATA_FILE));
        }
        Self {
            open,
            layers,
            sums,
            image: ImageSum::default(),
            faults: Vec::new(),
        }
    }

    fn run(
        &mut self,
        progress: &mut dyn FnMut(Progress),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(), CheckError> {
        let size = self.open.size_bytes();
        let mut throttle = Throttle::new(progress, size);
        let mut buffer = vec![0; CHUNK_BYTES as usize];
        for offset in (0..size).step_by(CHUNK_BYTES as usize) {
            if cancelled() {
                return Err(CheckError::Cancelled);
            }
            let end = size.min(offset + CHUNK_BYTES);
            self.compare(offset..end, &mut buffer);
            throttle.done(end);
        }
        throttle.finish();
        if self.faults.is_empty() && self.image.value() != self.open.manifest().image_crc32c {
            let problem = "the content of the disk has not the checksum in manifest.json";
            self.faults.push(Fault::damage(&self.layers[0], problem));
        }
        Ok(())
    }

    fn compare(&mut self, range: Range<u64>, buffer: &mut [u8]) {
        let length = range.end - range.start;
        let crc = if self.open.reads_as_zero(range.start, length) {
            self.image.push_zeros(length)
        } else {
            let chunk = &mut buffer[..length as usize];
            if let Err(error) = self.open.read_at(range.start, chunk) {
                self.add(range, &format!("it cannot be read: {error}"));
                return;
            }
            self.image.push(chunk)
        };
        let index = (range.start / CHUNK_BYTES) as usize;
        let expected = self.sums.as_ref().map(|sums| sums.chunks[index]);
        if expected.is_some_and(|expected| expected != crc) {
            self.add(
                range,
                "the content is not what was written (wrong checksum)",
            );
        }
    }

    /// A fault of every layer that holds a part of the range; it lies in one of them.
    fn add(&mut self, range: Range<u64>, problem: &str) {
        let (mut block, end) = (range.start / BLOCK_BYTES, range.end.div_ceil(BLOCK_BYTES));
        let mut holders: Vec<usize> = Vec::new();
        while block < end {
            let (layer, run) = self.open.locate(block, end - block);
            holders.extend(layer);
            block += run;
        }
        holders.sort_unstable();
        holders.dedup();
        for holder in holders {
            let Some(path) = self.layers.get(holder) else {
                continue;
            };
            let last = self
                .faults
                .iter_mut()
                .rev()
                .find(|fault| fault.path == *path);
            match last.and_then(|fault| {
                let joins = fault.problem == problem;
                fault
                    .bytes
                    .as_mut()
                    .filter(|bytes| joins && bytes.end == range.start)
            }) {
                Some(bytes) => bytes.end = range.end,
                None => self
                    .faults
                    .push(Fault::damage(path, problem).at(range.clone())),
            }
        }
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
