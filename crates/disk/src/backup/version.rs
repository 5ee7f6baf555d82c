//! Versions to archives and back.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use dess_model::{Timestamp, VersionRef};
use tracing::info;

use super::BackupError;
use super::archive::{ArchiveReader, ArchiveWriter, BackupBase, BackupHeader};
use crate::block_map::{WORD_BLOCKS, Word};
use crate::building::{Building, DataWriter, Piece, Purpose};
use crate::device::{BLOCK_BYTES, BlockRead};
use crate::error::VersionError;
use crate::layer::chunks_between;
use crate::progress::{Progress, Throttle};
use crate::version::{CHUNK_BYTES, DATA_FILE, Manifest, Version, combine_sums, version_directory};

/// A version to back up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupRequest {
    /// The image directory of the store.
    pub images: PathBuf,
    /// Which.
    pub version: VersionRef,
    /// Only what differs from this version of the image.
    pub since: Option<VersionRef>,
    /// Name of the image, for people.
    pub image_name: String,
    /// Now.
    pub created: Timestamp,
}

/// Writes an archive of a version; answers its length in bytes. What is read is compared with the checksums of the version.
/// `progress` counts bytes of the disk, `cancelled` is asked once per MiB.
///
/// # Errors
/// If a version is damaged, the archive cannot be written, or `cancelled` said so. What was written then is no archive.
pub fn backup_version(
    request: &BackupRequest,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(Progress),
    cancelled: &dyn Fn() -> bool,
) -> Result<u64, BackupError> {
    let (images, version) = (&request.images, request.version);
    let open = |version| {
        Version::open(&version_directory(images, version)).map_err(BackupError::version(version))
    };
    let source = open(version)?;
    let sums = source.sums().map_err(BackupError::version(version))?.chunks;
    let base = request.since.map(open).transpose()?;
    let since = match &base {
        Some(base) => Some(Since::new(images, base, version)?),
        None => None,
    };
    let header = BackupHeader {
        image_name: request.image_name.clone(),
        manifest: Some(source.manifest().clone()),
        overlay: None,
        base: base.as_ref().map(|base| BackupBase {
            version: base.manifest().version,
            image_crc32c: base.manifest().image_crc32c,
        }),
        created: request.created,
    };
    let mut archive = ArchiveWriter::begin(out, &header)?;
    let size = source.size_bytes();
    let mut throttle = Throttle::new(progress, size);
    let mut buffer = vec![0; CHUNK_BYTES as usize];
    for (index, &expected) in (0..).zip(&sums) {
        if cancelled() {
            return Err(BackupError::Cancelled);
        }
        let offset = index * CHUNK_BYTES;
        let length = (size - offset).min(CHUNK_BYTES);
        let wanted = match &since {
            Some(since) => since.differs(index, expected),
            None => !source.reads_as_zero(offset, length),
        };
        if wanted {
            let chunk = &mut buffer[..length as usize];
            let data = version_directory(images, version).join(DATA_FILE);
            let read = source
                .read_at(offset, chunk)
                .map_err(VersionError::read(&data));
            read.map_err(BackupError::version(version))?;
            if crc32c::crc32c(chunk) != expected {
                let source = VersionError::Checksum { path: data, offset };
                return Err(BackupError::Version { version, source });
            }
            archive.add(offset, chunk)?;
        }
        throttle.done(offset + length);
    }
    let written = archive.finish()?;
    throttle.finish();
    Ok(written)
}

/// What a version has beyond another one.
struct Since {
    sums: Vec<u32>,
    /// What layers between both hold.
    held: BTreeSet<u64>,
}

impl Since {
    fn new(images: &Path, base: &Version, version: VersionRef) -> Result<Self, BackupError> {
        let of = base.manifest().version;
        Ok(Self {
            sums: base.sums().map_err(BackupError::version(of))?.chunks,
            held: chunks_between(images, of, version)?,
        })
    }

    fn differs(&self, chunk: u64, crc: u32) -> bool {
        self.held.contains(&chunk) || self.sums.get(chunk as usize) != Some(&crc)
    }
}

