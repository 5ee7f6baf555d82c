//! Who is expected back after a restart of the service: a note per disk that a system uses, in the runtime directory,
//! which outlives the process but not the boot of the server.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dess_model::DiskId;

/// How long a system may take to come back. Windows tries every 5 s, open-iscsi more often.
const RETURN_WITHIN: Duration = Duration::from_secs(12);

/// The systems that used a disk when the service ended, and have not come back.
#[derive(Debug)]
pub(crate) struct Returning {
    directory: PathBuf,
    until: Instant,
    expected: Mutex<HashSet<DiskId>>,
}

impl Returning {
    /// Reads the notes that the last process left.
    ///
    /// # Errors
    /// If the directory cannot be made or read.
    pub(crate) fn open(directory: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        let mut expected = HashSet::new();
        for entry in fs::read_dir(&directory)? {
            let name = entry?.file_name();
            expected.extend(name.to_str().and_then(|name| name.parse::<DiskId>().ok()));
        }
        Ok(Self {
            directory,
            until: Instant::now() + RETURN_WITHIN,
            expected: Mutex::new(expected),
        })
    }

    /// Until when a system that used this disk is waited for; none if none is expected.
    pub(crate) fn expected_until(&self, disk: DiskId) -> Option<Instant> {
        (Instant::now() < self.until && self.lock().contains(&disk)).then_some(self.until)
    }

    /// A system uses the disk.
    pub(crate) fn arrived(&self, disk: DiskId) {
        self.lock().remove(&disk);
        if let Err(error) = fs::write(self.note(disk), []) {
            tracing::warn!(%error, disk.id = %disk, "cannot note that the disk is in use");
        }
    }

    /// None uses it any more, and none is expected back.
    pub(crate) fn gone(&self, disk: DiskId) {
        self.lock().remove(&disk);
        match fs::remove_file(self.note(disk)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, disk.id = %disk, "cannot note that the disk is free");
            }
            _ => {}
        }
    }

    fn note(&self, disk: DiskId) -> PathBuf {
        self.directory.join(disk.to_string())
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<DiskId>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_were_there_are_expected_until_they_come_or_are_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("in-use");
        let [one, other, third] = [1, 2, 3].map(|number| {
            let text = format!("{number:032}");
            text.parse::<DiskId>().unwrap()
        });
        let before = Returning::open(path.clone()).unwrap();
        for disk in [one, other, third] {
            assert_eq!(before.expected_until(disk), None);
            before.arrived(disk);
            // Who is there is not expected.
            assert_eq!(before.expected_until(disk), None);
        }
        before.gone(third);
        let after = Returning::open(path.clone()).unwrap();
        assert!(after.expected_until(one).is_some() && after.expected_until(other).is_some());
        assert_eq!(after.expected_until(third), None);
        after.arrived(one);
        after.gone(other);
        assert_eq!(after.expected_until(one), None);
        assert_eq!(after.expected_until(other), None);
        // A second crash: who came back is expected again.
        let again = Returning::open(path).unwrap();
        assert!(again.expected_until(one).is_some());
        assert_eq!(again.expected_until(other), None);
    }
}
