//! Import: makes a version out of a disk image (`docs/format/version.md`).

mod checkpoint;
mod copy;
mod lint;
mod stream;
mod windows;
mod writer;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use dess_model::{ImageId, Timestamp, VersionRef};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tracing::{info, warn};

use crate::error::ImportError;
use crate::files::{self, sync_parent};
use crate::format::{Chain, ImageFormat};
use crate::layer::{DELETE_PREFIX, FLATTEN_PREFIX, PUBLISH_PREFIX};
use crate::progress::{Progress, Throttle};
use crate::space;
use crate::version::{DISK_BYTES_MAX, Manifest, SourceInfo, version_directory};
pub use lint::{DiskLint, Finding, PartitionTable, Read, lint};
pub use windows::{DriverStart, NetworkDriver, WindowsSeen};

use checkpoint::{Checkpoints, Fingerprint};
use copy::{ImageFeed, copy};
use stream::Stream;
use writer::{DataWriter, VersionWriter};

const UNFINISHED_PREFIX: &str = ".import-";
/// What came out of a stream, in the directory in which the version is built.
const UNPACKED_FILE: &str = "unpacked";
/// What a crash may leave in the directory of an image (`docs/format/version.md`).
const RUBBISH_PREFIXES: [&str; 4] = [
    UNFINISHED_PREFIX,
    PUBLISH_PREFIX,
    FLATTEN_PREFIX,
    DELETE_PREFIX,
];

/// What to import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportSource {
    /// The file (raw: also a block device), also packed with gzip or zstd, or a pipe. Other files that it names (backing files, extents) must lie in the same
    /// directory or below.
    pub path: PathBuf,
    /// Its format (of a packed file, that of what is in it); `None` to tell by its first bytes.
    pub format: Option<ImageFormat>,
    /// For a pipe: a file that holds the number of bytes sent, made when all are. A pipe that ends without it was cut off.
    pub end_marker: Option<PathBuf>,
}

/// An import to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportRequest {
    /// The image directory of the store.
    pub images: PathBuf,
    /// The version to make. It must not exist.
    pub version: VersionRef,
    /// From what.
    pub source: ImportSource,
    /// For people.
    pub comment: String,
    /// Now.
    pub created: Timestamp,
}

/// Imports a version. It becomes visible at once when it is whole and synced; after an error, a cancellation or a crash nothing
/// of it is visible, and it can simply be started again. After a cancellation or a crash it then goes on where it was, unless the source
/// is a stream or was changed; [`discard_unfinished`] drops what is kept for that.
///
/// `progress` is called at most about ten times a second; `cancelled` is asked once per MiB. May take minutes: call it from a thread
/// that may wait.
///
/// # Errors
/// If the source is damaged, truncated or not supported, the version exists, the store cannot be written, or
/// `cancelled` said so.
pub fn import(
    request: &ImportRequest,
    progress: &mut dyn FnMut(Progress),
    cancelled: &dyn Fn() -> bool,
) -> Result<Manifest, ImportError> {
    let target = version_directory(&request.images, request.version);
    if target.exists() {
        // The one that published it may have died before the name was durable.
        sync_names(&target)?;
        return Err(ImportError::Exists {
            version: request.version,
        });
    }
    let mut unfinished = Unfinished::begin(&target, request.version)?;
    let copied = copy_source(request, &unfinished.path, progress, cancelled);
    if let Err(ImportError::Cancelled) = copied {
        unfinished.kept = checkpoint::is_fresh(&unfinished.path);
    }
    let manifest = copied?;
    unfinished.publish(&target, request.version)?;
    info!(
        version = %request.version, size_bytes = manifest.size_bytes, data_blocks = manifest.data_blocks,
        "imported {} as version {}", request.source.path.display(), request.version
    );
    Ok(manifest)
}

/// Drops what a cancelled import of `version` keeps so that it could go on.
///
/// # Errors
/// If it cannot be removed.
pub fn discard_unfinished(images: &Path, version: VersionRef) -> Result<(), ImportError> {
    let path = unfinished_directory(&version_directory(images, version), version);
    if !path.exists()
        || lock(&path)
            .map_err(ImportError::store("lock", &path))?
            .is_none()
    {
        return Ok(());
    }
    files::remove_dir_all(&path).map_err(ImportError::store("remove", &path))
}

