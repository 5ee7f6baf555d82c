//! Versions: immutable, shared by all clients that boot them.

mod manifest;
mod resolved;
mod sums;

use std::fs;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::path::{Path, PathBuf};

use dess_model::{ImageId, LayerId, Timestamp, VersionRef};

pub use manifest::{MANIFEST_FORMAT, Manifest, OverlaySource, SourceInfo};
use resolved::Resolved;
pub(crate) use sums::{CHUNK_BYTES, ImageSum, chunk_sum, combine_sums};
pub use sums::{Sums, SumsDecodeError};

use crate::block_map::{BlockMap, Word};
use crate::data_file::DataFile;
use crate::device::{BLOCK_BYTES, BlockRead, check_range};
use crate::error::VersionError;
use crate::format::ImageFormat;
use crate::map_file::{self, MapEnd, MapKind};
use crate::progress::{Progress, Throttle};

/// Largest disk, in bytes.
pub const DISK_BYTES_MAX: u64 = 1 << 48;
/// Most layers of a version: what one byte can tell apart, and none.
pub const LAYERS_MAX: usize = 255;

pub(crate) const MANIFEST_FILE: &str = "manifest.json";
pub(crate) const DATA_FILE: &str = "data";
pub(crate) const MAP_FILE: &str = "map";
pub(crate) const SUMS_FILE: &str = "sums";

/// Directory of a version below the image directory.
pub fn version_directory(images: &Path, version: VersionRef) -> PathBuf {
    images
        .join(version.image.simple())
        .join(version.number.to_string())
}

/// An open version. It can only be read; one of them serves all its clients.
pub struct Version {
    manifest: Manifest,
    directory: PathBuf,
    /// Newest first; the first one that holds a block is the one to read.
    layers: Vec<DataFile>,
    /// Which layer that is, for each block.
    resolved: Resolved,
}

impl Version {
    /// Opens the version in `directory`, read-only.
    ///
    /// # Errors
    /// If a file is missing, damaged or does not belong to the others; or if it has more than [`LAYERS_MAX`] layers.
    pub fn open(directory: &Path) -> Result<Self, VersionError> {
        let mut manifest = Manifest::read(directory)?;
        loop {
            match Self::open_as(directory, &manifest) {
                Ok(version) => return Ok(version),
                // A flattening replaces the files of a version by others of the same content.
                Err(error) => match Manifest::read(directory) {
                    Ok(now) if now != manifest => manifest = now,
                    _ => return Err(error),
                },
            }
        }
    }

    fn open_as(directory: &Path, manifest: &Manifest) -> Result<Self, VersionError> {
        let mut resolved = Resolved::new(manifest.size_bytes);
        let mut layers = Vec::new();
        let mut next = Some((directory.to_owned(), manifest.clone()));
        while let Some((path, layer)) = next {
            if layers.len() == LAYERS_MAX {
                let reason = format!("it has more than {LAYERS_MAX} layers below it; flatten it");
                return Err(VersionError::damaged(directory, reason));
            }
            let words = read_map(&path, &layer)?;
            if !resolved.put_below(layers.len(), &words) {
                let map = path.join(MAP_FILE);
                return Err(VersionError::damaged(
                    &map,
                    "it names blocks outside the disk",
                ));
            }
            layers.push(open_data(&path, &layer)?);
            next = parent_of(&path, &layer)?;
        }
        resolved.shrink();
        Ok(Self {
            manifest: manifest.clone(),
            directory: directory.to_owned(),
            layers,
            resolved,
        })
    }

