//! VMware's format: monolithic or split, sparse, flat or stream-optimised.

mod header;

pub(crate) use header::{
    DESCRIPTOR_MAGIC, DIRECTORY_AT_END, FLAG_COMPRESSED, FLAG_MARKERS, FLAG_NEWLINES, HEADER_BYTES,
    MAGIC, NEWLINES, SECTOR_BYTES,
};
pub use header::{VmdkDescriptor, VmdkExtent, VmdkExtentKind, VmdkHeader};

use super::raw::stored_or_hole;
use super::{Codec, Content, Identity, ImageFile, ImageFormat, Layer, Opened, Packed, Parent, Run};
use crate::error::ImportError;

/// Longest descriptor that is read, in bytes.
const DESCRIPTOR_BYTES_MAX: u64 = 1 << 20;
/// Bytes in front of a compressed grain: its first sector (8) and its length (4).
pub(crate) const GRAIN_MARKER_BYTES: u64 = 12;
/// The footer lies in front of the last marker.
const FOOTER_FROM_END: u64 = 1024;

/// Opens a VMDK: a sparse extent with a descriptor in it, or a descriptor with extents beside it.
pub(super) fn open(file: ImageFile) -> Result<Opened, ImportError> {
    let start = file.start(HEADER_BYTES as u64)?;
    if start.starts_with(MAGIC) {
        return open_monolithic(file);
    }
    let text = file.start(DESCRIPTOR_BYTES_MAX)?;
    if !text.starts_with(DESCRIPTOR_MAGIC) {
        return Err(file.refused(0, "it is not a VMDK image"));
    }
    let descriptor = VmdkDescriptor::parse(&text).map_err(|error| file.refused_header(0, error))?;
    let mut extents = Vec::new();
    let mut end = 0;
    for extent in &descriptor.extents {
        let start = end;
        let bytes = extent.sectors * SECTOR_BYTES;
        end += bytes;
        let kind = open_extent(&file, extent, bytes)?;
        extents.push(Extent { start, end, kind });
    }
    opened(&file, &descriptor, extents)
}

fn open_monolithic(file: ImageFile) -> Result<Opened, ImportError> {
    let name = file.path().to_owned();
    let sparse = SparseExtent::open(file)?;
    let descriptor = sparse.descriptor()?;
    let extent = Extent {
        start: 0,
        end: sparse.header.capacity_sectors * SECTOR_BYTES,
        kind: ExtentKind::Sparse(Box::new(sparse)),
    };
    opened(&ImageFile::open(&name)?, &descriptor, vec![extent])
}

fn open_extent(
    owner: &ImageFile,
    extent: &VmdkExtent,
    bytes: u64,
) -> Result<ExtentKind, ImportError> {
    match &extent.kind {
        VmdkExtentKind::Zero => Ok(ExtentKind::Zero),
        VmdkExtentKind::Flat { file, sector } => {
            let file = ImageFile::open(&owner.beside(file, "extent")?)?;
            let start = sector * SECTOR_BYTES;
            file.contains(start, bytes)?;
            Ok(ExtentKind::Flat { file, start })
        }
        VmdkExtentKind::Sparse { file } => {
            let sparse = SparseExtent::open(ImageFile::open(&owner.beside(file, "extent")?)?)?;
            if sparse.header.capacity_sectors < extent.sectors {
                let reason = format!(
                    "it has {} sectors, but should have {}",
                    sparse.header.capacity_sectors, extent.sectors
                );
                return Err(sparse.file.refused(12, reason));
            }
            Ok(ExtentKind::Sparse(Box::new(sparse)))
        }
    }
}

fn opened(
    file: &ImageFile,
    descriptor: &VmdkDescriptor,
    extents: Vec<Extent>,
) -> Result<Opened, ImportError> {
    let parent = match (descriptor.parent_cid, &descriptor.parent_name) {
        (None, _) => None,
        (Some(cid), Some(name)) => Some(Parent {
            path: file.beside(name, "parent")?,
            format: Some(ImageFormat::Vmdk),
            identity: Some(identity(cid)),
        }),
        (Some(_), None) => {
            return Err(file.refused(0, "it does not say where its parent is"));
        }
    };
    Ok(Opened {
        layer: Box::new(VmdkImage {
            extents,
            cid: descriptor.cid,
        }),
        parent,
    })
}

fn identity(cid: u32) -> Identity {
    let mut identity = [0; 16];
    identity[..4].copy_from_slice(&cid.to_le_bytes());
    identity
}

struct VmdkImage {
    /// In the order of the disk.
    extents: Vec<Extent>,
    cid: u32,
}

struct Extent {
    /// Where its part of the disk begins and ends.
    start: u64,
    end: u64,
    kind: ExtentKind,
}

enum ExtentKind {
    Sparse(Box<SparseExtent>),
    Flat { file: ImageFile, start: u64 },
    Zero,
}

