//! Makes a version whole, so that its parents can go.

use std::path::Path;

use dess_model::VersionRef;
use tracing::info;

use super::building::Building;
use super::{FLATTEN_PREFIX, LayerError};
use crate::block_map::BlockMap;
use crate::device::{BLOCK_BYTES, BlockRead};
use crate::error::VersionError;
use crate::files::StoreFile;
use crate::progress::{Progress, Throttle};
use crate::version::{CHUNK_BYTES, DATA_FILE, ImageSum, Manifest, Version, version_directory};

const ZERO_BLOCK: [u8; BLOCK_BYTES as usize] = [0; BLOCK_BYTES as usize];

/// Makes a version whole: its number and its content stay, the layers below are no longer needed. Whoever has it open goes on with the
/// layered files; whoever opens it from now on gets the whole ones. A version without a parent is left as it is.
///
/// After an error, a cancellation or a crash the version is as it was, and it can simply be started again. Compares everything it copies with
/// the checksums of the version. May take minutes: `progress` is called at most about ten times a second, `cancelled` asked once per MiB.
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
        return Ok(layered.manifest().clone());
    }
    let building = Building::begin(images, version, FLATTEN_PREFIX)?;
    let mut whole = Whole::begin(&layered, &building)?;
    whole.copy(progress, cancelled)?;
    let manifest = Manifest {
        parent: None,
        data_blocks: whole.map.held(),
        ..layered.manifest().clone()
    };
    let (chunks, words) = (whole.chunks, whole.map.words());
    let manifest = building.write(manifest, chunks, &words)?;
    building.exchange()?;
    info!(%version, manifest.data_blocks, "version {version} is whole now");
    Ok(manifest)
}

/// The whole version while it is copied.
struct Whole<'a> {
    layered: &'a Version,
    directory: &'a Path,
    data: StoreFile,
    map: BlockMap,
    /// The checksums that it must have.
    chunks: Vec<u32>,
}

impl<'a> Whole<'a> {
    fn begin(layered: &'a Version, building: &'a Building) -> Result<Self, LayerError> {
        let version = layered.manifest().version;
        let size = layered.size_bytes();
        Ok(Self {
            chunks: layered.sums().map_err(LayerError::version(version))?.chunks,
            data: building.create_data(size.next_multiple_of(BLOCK_BYTES))?,
            directory: building.path(),
            map: BlockMap::new(size),
            layered,
        })
    }

    fn copy(
        &mut self,
        progress: &mut dyn FnMut(Progress),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(), LayerError> {
        let size = self.layered.size_bytes();
        let mut throttle = Throttle::new(progress, size);
        let mut image = ImageSum::default();
        let mut buffer = vec![0; CHUNK_BYTES as usize];
        for index in 0..self.chunks.len() {
            if cancelled() {
                return Err(LayerError::Cancelled);
            }
            let offset = index as u64 * CHUNK_BYTES;
            let length = (size - offset).min(CHUNK_BYTES);
            let crc = if self.layered.reads_as_zero(offset, length) {
                image.push_zeros(length)
            } else {
                let chunk = &mut buffer[..length as usize];
                let data = self.directory.join(DATA_FILE);
                let read = self.layered.read_at(offset, chunk);
                read.map_err(LayerError::store("read for", &data))?;
                self.write_runs(offset, chunk)?;
                image.push(chunk)
            };
            if crc != self.chunks[index] {
                return Err(self.damaged(offset));
            }
            throttle.done(offset + length);
        }
        if image.value() != self.layered.manifest().image_crc32c {
            return Err(self.damaged(0));
        }
        throttle.finish();
        Ok(())
    }

    fn damaged(&self, offset: u64) -> LayerError {
        let version = self.layered.manifest().version;
        LayerError::version(version)(VersionError::Checksum {
            path: self.directory.with_file_name(version.number.to_string()),
            offset,
        })
    }

    /// Writes the runs of blocks that are not zero.
    fn write_runs(&mut self, offset: u64, bytes: &[u8]) -> Result<(), LayerError> {
        let zero: Vec<bool> = bytes
            .chunks(BLOCK_BYTES as usize)
            .map(|block| block == &ZERO_BLOCK[..block.len()])
            .collect();
        let mut block = 0;
        for run in zero.chunk_by(|a, b| a == b) {
            if !run[0] {
                let start = block * BLOCK_BYTES as usize;
                let end = bytes.len().min((block + run.len()) * BLOCK_BYTES as usize);
                let at = offset + start as u64;
                let first = at / BLOCK_BYTES;
                self.data
                    .write_all_at(&bytes[start..end], at)
                    .and_then(|()| {
                        let blocks = first..first + run.len() as u64;
                        self.map.add(blocks, &mut |_, _| Ok(()))
                    })
                    .map_err(LayerError::store("write", &self.directory.join(DATA_FILE)))?;
            }
            block += run.len();
        }
        Ok(())
    }
}