    /// A raw file as a version: no directory, no checksums. Holes of the file are blocks that it does not hold.
    pub(crate) fn of_raw_file(
        path: &Path,
        version: VersionRef,
        size_bytes: u64,
    ) -> io::Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let data = DataFile::open_read_only(path)?;
        let map = BlockMap::new(size_bytes);
        data.extents(size_bytes, &mut |extent| {
            let blocks = extent.start / BLOCK_BYTES..extent.end.div_ceil(BLOCK_BYTES);
            map.add(blocks, &mut |_, _| Ok(()))
        })?;
        let manifest = Manifest {
            format: MANIFEST_FORMAT,
            version,
            parent: None,
            size_bytes,
            data_blocks: map.held(),
            created: Timestamp(0),
            source: Some(SourceInfo {
                name: name.into_owned(),
                format: ImageFormat::Raw,
                file_bytes: size_bytes,
            }),
            overlay: None,
            comment: String::new(),
            author: String::new(),
            image_crc32c: 0,
            map_crc32c: 0,
            sums_crc32c: 0,
            lint: None,
        };
        let mut resolved = Resolved::new(size_bytes);
        resolved.put_below(0, &map.words());
        Ok(Self {
            manifest,
            directory: path.to_owned(),
            layers: vec![data],
            resolved,
        })
    }

    /// What it is.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Reads everything and compares it with the checksums of the import. Reports progress at most about ten times
    /// a second; stops when `cancelled` says so.
    ///
    /// # Errors
    /// If a checksum differs (with the place), reading fails, or it was cancelled.
    pub fn verify(
        &self,
        progress: &mut dyn FnMut(Progress),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(), VersionError> {
        let sums = self.sums()?;
        let data = self.directory.join(DATA_FILE);
        let mut throttle = Throttle::new(progress, self.size_bytes());
        let mut image = ImageSum::default();
        let mut buffer = vec![0; CHUNK_BYTES as usize];
        for (index, &expected) in sums.chunks.iter().enumerate() {
            if cancelled() {
                return Err(VersionError::Cancelled);
            }
            let offset = index as u64 * CHUNK_BYTES;
            let length = (self.size_bytes() - offset).min(CHUNK_BYTES);
            let crc = if self.reads_as_zero(offset, length) {
                image.push_zeros(length)
            } else {
                let chunk = &mut buffer[..length as usize];
                self.read_at(offset, chunk)
                    .map_err(VersionError::read(&data))?;
                image.push(chunk)
            };
            if crc != expected {
                return Err(VersionError::Checksum { path: data, offset });
            }
            throttle.done(offset + length);
        }
        throttle.finish();
        if image.value() != self.manifest.image_crc32c {
            return Err(VersionError::Checksum {
                path: data,
                offset: 0,
            });
        }
        Ok(())
    }

    /// Bytes of memory that the map of all layers takes.
    pub fn map_bytes(&self) -> u64 {
        self.resolved.memory_bytes()
    }

    /// How many layers it has: 1 if it is whole.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// Has the range read from the storage into memory; does not wait for it. What lies outside the disk is left out.
    ///
    /// # Errors
    /// If the kernel does not take the advice.
    pub fn read_ahead(&self, range: Range<u64>) -> io::Result<()> {
        let mut offset = range.start;
        let end = range.end.min(self.size_bytes());
        while offset < end {
            let block = offset / BLOCK_BYTES;
            let (layer, run) = self.locate(block, end.div_ceil(BLOCK_BYTES) - block);
            let next = ((block + run) * BLOCK_BYTES).min(end);
            if let (Some(index), Some(length)) = (layer, NonZeroU64::new(next - offset)) {
                self.layers[index].read_ahead(offset, length)?;
            }
            offset = next;
        }
        Ok(())
    }

    /// True if no layer holds a block of the range, so it is zero without reading.
    pub(crate) fn reads_as_zero(&self, offset: u64, length: u64) -> bool {
        let end = (offset + length).div_ceil(BLOCK_BYTES);
        let mut block = offset / BLOCK_BYTES;
        while block < end {
            let (layer, run) = self.locate(block, end - block);
            if layer.is_some() {
                return false;
            }
            block += run;
        }
        true
    }

    /// The layer that holds `block`, and for how many blocks (at most `limit`) that layer does.
    pub(crate) fn locate(&self, block: u64, limit: u64) -> (Option<usize>, u64) {
        self.resolved.run(block, limit)
    }

    /// The checksums of its chunks.
    pub(crate) fn sums(&self) -> Result<Sums, VersionError> {
        let path = self.directory.join(SUMS_FILE);
        let bytes = fs::read(&path).map_err(VersionError::read(&path))?;
        if crc32c::crc32c(&bytes) != self.manifest.sums_crc32c {
            return Err(VersionError::damaged(&path, "wrong checksum"));
        }
        let sums = Sums::decode(&bytes)
            .map_err(|error| VersionError::damaged(&path, error.to_string()))?;
        if !sums.belongs_to(&self.manifest) {
            return Err(VersionError::damaged(
                &path,
                "it belongs to another version",
            ));
        }
        Ok(sums)
    }

    /// Reads without leaving in the kernel's memory what was not there before.
    pub(crate) fn read_passing(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self.try_read_at(offset, buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.read_with(offset, buffer, |file, at, part| {
                    file.read_at(at, part)?;
                    file.forget_range(at, part.len() as u64)
                })
            }
            read => read,
        }
    }

    fn read_with(
        &self,
        mut offset: u64,
        buffer: &mut [u8],
        read: impl Fn(&DataFile, u64, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        check_range(self.size_bytes(), offset, buffer.len() as u64)?;
        let mut rest = buffer;
        while !rest.is_empty() {
            let block = offset / BLOCK_BYTES;
            let end = (offset + rest.len() as u64).div_ceil(BLOCK_BYTES);
            let (layer, run) = self.locate(block, end - block);
            let bytes = ((block + run) * BLOCK_BYTES - offset).min(rest.len() as u64);
            let (part, tail) = rest.split_at_mut(bytes as usize);
            match layer {
                Some(index) => read(&self.layers[index], offset, part)?,
                None => part.fill(0),
            }
            rest = tail;
            offset += bytes;
        }
        Ok(())
    }
}

