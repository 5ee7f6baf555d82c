//! qcow2 with compressed clusters, packed one behind the other. Where they are is known when they are written, so the tables that
//! lead to them are written last and only a file can hold it.

use flate2::{Compress, Compression, FlushCompress, Status};

use super::chunks::Chunks;
use super::output::Output;
use super::qcow2::{CLUSTER_BITS, CLUSTER_BYTES, COUNTS, TABLE_COVERS, TABLE_ENTRIES, header};
use crate::error::ExportError;
use crate::format::qcow2::{COMPRESSED, COPIED};

/// Bits of an entry that tell the place of a compressed cluster; the rest tells its further sectors.
const OFFSET_BITS: u32 = 62 - (CLUSTER_BITS - 8);
const SECTOR_BYTES: u64 = 512;

/// A cluster as it will lie in the file.
enum Cluster {
    Zero,
    Packed(Vec<u8>),
    Plain(Vec<u8>),
}

/// What has been written.
struct Written {
    /// How often each cluster of the file is referred to.
    counts: Vec<u16>,
    l1: Vec<u64>,
    /// The L2 table of the part of the disk that is being written.
    l2: Vec<u64>,
}

pub(super) fn write(chunks: &mut Chunks<'_>, output: &mut Output<'_>) -> Result<(), ExportError> {
    if !output.is_file() {
        return Err(ExportError::refused(
            "a compressed qcow2 cannot be written to a stream; export it to a file, or as vmdk, or plain through zstd",
        ));
    }
    let tables = chunks.size_bytes().div_ceil(TABLE_COVERS);
    let l1_clusters = tables.div_ceil(TABLE_ENTRIES).max(1);
    output.skip((1 + l1_clusters) * CLUSTER_BYTES)?;
    let mut written = Written {
        counts: vec![1; 1 + l1_clusters as usize],
        l1: Vec::new(),
        l2: Vec::new(),
    };
    chunks.each(&|_, bytes| pack(bytes), &mut |length, clusters| {
        let clusters = clusters.unwrap_or_else(|| {
            let count = length.div_ceil(CLUSTER_BYTES);
            (0..count).map(|_| Cluster::Zero).collect()
        });
        for cluster in clusters {
            written.add(&cluster, output)?;
        }
        Ok(())
    })?;
    written.end_table(output)?;
    let counts = written.write_counts(output)?;
    let l1: Vec<u8> = written
        .l1
        .iter()
        .flat_map(|entry| entry.to_be_bytes())
        .collect();
    output.patch(CLUSTER_BYTES, &l1)?;
    let size_bytes = chunks.size_bytes();
    output.patch(0, &header(size_bytes, tables, CLUSTER_BYTES, counts))
}

/// Compresses the clusters of a chunk.
fn pack(bytes: &[u8]) -> Result<Vec<Cluster>, ExportError> {
    // QEMU unpacks with a window of 4 KiB only.
    let mut compress = Compress::new_with_window_bits(Compression::default(), false, 12);
    let mut clusters = Vec::with_capacity(bytes.len().div_ceil(CLUSTER_BYTES as usize));
    for cluster in bytes.chunks(CLUSTER_BYTES as usize) {
        if cluster.iter().all(|&byte| byte == 0) {
            clusters.push(Cluster::Zero);
            continue;
        }
        let mut plain = cluster.to_vec();
        plain.resize(CLUSTER_BYTES as usize, 0);
        // Longer than this it is not worth it.
        let mut packed = Vec::with_capacity(CLUSTER_BYTES as usize - SECTOR_BYTES as usize);
        compress.reset();
        let status = compress
            .compress_vec(&plain, &mut packed, FlushCompress::Finish)
            .map_err(|error| ExportError::refused(error.to_string()))?;
        clusters.push(match status {
            Status::StreamEnd => Cluster::Packed(packed),
            Status::Ok | Status::BufError => Cluster::Plain(plain),
        });
    }
    Ok(clusters)
}

impl Written {
    fn add(&mut self, cluster: &Cluster, output: &mut Output<'_>) -> Result<(), ExportError> {
        let entry = match cluster {
            Cluster::Zero => 0,
            Cluster::Packed(bytes) => {
                let start = output.position();
                output.write(bytes)?;
                let last = output.position() - 1;
                self.refer(start, last);
                let sectors = last / SECTOR_BYTES - start / SECTOR_BYTES;
                COMPRESSED | sectors << OFFSET_BITS | start
            }
            Cluster::Plain(bytes) => {
                output.align(CLUSTER_BYTES)?;
                let start = output.position();
                output.write(bytes)?;
                self.refer(start, start);
                start | COPIED
            }
        };
        self.l2.push(entry);
        if self.l2.len() as u64 == TABLE_ENTRIES {
            self.end_table(output)?;
        }
        Ok(())
    }

    /// Counts a reference to all clusters of the file from that of byte `first` to that of byte `last`.
    fn refer(&mut self, first: u64, last: u64) {
        let (first, last) = (first / CLUSTER_BYTES, last / CLUSTER_BYTES);
        if self.counts.len() as u64 <= last {
            self.counts.resize(last as usize + 1, 0);
        }
        for count in &mut self.counts[first as usize..=last as usize] {
            *count += 1;
        }
    }

    fn end_table(&mut self, output: &mut Output<'_>) -> Result<(), ExportError> {
        if self.l2.is_empty() {
            return Ok(());
        }
        if self.l2.iter().all(|&entry| entry == 0) {
            self.l1.push(0);
            self.l2.clear();
            return Ok(());
        }
        output.align(CLUSTER_BYTES)?;
        let at = output.position();
        let table: Vec<u8> = self.l2.drain(..).flat_map(u64::to_be_bytes).collect();
        output.write(&table)?;
        output.align(CLUSTER_BYTES)?;
        self.refer(at, at);
        self.l1.push(at | COPIED);
        Ok(())
    }

    /// Writes the reference counts behind everything; answers the place and the clusters of their table.
    fn write_counts(&mut self, output: &mut Output<'_>) -> Result<(u64, u64), ExportError> {
        output.align(CLUSTER_BYTES)?;
        let used = output.position() / CLUSTER_BYTES;
        let (mut blocks, mut tables) = (1, 1);
        // The counts count themselves, too.
        while blocks * COUNTS < used + blocks + tables || tables * TABLE_ENTRIES < blocks {
            blocks = (used + blocks + tables).div_ceil(COUNTS);
            tables = blocks.div_ceil(TABLE_ENTRIES);
        }
        self.counts.resize(used as usize, 0);
        self.counts.resize((used + blocks + tables) as usize, 1);
        self.counts.resize((blocks * COUNTS) as usize, 0);
        let first = output.position();
        let counts: Vec<u8> = self
            .counts
            .iter()
            .flat_map(|count| count.to_be_bytes())
            .collect();
        output.write(&counts)?;
        let table = output.position();
        for block in 0..blocks {
            output.write(&(first + block * CLUSTER_BYTES).to_be_bytes())?;
        }
        output.align(CLUSTER_BYTES)?;
        Ok((table, tables))
    }
}
