//! qcow2, version 3, clusters as they are. What lies where is known from the version's map before anything is written, so it can be
//! written to a stream: header, reference counts, L1 table, then every L2 table with its clusters behind it.

use super::chunks::Chunks;
use super::output::Output;
use crate::error::ExportError;
use crate::format::qcow2::{COPIED, MAGIC};

pub(super) const CLUSTER_BITS: u32 = 16;
pub(super) const CLUSTER_BYTES: u64 = 1 << CLUSTER_BITS;
/// Entries of an L2 table, and of one cluster of the L1 table.
pub(super) const TABLE_ENTRIES: u64 = CLUSTER_BYTES / 8;
/// Counts in one cluster of reference counts, of 16 bits each.
pub(super) const COUNTS: u64 = CLUSTER_BYTES / 2;
/// Bytes of disk that one L2 table covers.
pub(super) const TABLE_COVERS: u64 = TABLE_ENTRIES * CLUSTER_BYTES;
const HEADER_BYTES: u32 = 112;

/// Where the parts in front of the data are, in clusters.
struct Layout {
    table_clusters: u64,
    block_clusters: u64,
    l1_clusters: u64,
    /// Of the L2 tables and the data.
    content_clusters: u64,
}

impl Layout {
    fn total(&self) -> u64 {
        1 + self.table_clusters + self.block_clusters + self.l1_clusters + self.content_clusters
    }
}

/// How many clusters of an L2 table's part of the disk are not zero.
fn clusters_of(chunks: &Chunks<'_>, table: u64) -> impl Iterator<Item = bool> {
    let start = table * TABLE_COVERS;
    (0..TABLE_ENTRIES)
        .map(move |entry| !chunks.is_zero(start + entry * CLUSTER_BYTES, CLUSTER_BYTES))
}

pub(super) fn write(chunks: &mut Chunks<'_>, output: &mut Output<'_>) -> Result<(), ExportError> {
    let tables = chunks.size_bytes().div_ceil(TABLE_COVERS);
    let held: Vec<u64> = (0..tables)
        .map(
            |table| match chunks.is_zero(table * TABLE_COVERS, TABLE_COVERS) {
                true => 0,
                false => clusters_of(chunks, table).filter(|&held| held).count() as u64,
            },
        )
        .collect();
    let layout = plan(tables, &held);
    output.write(&header(
        chunks.size_bytes(),
        tables,
        (1 + layout.table_clusters + layout.block_clusters) * CLUSTER_BYTES,
        (CLUSTER_BYTES, layout.table_clusters),
    ))?;
    output.align(CLUSTER_BYTES)?;
    for block in 0..layout.block_clusters {
        let at = (1 + layout.table_clusters + block) * CLUSTER_BYTES;
        output.write(&at.to_be_bytes())?;
    }
    output.align(CLUSTER_BYTES)?;
    for cluster in 0..layout.block_clusters * COUNTS {
        let count = u16::from(cluster < layout.total());
        output.write(&count.to_be_bytes())?;
    }
    let mut at = output.position() + layout.l1_clusters * CLUSTER_BYTES;
    for &held in &held {
        let entry = if held == 0 { 0 } else { at | COPIED };
        output.write(&entry.to_be_bytes())?;
        at += if held == 0 {
            0
        } else {
            (held + 1) * CLUSTER_BYTES
        };
    }
    output.align(CLUSTER_BYTES)?;
    write_content(chunks, output)
}

fn plan(tables: u64, held: &[u64]) -> Layout {
    let used = held.iter().filter(|&&held| held > 0).count() as u64;
    let mut layout = Layout {
        table_clusters: 1,
        block_clusters: 1,
        l1_clusters: tables.div_ceil(TABLE_ENTRIES).max(1),
        content_clusters: used + held.iter().sum::<u64>(),
    };
    // The counts count themselves, too.
    loop {
        let blocks = layout.total().div_ceil(COUNTS);
        let table = blocks.div_ceil(TABLE_ENTRIES);
        if blocks <= layout.block_clusters && table <= layout.table_clusters {
            return layout;
        }
        layout.block_clusters = blocks;
        layout.table_clusters = table;
    }
}

fn write_content(chunks: &mut Chunks<'_>, output: &mut Output<'_>) -> Result<(), ExportError> {
    let version = chunks.version;
    let size_bytes = chunks.size_bytes();
    chunks.each_plain(&mut |mut offset, _, bytes| {
        if offset % TABLE_COVERS == 0 {
            write_table(version, size_bytes, offset, output)?;
        }
        for cluster in bytes.unwrap_or_default().chunks(CLUSTER_BYTES as usize) {
            if !version.reads_as_zero(offset, cluster.len() as u64) {
                output.write(cluster)?;
                output.align(CLUSTER_BYTES)?;
            }
            offset += cluster.len() as u64;
        }
        Ok(())
    })
}

/// The L2 table of the part of the disk from `start` on, if that is not zero.
fn write_table(
    version: &crate::Version,
    size_bytes: u64,
    start: u64,
    output: &mut Output<'_>,
) -> Result<(), ExportError> {
    let covers = TABLE_COVERS.min(size_bytes - start);
    if version.reads_as_zero(start, covers) {
        return Ok(());
    }
    let mut at = output.position() + CLUSTER_BYTES;
    let mut table = Vec::with_capacity(CLUSTER_BYTES as usize);
    for offset in (start..start + covers).step_by(CLUSTER_BYTES as usize) {
        let length = CLUSTER_BYTES.min(size_bytes - offset);
        let zero = version.reads_as_zero(offset, length);
        let entry = if zero { 0 } else { at | COPIED };
        table.extend_from_slice(&entry.to_be_bytes());
        at += if zero { 0 } else { CLUSTER_BYTES };
    }
    output.write(&table)?;
    output.align(CLUSTER_BYTES)
}

/// The header; the reference table is told by its place and its clusters.
pub(super) fn header(
    size_bytes: u64,
    l1_entries: u64,
    l1_offset: u64,
    (counts_offset, counts_clusters): (u64, u64),
) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER_BYTES as usize);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&3u32.to_be_bytes());
    // No backing file.
    header.extend_from_slice(&[0; 12]);
    header.extend_from_slice(&CLUSTER_BITS.to_be_bytes());
    header.extend_from_slice(&size_bytes.to_be_bytes());
    // Not encrypted.
    header.extend_from_slice(&[0; 4]);
    header.extend_from_slice(&(l1_entries as u32).to_be_bytes());
    header.extend_from_slice(&l1_offset.to_be_bytes());
    header.extend_from_slice(&counts_offset.to_be_bytes());
    header.extend_from_slice(&(counts_clusters as u32).to_be_bytes());
    // No snapshots, no features.
    header.extend_from_slice(&[0; 36]);
    // Reference counts of 2^4 bits.
    header.extend_from_slice(&4u32.to_be_bytes());
    header.extend_from_slice(&HEADER_BYTES.to_be_bytes());
    header.resize(HEADER_BYTES as usize + 8, 0);
    header
}
