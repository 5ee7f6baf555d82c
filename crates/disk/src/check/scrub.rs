//! Scrub: comparing what versions hold with their checksums, a MiB at a time, while clients use them.

use std::path::{Path, PathBuf};

use dess_model::VersionRef;

use super::Fault;
use crate::block_map::WORD_BLOCKS;
use crate::device::{BLOCK_BYTES, BlockRead};
use crate::error::VersionError;
use crate::version::{
    CHUNK_BYTES, DATA_FILE, Sums, Version, chunk_sum, read_map, version_directory,
};

/// One pass over the MiB of disk in which a layer holds a block. What it does not hold is compared where it lies, in a layer
/// below: over all versions, every block is read once.
pub struct LayerScrub {
    open: Version,
    data: PathBuf,
    sums: Sums,
    /// Numbers of the MiB, in order.
    chunks: Vec<u64>,
    next: usize,
    buffer: Vec<u8>,
}

/// One MiB that was compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scrubbed {
    /// Where on the disk the next one begins, or would begin.
    pub next_offset: u64,
    /// How much was read.
    pub bytes: u64,
    /// What is wrong with it.
    pub fault: Option<Fault>,
}

impl LayerScrub {
    /// Begins at byte `from` of the disk.
    ///
    /// # Errors
    /// If the version cannot be opened, or has no usable checksums.
    pub fn open(images: &Path, version: VersionRef, from: u64) -> Result<Self, VersionError> {
        let directory = version_directory(images, version);
        let open = Version::open(&directory)?;
        let sums = open.sums()?;
        let per_chunk = CHUNK_BYTES / BLOCK_BYTES / WORD_BLOCKS;
        let words = read_map(&directory, open.manifest())?;
        let mut chunks: Vec<u64> = words
            .iter()
            .map(|&(word, _)| u64::from(word) / per_chunk)
            .filter(|chunk| chunk * CHUNK_BYTES >= from)
            .collect();
        chunks.sort_unstable();
        chunks.dedup();
        Ok(Self {
            open,
            data: directory.join(DATA_FILE),
            sums,
            chunks,
            next: 0,
            buffer: vec![0; CHUNK_BYTES as usize],
        })
    }

    /// Bytes that are still to be compared.
    pub fn left_bytes(&self) -> u64 {
        (self.chunks.len() - self.next) as u64 * CHUNK_BYTES
    }

    /// Compares the next MiB; `None` at the end. What was not in the kernel's memory before is not afterwards.
    pub fn step(&mut self) -> Option<Scrubbed> {
        let chunk = *self.chunks.get(self.next)?;
        self.next += 1;
        let offset = chunk * CHUNK_BYTES;
        let length = (self.open.size_bytes() - offset).min(CHUNK_BYTES);
        let buffer = &mut self.buffer[..length as usize];
        let problem = match self.open.read_passing(offset, buffer) {
            Err(error) => Some(format!("it cannot be read: {error}")),
            Ok(()) if self.sums.chunks.get(chunk as usize) != Some(&chunk_sum(buffer)) => {
                Some("the content is not what was written (wrong checksum)".to_owned())
            }
            Ok(()) => None,
        };
        Some(Scrubbed {
            next_offset: offset + length,
            bytes: length,
            fault: problem
                .map(|problem| Fault::damage(&self.data, problem).at(offset..offset + length)),
        })
    }
}
