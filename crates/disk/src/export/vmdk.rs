//! A stream-optimised VMDK: grains one behind the other, after every 512 of them their table, at the end the directory and the
//! footer (VMware, "Virtual Disk Format 5.0", "Stream-Optimized Compressed Sparse Extents").

use flate2::{Compress, Compression, FlushCompress};

use super::chunks::{CHUNK_BYTES, Chunks};
use super::output::Output;
use crate::error::ExportError;
use crate::format::vmdk::{
    DESCRIPTOR_MAGIC, DIRECTORY_AT_END, FLAG_COMPRESSED, FLAG_MARKERS, FLAG_NEWLINES, HEADER_BYTES,
    MAGIC, NEWLINES, SECTOR_BYTES,
};

const GRAIN_BYTES: u64 = 64 * 1024;
const GRAIN_SECTORS: u64 = GRAIN_BYTES / SECTOR_BYTES;
const TABLE_ENTRIES: usize = 512;
/// Sectors in front of the first grain, of which the descriptor has 20 behind the header.
const OVERHEAD_SECTORS: u64 = 128;
const DESCRIPTOR_SECTORS: u64 = 20;
/// A compressed grain hardly ever is longer than this.
const PACKED_BYTES: usize = GRAIN_BYTES as usize + 1024;

/// Kinds of markers.
const END_OF_STREAM: u32 = 0;
const GRAIN_TABLE: u32 = 1;
const GRAIN_DIRECTORY: u32 = 2;
const FOOTER: u32 = 3;

pub(super) fn write(chunks: &mut Chunks<'_>, output: &mut Output<'_>) -> Result<(), ExportError> {
    let manifest = chunks.version.manifest();
    let sectors = chunks.size_bytes() / SECTOR_BYTES;
    // Of the same content, the same image.
    let cid = manifest.image_crc32c;
    output.write(&header(sectors, DIRECTORY_AT_END))?;
    output.write(descriptor(cid, sectors).as_bytes())?;
    output.align(OVERHEAD_SECTORS * SECTOR_BYTES)?;
    let mut tables = Tables::default();
    let mut offset = 0;
    chunks.each(&|_, bytes| pack(bytes), &mut |length, grains| {
        let none = || vec![None; length.div_ceil(GRAIN_BYTES) as usize];
        for packed in grains.unwrap_or_else(none) {
            tables.add(offset / SECTOR_BYTES, packed.as_deref(), output)?;
            offset += GRAIN_BYTES;
        }
        Ok(())
    })?;
    tables.end_table(output)?;
    let directory = tables.write_directory(output)?;
    output.write(&marker(1, FOOTER))?;
    output.write(&header(sectors, directory))?;
    output.write(&marker(0, END_OF_STREAM))
}

/// Compresses the grains of a chunk; those that are zero are none.
fn pack(bytes: &[u8]) -> Result<Vec<Option<Vec<u8>>>, ExportError> {
    let mut compress = Compress::new(Compression::default(), true);
    let mut grains = Vec::with_capacity((CHUNK_BYTES / GRAIN_BYTES) as usize);
    for grain in bytes.chunks(GRAIN_BYTES as usize) {
        if grain.iter().all(|&byte| byte == 0) {
            grains.push(None);
            continue;
        }
        let mut plain = grain.to_vec();
        plain.resize(GRAIN_BYTES as usize, 0);
        let mut packed = Vec::with_capacity(PACKED_BYTES);
        compress.reset();
        compress
            .compress_vec(&plain, &mut packed, FlushCompress::Finish)
            .map_err(|error| ExportError::refused(error.to_string()))?;
        grains.push(Some(packed));
    }
    Ok(grains)
}

/// Where the grains and their tables are, in sectors.
#[derive(Default)]
struct Tables {
    grains: Vec<u32>,
    directory: Vec<u32>,
}

