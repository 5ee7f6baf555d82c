//! Writes a version without a parent from its beginning to its end.

use std::fs::File;
use std::path::{Path, PathBuf};

use dess_model::VersionRef;

use super::checkpoint::Done;
use super::{BuildError, Building};
use crate::BLOCK_BYTES;
use crate::block_map::{WORD_BLOCKS, Word};
use crate::files::StoreFile;
use crate::map_file::{MapHeader, MapKind};
use crate::version::{CHUNK_BYTES, DATA_FILE, ImageSum, Manifest, Sums, chunk_sum};

const ZERO_BLOCK: [u8; BLOCK_BYTES as usize] = [0; BLOCK_BYTES as usize];
/// Words of the map that a chunk has.
const CHUNK_WORDS: usize = (CHUNK_BYTES / BLOCK_BYTES / WORD_BLOCKS) as usize;

/// What the next piece of the disk is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Piece {
    /// That many zeros: whole chunks, unless the disk ends with them.
    Zeros(u64),
    /// A chunk, which is shorter only at the end of the disk.
    Chunk {
        length: u64,
        crc: u32,
        words: [u64; CHUNK_WORDS],
    },
}

/// The file `data`, written by several threads.
pub(crate) struct DataWriter {
    file: StoreFile,
    path: PathBuf,
}

impl DataWriter {
    pub(crate) fn create(directory: &Path) -> Result<Self, BuildError> {
        let path = directory.join(DATA_FILE);
        let file = StoreFile::create_new(&path).map_err(BuildError::store("create", &path))?;
        Ok(Self { file, path })
    }

    /// Opens the one that a crash or a cancellation has left, and cuts it off behind the first `length` bytes.
    pub(super) fn resume(directory: &Path, length: u64) -> Result<Self, BuildError> {
        let path = directory.join(DATA_FILE);
        let file = StoreFile::open_writable(&path).map_err(BuildError::store("open", &path))?;
        file.set_len(length)
            .map_err(BuildError::store("cut off", &path))?;
        Ok(Self { file, path })
    }

    /// Makes what was written so far durable.
    pub(super) fn sync(&self) -> Result<(), BuildError> {
        self.file
            .sync_data()
            .map_err(BuildError::store("sync", &self.path))
    }

    /// Gives the file the length of a disk of `size_bytes`.
    pub(crate) fn extend(&self, size_bytes: u64) -> Result<(), BuildError> {
        self.file
            .set_len(size_bytes.next_multiple_of(BLOCK_BYTES))
            .map_err(BuildError::store("extend", &self.path))
    }

    /// The file, for reading only.
    pub(crate) fn reader(&self) -> &File {
        self.file.reader()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the runs of blocks of a chunk that are not zero.
    pub(crate) fn write_chunk(&self, offset: u64, bytes: &[u8]) -> Result<Piece, BuildError> {
        let zero: Vec<bool> = bytes
            .chunks(BLOCK_BYTES as usize)
            .map(|block| block == &ZERO_BLOCK[..block.len()])
            .collect();
        let mut words = [0; CHUNK_WORDS];
        let mut block = 0;
        for run in zero.chunk_by(|a, b| a == b) {
            if !run[0] {
                let start = block * BLOCK_BYTES as usize;
                let end = bytes.len().min((block + run.len()) * BLOCK_BYTES as usize);
                self.file
                    .write_all_at(&bytes[start..end], offset + start as u64)
                    .map_err(BuildError::store("write", &self.path))?;
                for held in block..block + run.len() {
                    words[held / WORD_BLOCKS as usize] |= 1 << (held as u64 % WORD_BLOCKS);
                }
            }
            block += run.len();
        }
        Ok(Piece::Chunk {
            length: bytes.len() as u64,
            crc: chunk_sum(bytes),
            words,
        })
    }
}

/// What is known of a version whose data is being written.
pub(crate) struct VersionWriter {
    version: VersionRef,
    image: ImageSum,
    sums: Vec<u32>,
    words: Vec<Word>,
    offset: u64,
}

impl VersionWriter {
    pub(crate) fn new(version: VersionRef) -> Self {
        Self {
            version,
            image: ImageSum::default(),
            sums: Vec::new(),
            words: Vec::new(),
            offset: 0,
        }
    }

    /// Goes on where a checkpoint was made, at the end of a chunk.
    pub(super) fn resume(&mut self, done: Done) {
        for &crc in &done.sums.chunks {
            self.image.push_known(crc, CHUNK_BYTES);
        }
        self.offset = done.sums.size_bytes;
        self.sums = done.sums.chunks;
        self.words = done.words;
    }

    /// Checksums of what was added so far.
    pub(super) fn sums(&self) -> Sums {
        Sums {
            image: *self.version.image.0.as_bytes(),
            number: u64::from(self.version.number),
            size_bytes: self.offset,
            chunks: self.sums.clone(),
        }
    }

    /// Header of the map of what was added so far.
    pub(super) fn map_header(&self) -> MapHeader {
        MapHeader {
            kind: MapKind::Version,
            owner: *self.version.image.0.as_bytes(),
            number: u64::from(self.version.number),
            size_bytes: self.offset,
            boot_id: [0; 16],
        }
    }

    /// The blocks held of what was added so far.
    pub(super) fn words(&self) -> &[Word] {
        &self.words
    }

    /// Adds what follows all pieces added before; answers the checksum of the last chunk.
    pub(crate) fn add(&mut self, piece: Piece) -> u32 {
        match piece {
            Piece::Zeros(length) => {
                let end = self.offset + length;
                while self.offset < end {
                    let chunk = (end - self.offset).min(CHUNK_BYTES);
                    self.sums.push(self.image.push_zeros(chunk));
                    self.offset += chunk;
                }
            }
            Piece::Chunk { length, crc, words } => {
                self.sums.push(self.image.push_known(crc, length));
                let first = self.offset / (BLOCK_BYTES * WORD_BLOCKS);
                let held = (first as u32..).zip(words).filter(|&(_, word)| word != 0);
                self.words.extend(held);
                self.offset += length;
            }
        }
        self.sums.last().copied().unwrap_or(0)
    }

    /// Bytes of disk added so far.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Writes the other files and makes everything durable and read-only. `about` says what the version is; size, blocks and
    /// checksums are set here.
    pub(crate) fn finish(
        self,
        building: &Building,
        about: Manifest,
    ) -> Result<Manifest, BuildError> {
        let held = self.words.iter().map(|(_, word)| word.count_ones());
        let manifest = Manifest {
            size_bytes: self.offset,
            data_blocks: held.map(u64::from).sum(),
            image_crc32c: self.image.value(),
            ..about
        };
        building.write(manifest, self.sums, &self.words)
    }
}
