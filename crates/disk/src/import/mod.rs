//! Import: makes a version out of a disk image (`docs/format/version.md`).

mod copy;
mod fingerprint;
mod lint;
mod stream;
mod windows;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use dess_model::{Timestamp, VersionRef};
use tracing::info;

use crate::building::checkpoint::{self, Checkpoints};
use crate::building::{BuildError, Building, DataWriter, Purpose, VersionWriter, sync_names};
use crate::error::ImportError;
use crate::files;
use crate::format::{Chain, ImageFormat};
use crate::progress::{Progress, Throttle};
use crate::space;
use crate::version::{DISK_BYTES_MAX, MANIFEST_FORMAT, Manifest, SourceInfo, version_directory};
pub use lint::{DiskLint, Finding, PartitionTable, Read, lint};
pub use windows::{DriverStart, NetworkDriver, WindowsSeen};

use copy::{ImageFeed, copy};
use fingerprint::Fingerprint;
use stream::Stream;

/// What came out of a stream, in the directory in which the version is built.
const UNPACKED_FILE: &str = "unpacked";

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
/// is a stream or was changed; [`discard_unfinished`](crate::discard_unfinished) drops what is kept for that.
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
        sync_names(&target).map_err(BuildError::store("sync", &target))?;
        let version = request.version;
        return Err(BuildError::Exists { version }.into());
    }
    let building = Building::begin(&request.images, request.version, Purpose::Import)?;
    let manifest = match copy_source(request, &building, progress, cancelled) {
        Ok(manifest) => manifest,
        Err(ImportError::Cancelled) => {
            building.suspend();
            return Err(ImportError::Cancelled);
        }
        Err(error) => return Err(error),
    };
    building.publish()?;
    info!(
        version = %request.version, size_bytes = manifest.size_bytes, data_blocks = manifest.data_blocks,
        "imported {} as version {}", request.source.path.display(), request.version
    );
    Ok(manifest)
}

fn copy_source(
    request: &ImportRequest,
    building: &Building,
    progress: &mut dyn FnMut(Progress),
    cancelled: &dyn Fn() -> bool,
) -> Result<Manifest, ImportError> {
    let source = &request.source;
    let marker = source.end_marker.as_deref();
    let Some(mut stream) = Stream::open(&source.path, source.format, marker, cancelled)? else {
        let image = Chain::open(&source.path, source.format)?;
        return copy_image(request, &image, building, progress, cancelled);
    };
    if stream.format() == ImageFormat::Raw {
        return copy_stream(request, stream, building, progress, cancelled);
    }
    building.empty(None)?;
    let unpacked = building.path().join(UNPACKED_FILE);
    if unpacked.exists() {
        files::remove_file(&unpacked).map_err(BuildError::store("remove", &unpacked))?;
    }
    let read = stream.progress();
    let mut throttle = Throttle::new(progress, read.total());
    let mut report = || throttle.done(read.taken());
    stream.unpack(&unpacked, &mut report, cancelled)?;
    let image = Chain::open(&unpacked, Some(stream.format()))?;
    let manifest = copy_image(request, &image, building, progress, cancelled);
    drop(image);
    files::remove_file(&unpacked).map_err(BuildError::store("remove", &unpacked))?;
    manifest
}

fn copy_image(
    request: &ImportRequest,
    image: &Chain,
    building: &Building,
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
    let keep = Some(UNPACKED_FILE);
    let (data, mut writer) = checkpoint::resume_or_begin(building, &fingerprint, keep)?;
    let mut checkpoints = Checkpoints::new(building.path(), &fingerprint, writer.offset());
    let mut feed = ImageFeed { image };
    let on_piece = &mut |writer: &VersionWriter| {
        throttle.done(writer.offset());
        keep_reserve(building.path())?;
        Ok(checkpoints.keep_up(writer, &data)?)
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
    let manifest = finish(request, building, &data, writer, source)?;
    throttle.finish();
    Ok(manifest)
}

/// A raw disk out of a stream. Progress is in bytes of the source.
fn copy_stream(
    request: &ImportRequest,
    mut stream: Stream,
    building: &Building,
    progress: &mut dyn FnMut(Progress),
    cancelled: &dyn Fn() -> bool,
) -> Result<Manifest, ImportError> {
    let path = &request.source.path;
    let read = stream.progress();
    let mut throttle = Throttle::new(progress, read.total());
    building.empty(None)?;
    let data = DataWriter::create(building.path())?;
    let mut writer = VersionWriter::new(request.version);
    let on_piece = &mut |_: &VersionWriter| {
        throttle.done(read.taken());
        Ok(keep_reserve(building.path())?)
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
    let manifest = finish(request, building, &data, writer, source)?;
    throttle.finish();
    Ok(manifest)
}

/// Looks at the disk that was copied, and makes the version whole.
fn finish(
    request: &ImportRequest,
    building: &Building,
    data: &DataWriter,
    writer: VersionWriter,
    source: SourceInfo,
) -> Result<Manifest, ImportError> {
    let size_bytes = writer.offset();
    data.extend(size_bytes)?;
    let read = |offset, buffer: &mut [u8]| data.reader().read_exact_at(buffer, offset);
    let seen = lint(size_bytes, &read).map_err(BuildError::store("read", data.path()))?;
    let about = Manifest {
        format: MANIFEST_FORMAT,
        version: request.version,
        parent: None,
        size_bytes,
        data_blocks: 0,
        created: request.created,
        source: Some(source),
        overlay: None,
        comment: request.comment.clone(),
        author: String::new(),
        image_crc32c: 0,
        map_crc32c: 0,
        sums_crc32c: 0,
        lint: Some(seen),
    };
    Ok(writer.finish(building, about)?)
}

/// An import leaves to the server itself what clients' writes leave to it.
fn keep_reserve(directory: &Path) -> Result<(), BuildError> {
    space::keep_reserve(directory).map_err(BuildError::store("write", directory))
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
