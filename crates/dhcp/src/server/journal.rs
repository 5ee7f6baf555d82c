//! The lease journal on disk (records: [`crate::record`]).
//!
//! Order of writes: records at the end, fdatasync, then the answers leave. A crash between any
//! two loses at most leases that no client was told of. Space is written with zeros a mebibyte
//! ahead, so that a sync touches data only and no file size. Compaction writes the live leases to
//! a new file, syncs it, renames it over the old one and syncs the directory: before the rename
//! the old file is whole, after it the new one.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::JournalError;
use crate::lease::Binding;
use crate::record::{self, RECORD_BYTES};

/// Space written ahead, in bytes.
const RESERVE_BYTES: u64 = 1024 * 1024;
/// Size below which the journal is not compacted, in bytes.
const COMPACT_BYTES_MIN: u64 = 4 * 1024 * 1024;

/// An open journal; one process at a time.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    used: u64,
    reserved: u64,
}

impl Journal {
    /// Opens or makes the journal at `path`; returns the records in it, oldest first. Damaged
    /// ones (the torn tail of a power cut) are dropped with a warning.
    ///
    /// # Errors
    /// If the file cannot be used, or another process uses it.
    pub fn open(path: &Path) -> Result<(Self, Vec<Binding>), JournalError> {
        let failed = failure(path);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(|e| failed("make the directory of", e))?;
        }
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|e| failed("open", e))?;
        lock(&file, path)?;
        let bytes = fs::read(path).map_err(|e| failed("read", e))?;
        let content = record::read_journal(&bytes);
        if content.damaged > 0 {
            tracing::warn!(
                journal.damaged = content.damaged,
                "{} has damaged records (a write cut off by a power failure); they were dropped",
                path.display()
            );
        }
        let used = content.used_bytes as u64;
        let mut journal = Self {
            path: path.to_owned(),
            file,
            used,
            reserved: bytes.len() as u64,
        };
        // A tail that is no whole record is overwritten, its rest with zeros.
        journal.reserve(used);
        sync_directory(path).map_err(|e| failed("sync the directory of", e))?;
        Ok((journal, content.records))
    }

    /// Appends records and makes them durable.
    ///
    /// # Errors
    /// If the file system refuses; the records may or may not be there then.
    pub fn append(&mut self, records: &[Binding]) -> Result<(), JournalError> {
        let bytes: Vec<u8> = records
            .iter()
            .filter_map(record::encode_record)
            .flatten()
            .collect();
        if bytes.is_empty() {
            return Ok(());
        }
        self.write(&bytes)
            .map_err(|e| failure(&self.path)("write", e))
    }

    /// True if most of a large journal is history.
    pub fn wants_compaction(&self, live: usize) -> bool {
        let needed = (live * RECORD_BYTES) as u64;
        self.used > COMPACT_BYTES_MIN.max(4 * needed)
    }

    /// Replaces the journal by one that holds only these bindings.
    ///
    /// # Errors
    /// If the file system refuses; the journal then goes on as it was.
    pub fn compact(&mut self, live: &[Binding]) -> Result<(), JournalError> {
        let failed = failure(&self.path);
        let temporary = self.path.with_extension("new");
        let bytes: Vec<u8> = live
            .iter()
            .filter_map(record::encode_record)
            .flatten()
            .collect();
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(|e| failed("make a new", e))?;
        lock(&file, &temporary)?;
        let mut fresh = Self {
            path: self.path.clone(),
            file,
            used: 0,
            reserved: 0,
        };
        fresh.write(&bytes).map_err(|e| failed("write a new", e))?;
        fs::rename(&temporary, &self.path).map_err(|e| failed("replace", e))?;
        tracing::info!(
            journal.before_bytes = self.used,
            journal.after_bytes = fresh.used,
            "lease file compacted"
        );
        *self = fresh;
        sync_directory(&self.path).map_err(|e| failure(&self.path)("sync the directory of", e))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = self.used + bytes.len() as u64;
        self.reserve(end);
        self.file.write_all_at(bytes, self.used)?;
        self.file.sync_data()?;
        self.used = end;
        Ok(())
    }

    /// Makes sure that zeros follow up to `end` and some more. Only syncs get slower without.
    fn reserve(&mut self, end: u64) {
        let whole = self.reserved - self.reserved % RECORD_BYTES as u64;
        if whole > end && whole == self.reserved {
            return;
        }
        let from = whole.max(self.used);
        let until = end.next_multiple_of(RESERVE_BYTES) + RESERVE_BYTES;
        let zeros = vec![0; usize::try_from(until - from).unwrap_or(0)];
        let written = self.file.write_all_at(&zeros, from);
        match written.and_then(|()| self.file.sync_all()) {
            Ok(()) => self.reserved = until,
            Err(error) => {
                tracing::debug!(%error, "no space reserved in {}", self.path.display());
            }
        }
    }
}

fn lock(file: &File, path: &Path) -> Result<(), JournalError> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => JournalError::Locked {
            path: path.to_owned(),
        },
        TryLockError::Error(source) => failure(path)("lock", source),
    })
}

fn failure(path: &Path) -> impl Fn(&'static str, io::Error) -> JournalError + use<> {
    let path = path.to_owned();
    move |attempt, source| JournalError::Io {
        attempt,
        path: path.clone(),
        source,
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
