//! The durable map of a persistent overlay (`docs/format/overlay.md`).

use std::io;
use std::path::{Path, PathBuf};

use crate::block_map::Word;
use crate::files::{self, StoreFile, sync_parent};
use crate::map_file::{MapContent, MapHeader, RECORDS_OFFSET, records_bytes};

/// Records below this are never compacted.
const COMPACT_BYTES: u64 = 4 << 20;
/// How many times a full map the records may take.
const COMPACT_FACTOR: u64 = 4;

/// Extension of a file that is not whole yet.
const UNFINISHED: &str = "new";

/// How an attempt to note a flush went.
#[derive(Debug)]
pub(crate) enum Appended {
    /// It is durable.
    Durable,
    /// There is no room for it. The file is as it was, and the next attempt may work.
    NoRoom(io::Error),
}

/// Appends records; knows where and with which numbers.
pub(crate) struct DurableMap {
    path: PathBuf,
    header: MapHeader,
    file: StoreFile,
    end: u64,
    next_sequence: u64,
    next_flush: u64,
    compact_bytes: u64,
}

impl DurableMap {
    /// Makes a synced file at `path` that holds `words`, replacing one that is there at once.
    pub(crate) fn create(path: &Path, header: &MapHeader, words: &[Word]) -> io::Result<Self> {
        let unfinished = path.with_extension(UNFINISHED);
        let file = StoreFile::create(&unfinished)?;
        let mut bytes = header.encode_file();
        let next_sequence = header.encode_flush(words, 1, 0, &mut bytes);
        file.write_all_at(&bytes, 0)?;
        file.sync_all()?;
        files::rename(&unfinished, path)?;
        sync_parent(path)?;
        Ok(Self {
            path: path.to_owned(),
            header: *header,
            file,
            end: bytes.len() as u64,
            next_sequence,
            next_flush: 2,
            compact_bytes: COMPACT_BYTES,
        })
    }

    /// Continues a file that ends clean. The process that wrote its last flush, or gave it its name, may have died before that
    /// was durable; as the next flush says nothing of what stands here, it is made durable now.
    pub(crate) fn resume(path: &Path, content: &MapContent) -> io::Result<Self> {
        let file = StoreFile::open_writable(path)?;
        file.sync_data()?;
        sync_parent(path)?;
        Ok(Self {
            path: path.to_owned(),
            header: content.header,
            file,
            end: content.valid_bytes,
            next_sequence: content.next_sequence,
            next_flush: content.last_flush + 1,
            compact_bytes: COMPACT_BYTES,
        })
    }

    /// Compacts maps however short they are.
    #[cfg(test)]
    pub(crate) fn compact_early(&mut self) {
        self.compact_bytes = 0;
    }

    /// True if `words` more words should rather go into a new file.
    pub(crate) fn wants_compaction(&self, words: usize, full: usize) -> bool {
        let records = self.end - RECORDS_OFFSET as u64 + records_bytes(words);
        records > self.compact_bytes && records > COMPACT_FACTOR * records_bytes(full)
    }

    /// Appends one flush and syncs it. What a full file system took of it is cut off again, so that it does not stand in the way of the
    /// next attempt, which may be a longer one.
    pub(crate) fn append(&mut self, words: &[Word]) -> io::Result<Appended> {
        let mut bytes = Vec::new();
        let records =
            self.header
                .encode_flush(words, self.next_flush, self.next_sequence, &mut bytes);
        match self.file.write_all_at(&bytes, self.end) {
            Err(error) if is_full(&error) => {
                self.file.set_len(self.end)?;
                return Ok(Appended::NoRoom(error));
            }
            written => written?,
        }
        self.file.sync_data()?;
        self.end += bytes.len() as u64;
        self.next_sequence += records;
        self.next_flush += 1;
        Ok(Appended::Durable)
    }

    /// Replaces the file by one that holds only `words`.
    pub(crate) fn compact(&mut self, words: &[Word]) -> io::Result<Appended> {
        match Self::create(&self.path, &self.header, words) {
            Ok(compacted) => {
                *self = Self {
                    compact_bytes: self.compact_bytes,
                    ..compacted
                };
                Ok(Appended::Durable)
            }
            Err(error) if is_full(&error) => {
                files::remove_file(&self.path.with_extension(UNFINISHED))?;
                Ok(Appended::NoRoom(error))
            }
            Err(error) => Err(error),
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}