fn unfinished_directory(target: &Path, version: VersionRef) -> PathBuf {
    target.with_file_name(format!("{UNFINISHED_PREFIX}{}", version.number))
}

/// Removes what crashed imports, publications, flattenings and deletions have left, unless it is an import that could go on
/// (for a week); those that still run keep theirs. Returns how many were removed.
///
/// # Errors
/// If a directory cannot be read or removed.
pub fn clean_unfinished(images: &Path) -> Result<usize, ImportError> {
    let mut removed = 0;
    for image in entries(images)? {
        let named = image.file_name().and_then(|name| name.to_str());
        if named.is_none_or(|name| ImageId::from_str(name).is_err()) {
            continue;
        }
        for version in entries(&image)? {
            let name = version.file_name().and_then(|name| name.to_str());
            if name.is_some_and(|name| {
                RUBBISH_PREFIXES
                    .iter()
                    .any(|prefix| name.starts_with(prefix))
            }) && !checkpoint::is_fresh(&version)
                && lock(&version)
                    .map_err(ImportError::store("lock", &version))?
                    .is_some()
            {
                files::remove_dir_all(&version).map_err(ImportError::store("remove", &version))?;
                removed += 1;
            }
        }
    }
    Ok(removed)
}

fn copy_source(
    request: &ImportRequest,
    directory: &Path,
    progress: &mut dyn FnMut(Progress),
    cancelled: &dyn Fn() -> bool,
) -> Result<Manifest, ImportError> {
    let source = &request.source;
    let marker = source.end_marker.as_deref();
    let Some(mut stream) = Stream::open(&source.path, source.format, marker, cancelled)? else {
        let image = Chain::open(&source.path, source.format)?;
        return copy_image(request, &image, directory, progress, cancelled);
    };
    if stream.format() == ImageFormat::Raw {
        return copy_stream(request, stream, directory, progress, cancelled);
    }
    clear(directory)?;
    let unpacked = directory.join(UNPACKED_FILE);
    if unpacked.exists() {
        files::remove_file(&unpacked).map_err(ImportError::store("remove", &unpacked))?;
    }
    let read = stream.progress();
    let mut throttle = Throttle::new(progress, read.total());
    let mut report = || throttle.done(read.taken());
    stream.unpack(&unpacked, &mut report, cancelled)?;
    let image = Chain::open(&unpacked, Some(stream.format()))?;
    let manifest = copy_image(request, &image, directory, progress, cancelled);
    drop(image);
    files::remove_file(&unpacked).map_err(ImportError::store("remove", &unpacked))?;
    manifest
}

fn copy_image(
    request: &ImportRequest,
    image: &Chain,
    directory: &Path,
    progress: &mut dyn FnMut(Progress),
    cancelled: &dyn Fn() -> bool,
) -> Result<Manifest, ImportError> {
    let path = &request.source.path;
    let size_bytes = image.size_bytes();
    if size_bytes == 0 {
        return Err(ImportError::refused(path, 0, "it is empty"));
    }
    if size_bytes > DISK_BYTES_MAX {
        let reason = format!("a disk of {size_bytes} bytes is larger than 256 TiB");
        return Err(ImportError::refused(path, 0, reason));
    }
    image.check_whole(cancelled)?;
    let mut throttle = Throttle::new(progress, size_bytes.next_multiple_of(512));
    let fingerprint = Fingerprint::of(image)?;
    let mut writer = VersionWriter::new(directory, request.version);
    let data = match checkpoint::read(directory, &fingerprint, &writer.map_header()) {
        Some(done) => {
            writer.resume(done);
            info!(
                version = %request.version, done_bytes = writer.offset(),
                "the import of {} goes on where it was interrupted", name_of(path)
            );
            DataWriter::resume(directory, writer.offset())?
        }
        None => {
            clear(directory)?;
            DataWriter::create(directory)?
        }
    };
    let mut checkpoints = Checkpoints::new(directory, &fingerprint, writer.offset());
    let mut feed = ImageFeed { image };
    let on_piece = &mut |writer: &VersionWriter| {
        throttle.done(writer.offset());
        keep_reserve(directory)?;
        checkpoints.keep_up(writer, &data)
    };
    copy(
        &mut feed,
        Some(image),
        &data,
        &mut writer,
        on_piece,
        cancelled,
    )?;
    checkpoints.remove()?;
    let source = SourceInfo {
        name: name_of(path),
        format: image.format(),
        file_bytes: image.file_bytes(),
    };
    let manifest = writer.finish(&data, source, &request.comment, request.created)?;
    throttle.finish();
    Ok(manifest)
}

