//! Versions: immutable, shared by all clients that boot them.

mod manifest;
mod sums;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dess_model::{Timestamp, VersionRef};

pub use manifest::{MANIFEST_FORMAT, Manifest, SourceInfo};
pub(crate) use sums::{CHUNK_BYTES, ImageSum};
pub use sums::{Sums, SumsDecodeError};

use crate::block_map::BlockMap;
use crate::data_file::DataFile;
use crate::device::{BLOCK_BYTES, BlockRead, check_range};
use crate::error::VersionError;
use crate::format::ImageFormat;
use crate::map_file::{self, MapEnd, MapKind};
use crate::progress::{Progress, Throttle};

/// Largest disk, in bytes.
pub const DISK_BYTES_MAX: u64 = 1 << 48;

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
    layers: Vec<Layer>,
}

struct Layer {
    data: DataFile,
    map: BlockMap,
}

impl Version {
    /// Opens the version in `directory`, read-only.
    ///
    /// # Errors
    /// If a file is missing, damaged or does not belong to the others.
    pub fn open(directory: &Path) -> Result<Self, VersionError> {
        let manifest = Manifest::read(directory)?;
        let mut layers = vec![Layer::open(directory, &manifest)?];
        let mut parent = manifest.parent;
        let mut below = manifest.version.number;
        while let Some(number) = parent {
            let path = directory.with_file_name(number.to_string());
            let layer = Manifest::read(&path)?;
            if number >= below || layer.version.image != manifest.version.image {
                return Err(VersionError::damaged(
                    &path.join(MANIFEST_FILE),
                    "it cannot be the parent of a later version",
                ));
            }
            layers.push(Layer::open(&path, &layer)?);
            below = number;
            parent = layer.parent;
        }
        Ok(Self {
            manifest,
            directory: directory.to_owned(),
            layers,
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
            source: SourceInfo {
                name: name.into_owned(),
                format: ImageFormat::Raw,
                file_bytes: size_bytes,
            },
            comment: String::new(),
            image_crc32c: 0,
            map_crc32c: 0,
            sums_crc32c: 0,
            lint: None,
        };
        Ok(Self {
            manifest,
            directory: path.to_owned(),
            layers: vec![Layer { data, map }],
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
        let mut run = limit;
        for (index, layer) in self.layers.iter().enumerate() {
            let (held, blocks) = layer.map.run(block, run);
            run = blocks;
            if held {
                return (Some(index), run);
            }
        }
        (None, run)
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
                Some(index) => read(&self.layers[index].data, offset, part)?,
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

impl Layer {
    fn open(directory: &Path, manifest: &Manifest) -> Result<Self, VersionError> {
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
        let map = BlockMap::new(manifest.size_bytes);
        let joined = content.words.iter().all(|&word| map.join(word, false));
        if !joined || content.end != MapEnd::Clean {
            return Err(VersionError::damaged(&path, "it is not whole"));
        }
        debug_assert_eq!(content.header.kind, MapKind::Version);

        let path = directory.join(DATA_FILE);
        let data = DataFile::open_read_only(&path).map_err(VersionError::read(&path))?;
        let length = data.len().map_err(VersionError::read(&path))?;
        let expected = manifest.size_bytes.next_multiple_of(BLOCK_BYTES);
        if length != expected {
            let reason = format!("it is {length} bytes long instead of {expected}");
            return Err(VersionError::damaged(&path, reason));
        }
        Ok(Self { data, map })
    }
}

#[cfg(test)]
mod tests;