impl Tables {
    fn add(
        &mut self,
        first_sector: u64,
        packed: Option<&[u8]>,
        output: &mut Output<'_>,
    ) -> Result<(), ExportError> {
        let at = match packed {
            None => 0,
            Some(bytes) => {
                let at = sector(output)?;
                output.write(&first_sector.to_le_bytes())?;
                output.write(&(bytes.len() as u32).to_le_bytes())?;
                output.write(bytes)?;
                output.align(SECTOR_BYTES)?;
                at
            }
        };
        self.grains.push(at);
        if self.grains.len() == TABLE_ENTRIES {
            self.end_table(output)?;
        }
        Ok(())
    }

    fn end_table(&mut self, output: &mut Output<'_>) -> Result<(), ExportError> {
        if self.grains.is_empty() {
            return Ok(());
        }
        let empty = self.grains.iter().all(|&grain| grain == 0);
        self.grains.resize(TABLE_ENTRIES, 0);
        let table: Vec<u8> = self.grains.drain(..).flat_map(u32::to_le_bytes).collect();
        if empty {
            self.directory.push(0);
            return Ok(());
        }
        output.write(&marker(table.len() as u64 / SECTOR_BYTES, GRAIN_TABLE))?;
        self.directory.push(sector(output)?);
        output.write(&table)
    }

    /// Answers where it is.
    fn write_directory(&mut self, output: &mut Output<'_>) -> Result<u64, ExportError> {
        let mut bytes: Vec<u8> = self
            .directory
            .iter()
            .flat_map(|entry| entry.to_le_bytes())
            .collect();
        bytes.resize(bytes.len().next_multiple_of(SECTOR_BYTES as usize), 0);
        output.write(&marker(bytes.len() as u64 / SECTOR_BYTES, GRAIN_DIRECTORY))?;
        let at = sector(output)?;
        output.write(&bytes)?;
        Ok(u64::from(at))
    }
}

fn sector(output: &Output<'_>) -> Result<u32, ExportError> {
    u32::try_from(output.position() / SECTOR_BYTES)
        .map_err(|_| ExportError::refused("a VMDK cannot be longer than 2 TiB"))
}

fn marker(sectors: u64, kind: u32) -> [u8; SECTOR_BYTES as usize] {
    let mut marker = [0; SECTOR_BYTES as usize];
    marker[..8].copy_from_slice(&sectors.to_le_bytes());
    marker[12..16].copy_from_slice(&kind.to_le_bytes());
    marker
}

fn header(sectors: u64, directory: u64) -> Vec<u8> {
    let mut header = vec![0; HEADER_BYTES];
    header[..4].copy_from_slice(MAGIC);
    header[4..8].copy_from_slice(&3u32.to_le_bytes());
    let flags = FLAG_NEWLINES | FLAG_COMPRESSED | FLAG_MARKERS;
    header[8..12].copy_from_slice(&flags.to_le_bytes());
    header[12..20].copy_from_slice(&sectors.to_le_bytes());
    header[20..28].copy_from_slice(&GRAIN_SECTORS.to_le_bytes());
    header[28..36].copy_from_slice(&1u64.to_le_bytes());
    header[36..44].copy_from_slice(&DESCRIPTOR_SECTORS.to_le_bytes());
    header[44..48].copy_from_slice(&(TABLE_ENTRIES as u32).to_le_bytes());
    header[56..64].copy_from_slice(&directory.to_le_bytes());
    header[64..72].copy_from_slice(&OVERHEAD_SECTORS.to_le_bytes());
    header[73..77].copy_from_slice(&NEWLINES);
    header[77..79].copy_from_slice(&1u16.to_le_bytes());
    header
}

fn descriptor(cid: u32, sectors: u64) -> String {
    let magic = String::from_utf8_lossy(DESCRIPTOR_MAGIC);
    // What VMware's programs ask of the smallest disks, too.
    let cylinders = (sectors / (255 * 63)).max(1);
    format!(
        "{magic}\nversion=1\nCID={cid:08x}\nparentCID=ffffffff\ncreateType=\"streamOptimized\"\n\n\
         # Extent description\nRW {sectors} SPARSE \"disk.vmdk\"\n\n\
         # The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"10\"\n\
         ddb.geometry.cylinders = \"{cylinders}\"\nddb.geometry.heads = \"255\"\n\
         ddb.geometry.sectors = \"63\"\nddb.adapterType = \"lsilogic\"\n"
    )
}
