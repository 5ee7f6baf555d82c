//! The directory in which a version is built, until one rename shows it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use dess_model::VersionRef;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tracing::warn;

use super::LayerError;
use crate::block_map::Word;
use crate::files::{self, StoreFile, sync_parent};
use crate::version::{
    DATA_FILE, MANIFEST_FILE, MAP_FILE, Manifest, SUMS_FILE, Sums, version_directory,
};

/// A locked directory beside the versions of an image. Removed when it is dropped, unless it was published; after an
/// exchange that removes the former files.
pub(super) struct Building {
    path: PathBuf,
    target: PathBuf,
    version: VersionRef,
    /// Locked while it is worked in, so that nobody cleans it away.
    _lock: File,
    published: bool,
}

impl Building {
    pub(super) fn begin(
        images: &Path,
        version: VersionRef,
        prefix: &str,
    ) -> Result<Self, LayerError> {
        let target = version_directory(images, version);
        let path = target.with_file_name(format!("{prefix}{}", version.number));
        files::create_dir_all(&path).map_err(LayerError::store("create", &path))?;
        let lock = File::open(&path).map_err(LayerError::store("open", &path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(LayerError::Exists { version }),
            Err(error) => return Err(LayerError::store("lock", &path)(error.into())),
        }
        let building = Self {
            path,
            target,
            version,
            _lock: lock,
            published: false,
        };
        building.empty()?;
        Ok(building)
    }

    /// What a crash has left in it is of no use.
    fn empty(&self) -> Result<(), LayerError> {
        let error = || LayerError::store("empty", &self.path);
        for entry in fs::read_dir(&self.path).map_err(error())? {
            let entry = entry.map_err(error())?;
            files::remove_file(&entry.path()).map_err(error())?;
        }
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the empty data file.
    pub(super) fn create_data(&self, bytes: u64) -> Result<StoreFile, LayerError> {
        let path = self.path.join(DATA_FILE);
        let made = StoreFile::create_new(&path).and_then(|file| file.set_len(bytes).map(|()| file));
        made.map_err(LayerError::store("create", &path))
    }

    /// Gives an existing file a second name as this version's data. False if it lies on another file system.
    pub(super) fn link_data(&self, from: &Path) -> Result<bool, LayerError> {
        let path = self.path.join(DATA_FILE);
        match files::link(from, &path) {
            Ok(()) => Ok(true),
            Err(error) if is_no_link(&error) => Ok(false),
            Err(error) => Err(LayerError::store("link", &path)(error)),
        }
    }

    /// Writes the other files and makes everything durable and read-only. The checksums in `manifest` of the other files are set
    /// here.
    pub(super) fn write(
        &self,
        mut manifest: Manifest,
        chunks: Vec<u32>,
        words: &[Word],
    ) -> Result<Manifest, LayerError> {
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
            .map_err(LayerError::store("sync", &data))?;
        for (name, content) in [(SUMS_FILE, sums), (MAP_FILE, map), (MANIFEST_FILE, json)] {
            let path = self.path.join(name);
            let written = StoreFile::create_new(&path).and_then(|file| {
                file.write_all_at(&content, 0)?;
                seal(&file)
            });
            written.map_err(LayerError::store("write", &path))?;
        }
        files::sync_dir(&self.path).map_err(LayerError::store("sync", &self.path))?;
        Ok(manifest)
    }

    /// Shows it under its number, which must be free.
    pub(super) fn publish(mut self) -> Result<(), LayerError> {
        match files::rename_new(&self.path, &self.target) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(LayerError::Exists {
                    version: self.version,
                });
            }
            Err(error) => return Err(LayerError::store("rename", &self.path)(error)),
        }
        self.published = true;
        sync_parent(&self.target).map_err(LayerError::store("sync", &self.target))
    }

    /// Takes the place of the version, whose former files are removed.
    pub(super) fn exchange(self) -> Result<(), LayerError> {
        files::exchange(&self.path, &self.target)
            .map_err(LayerError::store("exchange", &self.path))?;
        sync_parent(&self.target).map_err(LayerError::store("sync", &self.target))
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = files::remove_dir_all(&self.path)
        {
            warn!(path = %self.path.display(), %error, "unused files of a version stay until the next start");
        }
    }
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
