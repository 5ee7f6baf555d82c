//! Writes the files of a base version.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use dess_model::{Timestamp, VersionRef};

use super::checkpoint::Done;
use super::lint::lint;
use crate::BLOCK_BYTES;
use crate::block_map::{WORD_BLOCKS, Word};
use crate::error::ImportError;
use crate::files::{self, StoreFile};
use crate::map_file::{MapHeader, MapKind};
use crate::version::{
    CHUNK_BYTES, DATA_FILE, ImageSum, MANIFEST_FILE, MANIFEST_FORMAT, MAP_FILE, Manifest,
    SUMS_FILE, SourceInfo, Sums,
};

const ZERO_BLOCK: [u8; BLOCK_BYTES as usize] = [0; BLOCK_BYTES as usize];
/// Words of the map that a chunk has.
const CHUNK_WORDS: usize = (CHUNK_BYTES / BLOCK_BYTES / WORD_BLOCKS) as usize;

/// What the next piece of the disk is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Piece {
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
pub(super) struct DataWriter {
    file: StoreFile,
    path: PathBuf,
}

impl DataWriter {
    pub(super) fn create(directory: &Path) -> Result<Self, ImportError> {
        let path = directory.join(DATA_FILE);
        let file = StoreFile::create_new(&path).map_err(ImportError::store("create", &path))?;
        Ok(Self { file, path })
    }

    /// Opens the one that an import has left, and cuts it off behind the first `length` bytes.
    pub(super) fn resume(directory: &Path, length: u64) -> Result<Self, ImportError> {
        let path = directory.join(DATA_FILE);
        let file = StoreFile::open_writable(&path).map_err(ImportError::store("open", &path))?;
        file.set_len(length)
            .map_err(ImportError::store("cut off", &path))?;
        Ok(Self { file, path })
    }

    /// Makes what was written so far durable.
    pub(super) fn sync(&self) -> Result<(), ImportError> {
        self.file
            .sync_data()
            .map_err(ImportError::store("sync", &self.path))
    }

    /// Writes the runs of blocks of a chunk that are not zero.
    pub(super) fn write_chunk(&self, offset: u64, bytes: &[u8]) -> Result<Piece, ImportError> {
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
                    .map_err(ImportError::store("write", &self.path))?;
                for held in block..block + run.len() {
                    words[held / WORD_BLOCKS as usize] |= 1 << (held as u64 % WORD_BLOCKS);
                }
            }
            block += run.len();
        }
        Ok(Piece::Chunk {
            length: bytes.len() as u64,
            crc: crc32c::crc32c(bytes),
            words,
        })
    }
}

/// What is known of a version whose data is being written.
pub(super) struct VersionWriter {
    directory: PathBuf,
    version: VersionRef,
    image: ImageSum,
    sums: Vec<u32>,
    words: Vec<Word>,
    offset: u64,
}

impl VersionWriter {
    pub(super) fn new(directory: &Path, version: VersionRef) -> Self {
        Self {
            directory: directory.to_owned(),
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

    /// Adds what follows all pieces added before.
    pub(super) fn add(&mut self, piece: Piece) {
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
    }

    /// Bytes of disk added so far.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Writes the other files and makes everything durable and read-only.
    pub(super) fn finish(
        self,
        data: &DataWriter,
        source: SourceInfo,
        comment: &str,
        created: Timestamp,
    ) -> Result<Manifest, ImportError> {
        let size_bytes = self.offset;
        let sums = self.sums().encode();
        let held = self.words.iter().map(|(_, word)| word.count_ones());
        let mut manifest = Manifest {
            format: MANIFEST_FORMAT,
            version: self.version,
            parent: None,
            size_bytes,
            data_blocks: held.map(u64::from).sum(),
            created,
            source: Some(source),
            overlay: None,
            comment: comment.to_owned(),
            author: String::new(),
            image_crc32c: self.image.value(),
            map_crc32c: 0,
            sums_crc32c: crc32c::crc32c(&sums),
            lint: None,
        };
        let header = manifest.map_header();
        let mut map = header.encode_file();
        header.encode_flush(&self.words, 1, 0, &mut map);
        manifest.map_crc32c = crc32c::crc32c(&map);
        data.file
            .set_len(size_bytes.next_multiple_of(BLOCK_BYTES))
            .map_err(ImportError::store("extend", &data.path))?;
        let read = |offset, buffer: &mut [u8]| data.file.reader().read_exact_at(buffer, offset);
        let seen = lint(size_bytes, &read).map_err(ImportError::store("read", &data.path))?;
        manifest.lint = Some(seen);
        let json = serde_json::to_vec_pretty(&manifest)
            .expect("a struct of numbers and strings has a JSON form");

        seal(&data.file).map_err(ImportError::store("sync", &data.path))?;
        for (name, content) in [(SUMS_FILE, sums), (MAP_FILE, map), (MANIFEST_FILE, json)] {
            let path = self.directory.join(name);
            let written = StoreFile::create_new(&path).and_then(|file| {
                file.write_all_at(&content, 0)?;
                seal(&file)
            });
            written.map_err(ImportError::store("write", &path))?;
        }
        let directory = &self.directory;
        files::sync_dir(directory).map_err(ImportError::store("sync", directory))?;
        Ok(manifest)
    }
}

fn seal(file: &StoreFile) -> std::io::Result<()> {
    file.make_read_only()?;
    file.sync_all()
}
