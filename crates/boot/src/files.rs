//! The boot files: the operator's directory first, then the system's iPXE package.
//!
//! A name that a peer sent never leads out of the directories: no `..`, no links (the kernel
//! refuses them, `openat2(2)`), nothing but regular files. Small files stay in memory.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

/// Longest file name in bytes that is looked up at all (`PATH_MAX` is no business of a peer).
pub const NAME_BYTES_MAX: usize = 255;
/// Largest file in bytes that is kept in memory.
pub const CACHED_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Most bytes kept in memory for all files together.
pub const CACHE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Where Debian's package `ipxe` puts its files.
const PACKAGE_DIRECTORY: &str = "/usr/lib/ipxe";
/// Files that the package puts into `/boot` and only links from its directory.
const PACKAGE_BOOT_FILES: [&str; 2] = ["ipxe.efi", "ipxe.lkrn"];
/// What the usual BIOS and UEFI clients load first.
const LOADERS: [&str; 2] = ["undionly.kpxe", "snponly.efi"];

/// The directories with boot files, shared by the TFTP and the HTTP side.
#[derive(Debug)]
pub struct BootFiles {
    places: Vec<Place>,
    cache: Mutex<Cache>,
}

/// An open boot file.
#[derive(Clone, Debug)]
pub struct BootFile {
    /// Size in bytes when it was opened.
    pub length: u64,
    /// The content.
    pub content: Content,
}

/// Where the bytes of a boot file are.
#[derive(Clone, Debug)]
pub enum Content {
    /// In memory, shared by all who read it.
    Memory(Bytes),
    /// Too large for that: in the file.
    Disk(Arc<File>),
}

/// Why a boot file cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The name cannot be one of ours.
    #[error("\"{name}\" is not an acceptable boot file name")]
    BadName {
        /// The name, shortened and made printable.
        name: String,
    },
    /// In none of the directories.
    #[error("boot file {name} not found (searched {})", list(searched))]
    NotFound {
        /// The name.
        name: String,
        /// The directories in order.
        searched: Vec<PathBuf>,
    },
    /// A directory, a link, a device: not served.
    #[error("{} is not a regular file or is reached through a link", path.display())]
    NotRegular {
        /// Which.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot read boot file {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

/// One directory to search.
#[derive(Debug)]
struct Place {
    directory: PathBuf,
    /// Only these names, if given.
    only: Option<&'static [&'static str]>,
}

/// Tells one state of a file from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

#[derive(Debug, Default)]
struct Cache {
    files: HashMap<PathBuf, (Identity, Bytes)>,
    bytes: u64,
}

impl BootFiles {
    /// The operator's directory (which need not exist) before the system's iPXE package.
    pub fn new(operator: impl Into<PathBuf>) -> Self {
        Self::with_places(vec![
            Place::all(operator.into()),
            Place::all(PACKAGE_DIRECTORY.into()),
            Place {
                directory: "/boot".into(),
                only: Some(&PACKAGE_BOOT_FILES),
            },
        ])
    }

    /// Only the given directories, in this order.
    pub fn in_directories(directories: impl IntoIterator<Item = PathBuf>) -> Self {
        Self::with_places(directories.into_iter().map(Place::all).collect())
    }

    fn with_places(places: Vec<Place>) -> Self {
        Self {
            places,
            cache: Mutex::default(),
        }
    }

    /// Opens the file of this name. Backslashes count as slashes, and leading slashes are dropped,
    /// since boot ROMs send both. Blocks on the disk.
    ///
    /// # Errors
    /// If the name is unacceptable, or no directory has a regular file of this name.
    pub fn open(&self, name: &str) -> Result<BootFile, FileError> {
        let relative = normalise(name)?;
        for place in &self.places {
            if place
                .only
                .is_some_and(|names| !names.contains(&relative.as_str()))
            {
                continue;
            }
            let path = place.directory.join(&relative);
            match open_beneath(&place.directory, &relative) {
                Ok(file) => return self.load(file, path),
                Err(error) if is_absent(&error) => {}
                // A link in the package directory may have its file in the next place.
                Err(rustix::io::Errno::LOOP) if self.has_later_place(place, &relative) => {}
                Err(rustix::io::Errno::LOOP | rustix::io::Errno::XDEV) => {
                    return Err(FileError::NotRegular { path });
                }
                Err(error) => {
                    return Err(FileError::Io {
                        path,
                        source: error.into(),
                    });
                }
            }
        }
        Err(FileError::NotFound {
            name: relative,
            searched: self.directories(),
        })
    }

