//! Writes the files of a base version.

use std::path::{Path, PathBuf};

use dess_model::{Timestamp, VersionRef};

use crate::BLOCK_BYTES;
use crate::block_map::BlockMap;
use crate::error::ImportError;
use crate::files::{self, StoreFile};
use crate::version::{
    DATA_FILE, ImageSum, MANIFEST_FILE, MANIFEST_FORMAT, MAP_FILE, Manifest, SUMS_FILE, SourceInfo,
    Sums,
};

const ZERO_BLOCK: [u8; BLOCK_BYTES as usize] = [0; BLOCK_BYTES as usize];

/// The next MiB of the disk (less only at its end).
pub(super) enum Chunk<'a> {
    /// That many zeros.
    Zeros(u64),
    Bytes(&'a [u8]),
}

pub(super) struct VersionWriter {
    directory: PathBuf,
    version: VersionRef,
    size_bytes: u64,
    data: StoreFile,
    map: BlockMap,
    image: ImageSum,
    sums: Vec<u32>,
    offset: u64,
}

impl VersionWriter {
    pub(super) fn create(
        directory: &Path,
        version: VersionRef,
        size_bytes: u64,
    ) -> Result<Self, ImportError> {
        let path = directory.join(DATA_FILE);
        let data = StoreFile::create_new(&path).map_err(ImportError::store("create", &path))?;
        data.set_len(size_bytes.next_multiple_of(BLOCK_BYTES))
            .map_err(ImportError::store("extend", &path))?;
        Ok(Self {
            directory: directory.to_owned(),
            version,
            size_bytes,
            data,
            map: BlockMap::new(size_bytes),
            image: ImageSum::default(),
            sums: Vec::new(),
            offset: 0,
        })
    }

    /// Writes the runs of blocks that are not zero.
    pub(super) fn push(&mut self, chunk: Chunk<'_>) -> Result<(), ImportError> {
        let length = match chunk {
            Chunk::Zeros(length) => {
                self.sums.push(self.image.push_zeros(length));
                length
            }
            Chunk::Bytes(bytes) => {
                self.sums.push(self.image.push(bytes));
                self.write_runs(bytes)?;
                bytes.len() as u64
            }
        };
        self.offset += length;
        Ok(())
    }

    fn write_runs(&mut self, bytes: &[u8]) -> Result<(), ImportError> {
        let zero: Vec<bool> = bytes
            .chunks(BLOCK_BYTES as usize)
            .map(|block| block == &ZERO_BLOCK[..block.len()])
            .collect();
        let mut block = 0;
        for run in zero.chunk_by(|a, b| a == b) {
            if !run[0] {
                let start = block * BLOCK_BYTES as usize;
                let end = bytes.len().min((block + run.len()) * BLOCK_BYTES as usize);
                let path = self.directory.join(DATA_FILE);
                let failed = ImportError::store("write", &path);
                let at = self.offset + start as u64;
                self.data
                    .write_all_at(&bytes[start..end], at)
                    .and_then(|()| {
                        let first = at / BLOCK_BYTES;
                        let blocks = first..first + run.len() as u64;
                        self.map.add(blocks, &mut |_, _| Ok(()))
                    })
                    .map_err(failed)?;
            }
            block += run.len();
        }
        Ok(())
    }

    /// Writes the other files and makes everything durable and read-only.
    pub(super) fn finish(
        self,
        source: SourceInfo,
        comment: &str,
        created: Timestamp,
    ) -> Result<Manifest, ImportError> {
        let sums = Sums {
            image: *self.version.image.0.as_bytes(),
            number: u64::from(self.version.number),
            size_bytes: self.size_bytes,
            chunks: self.sums,
        }
        .encode();
        let mut manifest = Manifest {
            format: MANIFEST_FORMAT,
            version: self.version,
            parent: None,
            size_bytes: self.size_bytes,
            data_blocks: self.map.held(),
            created,
            source,
            comment: comment.to_owned(),
            image_crc32c: self.image.value(),
            map_crc32c: 0,
            sums_crc32c: crc32c::crc32c(&sums),
        };
        let header = manifest.map_header();
        let mut map = header.encode_file();
        header.encode_flush(&self.map.words(), 1, 0, &mut map);
        manifest.map_crc32c = crc32c::crc32c(&map);
        let json = serde_json::to_vec_pretty(&manifest)
            .expect("a struct of numbers and strings has a JSON form");

        let path = self.directory.join(DATA_FILE);
        seal(&self.data).map_err(ImportError::store("sync", &path))?;
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
