//! Raw files as disks, without a store: one file written in place, or one file under an overlay.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dess_model::{DiskId, ImageId, VersionRef};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tracing::info;
use uuid::Uuid;

use crate::data_file::DataFile;
use crate::device::{BlockDevice, BlockRead, check_range};
use crate::disk::Disk;
use crate::error::{DiskError, RawError};
use crate::files::{self, sync_parent};
use crate::note::Note;
use crate::overlay::{AfterFailure, BootId, Overlay, OverlayDescriptor, OverlayKind};
use crate::space::Allowance;
use crate::version::{DISK_BYTES_MAX, Version};

/// A raw file that is written in place. Nobody else may use it meanwhile (`flock`).
///
/// After a failed flush it refuses writes: what the kernel dropped cannot be told.
pub struct RawDisk {
    data: DataFile,
    size_bytes: u64,
    read_only: bool,
    flush_failed: AtomicBool,
    _lock: File,
}

impl RawDisk {
    /// Opens the file.
    ///
    /// # Errors
    /// If it is missing, no regular file, of a size that no disk has, or in use.
    pub fn open(path: &Path, read_only: bool) -> Result<Self, RawError> {
        let file = OpenOptions::new()
            .read(true)
            .write(!read_only)
            .open(path)
            .map_err(RawError::open(path))?;
        let size_bytes = disk_size(&file, path)?;
        let operation = match read_only {
            true => FlockOperation::NonBlockingLockShared,
            false => FlockOperation::NonBlockingLockExclusive,
        };
        let lock = lock(&file, path, operation)?;
        let data = match read_only {
            true => DataFile::open_read_only(path),
            false => DataFile::open_writable(path),
        };
        Ok(Self {
            data: data.map_err(RawError::open(path))?,
            size_bytes,
            read_only,
            flush_failed: AtomicBool::new(false),
            _lock: lock,
        })
    }

    /// Where initiators' reservations are kept: beside the file, under its name and `.reservations`.
    pub fn reservations(path: &Path) -> Note {
        let mut name = path.as_os_str().to_owned();
        name.push(".reservations");
        Note::new(name.into())
    }

    fn check_write(&self, offset: u64, length: u64) -> io::Result<()> {
        check_range(self.size_bytes, offset, length)?;
        match self.read_only || self.flush_failed.load(Ordering::Acquire) {
            true => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            false => Ok(()),
        }
    }
}

impl BlockRead for RawDisk {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        check_range(self.size_bytes, offset, buffer.len() as u64)?;
        self.data.read_at(offset, buffer)
    }

    fn try_read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        check_range(self.size_bytes, offset, buffer.len() as u64)?;
        self.data.try_read_at(offset, buffer)
    }
}

impl BlockDevice for RawDisk {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check_write(offset, data.len() as u64)?;
        self.data.write_at(offset, data)
    }

    fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        self.check_write(offset, length)?;
        match length {
            0 => Ok(()),
            _ => self.data.punch(offset, length),
        }
    }

    fn allocation(&self, offset: u64, limit: u64) -> io::Result<(bool, u64)> {
        check_range(self.size_bytes, offset, limit)?;
        self.data.allocation(offset, limit)
    }

    fn flush(&self) -> io::Result<()> {
        if self.flush_failed.load(Ordering::Acquire) {
            // The kernel would report success now for what it has dropped.
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        self.data.sync_data().inspect_err(|error| {
            self.flush_failed.store(true, Ordering::Release);
            tracing::error!(%error, "a flush failed; the disk refuses writes from now on");
        })
    }
}

/// A raw file that is only read, and a persistent overlay over it in a directory of its own.
///
/// ```text
/// DIR/.lock       held while somebody uses the overlay
/// DIR/overlay/    the overlay (docs/format/overlay.md)
/// DIR/live.map    its live map
/// DIR/new/        an overlay that is being made; removed at the next start
/// ```
pub struct RawOverlay {
    /// The disk.
    pub disk: Arc<Disk>,
    /// True if the overlay was made just now.
    pub fresh: bool,
    _locks: [File; 2],
}

const LOCK_FILE: &str = ".lock";
const OVERLAY_DIRECTORY: &str = "overlay";
const UNFINISHED_DIRECTORY: &str = "new";
const LIVE_MAP: &str = "live.map";