    /// The loaders of the usual clients that no directory has; `install the package ipxe` helps.
    pub fn missing_loaders(&self) -> Vec<&'static str> {
        LOADERS
            .into_iter()
            .filter(|name| self.open(name).is_err())
            .collect()
    }

    /// Logs a warning for each missing loader; called once when the service starts.
    pub fn warn_of_missing_loaders(&self) {
        for name in self.missing_loaders() {
            tracing::warn!(
                file = name,
                searched = list(&self.directories()),
                "boot file {name} is missing; install the package ipxe (apt install ipxe)"
            );
        }
    }

    /// The directories in the order in which they are searched.
    pub fn directories(&self) -> Vec<PathBuf> {
        self.places
            .iter()
            .map(|place| place.directory.clone())
            .collect()
    }

    fn has_later_place(&self, place: &Place, name: &str) -> bool {
        self.places
            .iter()
            .skip_while(|other| !std::ptr::eq(*other, place))
            .skip(1)
            .any(|later| later.only.is_some_and(|names| names.contains(&name)))
    }

    fn load(&self, file: File, path: PathBuf) -> Result<BootFile, FileError> {
        let failed = |source| FileError::Io {
            path: path.clone(),
            source,
        };
        let found = file.metadata().map_err(failed)?;
        if !found.is_file() {
            return Err(FileError::NotRegular { path });
        }
        let identity = Identity::of(&found);
        if identity.size > CACHED_FILE_BYTES_MAX {
            return Ok(BootFile {
                length: identity.size,
                content: Content::Disk(Arc::new(file)),
            });
        }
        let cached = self.lock().get(&path, identity);
        let bytes = match cached {
            Some(bytes) => bytes,
            None => {
                let mut content = vec![0; to_usize(identity.size)];
                file.read_exact_at(&mut content, 0).map_err(failed)?;
                let bytes = Bytes::from(content);
                self.lock().put(path, identity, bytes.clone());
                bytes
            }
        };
        Ok(BootFile {
            length: identity.size,
            content: Content::Memory(bytes),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BootFile {
    /// At most `length` bytes from `offset` on; fewer at the end of the file, and none if the
    /// file was cut short since it was opened. Blocks on the disk for [`Content::Disk`].
    ///
    /// # Errors
    /// If the disk fails.
    pub fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let rest = to_usize(self.length.saturating_sub(offset));
        let length = length.min(rest);
        match &self.content {
            Content::Memory(bytes) => {
                let start = to_usize(offset).min(bytes.len());
                Ok(bytes.slice(start..start + length))
            }
            Content::Disk(_) => {
                let mut buffer = vec![0; length];
                let filled = self.read_into(offset, &mut buffer)?;
                buffer.truncate(filled);
                Ok(buffer.into())
            }
        }
    }

    /// Like [`BootFile::read_at`], into a buffer of the caller's: the count of bytes.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn read_into(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = to_usize(self.length.saturating_sub(offset));
        let length = buffer.len().min(rest);
        match &self.content {
            Content::Memory(bytes) => {
                let start = to_usize(offset).min(bytes.len());
                buffer[..length].copy_from_slice(&bytes[start..start + length]);
                Ok(length)
            }
            Content::Disk(file) => {
                let mut filled = 0;
                while filled < length {
                    match file.read_at(&mut buffer[filled..length], offset + filled as u64) {
                        Ok(0) => break,
                        Ok(count) => filled += count,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(filled)
            }
        }
    }
}

impl Place {
    fn all(directory: PathBuf) -> Self {
        Self {
            directory,
            only: None,
        }
    }
}

impl Identity {
    fn of(found: &std::fs::Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
        }
    }
}

impl Cache {
    fn get(&self, path: &Path, identity: Identity) -> Option<Bytes> {
        let (cached, bytes) = self.files.get(path)?;
        (*cached == identity).then(|| bytes.clone())
    }

    /// Keeps a file; forgets all others first if they would be too many bytes together. Boot
    /// directories hold a few files, so the simplest rule that is bounded will do.
    fn put(&mut self, path: PathBuf, identity: Identity, bytes: Bytes) {
        let added = bytes.len() as u64;
        if self.bytes + added > CACHE_BYTES_MAX {
            self.files.clear();
            self.bytes = 0;
        }
        if let Some((_, old)) = self.files.insert(path, (identity, bytes)) {
            self.bytes -= old.len() as u64;
        }
        self.bytes += added;
    }
}

/// Opens without following any link and without leaving `directory`. A FIFO does not block.
fn open_beneath(directory: &Path, relative: &str) -> rustix::io::Result<File> {
    let root = rustix::fs::openat(
        CWD,
        directory,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let file = rustix::fs::openat2(
        root,
        relative,
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )?;
    Ok(File::from(file))
}

fn is_absent(error: &rustix::io::Errno) -> bool {
    use rustix::io::Errno;
    matches!(*error, Errno::NOENT | Errno::NOTDIR | Errno::NXIO)
}

/// The name as a relative path below a directory.
fn normalise(name: &str) -> Result<String, FileError> {
    let bad = || FileError::BadName {
        name: name.escape_debug().take(64).collect(),
    };
    if name.len() > NAME_BYTES_MAX || name.contains(char::is_control) {
        return Err(bad());
    }
    let name = name.replace('\\', "/");
    let parts: Vec<&str> = name
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    if parts.is_empty() || parts.contains(&"..") {
        return Err(bad());
    }
    Ok(parts.join("/"))
}

fn list(directories: &[PathBuf]) -> String {
    let shown: Vec<String> = directories
        .iter()
        .map(|directory| directory.display().to_string())
        .collect();
    shown.join(", ")
}

/// File offsets fit a `usize` on the 64-bit machines that DESS runs on; elsewhere they saturate.
fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