/// Makes the version that an archive holds. It becomes visible at once when it is whole, synced, and was read once more and
/// compared; else nothing of it is visible. `progress` counts bytes of the disk, first written, then compared.
///
/// # Errors
/// If the archive is damaged, cut off or none of a version, its base is missing, the version exists, or the store cannot be written.
pub fn restore_version(
    images: &Path,
    input: &mut dyn Read,
    progress: &mut dyn FnMut(Progress),
    cancelled: &dyn Fn() -> bool,
) -> Result<Manifest, BackupError> {
    let mut archive = ArchiveReader::open(input)?;
    let Some(wanted) = archive.header().manifest.clone() else {
        return Err(BackupError::Other {
            wanted: "a version of an image",
        });
    };
    let version = wanted.version;
    let base = open_base(images, &archive, &wanted)?;
    let building = Building::begin(images, version, Purpose::Restore)?;
    building.empty(None)?;
    let mut restored = Restored::begin(&building, base.as_ref(), &wanted)?;
    let mut throttle = Throttle::new(progress, wanted.size_bytes);
    while let Some(piece) = archive.next()? {
        if cancelled() {
            return Err(BackupError::Cancelled);
        }
        restored.add(piece.offset, piece.length, piece.bytes)?;
        throttle.done(piece.offset + piece.length);
    }
    throttle.finish();
    let image_crc32c = combine_sums(&restored.sums, wanted.size_bytes);
    if image_crc32c != wanted.image_crc32c {
        let reason = "what it makes is not the version that it says it is";
        return Err(BackupError::damaged(0, reason));
    }
    restored.data.extend(wanted.size_bytes)?;
    let held = restored.words.iter().map(|(_, word)| word.count_ones());
    let about = Manifest {
        parent: base.as_ref().map(|base| base.manifest().version.number),
        data_blocks: held.map(u64::from).sum(),
        ..wanted
    };
    let manifest = building.write(about, restored.sums, &restored.words)?;
    let made = Version::open(building.path());
    match made.and_then(|open| open.verify(progress, cancelled)) {
        Ok(()) => {}
        Err(VersionError::Cancelled) => return Err(BackupError::Cancelled),
        Err(source) => return Err(BackupError::Version { version, source }),
    }
    building.publish()?;
    info!(%version, "restored version {version}");
    Ok(manifest)
}

fn open_base(
    images: &Path,
    archive: &ArchiveReader<'_>,
    wanted: &Manifest,
) -> Result<Option<Version>, BackupError> {
    let Some(base) = archive.header().base else {
        return Ok(None);
    };
    let missing = || BackupError::NoBase { base: base.version };
    let fits =
        base.version.image == wanted.version.image && base.version.number < wanted.version.number;
    let open = Version::open(&version_directory(images, base.version)).map_err(|_| missing())?;
    let same =
        open.manifest().image_crc32c == base.image_crc32c && open.size_bytes() == wanted.size_bytes;
    match fits && same {
        true => Ok(Some(open)),
        false => Err(missing()),
    }
}

/// A version that is being restored.
struct Restored {
    data: DataWriter,
    size_bytes: u64,
    layered: bool,
    sums: Vec<u32>,
    words: Vec<Word>,
}

impl Restored {
    fn begin(
        building: &Building,
        base: Option<&Version>,
        wanted: &Manifest,
    ) -> Result<Self, BackupError> {
        let size_bytes = wanted.size_bytes;
        let sums = match base {
            Some(base) => {
                let version = base.manifest().version;
                base.sums().map_err(BackupError::version(version))?.chunks
            }
            None => zero_sums(size_bytes),
        };
        Ok(Self {
            data: DataWriter::create(building.path())?,
            size_bytes,
            layered: base.is_some(),
            sums,
            words: Vec::new(),
        })
    }

    /// A whole MiB of the disk, or its end.
    fn add(&mut self, offset: u64, length: u64, bytes: Option<&[u8]>) -> Result<(), BackupError> {
        let whole = (self.size_bytes - offset).min(CHUNK_BYTES);
        if !offset.is_multiple_of(CHUNK_BYTES) || length != whole {
            return Err(BackupError::damaged(
                0,
                format!("the MiB at byte {offset} of the disk is not whole"),
            ));
        }
        let zeros;
        let bytes = match bytes {
            Some(bytes) => bytes,
            None => {
                zeros = vec![0; length as usize];
                &zeros[..]
            }
        };
        let Piece::Chunk { crc, words, .. } = self.data.write_chunk(offset, bytes)? else {
            return Ok(());
        };
        self.sums[(offset / CHUNK_BYTES) as usize] = crc;
        let first = offset / (BLOCK_BYTES * WORD_BLOCKS);
        for (index, word) in (first..).zip(words) {
            // Over a base also zeros are said.
            let word = match self.layered {
                true => blocks_of_word(index, self.size_bytes),
                false => word,
            };
            if word != 0 {
                let index = u32::try_from(index)
                    .expect("the size limit of a disk keeps word numbers below 2^32");
                self.words.push((index, word));
            }
        }
        Ok(())
    }
}

/// The bits of a word that stand for blocks of the disk.
fn blocks_of_word(index: u64, size_bytes: u64) -> u64 {
    let blocks = size_bytes.div_ceil(BLOCK_BYTES);
    match blocks.saturating_sub(index * WORD_BLOCKS) {
        left @ ..WORD_BLOCKS => (1 << left) - 1,
        _ => u64::MAX,
    }
}

fn zero_sums(size_bytes: u64) -> Vec<u32> {
    let zeros = vec![0; CHUNK_BYTES as usize];
    let whole = crc32c::crc32c(&zeros);
    let mut sums = vec![whole; (size_bytes / CHUNK_BYTES) as usize];
    let rest = (size_bytes % CHUNK_BYTES) as usize;
    if rest > 0 {
        sums.push(crc32c::crc32c(&zeros[..rest]));
    }
    sums
}
