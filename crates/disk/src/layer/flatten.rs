//! Makes a version whole, so that its parents can go.

use std::path::Path;

use dess_model::VersionRef;
use serde::{Deserialize, Serialize};
use tracing::info;

use super::LayerError;
use crate::building::checkpoint::{self, Checkpoints};
use crate::building::{
    BuildError, Building, DataWriter, Piece, Purpose, VersionWriter, sync_names,
};
use crate::device::BlockRead;
use crate::error::VersionError;
use crate::progress::{Progress, Throttle};
use crate::version::{CHUNK_BYTES, DATA_FILE, Manifest, Version, version_directory};

/// Makes a version whole: its number and its content stay, the layers below are no longer needed. Whoever has it open goes on with the
/// layered files; whoever opens it from now on gets the whole ones. A version without a parent is left as it is.
///
/// After an error, a cancellation or a crash the version is as it was, and it can simply be started again. After a cancellation or a
/// crash it then goes on where it was; [`discard_unfinished`](crate::discard_unfinished) drops what is kept for that. Compares everything
/// it copies with the checksums of the version. May take minutes: `progress` is called at most about ten times a second, `cancelled`
/// asked once per MiB.
///
/// # Errors
/// If a layer is damaged, the store cannot be written, or `cancelled` said so.
pub fn flatten(
    images: &Path,
    version: VersionRef,
    progress: &mut dyn FnMut(Progress),
    cancelled: &dyn Fn() -> bool,
) -> Result<Manifest, LayerError> {
    let directory = version_directory(images, version);
    let layered = Version::open(&directory).map_err(LayerError::version(version))?;
    if layered.manifest().parent.is_none() {
        // Who flattened it may have died before the exchange was durable; the parents may go after this.
        sync_names(&directory).map_err(BuildError::store("sync", &directory))?;
        return Ok(layered.manifest().clone());
    }
    let building = Building::begin(images, version, Purpose::Flatten)?;
    let manifest = match copy(&layered, &building, progress, cancelled) {
        Ok(manifest) => manifest,
        Err(LayerError::Cancelled) => {
            building.suspend();
            return Err(LayerError::Cancelled);
        }
        Err(error) => return Err(error),
    };
    building.exchange()?;
    info!(%version, manifest.data_blocks, "version {version} is whole now");
    Ok(manifest)
}

/// Tells whether the version is still that of which a part was copied.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Layers {
    parent: Option<u32>,
    image_crc32c: u32,
    map_crc32c: u32,
}

fn copy(
    layered: &Version,
    building: &Building,
    progress: &mut dyn FnMut(Progress),
    cancelled: &dyn Fn() -> bool,
) -> Result<Manifest, LayerError> {
    let manifest = layered.manifest();
    let damaged = |offset| {
        let path = building
            .path()
            .with_file_name(manifest.version.number.to_string());
        let path = path.join(DATA_FILE);
        LayerError::version(manifest.version)(VersionError::Checksum { path, offset })
    };
    let sums = layered
        .sums()
        .map_err(LayerError::version(manifest.version))?
        .chunks;
    let source = Layers {
        parent: manifest.parent,
        image_crc32c: manifest.image_crc32c,
        map_crc32c: manifest.map_crc32c,
    };
    let (data, mut writer) = checkpoint::resume_or_begin(building, &source, None)?;
    let mut checkpoints = Checkpoints::new(building.path(), &source, writer.offset());
    let mut throttle = Throttle::new(progress, manifest.size_bytes);
    let mut buffer = vec![0; CHUNK_BYTES as usize];
    while writer.offset() < manifest.size_bytes {
        if cancelled() {
            return Err(LayerError::Cancelled);
        }
        let offset = writer.offset();
        let crc = copy_chunk(layered, &data, &mut writer, &mut buffer)?;
        if crc != sums[(offset / CHUNK_BYTES) as usize] {
            return Err(damaged(offset));
        }
        checkpoints.keep_up(&writer, &data)?;
        throttle.done(writer.offset());
    }
    checkpoints.remove()?;
    data.extend(manifest.size_bytes)?;
    let about = Manifest {
        parent: None,
        ..manifest.clone()
    };
    let whole = writer.finish(building, about)?;
    if whole.image_crc32c != manifest.image_crc32c {
        return Err(damaged(0));
    }
    throttle.finish();
    Ok(whole)
}

/// Copies the next chunk; answers its checksum.
fn copy_chunk(
    layered: &Version,
    data: &DataWriter,
    writer: &mut VersionWriter,
    buffer: &mut [u8],
) -> Result<u32, LayerError> {
    let offset = writer.offset();
    let length = (layered.size_bytes() - offset).min(CHUNK_BYTES);
    if layered.reads_as_zero(offset, length) {
        return Ok(writer.add(Piece::Zeros(length)));
    }
    let chunk = &mut buffer[..length as usize];
    let read = layered.read_at(offset, chunk);
    read.map_err(BuildError::store("read for", data.path()))?;
    Ok(writer.add(data.write_chunk(offset, chunk)?))
}
