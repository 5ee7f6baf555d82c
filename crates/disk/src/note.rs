//! A small file beside a disk, replaced whole or not at all.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::files::{self, StoreFile};

/// Most bytes that are read of a note.
const NOTE_BYTES_MAX: u64 = 1 << 20;

/// The file; it need not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    path: PathBuf,
}

impl Note {
    /// The file at `path`.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Its content; none if it does not exist.
    ///
    /// # Errors
    /// If it cannot be read, or is larger than any note.
    pub fn read(&self) -> io::Result<Option<Vec<u8>>> {
        match fs::metadata(&self.path) {
            Ok(metadata) if metadata.len() > NOTE_BYTES_MAX => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is too large",
            )),
            Ok(_) => fs::read(&self.path).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Order: the new content beside it, synced, then one rename. A crash leaves the old content or the new one; when this
    /// returns, the new one survives a power cut.
    ///
    /// # Errors
    /// If it cannot be written; the old content stays.
    pub fn replace(&self, content: &[u8]) -> io::Result<()> {
        let mut unfinished = self.path.clone().into_os_string();
        unfinished.push(".new");
        let unfinished = PathBuf::from(unfinished);
        let file = StoreFile::create(&unfinished)?;
        file.write_all_at(content, 0)?;
        file.sync_all()?;
        files::rename(&unfinished, &self.path)?;
        files::sync_parent(&self.path)
    }

    /// Removes it, durably. Nothing to do if it does not exist.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(&self) -> io::Result<()> {
        match files::remove_file(&self.path) {
            Ok(()) => files::sync_parent(&self.path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_replaced_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        let note = Note::new(directory.path().join("note"));
        assert_eq!(note.read().unwrap(), None);
        note.remove().unwrap();
        note.replace(b"one").unwrap();
        note.replace(b"two").unwrap();
        assert_eq!(note.read().unwrap().unwrap(), b"two");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        note.remove().unwrap();
        assert_eq!(note.read().unwrap(), None);
    }
}
