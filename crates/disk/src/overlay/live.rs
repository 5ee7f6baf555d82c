//! The live map: the overlay's map in a file system in memory, written before a write is acknowledged.
//! Why it is not mapped into memory: `docs/adr/0002-live-map-without-mmap.md`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use dess_model::DiskId;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::block_map::{BlockMap, WORD_BLOCKS, Word};
use crate::files::{self, StoreFile};
use crate::map_file::{MapHeader, SLOT_BYTES};

const WORD_BYTES: u64 = 8;
const WORDS_OFFSET: u64 = SLOT_BYTES as u64;
const READ_BYTES: usize = 64 * 1024;

pub(crate) struct LiveMap {
    path: PathBuf,
    file: StoreFile,
}

/// Path of the mark beside a live map that says that a flush failed.
pub(crate) fn failure_path(live: &Path) -> PathBuf {
    live.with_extension("failed")
}

/// Path of a live map.
pub(crate) fn live_path(directory: &Path, disk: DiskId, generation: u64) -> PathBuf {
    directory.join(format!("{}-{generation}.map", disk.simple()))
}

impl LiveMap {
    /// Makes the file with these words. It gets its name only when it is whole: a half-made map would be
    /// taken for one that lost writes.
    pub(crate) fn create(path: &Path, header: &MapHeader, map: &BlockMap) -> io::Result<Self> {
        let unfinished = path.with_extension("new");
        let file = StoreFile::create(&unfinished)?;
        let words = map.blocks().div_ceil(WORD_BLOCKS);
        file.set_len(WORDS_OFFSET + words * WORD_BYTES)?;
        let live = Self {
            path: path.to_owned(),
            file,
        };
        live.file.write_all_at(&header.encode(), 0)?;
        for (word, bits) in map.words() {
            live.write(u64::from(word), &[bits])?;
        }
        files::rename(&unfinished, path)?;
        // A mark that is there says something of the map before.
        match files::remove_file(&failure_path(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(live)
    }

    /// Opens the file if it is there and belongs to `header`, that is also to this boot.
    pub(crate) fn open(path: &Path, header: &MapHeader) -> io::Result<Option<Self>> {
        Self::open_if(path, |found| found == header)
    }

    /// As `open`, but takes the map of any boot: for an overlay that was put away.
    pub(crate) fn open_any_boot(path: &Path, header: &MapHeader) -> io::Result<Option<Self>> {
        Self::open_if(path, |found| {
            found.owner == header.owner && found.number == header.number
        })
    }

    fn open_if(path: &Path, belongs: impl Fn(&MapHeader) -> bool) -> io::Result<Option<Self>> {
        let file = match StoreFile::open_writable(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut slot = [0; SLOT_BYTES];
        match file.reader().read_exact_at(&mut slot, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let matches = MapHeader::decode(&slot).is_ok_and(|found| belongs(&found));
        Ok(matches.then_some(Self {
            path: path.to_owned(),
            file,
        }))
    }

    /// Notes that a flush failed, for the next process of this boot.
    pub(crate) fn mark_failed(&self) -> io::Result<()> {
        files::write(&failure_path(&self.path), &[])
    }

    /// Writes whole words, from number `first` on.
    pub(crate) fn write(&self, first: u64, words: &[u64]) -> io::Result<()> {
        let offset = WORDS_OFFSET + first * WORD_BYTES;
        match words {
            [word] => self.file.write_all_at(&word.to_le_bytes(), offset),
            words => {
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                self.file.write_all_at(&bytes, offset)
            }
        }
    }

    /// All words that are not zero. Reads only what the sparse file holds.
    pub(crate) fn words(&self) -> io::Result<Vec<Word>> {
        let mut words = Vec::new();
        let mut buffer = vec![0; READ_BYTES];
        let mut offset = WORDS_OFFSET;
        while let Some(start) = seek(self.file.reader(), SeekFrom::Data(offset))? {
            let end = seek(self.file.reader(), SeekFrom::Hole(start))?.unwrap_or(start);
            offset = start.max(WORDS_OFFSET) / WORD_BYTES * WORD_BYTES;
            while offset < end {
                let length = (end - offset)
                    .min(READ_BYTES as u64)
                    .next_multiple_of(WORD_BYTES);
                let part = &mut buffer[..length as usize];
                self.file.reader().read_exact_at(part, offset)?;
                let first = (offset - WORDS_OFFSET) / WORD_BYTES;
                let found = part.as_chunks::<8>().0.iter().zip(first..);
                words.extend(found.filter_map(|(bytes, index)| {
                    let bits = u64::from_le_bytes(*bytes);
                    (bits != 0).then_some((u32::try_from(index).ok()?, bits))
                }));
                offset += length;
            }
        }
        Ok(words)
    }
}

fn seek(file: &File, to: SeekFrom) -> io::Result<Option<u64>> {
    match rustix::fs::seek(file, to) {
        Ok(offset) => Ok(Some(offset)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