/// A raw disk out of a stream. Progress is in bytes of the source.
fn copy_stream(
    request: &ImportRequest,
    mut stream: Stream,
    directory: &Path,
    progress: &mut dyn FnMut(Progress),
    cancelled: &dyn Fn() -> bool,
) -> Result<Manifest, ImportError> {
    let path = &request.source.path;
    let read = stream.progress();
    let mut throttle = Throttle::new(progress, read.total());
    clear(directory)?;
    let data = DataWriter::create(directory)?;
    let mut writer = VersionWriter::new(directory, request.version);
    let on_piece = &mut |_: &VersionWriter| {
        throttle.done(read.taken());
        keep_reserve(directory)
    };
    copy(&mut stream, None, &data, &mut writer, on_piece, cancelled)?;
    if writer.offset() == 0 {
        return Err(ImportError::refused(path, 0, "it is empty"));
    }
    let source = SourceInfo {
        name: name_of(path),
        format: ImageFormat::Raw,
        file_bytes: read.taken(),
    };
    let manifest = writer.finish(&data, source, &request.comment, request.created)?;
    throttle.finish();
    Ok(manifest)
}

/// An import leaves to the server itself what clients' writes leave to it.
fn keep_reserve(directory: &Path) -> Result<(), ImportError> {
    space::keep_reserve(directory).map_err(ImportError::store("write", directory))
}

/// Empties the directory in which a version is built.
fn clear(directory: &Path) -> Result<(), ImportError> {
    for left in entries(directory)? {
        if left.file_name().is_none_or(|name| name != UNPACKED_FILE) {
            files::remove_file(&left).map_err(ImportError::store("remove", &left))?;
        }
    }
    Ok(())
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The directory in which a version is built; removed unless it is published.
struct Unfinished {
    path: PathBuf,
    published: bool,
    /// It was cancelled, but could go on.
    kept: bool,
    /// Locked while the import runs, so that nobody cleans it away.
    _lock: File,
}

impl Unfinished {
    fn begin(target: &Path, version: VersionRef) -> Result<Self, ImportError> {
        let path = unfinished_directory(target, version);
        let create = || files::create_dir_all(&path).map_err(ImportError::store("create", &path));
        create()?;
        let held = lock(&path).map_err(ImportError::store("lock", &path))?;
        let Some(held) = held else {
            return Err(ImportError::Exists { version });
        };
        Ok(Self {
            path,
            published: false,
            kept: false,
            _lock: held,
        })
    }

    /// Order: all files and the directory are synced by now; rename; sync the parent. A crash before the rename leaves what
    /// `clean_unfinished` removes, after it a whole version.
    fn publish(mut self, target: &Path, version: VersionRef) -> Result<(), ImportError> {
        match files::rename_new(&self.path, target) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(ImportError::Exists { version });
            }
            Err(error) => return Err(ImportError::store("rename", &self.path)(error)),
        }
        self.published = true;
        sync_names(target)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.published
            && !self.kept
            && let Err(error) = files::remove_dir_all(&self.path)
        {
            warn!(path = %self.path.display(), %error, "an unfinished import stays until the next start");
        }
    }
}

/// Makes the name of a version durable, with its image's and that of the image directory itself.
fn sync_names(version: &Path) -> Result<(), ImportError> {
    for name in version.ancestors().take(3) {
        sync_parent(name).map_err(ImportError::store("sync", name))?;
    }
    Ok(())
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
fn entries(directory: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let error = || ImportError::store("read", directory);
    let listing = match fs::read_dir(directory) {
        Ok(listing) => listing,
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(other) => return Err(error()(other)),
    };
    listing
        .map(|entry| entry.map(|entry| entry.path()).map_err(error()))
        .collect()
}

#[cfg(test)]
mod tests;
