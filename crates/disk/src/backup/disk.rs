//! Snapshots of disks to archives and back.

use std::io::{Read, Write};
use std::path::Path;

use dess_model::{DiskId, Timestamp};

use super::BackupError;
use super::archive::{ArchiveReader, ArchiveWriter, BackupBase, BackupHeader, PIECE_BYTES_MAX};
use crate::block_map::BlockMap;
use crate::data_file::DataFile;
use crate::device::BLOCK_BYTES;
use crate::error::DiskError;
use crate::overlay::{DATA_FILE, MAP_FILE, OverlayDescriptor, read_map};
use crate::progress::{Progress, Throttle};
use crate::store::SnapshotBuilder;
use crate::version::{Manifest, version_directory};

/// Writes an archive of the snapshot in `directory`; answers its length in bytes. `progress` counts bytes that the snapshot maps.
///
/// # Errors
/// If the snapshot is damaged, the archive cannot be written, or `cancelled` said so. What was written then is no archive.
pub fn backup_snapshot(
    directory: &Path,
    image_name: &str,
    created: Timestamp,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(Progress),
    cancelled: &dyn Fn() -> bool,
) -> Result<u64, BackupError> {
    let descriptor = OverlayDescriptor::read(directory)?;
    let content = read_map(&directory.join(MAP_FILE), &descriptor)?;
    let map = BlockMap::new(descriptor.size_bytes);
    for &word in &content.words {
        map.join(word, false);
    }
    let path = directory.join(DATA_FILE);
    let data = DataFile::open_read_only(&path).map_err(DiskError::store("open", &path))?;
    let size = descriptor.size_bytes;
    let header = BackupHeader {
        image_name: image_name.to_owned(),
        manifest: None,
        base: Some(BackupBase {
            version: descriptor.base,
            image_crc32c: descriptor.base_crc32c,
        }),
        overlay: Some(descriptor),
        created,
    };
    let mut archive = ArchiveWriter::begin(out, &header)?;
    let mut throttle = Throttle::new(progress, map.held() * BLOCK_BYTES);
    let mut buffer = vec![0; PIECE_BYTES_MAX as usize];
    let (mut block, mut done) = (0, 0);
    while block < map.blocks() {
        let (held, run) = map.run(
            block,
            (map.blocks() - block).min(PIECE_BYTES_MAX / BLOCK_BYTES),
        );
        if held {
            if cancelled() {
                return Err(BackupError::Cancelled);
            }
            let offset = block * BLOCK_BYTES;
            let length = (run * BLOCK_BYTES).min(size - offset);
            let piece = &mut buffer[..length as usize];
            let read = data.read_at(offset, piece);
            read.map_err(DiskError::store("read", &path))?;
            archive.add(offset, piece)?;
            done += length;
            throttle.done(done);
        }
        block += run;
    }
    let written = archive.finish()?;
    throttle.finish();
    Ok(written)
}

/// Makes a snapshot `name` of a disk, which need not be the one that was backed up, of what an archive holds. It is there as a whole or not at
/// all; the disk itself is not changed.
///
/// # Errors
/// If the archive is damaged, cut off or none of a disk, its version is missing, the name is wrong or taken, or the store cannot be written.
pub fn restore_snapshot(
    overlays: &Path,
    images: &Path,
    disk: DiskId,
    name: &str,
    input: &mut dyn Read,
    cancelled: &dyn Fn() -> bool,
) -> Result<(), BackupError> {
    let mut archive = ArchiveReader::open(input)?;
    let header = archive.header().clone();
    let Some(kept) = header.overlay else {
        return Err(BackupError::Other { wanted: "a disk" });
    };
    let base = Manifest::read(&version_directory(images, kept.base));
    let same = base.is_ok_and(|base| {
        base.image_crc32c == kept.base_crc32c && base.size_bytes == kept.size_bytes
    });
    if !same {
        return Err(BackupError::NoBase { base: kept.base });
    }
    let descriptor = OverlayDescriptor { disk, ..kept };
    let mut snapshot = SnapshotBuilder::begin(overlays, disk, name, descriptor)?;
    while let Some(piece) = archive.next()? {
        if cancelled() {
            return Err(BackupError::Cancelled);
        }
        if !piece.offset.is_multiple_of(BLOCK_BYTES) {
            let reason = format!(
                "the block at byte {} of the disk is not whole",
                piece.offset
            );
            return Err(BackupError::damaged(0, reason));
        }
        snapshot.add(piece.offset, piece.length, piece.bytes)?;
    }
    snapshot.finish(header.created)?;
    Ok(())
}
