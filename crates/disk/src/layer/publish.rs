//! Makes a sealed maintenance overlay the next version of its image.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use dess_model::{Timestamp, VersionRef};
use tracing::info;

use super::LayerError;
use crate::block_map::{BlockMap, Word};
use crate::building::{BuildError, Building, Purpose, sync_names};
use crate::data_file::DataFile;
use crate::device::{BLOCK_BYTES, BlockRead};
use crate::error::DiskError;
use crate::files::StoreFile;
use crate::map_file::MapEnd;
use crate::overlay::{self, OverlayDescriptor};
use crate::progress::{Progress, Throttle};
use crate::version::{
    CHUNK_BYTES, DATA_FILE, MANIFEST_FORMAT, MAP_FILE, Manifest, OverlaySource, Version, chunk_sum,
    combine_sums, find_layer, version_directory,
};

/// A version to make of a sealed overlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishRequest {
    /// The image directory of the store.
    pub images: PathBuf,
    /// Directory of the sealed overlay.
    pub sealed: PathBuf,
    /// The number that the version gets. It must be free and above its parent's.
    pub number: u32,
    /// For people.
    pub comment: String,
    /// Who publishes, e.g. `cli:root`.
    pub author: String,
    /// Now.
    pub created: Timestamp,
}

/// Publishes a sealed overlay. The version becomes visible at once when it is whole and synced; after an error, a cancellation or a crash
/// nothing of it is visible, and the overlay is as it was sealed. Was it published already (the caller died over it),
/// the version that was made then is the answer, whatever number is asked for.
///
/// Costs by what was written, not by the size of the disk: the data file changes hands, and only checksums of changed
/// MiB are computed anew. `progress` counts bytes read for them; `cancelled` is asked once per MiB.
///
/// # Errors
/// If the overlay or its base is damaged, the number is taken, the store cannot be written, or `cancelled` said so.
pub fn publish(
    request: &PublishRequest,
    progress: &mut dyn FnMut(Progress),
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<Manifest, LayerError> {
    let sealed = Sealed::open(&request.sealed)?;
    let base = sealed.descriptor.base;
    let version = VersionRef {
        image: base.image,
        number: request.number,
    };
    let images = &request.images;
    let made = find_layer(images, base.image, sealed.source.layer);
    if let Some(made) = made.map_err(BuildError::store("read", images))? {
        // Who published it may have died before the name was durable.
        let directory = version_directory(images, made.version);
        sync_names(&directory).map_err(BuildError::store("sync", &directory))?;
        return Ok(made);
    }
    if request.number <= base.number || version_directory(images, version).exists() {
        return Err(BuildError::Exists { version }.into());
    }
    let parent =
        Version::open(&version_directory(images, base)).map_err(LayerError::version(base))?;
    if parent.manifest().image_crc32c != sealed.descriptor.base_crc32c
        || parent.size_bytes() != sealed.descriptor.size_bytes
    {
        let disk = sealed.descriptor.disk;
        return Err(DiskError::ForeignBase {
            disk,
            version: base,
        }
        .into());
    }
    let building = Building::begin(images, version, Purpose::Publish)?;
    building.empty(None)?;
    let data = request.sealed.join(DATA_FILE);
    if !building.link_data(&data)? {
        copy_blocks(&sealed, &building, cancelled)?;
    }
    let (image_crc32c, chunks) = sums(&sealed, &parent, progress, cancelled)?;
    let manifest = Manifest {
        format: MANIFEST_FORMAT,
        version,
        parent: Some(base.number),
        size_bytes: parent.size_bytes(),
        data_blocks: sealed.map.held(),
        created: request.created,
        source: None,
        lint: None,
        overlay: Some(sealed.source),
        comment: request.comment.clone(),
        author: request.author.clone(),
        image_crc32c,
        map_crc32c: 0,
        sums_crc32c: 0,
    };
    let manifest = building.write(manifest, chunks, &sealed.words)?;
    building.publish()?;
    info!(%version, parent = %base, manifest.data_blocks, "published version {version}");
    Ok(manifest)
}

/// The sealed overlay: opened for reading only.
struct Sealed {
    descriptor: OverlayDescriptor,
    source: OverlaySource,
    data: DataFile,
    words: Vec<Word>,
    map: BlockMap,
}

impl Sealed {
    fn open(directory: &Path) -> Result<Self, LayerError> {
        let descriptor = OverlayDescriptor::read(directory)?;
        let Some(layer) = descriptor.layer else {
            return Err(DiskError::damaged(directory, "it is no maintenance overlay").into());
        };
        let path = directory.join(MAP_FILE);
        let content = overlay::read_map(&path, &descriptor)?;
        if content.end != MapEnd::Clean {
            return Err(DiskError::damaged(&path, "it ends in an unfinished flush").into());
        }
        let map = BlockMap::new(descriptor.size_bytes);
        if !content.words.iter().all(|&word| map.join(word, false)) {
            return Err(DiskError::damaged(&path, "it names blocks outside the disk").into());
        }
        let path = directory.join(DATA_FILE);
        let data = DataFile::open_read_only(&path).map_err(DiskError::store("open", &path))?;
        Ok(Self {
            source: OverlaySource {
                disk: descriptor.disk,
                layer,
            },
            words: map.words(),
            descriptor,
            data,
            map,
        })
    }

    /// Numbers of the chunks in which a block is mapped, in order.
    fn changed_chunks(&self) -> Vec<u64> {
        // A word covers 256 KiB, so four of them lie in a chunk.
        let mut chunks: Vec<u64> = self
            .words
            .iter()
            .map(|&(word, _)| u64::from(word) / 4)
            .collect();
        chunks.dedup();
        chunks
    }

    /// A part of the disk as seen through the overlay.
    fn read(&self, parent: &Version, mut offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut rest = buffer;
        while !rest.is_empty() {
            let block = offset / BLOCK_BYTES;
            let end = (offset + rest.len() as u64).div_ceil(BLOCK_BYTES);
            let (held, run) = self.map.run(block, end - block);
            let bytes = ((block + run) * BLOCK_BYTES - offset).min(rest.len() as u64);
            let (part, tail) = rest.split_at_mut(bytes as usize);
            if held {
                self.data.read_at(offset, part)?;
            } else {
                parent.read_at(offset, part)?;
            }
            rest = tail;
            offset += bytes;
        }
        Ok(())
    }
}

/// Checksum of the disk and of its chunks: the parent's, but for the chunks that were written to.
fn sums(
    sealed: &Sealed,
    parent: &Version,
    progress: &mut dyn FnMut(Progress),
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<(u32, Vec<u32>), LayerError> {
    let mut sums = parent
        .sums()
        .map_err(LayerError::version(sealed.descriptor.base))?
        .chunks;
    let changed = sealed.changed_chunks();
    let mut throttle = Throttle::new(progress, changed.len() as u64 * CHUNK_BYTES);
    let threads =
        std::thread::available_parallelism().map_or(1, |count| count.get().min(THREADS_MAX));
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let (done, results) = mpsc::channel();
    let outcome = std::thread::scope(|scope| {
        for _ in 0..threads {
            let (done, stop) = (done.clone(), &stop);
            let claim = || changed.get(next.fetch_add(1, Ordering::Relaxed)).copied();
            scope.spawn(move || sum_chunks(sealed, parent, &claim, stop, &done));
        }
        drop(done);
        let mut count = 0;
        for (chunk, crc) in results {
            if cancelled() {
                stop.store(true, Ordering::Relaxed);
                return Err(LayerError::Cancelled);
            }
            sums[chunk as usize] = crc.inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
            count += 1;
            throttle.done(count * CHUNK_BYTES);
        }
        Ok(())
    });
    outcome?;
    throttle.finish();
    Ok((combine_sums(&sums, parent.size_bytes()), sums))
}

/// Most threads that compute checksums.
const THREADS_MAX: usize = 4;

/// A chunk and its checksum.
type Summed = (u64, Result<u32, LayerError>);

fn sum_chunks(
    sealed: &Sealed,
    parent: &Version,
    claim: &dyn Fn() -> Option<u64>,
    stop: &AtomicBool,
    done: &mpsc::Sender<Summed>,
) {
    let mut buffer = vec![0; CHUNK_BYTES as usize];
    while !stop.load(Ordering::Relaxed)
        && let Some(chunk) = claim()
    {
        let offset = chunk * CHUNK_BYTES;
        let length = (parent.size_bytes() - offset).min(CHUNK_BYTES);
        let part = &mut buffer[..length as usize];
        let read = sealed.read(parent, offset, part);
        let crc = read.map(|()| chunk_sum(part));
        let crc = crc.map_err(|source| {
            let place = PathBuf::from(format!("byte {offset} of the disk"));
            BuildError::store("read", &place)(source).into()
        });
        // The receiver goes away first only if it has seen an error.
        if done.send((chunk, crc)).is_err() {
            return;
        }
    }
}

/// Where the overlays lie on another file system: copies the mapped blocks.
fn copy_blocks(
    sealed: &Sealed,
    building: &Building,
    cancelled: &dyn Fn() -> bool,
) -> Result<(), LayerError> {
    let size = sealed.descriptor.size_bytes.next_multiple_of(BLOCK_BYTES);
    let to = building.create_data(size)?;
    let path = building.path().join(DATA_FILE);
    let mut block = 0;
    let blocks = sealed.map.blocks();
    while block < blocks {
        let (held, run) = sealed.map.run(block, blocks - block);
        if held {
            let mut range = block * BLOCK_BYTES..(block + run) * BLOCK_BYTES;
            while range.start < range.end {
                if cancelled() {
                    return Err(LayerError::Cancelled);
                }
                let end = range.end.min(range.start + CHUNK_BYTES);
                copy_range(&sealed.data, &to, range.start..end)
                    .map_err(BuildError::store("copy to", &path))?;
                range.start = end;
            }
        }
        block += run;
    }
    Ok(())
}

/// Copies at most a MiB of the disk at its own offset, unless it is zero.
fn copy_range(from: &DataFile, to: &StoreFile, range: Range<u64>) -> io::Result<()> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    from.read_at(range.start, &mut bytes)?;
    match bytes.iter().any(|&byte| byte != 0) {
        true => to.write_all_at(&bytes, range.start),
        false => Ok(()),
    }
}
