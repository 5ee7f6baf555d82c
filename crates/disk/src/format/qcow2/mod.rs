//! QEMU's format (QEMU, `docs/interop/qcow2.rst`). All integers are big-endian.

mod header;

pub use header::Qcow2Header;
pub(crate) use header::{COMPRESSED, COPIED, MAGIC, OFFSET_MASK, ZERO_CLUSTER};

use super::{Codec, Content, ImageFile, ImageFormat, Layer, Opened, Packed, Parent, Run};
use crate::error::ImportError;

/// Bytes read for the header with its extensions and the backing file's name; they lie in the first cluster.
const START_BYTES: u64 = 64 * 1024;
const SUBCLUSTERS: u64 = 32;

/// An open qcow2 file; its snapshots are not looked at.
struct Qcow2Image {
    file: ImageFile,
    /// Where the clusters are, if not in the file itself.
    data_file: Option<ImageFile>,
    header: Qcow2Header,
}

/// Opens a qcow2 file.
pub(super) fn open(file: ImageFile) -> Result<Opened, ImportError> {
    let start = file.start(START_BYTES)?;
    let header = Qcow2Header::decode(&start).map_err(|error| file.refused_header(0, error))?;
    file.contains(header.l1_offset, u64::from(header.l1_entries) * 8)?;
    let data_file = match &header.data_file {
        Some(name) => Some(ImageFile::open(&file.beside(name, "data file")?)?),
        None if header.has_data_file => {
            return Err(file.refused(72, "it does not say which file holds its data"));
        }
        None => None,
    };
    let parent = match &header.backing_file {
        Some(name) => Some(Parent {
            path: file.beside(name, "backing file")?,
            format: backing_format(&file, &header)?,
            identity: None,
        }),
        None => None,
    };
    Ok(Opened {
        layer: Box::new(Qcow2Image {
            file,
            data_file,
            header,
        }),
        parent,
    })
}

fn backing_format(
    file: &ImageFile,
    header: &Qcow2Header,
) -> Result<Option<ImageFormat>, ImportError> {
    Ok(Some(match header.backing_format.as_deref() {
        None => return Ok(None),
        Some("raw" | "file") => ImageFormat::Raw,
        Some("qcow2") => ImageFormat::Qcow2,
        Some("vpc") => ImageFormat::Vhd,
        Some("vhdx") => ImageFormat::Vhdx,
        Some("vmdk") => ImageFormat::Vmdk,
        Some(other) => {
            let reason = format!("its backing file has format {other}, which is not supported");
            return Err(file.refused(8, reason));
        }
    }))
}

impl Layer for Qcow2Image {
    fn size_bytes(&self) -> u64 {
        self.header.size_bytes
    }

    fn files(&self) -> Vec<&ImageFile> {
        [Some(&self.file), self.data_file.as_ref()]
            .into_iter()
            .flatten()
            .collect()
    }

    fn run(&self, offset: u64, limit: u64) -> Result<Run<'_>, ImportError> {
        let cluster_bytes = self.header.cluster_bytes();
        let entry_bytes = self.header.l2_entry_bytes();
        let per_table = cluster_bytes / entry_bytes;
        let cluster = offset >> self.header.cluster_bits;
        let (table, index) = (cluster / per_table, cluster % per_table);
        let entry = self.file.entry(self.header.l1_offset + table * 8)?;
        let l2_offset = u64::from_be_bytes(entry) & OFFSET_MASK;
        if l2_offset == 0 {
            let table_bytes = cluster_bytes * per_table;
            return Ok(Run {
                length: limit.min(table_bytes - offset % table_bytes),
                content: Content::Below,
            });
        }
        if !l2_offset.is_multiple_of(cluster_bytes) {
            let at = self.header.l1_offset + table * 8;
            return Err(self.file.refused(at, "it is damaged: a table lies askew"));
        }
        let at = l2_offset + index * entry_bytes;
        let entry = u64::from_be_bytes(self.file.entry(at)?);
        let within = offset % cluster_bytes;
        let run = |length: u64, content| Run {
            length: limit.min(length),
            content,
        };
        if entry & COMPRESSED != 0 {
            let packed = self.packed(entry, at, within)?;
            return Ok(run(cluster_bytes - within, Content::Packed(packed)));
        }
        let data = self.data(entry, at)?;
        let stored = |file_offset| Content::Stored {
            file: self.data_file.as_ref().unwrap_or(&self.file),
            offset: file_offset,
        };
        if !self.header.extended_l2 {
            let zero = self.header.version >= 3 && entry & ZERO_CLUSTER != 0;
            let content = match data {
                _ if zero => Content::Zero,
                Some(data) => stored(data + within),
                None => Content::Below,
            };
            return Ok(run(cluster_bytes - within, content));
        }
        let bitmap = u64::from_be_bytes(self.file.entry(at + 8)?);
        let sub_bytes = cluster_bytes / SUBCLUSTERS;
        let state = |sub: u64| (bitmap >> (32 + sub) & 1 == 1, bitmap >> sub & 1 == 1);
        let first = within / sub_bytes;
        let same = (first..SUBCLUSTERS)
            .take_while(|&sub| state(sub) == state(first))
            .count() as u64;
        let content = match (state(first), data) {
            ((true, false), _) => Content::Zero,
            ((false, true), Some(data)) => stored(data + within),
            ((false, false), _) => Content::Below,
            _ => {
                let reason = "it is damaged: a part of a cluster is in two states";
                return Err(self.file.refused(at + 8, reason));
            }
        };
        Ok(run((first + same) * sub_bytes - within, content))
    }
}

impl Qcow2Image {
    /// Where a cluster's data lies, if it has any. In a file of its own it may lie at 0.
    fn data(&self, entry: u64, at: u64) -> Result<Option<u64>, ImportError> {
        let offset = entry & OFFSET_MASK;
        if !offset.is_multiple_of(self.header.cluster_bytes()) {
            let reason = "it is damaged: a cluster lies askew";
            return Err(self.file.refused(at, reason));
        }
        let at_zero = self.data_file.is_some() && entry & COPIED != 0;
        Ok((offset != 0 || at_zero).then_some(offset))
    }

    fn packed(&self, entry: u64, at: u64, within: u64) -> Result<Packed<'_>, ImportError> {
        if self.data_file.is_some() {
            let reason = "it is damaged: a cluster in a data file is compressed";
            return Err(self.file.refused(at, reason));
        }
        let offset_bits = 62 - (self.header.cluster_bits - 8);
        let offset = entry & ((1 << offset_bits) - 1);
        let sectors = ((entry & (COMPRESSED - 1)) >> offset_bits) + 1;
        // The last sector need not be whole at the end of the file.
        let end = (offset / 512 + sectors) * 512;
        let end = if end.saturating_sub(self.file.length()) < 512 {
            end.min(self.file.length())
        } else {
            end
        };
        Ok(Packed {
            file: &self.file,
            offset,
            length: end.saturating_sub(offset),
            unit_bytes: self.header.cluster_bytes(),
            skip: within,
            codec: match self.header.zstd {
                true => Codec::Zstd,
                false => Codec::Deflate,
            },
        })
    }
}