impl RawOverlay {
    /// Opens the overlay in `directory` over `file`; makes both directory and overlay if there is none yet.
    ///
    /// The live map lies on an ordinary file system here, and may be written back at any time. That is no matter: it counts only
    /// in the boot that its header names.
    ///
    /// # Errors
    /// [`DiskError::File`] if the file cannot be used, [`DiskError::ForeignFile`] if the overlay was made over another
    /// file or the file has changed since, [`DiskError::InUse`] if another process has the overlay, else if the
    /// directory cannot be used or is damaged.
    pub fn open(file: &Path, directory: &Path) -> Result<Self, DiskError> {
        let base = File::open(file).map_err(RawError::open(file))?;
        let descriptor = describe(&base, file)?;
        let boot_id = descriptor.boot_id;
        let shared = FlockOperation::NonBlockingLockShared;
        let base_lock = lock(&base, file, shared)?;
        let version = Version::of_raw_file(file, descriptor.base, descriptor.size_bytes)
            .map_err(RawError::open(file))?;
        let directory_lock = own(directory)?;
        let path = directory.join(OVERLAY_DIRECTORY);
        let fresh = !path.exists();
        if !fresh {
            // The process that made it may have died before the names were durable.
            sync_parent(&path)
                .and_then(|()| sync_parent(directory))
                .map_err(DiskError::store("sync", directory))?;
        }
        if fresh {
            create_overlay(directory, &descriptor)?;
            info!(path = %path.display(), "made a fresh overlay");
        }
        let found = OverlayDescriptor::read(&path)?;
        let wanted = OverlayDescriptor {
            boot_id: found.boot_id,
            ..descriptor
        };
        if found != wanted {
            return Err(DiskError::ForeignFile {
                directory: directory.to_owned(),
                file: file.to_owned(),
            });
        }
        // Whoever starts the service anew powers the client on anew.
        let after_failure = AfterFailure::FromLastFlush;
        let overlay = Overlay::open(
            &path,
            &directory.join(LIVE_MAP),
            found,
            boot_id,
            after_failure,
        )?;
        Ok(Self {
            disk: Arc::new(Disk::new(Arc::new(version), overlay, Allowance::default())),
            fresh,
            _locks: [base_lock, directory_lock],
        })
    }
}

/// Makes the directory if need be, and takes it for this process alone.
fn own(directory: &Path) -> Result<File, DiskError> {
    let path = directory.join(LOCK_FILE);
    let lock = files::create_dir_all(directory)
        .and_then(|()| File::create(&path))
        .map_err(DiskError::store("create", &path))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(Errno::WOULDBLOCK) => Err(DiskError::InUse {
            path: directory.to_owned(),
        }),
        Err(error) => Err(DiskError::store("lock", &path)(error.into())),
    }
}

/// Order: the overlay whole and synced beside its place, then one rename. A crash before it leaves only what is removed here.
fn create_overlay(directory: &Path, descriptor: &OverlayDescriptor) -> Result<(), DiskError> {
    let unfinished = directory.join(UNFINISHED_DIRECTORY);
    if unfinished.exists() {
        files::remove_dir_all(&unfinished).map_err(DiskError::store("remove", &unfinished))?;
    }
    files::create_dir_all(&unfinished).map_err(DiskError::store("create", &unfinished))?;
    Overlay::create(&unfinished, &directory.join(LIVE_MAP), descriptor)?;
    let path = directory.join(OVERLAY_DIRECTORY);
    files::rename(&unfinished, &path)
        .and_then(|()| sync_parent(&path))
        .and_then(|()| sync_parent(directory))
        .map_err(DiskError::store("create", &path))
}

/// Bytes at the start of a file that tell it from others: partition tables and boot sectors lie there.
const HEAD_BYTES: u64 = 1 << 20;

/// What an overlay over this file is. A file has no id of its own: size, time of the last change and first bytes tell
/// whether it is still the one that the overlay was made over, wherever it lies by now.
fn describe(file: &File, path: &Path) -> Result<OverlayDescriptor, RawError> {
    let size_bytes = disk_size(file, path)?;
    let metadata = file.metadata().map_err(RawError::open(path))?;
    let mut head = Vec::new();
    file.take(HEAD_BYTES)
        .read_to_end(&mut head)
        .map_err(RawError::open(path))?;
    let changed = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    let id = Uuid::from_u128(changed.cast_unsigned());
    Ok(OverlayDescriptor {
        format: OverlayDescriptor::FORMAT,
        disk: DiskId(id),
        generation: 1,
        kind: OverlayKind::Persistent,
        base: VersionRef {
            image: ImageId(id),
            number: 1,
        },
        base_crc32c: crc32c::crc32c(&head),
        size_bytes,
        reset_epoch: 0,
        boot_id: BootId::current().map_err(RawError::open(path))?,
        layer: None,
    })
}

/// Size of the disk that a file holds, in bytes.
fn disk_size(file: &File, path: &Path) -> Result<u64, RawError> {
    let metadata = file.metadata().map_err(RawError::open(path))?;
    let path = || path.to_owned();
    let bytes = metadata.len();
    if !metadata.is_file() {
        return Err(RawError::NoFile { path: path() });
    }
    if bytes == 0 || !bytes.is_multiple_of(SECTOR_BYTES) || bytes > DISK_BYTES_MAX {
        return Err(RawError::Size {
            path: path(),
            bytes,
        });
    }
    Ok(bytes)
}

/// Locks the file until the returned handle is dropped.
fn lock(file: &File, path: &Path, operation: FlockOperation) -> Result<File, RawError> {
    let lock = file.try_clone().map_err(RawError::open(path))?;
    match flock(&lock, operation) {
        Ok(()) => Ok(lock),
        Err(Errno::WOULDBLOCK) => Err(RawError::InUse {
            path: path.to_owned(),
        }),
        Err(error) => Err(RawError::open(path)(error.into())),
    }
}

const SECTOR_BYTES: u64 = 512;

#[cfg(test)]
mod tests;
