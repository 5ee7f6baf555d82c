//! The snapshot file: written whole by `node`, read by the data path.

use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{SiteSnapshot, SnapshotError};

/// Reads the snapshot file again whenever it was replaced; cheap enough to ask at every packet.
///
/// A damaged or missing file leaves the last good snapshot in force.
#[derive(Debug)]
pub struct SnapshotReader {
    path: PathBuf,
    cached: Mutex<Cached>,
}

#[derive(Debug, Default)]
struct Cached {
    identity: Option<FileIdentity>,
    snapshot: Option<Arc<SiteSnapshot>>,
    /// The file of which it was logged that it cannot be used.
    trouble: Option<FileIdentity>,
}

/// Tells one replacement of the file from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileIdentity {
    inode: u64,
    size: u64,
    modified_s: i64,
    modified_ns: i64,
}

impl SnapshotReader {
    /// A reader of the file at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            cached: Mutex::default(),
        }
    }

    /// The snapshot in force; none before `node` has ever written one.
    pub fn current(&self) -> Option<Arc<SiteSnapshot>> {
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        let identity = fs::metadata(&self.path)
            .ok()
            .map(|found| FileIdentity::of(&found));
        if identity.is_some() && identity != cached.identity {
            let found = read(&self.path);
            // What could not be read is tried again; what was read need not be, good or bad.
            if matches!(found, Ok(_) | Err(ReadError::Content(_))) {
                cached.identity = identity;
            }
            match found {
                Ok(snapshot) => {
                    cached.trouble = None;
                    tracing::info!(
                        snapshot.revision = snapshot.revision,
                        "site snapshot loaded"
                    );
                    cached.snapshot = Some(Arc::new(snapshot));
                }
                // At every packet the same failure: one line.
                Err(_) if cached.trouble == identity => {}
                Err(error) => {
                    cached.trouble = identity;
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "cannot use {}; the previous snapshot stays in force",
                        self.path.display()
                    );
                }
            }
        }
        cached.snapshot.clone()
    }
}

impl FileIdentity {
    fn of(found: &Metadata) -> Self {
        Self {
            inode: found.ino(),
            size: found.size(),
            modified_s: found.mtime(),
            modified_ns: found.mtime_nsec(),
        }
    }
}

/// Replaces the snapshot file in one step; readers see the old or the new one, never a mixture.
/// Only the owner can read it (it holds the CHAP secrets).
///
/// # Errors
/// If the directory cannot be written; the old file is then untouched.
pub fn write_snapshot(path: &Path, snapshot: &SiteSnapshot) -> io::Result<()> {
    let json = snapshot.to_json().map_err(io::Error::other)?;
    let temporary = path.with_extension("json.new");
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(&json)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn read(path: &Path) -> Result<SiteSnapshot, ReadError> {
    Ok(SiteSnapshot::from_json(&fs::read(path)?)?)
}

#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("cannot read the file")]
    Io(#[from] io::Error),
    #[error("the content cannot be used")]
    Content(#[from] SnapshotError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Registration, SNAPSHOT_FORMAT, ServerEntry, Timestamp};

    fn snapshot(revision: u64) -> SiteSnapshot {
        SiteSnapshot {
            format: SNAPSHOT_FORMAT,
            revision,
            compiled_at: Timestamp(1),
            site_name: "테스트".into(),
            registration: Registration::Auto,
            server: ServerEntry {
                address: [10, 77, 0, 1].into(),
                interfaces: vec!["eth0".into()],
                http_port: 80,
                portals: vec![],
            },
            subnets: vec![],
            clients: vec![],
            versions: vec![],
            groups: vec![],
            pool: Default::default(),
        }
    }

    #[test]
    fn a_damaged_file_leaves_the_last_good_snapshot_in_force() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("site.json");
        let reader = SnapshotReader::new(&path);
        assert!(reader.current().is_none());
        write_snapshot(&path, &snapshot(1)).unwrap();
        assert_eq!(reader.current().unwrap().revision, 1);
        fs::write(&path, b"{ half").unwrap();
        assert_eq!(reader.current().unwrap().revision, 1);
        write_snapshot(&path, &snapshot(2)).unwrap();
        assert_eq!(reader.current().unwrap().revision, 2);
        fs::remove_file(&path).unwrap();
        assert_eq!(reader.current().unwrap().revision, 2);
    }

    #[test]
    fn a_file_that_could_not_be_read_for_a_moment_is_read_as_soon_as_it_can_be() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("site.json");
        // Exists, but reading it fails (EISDIR, as it might with EMFILE or EIO).
        fs::create_dir(&path).unwrap();
        let reader = SnapshotReader::new(&path);
        assert!(reader.current().is_none());
        let cached = reader.cached.lock().unwrap();
        assert_eq!(cached.identity, None, "it is tried again");
        assert!(cached.trouble.is_some(), "and logged once");
    }
}
