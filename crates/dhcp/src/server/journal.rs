//! The lease journal on disk (records: [`crate::record`]).
//!
//! Order of writes: records at the end, then the answers leave, then fdatasync. A kill of the
//! service loses nothing; a power cut may lose the leases of the last, unfinished sync, and the
//! start record of another boot tells so. A clean stop is recorded when all before it is synced.
//! Space is written with zeros a mebibyte ahead, so that a sync touches data only and no file
//! size. Compaction writes the live leases to a new file and syncs it, appends and syncs what came
//! meanwhile, renames it over the old one and syncs the directory: before the rename the old file
//! is whole, after it the new one.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::JournalError;
use crate::lease::Binding;
use crate::record::{self, JournalContent, RECORD_BYTES, Session};

/// Space written ahead, in bytes.
const RESERVE_BYTES: u64 = 1024 * 1024;
/// Size below which the journal is not compacted, in bytes.
const COMPACT_BYTES_MIN: u64 = 4 * 1024 * 1024;

/// An open journal; one process at a time.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: Arc<File>,
    used: u64,
    reserved: u64,
    session: Option<Session>,
}

impl Journal {
    /// Opens or makes the journal at `path`; returns what is in it. Damaged records (the torn tail
    /// of a power cut) are dropped with a warning.
    ///
    /// # Errors
    /// If the file cannot be used, or another process uses it.
    pub fn open(path: &Path) -> Result<(Self, JournalContent), JournalError> {
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
        // A tail that is no whole record is overwritten with zeros.
        let reserved = match bytes.len() % RECORD_BYTES {
            0 => bytes.len(),
            _ => content.used_bytes,
        } as u64;
        let mut journal = Self {
            path: path.to_owned(),
            file: Arc::new(file),
            used: content.used_bytes as u64,
            reserved,
            session: None,
        };
        journal.reserve();
        sync_directory(path).map_err(|e| failed("sync the directory of", e))?;
        Ok((journal, content))
    }

    /// Records that the service starts, durably. Every file made by compaction tells it too.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn start(&mut self, session: Session) -> Result<(), JournalError> {
        self.session = Some(session);
        self.write(&record::encode_session(&session))?;
        self.sync()
    }

    /// Makes all durable, then records a clean stop, durably.
    ///
    /// # Errors
    /// If the file system refuses; the next start then assumes a power cut.
    pub fn stop(&mut self) -> Result<(), JournalError> {
        self.sync()?;
        let Some(session) = self.session else {
            return Ok(());
        };
        let stopped = Session {
            stopped: true,
            ..session
        };
        self.write(&record::encode_session(&stopped))?;
        self.sync()
    }

    /// Appends records. They survive the process at once, a power cut after a sync of
    /// [`file`](Self::file).
    ///
    /// # Errors
    /// If the file system refuses; the records may or may not be there then.
    pub fn append(&mut self, records: &[Binding]) -> Result<(), JournalError> {
        self.write(&encoded(records))
    }

    /// The file to sync, which needs no hold of the journal.
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// The error of a sync of [`file`](Self::file).
    pub fn sync_failed(&self, source: io::Error) -> JournalError {
        failure(&self.path)("sync", source)
    }

    /// Makes sure that enough zeros follow the records. Only syncs get slower without. They are
    /// durable with the next sync.
    pub fn reserve(&mut self) {
        if self.reserved >= self.used + RESERVE_BYTES / 2 {
            return;
        }
        let until = self.reserved.next_multiple_of(RESERVE_BYTES) + RESERVE_BYTES;
        let zeros = vec![0; usize::try_from(until - self.reserved).unwrap_or(0)];
        match self.file.write_all_at(&zeros, self.reserved) {
            Ok(()) => self.reserved = until,
            Err(error) => {
                tracing::debug!(%error, "no space reserved in {}", self.path.display());
            }
        }
    }

    /// True if most of a large journal is history.
    pub fn wants_compaction(&self, live: usize) -> bool {
        let needed = (live * RECORD_BYTES) as u64;
        self.used > COMPACT_BYTES_MIN.max(4 * needed)
    }

    /// Begins a compaction, which goes on without holding the journal.
    pub fn compaction(&self) -> Compaction {
        Compaction {
            path: self.path.clone(),
            session: self.session,
            since: self.used,
        }
    }

    /// Goes over to the new file. What was appended to the old one since the compaction began is
    /// taken along; that costs one sync.
    ///
    /// # Errors
    /// If the file system refuses; the journal then goes on as it was.
    pub fn finish(&mut self, compacted: Compacted) -> Result<(), JournalError> {
        let failed = failure(&self.path);
        let Compacted { since, mut fresh } = compacted;
        let mut appended = vec![0; usize::try_from(self.used - since).unwrap_or(0)];
        self.file
            .read_exact_at(&mut appended, since)
            .map_err(|e| failed("read", e))?;
        fresh.write(&appended)?;
        fresh.sync()?;
        fs::rename(&fresh.path, &self.path).map_err(|e| failed("replace", e))?;
        tracing::info!(
            journal.before_bytes = self.used,
            journal.after_bytes = fresh.used,
            "lease file compacted"
        );
        fresh.path.clone_from(&self.path);
        *self = fresh;
        sync_directory(&self.path).map_err(|e| failed("sync the directory of", e))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), JournalError> {
        self.file
            .write_all_at(bytes, self.used)
            .map_err(|e| failure(&self.path)("write", e))?;
        self.used += bytes.len() as u64;
        self.reserved = self.reserved.max(self.used);
        Ok(())
    }

    fn sync(&self) -> Result<(), JournalError> {
        self.file.sync_data().map_err(|e| self.sync_failed(e))
    }
}

/// A compaction that began.
#[derive(Debug)]
pub struct Compaction {
    path: PathBuf,
    session: Option<Session>,
    since: u64,
}

/// A new file with the live leases, to become the journal.
#[derive(Debug)]
pub struct Compacted {
    since: u64,
    fresh: Journal,
}

impl Compaction {
    /// Writes the new file beside the journal and syncs it. `live` must have all that was
    /// appended before the compaction began.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn write(self, live: &[Binding]) -> Result<Compacted, JournalError> {
        let failed = failure(&self.path);
        let temporary = self.path.with_extension("new");
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(|e| failed("make a new", e))?;
        lock(&file, &temporary)?;
        let mut fresh = Journal {
            path: temporary,
            file: Arc::new(file),
            used: 0,
            reserved: 0,
            session: self.session,
        };
        if let Some(session) = self.session {
            fresh.write(&record::encode_session(&session))?;
        }
        fresh.append(live)?;
        fresh.reserve();
        fresh.sync()?;
        Ok(Compacted {
            since: self.since,
            fresh,
        })
    }
}

fn encoded(records: &[Binding]) -> Vec<u8> {
    let encoded = records.iter().filter_map(record::encode_record);
    encoded.flatten().collect()
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
