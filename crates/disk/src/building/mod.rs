//! A version under construction: the directory in which it is made, until one rename shows it
//! (`docs/format/version.md`). Imports, publications, flattenings and restorations all work in one.

pub(crate) mod checkpoint;
mod unfinished;
mod writer;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use dess_model::VersionRef;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tracing::warn;

pub use unfinished::{clean_unfinished, discard_unfinished};
pub(crate) use writer::{DataWriter, Piece, VersionWriter};

use crate::block_map::Word;
use crate::files::{self, StoreFile, sync_parent};
use crate::version::{
    DATA_FILE, MANIFEST_FILE, MAP_FILE, Manifest, SUMS_FILE, Sums, version_directory,
};

/// In the directory of an image: a version that is being removed.
pub(crate) const DELETE_PREFIX: &str = ".delete-";

/// What a version is made for. Each has a directory of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Import,
    Publish,
    /// A version that is being made whole, or the layered files of one that was.
    Flatten,
    Restore,
}

impl Purpose {
    const ALL: [Self; 4] = [Self::Import, Self::Publish, Self::Flatten, Self::Restore];

    fn prefix(self) -> &'static str {
        match self {
            Self::Import => ".import-",
            Self::Publish => ".publish-",
            Self::Flatten => ".flatten-",
            Self::Restore => ".restore-",
        }
    }

    fn directory(self, images: &Path, version: VersionRef) -> PathBuf {
        let name = format!("{}{}", self.prefix(), version.number);
        version_directory(images, version).with_file_name(name)
    }
}

/// A version that cannot be made. What was there before is as it was.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The store cannot be read or written.
    #[error("cannot {action} {path}")]
    Store {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The number is taken, or another process works on it.
    #[error("version {version} exists already or is being made")]
    Exists {
        /// Which.
        version: VersionRef,
    },
}

impl BuildError {
    pub(crate) fn store(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Store {
            action,
            path,
            source,
        }
    }
}

/// A locked directory beside the versions of an image. Removed when it is dropped, unless it was published or is kept; after
/// an exchange that removes the former files.
pub(crate) struct Building {
    path: PathBuf,
    target: PathBuf,
    version: VersionRef,
    /// Locked while it is worked in, so that nobody cleans it away.
    _lock: File,
    stays: bool,
}

impl Building {
    /// Makes and locks the directory. What a crash has left in it is still there: see [`empty`](Self::empty).
    pub(crate) fn begin(
        images: &Path,
        version: VersionRef,
        purpose: Purpose,
    ) -> Result<Self, BuildError> {
        let path = purpose.directory(images, version);
        files::create_dir_all(&path).map_err(BuildError::store("create", &path))?;
        let lock = lock(&path).map_err(BuildError::store("lock", &path))?;
        let Some(lock) = lock else {
            return Err(BuildError::Exists { version });
        };
        Ok(Self {
            path,
            target: version_directory(images, version),
            version,
            _lock: lock,
            stays: false,
        })
    }