impl BlockRead for Version {
    fn size_bytes(&self) -> u64 {
        self.manifest.size_bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_with(offset, buffer, DataFile::read_at)
    }

    fn try_read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_with(offset, buffer, DataFile::try_read_at)
    }
}

/// The layer below, if there is one.
fn parent_of(
    directory: &Path,
    manifest: &Manifest,
) -> Result<Option<(PathBuf, Manifest)>, VersionError> {
    let Some(number) = manifest.parent else {
        return Ok(None);
    };
    let path = directory.with_file_name(number.to_string());
    let parent = Manifest::read(&path)?;
    if number >= manifest.version.number
        || parent.version.image != manifest.version.image
        || parent.size_bytes != manifest.size_bytes
    {
        return Err(VersionError::damaged(
            &path.join(MANIFEST_FILE),
            "it cannot be the parent of a later version",
        ));
    }
    Ok(Some((path, parent)))
}

/// Which blocks the layer in `directory` holds.
pub(crate) fn read_map(directory: &Path, manifest: &Manifest) -> Result<Vec<Word>, VersionError> {
    let path = directory.join(MAP_FILE);
    let bytes = fs::read(&path).map_err(VersionError::read(&path))?;
    if crc32c::crc32c(&bytes) != manifest.map_crc32c {
        return Err(VersionError::damaged(&path, "wrong checksum"));
    }
    let content = map_file::decode_map(&bytes)
        .map_err(|error| VersionError::damaged(&path, error.to_string()))?;
    if content.header != manifest.map_header() {
        return Err(VersionError::damaged(
            &path,
            "it belongs to another version",
        ));
    }
    if content.end != MapEnd::Clean {
        return Err(VersionError::damaged(&path, "it is not whole"));
    }
    debug_assert_eq!(content.header.kind, MapKind::Version);
    Ok(content.words)
}

fn open_data(directory: &Path, manifest: &Manifest) -> Result<DataFile, VersionError> {
    let path = directory.join(DATA_FILE);
    let data = DataFile::open_read_only(&path).map_err(VersionError::read(&path))?;
    let length = data.len().map_err(VersionError::read(&path))?;
    let expected = manifest.size_bytes.next_multiple_of(BLOCK_BYTES);
    if length != expected {
        let reason = format!("it is {length} bytes long instead of {expected}");
        return Err(VersionError::damaged(&path, reason));
    }
    Ok(data)
}

/// Numbers of the versions of an image that lie in the store, known or not, lowest first.
///
/// # Errors
/// If the directory cannot be read.
pub fn version_numbers(images: &Path, image: ImageId) -> io::Result<Vec<u32>> {
    let listing = match fs::read_dir(images.join(image.simple())) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut numbers = Vec::new();
    for entry in listing {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The version that was made of an overlay.
pub(crate) fn find_layer(
    images: &Path,
    image: ImageId,
    layer: LayerId,
) -> io::Result<Option<Manifest>> {
    for number in version_numbers(images, image)?.into_iter().rev() {
        let directory = version_directory(images, VersionRef { image, number });
        // A damaged version is told of by whoever opens it.
        if let Ok(manifest) = Manifest::read(&directory)
            && manifest
                .overlay
                .is_some_and(|overlay| overlay.layer == layer)
        {
            return Ok(Some(manifest));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