impl Layer for VmdkImage {
    fn size_bytes(&self) -> u64 {
        self.extents.last().map_or(0, |last| last.end)
    }

    fn files(&self) -> Vec<&ImageFile> {
        let extents = self.extents.iter();
        extents
            .filter_map(|extent| match &extent.kind {
                ExtentKind::Sparse(sparse) => Some(&sparse.file),
                ExtentKind::Flat { file, .. } => Some(file),
                ExtentKind::Zero => None,
            })
            .collect()
    }

    fn run(&self, offset: u64, limit: u64) -> Result<Run<'_>, ImportError> {
        let index = self.extents.partition_point(|extent| extent.end <= offset);
        let Some(extent) = self.extents.get(index) else {
            return Ok(Run {
                length: limit,
                content: Content::Zero,
            });
        };
        let limit = limit.min(extent.end - offset);
        let within = offset - extent.start;
        match &extent.kind {
            ExtentKind::Sparse(sparse) => sparse.run(within, limit),
            ExtentKind::Flat { file, start } => stored_or_hole(file, start + within, limit),
            ExtentKind::Zero => Ok(Run {
                length: limit,
                content: Content::Zero,
            }),
        }
    }

    fn identity(&self) -> Option<Identity> {
        Some(identity(self.cid))
    }
}

struct SparseExtent {
    file: ImageFile,
    header: VmdkHeader,
    /// Where the grain directory is.
    directory: u64,
}

impl SparseExtent {
    fn open(file: ImageFile) -> Result<Self, ImportError> {
        let start = file.start(HEADER_BYTES as u64)?;
        let header = VmdkHeader::decode(&start).map_err(|error| file.refused_header(0, error))?;
        let mut sector = header.directory_sector;
        if sector == DIRECTORY_AT_END {
            let at = file.length().saturating_sub(FOOTER_FROM_END);
            let footer = file.part(at, HEADER_BYTES as u64)?;
            let footer = VmdkHeader::decode(&footer).map_err(|_| {
                let reason = "it is truncated: it does not end with a footer";
                file.refused(at, reason)
            })?;
            sector = footer.directory_sector;
        }
        let directory = sector.saturating_mul(SECTOR_BYTES);
        file.contains(directory, header.tables() * 4)?;
        Ok(Self {
            file,
            header,
            directory,
        })
    }

    fn descriptor(&self) -> Result<VmdkDescriptor, ImportError> {
        if self.header.descriptor_sector == 0 {
            return Ok(VmdkDescriptor::default());
        }
        let at = self.header.descriptor_sector.saturating_mul(SECTOR_BYTES);
        let length = self.header.descriptor_sectors.saturating_mul(SECTOR_BYTES);
        let text = self.file.part(at, length.min(DESCRIPTOR_BYTES_MAX))?;
        VmdkDescriptor::parse(&text).map_err(|error| self.file.refused_header(at, error))
    }

    fn run(&self, offset: u64, limit: u64) -> Result<Run<'_>, ImportError> {
        let grain_bytes = self.header.grain_bytes();
        let entries = u64::from(self.header.table_entries);
        let grain = offset / grain_bytes;
        let within = offset % grain_bytes;
        let (table, index) = (grain / entries, grain % entries);
        let below = |end: u64| Run {
            length: limit.min(end - offset),
            content: Content::Below,
        };
        let entry = self.file.entry(self.directory + table * 4)?;
        let table_sector = u64::from(u32::from_le_bytes(entry));
        if table_sector == 0 {
            return Ok(below((table + 1) * entries * grain_bytes));
        }
        let at = table_sector * SECTOR_BYTES + index * 4;
        let sector = u64::from(u32::from_le_bytes(self.file.entry(at)?));
        let content = match sector {
            0 => return Ok(below((grain + 1) * grain_bytes)),
            1 if self.header.zero_grains => Content::Zero,
            _ if self.header.compressed => {
                Content::Packed(self.packed(sector * SECTOR_BYTES, grain, within)?)
            }
            _ => Content::Stored {
                file: &self.file,
                offset: sector * SECTOR_BYTES + within,
            },
        };
        Ok(Run {
            length: limit.min(grain_bytes - within),
            content,
        })
    }

    fn packed(&self, at: u64, grain: u64, skip: u64) -> Result<Packed<'_>, ImportError> {
        let first = u64::from_le_bytes(self.file.entry(at)?);
        let length = u64::from(u32::from_le_bytes(self.file.entry(at + 8)?));
        if first != grain * self.header.grain_sectors {
            let reason = format!("it is damaged: the grain there should be that of sector {first}");
            return Err(self.file.refused(at, reason));
        }
        Ok(Packed {
            file: &self.file,
            offset: at + GRAIN_MARKER_BYTES,
            length,
            unit_bytes: self.header.grain_bytes(),
            skip,
            codec: Codec::Zlib,
        })
    }
}