    /// Removes what a crash has left in it, but for the file `keep`.
    pub(crate) fn empty(&self, keep: Option<&str>) -> Result<(), BuildError> {
        for left in entries(&self.path)? {
            if left.file_name().and_then(|name| name.to_str()) != keep {
                files::remove_file(&left).map_err(BuildError::store("remove", &left))?;
            }
        }
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn version(&self) -> VersionRef {
        self.version
    }

    /// Makes the empty data file.
    pub(crate) fn create_data(&self, bytes: u64) -> Result<StoreFile, BuildError> {
        let path = self.path.join(DATA_FILE);
        let made = StoreFile::create_new(&path).and_then(|file| file.set_len(bytes).map(|()| file));
        made.map_err(BuildError::store("create", &path))
    }

    /// Gives an existing file a second name as this version's data. False if it lies on another file system.
    pub(crate) fn link_data(&self, from: &Path) -> Result<bool, BuildError> {
        let path = self.path.join(DATA_FILE);
        match files::link(from, &path) {
            Ok(()) => Ok(true),
            Err(error) if is_no_link(&error) => Ok(false),
            Err(error) => Err(BuildError::store("link", &path)(error)),
        }
    }

    /// Writes the other files and makes everything durable and read-only. The checksums in `manifest` of the other files are set
    /// here.
    pub(crate) fn write(
        &self,
        mut manifest: Manifest,
        chunks: Vec<u32>,
        words: &[Word],
    ) -> Result<Manifest, BuildError> {
        let sums = Sums {
            image: *manifest.version.image.0.as_bytes(),
            number: u64::from(manifest.version.number),
            size_bytes: manifest.size_bytes,
            chunks,
        }
        .encode();
        let header = manifest.map_header();
        let mut map = header.encode_file();
        header.encode_flush(words, 1, 0, &mut map);
        manifest.map_crc32c = crc32c::crc32c(&map);
        manifest.sums_crc32c = crc32c::crc32c(&sums);
        let json = serde_json::to_vec_pretty(&manifest)
            .expect("a struct of numbers and strings has a JSON form");
        let data = self.path.join(DATA_FILE);
        StoreFile::open(&data)
            .and_then(|file| seal(&file))
            .map_err(BuildError::store("sync", &data))?;
        for (name, content) in [(SUMS_FILE, sums), (MAP_FILE, map), (MANIFEST_FILE, json)] {
            let path = self.path.join(name);
            let written = StoreFile::create_new(&path).and_then(|file| {
                file.write_all_at(&content, 0)?;
                seal(&file)
            });
            written.map_err(BuildError::store("write", &path))?;
        }
        files::sync_dir(&self.path).map_err(BuildError::store("sync", &self.path))?;
        Ok(manifest)
    }

    /// Shows it under its number, which must be free.
    ///
    /// Order: all files and the directory are synced by now; rename; sync the names above. A crash before the rename leaves what
    /// [`clean_unfinished`] removes, after it a whole version.
    pub(crate) fn publish(mut self) -> Result<(), BuildError> {
        match files::rename_new(&self.path, &self.target) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(BuildError::Exists {
                    version: self.version,
                });
            }
            Err(error) => return Err(BuildError::store("rename", &self.path)(error)),
        }
        self.stays = true;
        sync_names(&self.target).map_err(BuildError::store("sync", &self.target))
    }

    /// Takes the place of the version, whose former files are removed.
    pub(crate) fn exchange(self) -> Result<(), BuildError> {
        files::exchange(&self.path, &self.target)
            .map_err(BuildError::store("exchange", &self.path))?;
        sync_parent(&self.target).map_err(BuildError::store("sync", &self.target))
    }

    /// It was cancelled. What a checkpoint covers stays, so that it can go on.
    pub(crate) fn suspend(mut self) {
        self.stays = checkpoint::is_fresh(&self.path);
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        if !self.stays
            && let Err(error) = files::remove_dir_all(&self.path)
        {
            warn!(path = %self.path.display(), %error, "unused files of a version stay until the next start");
        }
    }
}

/// Makes the name of a version durable, with its image's and that of the image directory itself.
pub(crate) fn sync_names(version: &Path) -> io::Result<()> {
    version.ancestors().take(3).try_for_each(sync_parent)
}

/// Locks a directory; `None` if another process holds it.
fn lock(directory: &Path) -> io::Result<Option<File>> {
    let file = File::open(directory)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Paths in a directory; none if it does not exist.
pub(crate) fn entries(directory: &Path) -> Result<Vec<PathBuf>, BuildError> {
    let error = || BuildError::store("read", directory);
    let listing = match fs::read_dir(directory) {
        Ok(listing) => listing,
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(other) => return Err(error()(other)),
    };
    listing
        .map(|entry| entry.map(|entry| entry.path()).map_err(error()))
        .collect()
}

/// The file system cannot give a file a second name there: it is another one, or it has no such names.
fn is_no_link(error: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, TooManyLinks, Unsupported};
    matches!(error.kind(), CrossesDevices | TooManyLinks | Unsupported)
        || error.raw_os_error() == Some(Errno::PERM.raw_os_error())
}

fn seal(file: &StoreFile) -> io::Result<()> {
    file.make_read_only()?;
    file.sync_all()
}
