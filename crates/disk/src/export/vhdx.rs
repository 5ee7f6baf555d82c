//! A dynamic VHDX (\[MS-VHDX\] 8.0): headers, region tables, an empty log, metadata, the block table, the blocks. The table is known
//! from the version's map before anything is written, so it can be written to a stream.

use super::blocks::{BLOCK_BYTES, write_blocks};
use super::chunks::Chunks;
use super::output::Output;
use crate::error::ExportError;
use crate::format::vhdx::{
    BAT_REGION, BLOCK_PRESENT, BLOCK_ZERO, DISK_SIZE, FILE_PARAMETERS, HEADER_BYTES,
    HEADER_OFFSETS, LOGICAL_SECTOR_SIZE, MAGIC, METADATA_REGION, MIB, PAGE_83,
    PHYSICAL_SECTOR_SIZE, REGION_OFFSETS, TABLE_BYTES, checksum,
};

/// Largest disk of the format, in bytes.
const DISK_BYTES_MAX: u64 = 64 << 40;
const SECTOR_BYTES: u32 = 512;
const PHYSICAL_SECTOR_BYTES: u32 = 4096;
/// Blocks whose sectors one bitmap block would hold: its entry follows theirs.
const CHUNK_BLOCKS: u64 = ((SECTOR_BYTES as u64) << 23) / BLOCK_BYTES;
const LOG_OFFSET: u64 = MIB;
const LOG_BYTES: u32 = MIB as u32;
const METADATA_OFFSET: u64 = 2 * MIB;
const BAT_OFFSET: u64 = 3 * MIB;
/// Flags of a metadata item: it is of the virtual disk; a reader must know it.
const OF_DISK: u32 = 2;
const REQUIRED: u32 = 4;

pub(super) fn write(chunks: &mut Chunks<'_>, output: &mut Output<'_>) -> Result<(), ExportError> {
    let size_bytes = chunks.size_bytes();
    if size_bytes > DISK_BYTES_MAX {
        return Err(ExportError::refused("a VHDX cannot hold more than 64 TiB"));
    }
    let blocks = size_bytes.div_ceil(BLOCK_BYTES);
    let entries = blocks + blocks.saturating_sub(1) / CHUNK_BLOCKS;
    let bat_bytes = (entries * 8).next_multiple_of(MIB);
    let id = chunks.version.manifest().identity();
    output.write(&file_identifier())?;
    for (sequence, at) in HEADER_OFFSETS.into_iter().enumerate() {
        output.skip_to(at)?;
        output.write(&header(sequence as u64, &id))?;
    }
    for at in REGION_OFFSETS {
        output.skip_to(at)?;
        output.write(&regions(bat_bytes as u32))?;
    }
    output.skip_to(METADATA_OFFSET)?;
    output.write(&metadata(size_bytes, &id))?;
    output.skip_to(BAT_OFFSET)?;
    let mut at = BAT_OFFSET + bat_bytes;
    for block in 0..blocks {
        if block > 0 && block % CHUNK_BLOCKS == 0 {
            output.write(&0u64.to_le_bytes())?;
        }
        let zero = chunks.is_zero(block * BLOCK_BYTES, BLOCK_BYTES);
        let entry = if zero { BLOCK_ZERO } else { at | BLOCK_PRESENT };
        output.write(&entry.to_le_bytes())?;
        at += if zero { 0 } else { BLOCK_BYTES };
    }
    output.skip_to(BAT_OFFSET + bat_bytes)?;
    write_blocks(chunks, output, &[])
}

fn file_identifier() -> Vec<u8> {
    let mut identifier = MAGIC.to_vec();
    identifier.extend("DESS".encode_utf16().flat_map(u16::to_le_bytes));
    identifier
}

/// A header without a log to replay; the one with the greater sequence counts.
fn header(sequence: u64, id: &[u8; 16]) -> Vec<u8> {
    let mut header = vec![0; HEADER_BYTES];
    header[..4].copy_from_slice(b"head");
    header[8..16].copy_from_slice(&sequence.to_le_bytes());
    header[16..32].copy_from_slice(id);
    header[32..48].copy_from_slice(id);
    header[66..68].copy_from_slice(&1u16.to_le_bytes());
    header[68..72].copy_from_slice(&LOG_BYTES.to_le_bytes());
    header[72..80].copy_from_slice(&LOG_OFFSET.to_le_bytes());
    sealed(header)
}

fn regions(bat_bytes: u32) -> Vec<u8> {
    let mut table = vec![0; TABLE_BYTES];
    table[..4].copy_from_slice(b"regi");
    table[8..12].copy_from_slice(&2u32.to_le_bytes());
    let regions = [
        (BAT_REGION, BAT_OFFSET, bat_bytes),
        (METADATA_REGION, METADATA_OFFSET, MIB as u32),
    ];
    for (index, (id, offset, length)) in regions.into_iter().enumerate() {
        let entry = &mut table[16 + index * 32..][..32];
        entry[..16].copy_from_slice(&id);
        entry[16..24].copy_from_slice(&offset.to_le_bytes());
        entry[24..28].copy_from_slice(&length.to_le_bytes());
        entry[28..32].copy_from_slice(&1u32.to_le_bytes());
    }
    sealed(table)
}

/// The metadata table with its items behind it.
fn metadata(size_bytes: u64, id: &[u8; 16]) -> Vec<u8> {
    let items: [([u8; 16], Vec<u8>, u32); 5] = [
        // No flags: space is not kept for zeros, there is no parent.
        (
            FILE_PARAMETERS,
            BLOCK_BYTES.to_le_bytes().to_vec(),
            REQUIRED,
        ),
        (
            DISK_SIZE,
            size_bytes.to_le_bytes().to_vec(),
            OF_DISK | REQUIRED,
        ),
        (PAGE_83, id.to_vec(), OF_DISK | REQUIRED),
        (
            LOGICAL_SECTOR_SIZE,
            SECTOR_BYTES.to_le_bytes().to_vec(),
            OF_DISK | REQUIRED,
        ),
        (
            PHYSICAL_SECTOR_SIZE,
            PHYSICAL_SECTOR_BYTES.to_le_bytes().to_vec(),
            OF_DISK | REQUIRED,
        ),
    ];
    let mut table = vec![0; TABLE_BYTES];
    table[..8].copy_from_slice(b"metadata");
    table[10..12].copy_from_slice(&(items.len() as u16).to_le_bytes());
    for (index, (item, value, flags)) in items.iter().enumerate() {
        let at = table.len() as u32;
        table.extend(value);
        let entry = &mut table[32 + index * 32..][..32];
        entry[..16].copy_from_slice(item);
        entry[16..20].copy_from_slice(&at.to_le_bytes());
        entry[20..24].copy_from_slice(&(value.len() as u32).to_le_bytes());
        entry[24..28].copy_from_slice(&flags.to_le_bytes());
    }
    table
}

/// The table with its checksum.
fn sealed(mut table: Vec<u8>) -> Vec<u8> {
    let sum = checksum(&table);
    table[4..8].copy_from_slice(&sum.to_le_bytes());
    table
}

// Blocks lie at multiples of 1 MiB. As a number of eight bytes, their size is that of four with no flags behind it.
const _: () = assert!(BLOCK_BYTES.is_multiple_of(MIB) && BLOCK_BYTES <= u32::MAX as u64);
