//! Every change to the store's files and directories is made here.
//!
//! In the product this is the operating system and nothing more. In this crate's tests a directory can be watched: its changes
//! are recorded and can be made to fail, so that a test can cut the power after each of them (`watch`). Reading needs no such place.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{Advice, CWD, FallocateFlags, RenameFlags, fallocate, renameat_with};
use rustix::io::Errno;

use crate::data_file::DataFile;

#[cfg(test)]
pub(crate) mod simulated;
#[cfg(test)]
pub(crate) mod watch;

#[cfg(test)]
use watch::Watch;

const READ_ONLY: u32 = 0o444;
const WRITABLE: u32 = 0o644;
/// How often the directory above one that is to be made may vanish meanwhile.
const CREATE_ATTEMPTS: u32 = 8;

/// One change, as a watching test sees it.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "only a watching test reads it"))]
pub(crate) enum Change<'a> {
    /// A file is made, or cut to nothing if it is there.
    CreateFile(&'a Path),
    CreateDirectory(&'a Path),
    Rename(&'a Path, &'a Path),
    /// Two names of one directory change places.
    Exchange(&'a Path, &'a Path),
    /// A file gets a second name.
    Link(&'a Path, &'a Path),
    RemoveFile(&'a Path),
    RemoveDirectory(&'a Path),
    /// With all that is in it.
    RemoveTree(&'a Path),
    SyncDirectory(&'a Path),
    Write(u64, &'a [u8]),
    Punch(u64, u64),
    SetLength(u64),
    Sync,
    /// What the kernel holds of the file in memory is read from the storage again.
    ForgetCached,
}

/// An open file of the store.
pub(crate) struct StoreFile {
    file: File,
    watch: Watch,
}

impl StoreFile {
    /// Opens a file for reading.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::new(path, File::open(path)?))
    }

    /// Opens a file for reading and writing.
    pub(crate) fn open_writable(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self::new(path, file))
    }

    /// Makes an empty file, or empties the one that is there.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        Self::make(path, OpenOptions::new().create(true).truncate(true))
    }

    /// Makes an empty file; fails if there is one.
    pub(crate) fn create_new(path: &Path) -> io::Result<Self> {
        Self::make(path, OpenOptions::new().create_new(true))
    }

    fn make(path: &Path, options: &mut OpenOptions) -> io::Result<Self> {
        let file = Watch::name(path).perform(Change::CreateFile(path), || {
            options.read(true).write(true).open(path)
        })?;
        Ok(Self::new(path, file))
    }

    fn new(path: &Path, file: File) -> Self {
        let watch = Watch::file(path);
        Self { file, watch }
    }

    /// The file, for reading only.
    #[inline]
    pub(crate) fn reader(&self) -> &File {
        &self.file
    }

    pub(crate) fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.watch.perform(Change::Write(offset, data), || {
            self.file.write_all_at(data, offset)
        })
    }

    /// Makes a hole: the range reads as zeros and takes no space.
    pub(crate) fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        self.watch.perform(Change::Punch(offset, length), || {
            Ok(fallocate(&self.file, flags, offset, length)?)
        })
    }

    pub(crate) fn set_len(&self, length: u64) -> io::Result<()> {
        self.watch
            .perform(Change::SetLength(length), || self.file.set_len(length))
    }

    /// `fdatasync`: the content and the length that is needed to read it.
    pub(crate) fn sync_data(&self) -> io::Result<()> {
        self.watch.perform(Change::Sync, || self.file.sync_data())
    }

    /// `fsync`. Does not make the file's name durable.
    pub(crate) fn sync_all(&self) -> io::Result<()> {
        self.watch.perform(Change::Sync, || self.file.sync_all())
    }

    /// Asks the kernel to drop what it holds of the file in memory and is not to be written any more.
    pub(crate) fn forget_cached(&self) -> io::Result<()> {
        self.watch.perform(Change::ForgetCached, || {
            Ok(rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed)?)
        })
    }

    /// Makes this file share all blocks of another one until either is written. False where the file system cannot.
    pub(crate) fn share_blocks(&self, from: &DataFile) -> io::Result<bool> {
        if self.watch.is_watching() {
            // What is simulated knows only writes.
            return Ok(false);
        }
        match rustix::fs::ioctl_ficlone(&self.file, from.reader()) {
            Ok(()) => Ok(true),
            Err(
                Errno::OPNOTSUPP
                | Errno::XDEV
                | Errno::INVAL
                | Errno::NOTTY
                | Errno::NOSYS
                | Errno::PERM,
            ) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes [`make_read_only`](Self::make_read_only) back.
    pub(crate) fn make_writable(&self) -> io::Result<()> {
        self.file.set_permissions(Permissions::from_mode(WRITABLE))
    }

    pub(crate) fn make_read_only(&self) -> io::Result<()> {
        self.file.set_permissions(Permissions::from_mode(READ_ONLY))
    }
}

/// Makes a file with this content, or replaces the content of the one that is there. Syncs nothing.
pub(crate) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    StoreFile::create(path)?.write_all_at(content, 0)
}

/// Makes a directory with the ones above it that are missing. Syncs nothing.
pub(crate) fn create_dir_all(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|path| !path.as_os_str().is_empty());
    let mut attempts = CREATE_ATTEMPTS;
    while !path.is_dir() {
        parent.map_or(Ok(()), create_dir_all)?;
        let create = || fs::create_dir(path);
        match Watch::name(path).perform(Change::CreateDirectory(path), create) {
            // Another thread removed the one above, which was empty.
            Err(error) if error.kind() == io::ErrorKind::NotFound && attempts > 0 => attempts -= 1,
            // Another thread made it.
            Err(_) if path.is_dir() => {}
            created => return created,
        }
    }
    Ok(())
}

/// Renames within one directory, over what has the new name.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    Watch::name(from).perform(Change::Rename(from, to), || fs::rename(from, to))
}

/// Renames within one directory; fails if something has the new name.
pub(crate) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    Watch::name(from).perform(Change::Rename(from, to), || {
        Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
    })
}

/// Lets two names of one directory change places.
pub(crate) fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    Watch::name(one).perform(Change::Exchange(one, other), || {
        Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
    })
}

/// Gives a file a second name.
pub(crate) fn link(file: &Path, name: &Path) -> io::Result<()> {
    Watch::name(name).perform(Change::Link(file, name), || fs::hard_link(file, name))
}

pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    Watch::name(path).perform(Change::RemoveFile(path), || fs::remove_file(path))
}

/// Removes an empty directory.
pub(crate) fn remove_dir(path: &Path) -> io::Result<()> {
    Watch::name(path).perform(Change::RemoveDirectory(path), || fs::remove_dir(path))
}

pub(crate) fn remove_dir_all(path: &Path) -> io::Result<()> {
    Watch::name(path).perform(Change::RemoveTree(path), || fs::remove_dir_all(path))
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    Watch::name(path).perform(Change::SyncDirectory(path), || File::open(path)?.sync_all())
}

/// Makes the name of `path` in its directory durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_dir(Path::new(".")),
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

/// Nobody watches the product.
#[cfg(not(test))]
struct Watch;

#[cfg(not(test))]
impl Watch {
    #[inline]
    fn name(_: &Path) -> Self {
        Self
    }

    #[inline]
    fn file(_: &Path) -> Self {
        Self
    }

    #[inline]
    fn is_watching(&self) -> bool {
        false
    }

    #[inline]
    fn perform<T>(&self, _: Change<'_>, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        act()
    }
}
