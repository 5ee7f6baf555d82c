//! A dynamic VHD: a copy of the footer, the header, the block table, the blocks, the footer. The table is known from the version's map
//! before anything is written, so it can be written to a stream.

use super::blocks::{BLOCK_BYTES, write_blocks};
use super::chunks::Chunks;
use super::output::Output;
use crate::error::ExportError;
use crate::format::vhd::{
    DYNAMIC_BYTES, DYNAMIC_CHECKSUM, DYNAMIC_MAGIC, FOOTER_BYTES, FOOTER_CHECKSUM, MAGIC, NOWHERE,
    SECTOR_BYTES, checksum,
};

/// Bytes of the bitmap in front of a block: one bit a sector.
const BITMAP_BYTES: u64 = BLOCK_BYTES / SECTOR_BYTES / 8;
/// Largest disk of the format, in bytes.
const DISK_BYTES_MAX: u64 = 2040 << 30;
const TABLE_OFFSET: u64 = (FOOTER_BYTES + DYNAMIC_BYTES) as u64;

pub(super) fn write(chunks: &mut Chunks<'_>, output: &mut Output<'_>) -> Result<(), ExportError> {
    let size_bytes = chunks.size_bytes();
    if size_bytes > DISK_BYTES_MAX {
        return Err(ExportError::refused("a VHD cannot hold more than 2040 GiB"));
    }
    let blocks = size_bytes.div_ceil(BLOCK_BYTES);
    let footer = footer(chunks);
    output.write(&footer)?;
    output.write(&header(blocks as u32))?;
    let table_bytes = (blocks * 4).next_multiple_of(SECTOR_BYTES);
    let mut sector = (TABLE_OFFSET + table_bytes) / SECTOR_BYTES;
    for block in 0..blocks {
        let zero = chunks.is_zero(block * BLOCK_BYTES, BLOCK_BYTES);
        let entry = if zero { NOWHERE } else { sector as u32 };
        output.write(&entry.to_be_bytes())?;
        sector += if zero {
            0
        } else {
            (BITMAP_BYTES + BLOCK_BYTES) / SECTOR_BYTES
        };
    }
    while output.position() < TABLE_OFFSET + table_bytes {
        output.write(&NOWHERE.to_be_bytes())?;
    }
    write_blocks(chunks, output, &[0xff; BITMAP_BYTES as usize])?;
    output.write(&footer)
}

fn footer(chunks: &Chunks<'_>) -> Vec<u8> {
    let manifest = chunks.version.manifest();
    let size_bytes = manifest.size_bytes;
    let mut footer = vec![0; FOOTER_BYTES];
    footer[..8].copy_from_slice(MAGIC);
    // Reserved feature, always set; format 1.0.
    footer[8..12].copy_from_slice(&2u32.to_be_bytes());
    footer[12..16].copy_from_slice(&0x1_0000u32.to_be_bytes());
    footer[16..24].copy_from_slice(&(FOOTER_BYTES as u64).to_be_bytes());
    // Seconds since 2000-01-01.
    let seconds = (manifest.created.0 / 1000).saturating_sub(946_684_800);
    footer[24..28].copy_from_slice(&u32::try_from(seconds).unwrap_or(0).to_be_bytes());
    // QEMU believes the size only if it knows the program; of others it takes the geometry, which is rounded.
    footer[28..32].copy_from_slice(b"win ");
    footer[32..36].copy_from_slice(&0xa_0000u32.to_be_bytes());
    footer[36..40].copy_from_slice(b"Wi2k");
    footer[40..48].copy_from_slice(&size_bytes.to_be_bytes());
    footer[48..56].copy_from_slice(&size_bytes.to_be_bytes());
    let (cylinders, heads, sectors) = geometry(size_bytes / SECTOR_BYTES);
    footer[56..58].copy_from_slice(&cylinders.to_be_bytes());
    footer[58] = heads;
    footer[59] = sectors;
    footer[60..64].copy_from_slice(&3u32.to_be_bytes());
    footer[68..84].copy_from_slice(&manifest.identity());
    let sum = checksum(&footer, FOOTER_CHECKSUM);
    footer[FOOTER_CHECKSUM..][..4].copy_from_slice(&sum.to_be_bytes());
    footer
}

fn header(blocks: u32) -> Vec<u8> {
    let mut header = vec![0; DYNAMIC_BYTES];
    header[..8].copy_from_slice(DYNAMIC_MAGIC);
    header[8..16].fill(0xff);
    header[16..24].copy_from_slice(&TABLE_OFFSET.to_be_bytes());
    header[24..28].copy_from_slice(&0x1_0000u32.to_be_bytes());
    header[28..32].copy_from_slice(&blocks.to_be_bytes());
    header[32..36].copy_from_slice(&(BLOCK_BYTES as u32).to_be_bytes());
    let sum = checksum(&header, DYNAMIC_CHECKSUM);
    header[DYNAMIC_CHECKSUM..][..4].copy_from_slice(&sum.to_be_bytes());
    header
}

/// Cylinders, heads and sectors per track of a disk (specification, "Appendix: CHS Calculation").
fn geometry(total: u64) -> (u16, u8, u8) {
    let total = total.min(65535 * 16 * 255);
    let (heads, sectors);
    if total >= 65535 * 16 * 63 {
        (heads, sectors) = (16, 255);
    } else {
        let tracks = total / 17;
        let few = tracks.div_ceil(1024).max(4);
        if tracks < few * 1024 && few <= 16 {
            (heads, sectors) = (few, 17);
        } else if total / 31 < 16 * 1024 {
            (heads, sectors) = (16, 31);
        } else {
            (heads, sectors) = (16, 63);
        }
    }
    let cylinders = total / sectors / heads;
    (cylinders as u16, heads as u8, sectors as u8)
}
