//! Virtual PC's and Hyper-V's older format (Microsoft, "Virtual Hard Disk Image Format Specification", 1.0). All integers are
//! big-endian.

use super::{
    Content, HeaderError, Identity, ImageFile, Layer, Opened, Parent, Run, be32, be64, field,
    raw::stored_or_hole, refuse,
};
use crate::error::ImportError;

pub(crate) const MAGIC: &[u8; 8] = b"conectix";
pub(crate) const DYNAMIC_MAGIC: &[u8; 8] = b"cxsparse";
pub(crate) const FOOTER_BYTES: usize = 512;
pub(crate) const DYNAMIC_BYTES: usize = 1024;
pub(crate) const SECTOR_BYTES: u64 = 512;
/// Entry of the table of a block that is nowhere.
pub(crate) const NOWHERE: u32 = u32::MAX;
pub(crate) const FOOTER_CHECKSUM: usize = 64;
pub(crate) const DYNAMIC_CHECKSUM: usize = 36;
const LOCATORS: usize = 8;
const LOCATOR_BYTES: usize = 24;
/// Longest path in a locator, in bytes.
const LOCATOR_PATH_MAX: u32 = 4096;
/// A path relative to the image, in UTF-16LE.
const RELATIVE_PATH: &[u8; 4] = b"W2ru";

/// Kind of a VHD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VhdKind {
    /// The disk's bytes, then the footer.
    Fixed,
    /// Blocks where something was written.
    Dynamic,
    /// Blocks where something was written since another VHD.
    Differencing,
}

/// The footer; dynamic and differencing files begin with a copy of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VhdFooter {
    /// What follows or precedes it.
    pub kind: VhdKind,
    /// Size of the disk in bytes.
    pub size_bytes: u64,
    /// Where the dynamic header is; means nothing in a fixed file.
    pub header_offset: u64,
    /// Identity of the file.
    pub unique_id: [u8; 16],
}

/// The header of a dynamic or differencing file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VhdDynamicHeader {
    /// Where the block table is.
    pub table_offset: u64,
    /// Its entries.
    pub blocks: u32,
    /// Bytes of disk in a block, a power of two, 512 to 256 MiB.
    pub block_bytes: u32,
    /// Identity of the parent (differencing).
    pub parent_id: [u8; 16],
    /// Name of the parent (differencing).
    pub parent_name: String,
    /// Where a path of the parent, relative to the file, is: offset and bytes.
    pub parent_path: Option<(u64, u32)>,
}

impl VhdFooter {
    /// Reads a footer.
    ///
    /// # Errors
    /// If it is cut off, damaged, or of an unknown kind.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        if !bytes.starts_with(MAGIC) {
            return refuse(0, "it is not a VHD image");
        }
        check_sum(bytes, FOOTER_BYTES, FOOTER_CHECKSUM)?;
        let kind = match be32(bytes, 60)? {
            2 => VhdKind::Fixed,
            3 => VhdKind::Dynamic,
            4 => VhdKind::Differencing,
            other => return refuse(60, format!("a VHD of kind {other} is not supported")),
        };
        let size_bytes = be64(bytes, 48)?;
        if !size_bytes.is_multiple_of(SECTOR_BYTES) {
            return refuse(48, format!("a VHD cannot have {size_bytes} bytes"));
        }
        Ok(Self {
            kind,
            size_bytes,
            header_offset: be64(bytes, 16)?,
            unique_id: field(bytes, 68)?,
        })
    }
}

impl VhdDynamicHeader {
    /// Reads the header.
    ///
    /// # Errors
    /// If it is cut off or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        if !bytes.starts_with(DYNAMIC_MAGIC) {
            return refuse(0, "its dynamic header is missing");
        }
        check_sum(bytes, DYNAMIC_BYTES, DYNAMIC_CHECKSUM)?;
        let block_bytes = be32(bytes, 32)?;
        if !block_bytes.is_power_of_two() || !(512..=256 << 20).contains(&block_bytes) {
            return refuse(32, format!("a block cannot have {block_bytes} bytes"));
        }
        let mut parent_path = None;
        for locator in 0..LOCATORS {
            let at = 576 + locator * LOCATOR_BYTES;
            if &field::<4>(bytes, at)? == RELATIVE_PATH {
                parent_path = Some((be64(bytes, at + 16)?, be32(bytes, at + 8)?));
            }
        }
        let units: [u8; 512] = field(bytes, 64)?;
        Ok(Self {
            table_offset: be64(bytes, 16)?,
            blocks: be32(bytes, 28)?,
            block_bytes,
            parent_id: field(bytes, 40)?,
            parent_name: text(&units, u16::from_be_bytes),
            parent_path,
        })
    }
}

/// The checksum of `bytes` with the field at `at` left out.
pub(crate) fn checksum(bytes: &[u8], at: usize) -> u32 {
    let sum = |part: &[u8]| {
        part.iter()
            .fold(0u32, |sum, &byte| sum.wrapping_add(u32::from(byte)))
    };
    !sum(&bytes[..at]).wrapping_add(sum(&bytes[at + 4..]))
}

fn check_sum(bytes: &[u8], length: usize, at: usize) -> Result<(), HeaderError> {
    let Some(whole) = bytes.get(..length) else {
        return refuse(bytes.len() as u64, "its header is cut off");
    };
    if checksum(whole, at) != be32(bytes, at)? {
        return refuse(at as u64, "its header is damaged: wrong checksum");
    }
    Ok(())
}

/// UTF-16 up to the first zero.
fn text(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let units = bytes.as_chunks::<2>().0.iter().map(|pair| unit(*pair));
    char::decode_utf16(units.take_while(|&unit| unit != 0))
        .map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

/// A file that ends with the footer of a fixed VHD.
pub(super) fn is_fixed(file: &ImageFile) -> Result<bool, ImportError> {
    Ok(matches!(last_footer(file)?, Some(Ok(footer))
        if footer.kind == VhdKind::Fixed && footer.size_bytes <= file.length() - FOOTER_BYTES as u64))
}

/// The footer at the end of the file, if there seems to be one.
fn last_footer(file: &ImageFile) -> Result<Option<Result<VhdFooter, HeaderError>>, ImportError> {
    let Some(at) = file.length().checked_sub(FOOTER_BYTES as u64) else {
        return Ok(None);
    };
    let bytes = file.part(at, FOOTER_BYTES as u64)?;
    Ok(bytes.starts_with(MAGIC).then(|| VhdFooter::decode(&bytes)))
}

/// Opens a VHD file.
pub(super) fn open(file: ImageFile) -> Result<Opened, ImportError> {
    let start = file.start(FOOTER_BYTES as u64)?;
    if !start.starts_with(MAGIC) {
        return open_fixed(file);
    }
    let footer = VhdFooter::decode(&start).map_err(|error| file.refused_header(0, error))?;
    if footer.kind == VhdKind::Fixed {
        return Err(file.refused(60, "it begins with the footer of a fixed VHD"));
    }
    let at = footer.header_offset;
    let header = VhdDynamicHeader::decode(&file.part(at, DYNAMIC_BYTES as u64)?)
        .map_err(|error| file.refused_header(at, error))?;
    if u64::from(header.blocks) < footer.size_bytes.div_ceil(u64::from(header.block_bytes)) {
        let reason = format!("{} blocks are too few for the disk", header.blocks);
        return Err(file.refused(at + 28, reason));
    }
    file.contains(header.table_offset, u64::from(header.blocks) * 4)?;
    // A file that is cut off has lost its footer.
    if last_footer(&file)?.is_none() {
        let reason = "it is truncated: it does not end with a footer";
        return Err(file.refused(file.length(), reason));
    }
    let parent = match footer.kind {
        VhdKind::Differencing => Some(parent(&file, &header)?),
        VhdKind::Fixed | VhdKind::Dynamic => None,
    };
    let bitmap_bytes = (u64::from(header.block_bytes) / SECTOR_BYTES)
        .div_ceil(8)
        .next_multiple_of(SECTOR_BYTES);
    Ok(Opened {
        layer: Box::new(DynamicVhd {
            file,
            footer,
            header,
            bitmap_bytes,
        }),
        parent,
    })
}

fn open_fixed(file: ImageFile) -> Result<Opened, ImportError> {
    let at = file.length().saturating_sub(FOOTER_BYTES as u64);
    let footer = match last_footer(&file)? {
        Some(footer) => footer.map_err(|error| file.refused_header(at, error))?,
        None => {
            let reason = "it is truncated or not a VHD: it does not end with a footer";
            return Err(file.refused(at, reason));
        }
    };
    if footer.kind != VhdKind::Fixed {
        return Err(file.refused(0, "it does not begin with a copy of its footer"));
    }
    if footer.size_bytes > at {
        let reason = format!(
            "it is truncated: {} bytes of disk should precede the footer",
            footer.size_bytes
        );
        return Err(file.refused(at, reason));
    }
    Ok(Opened {
        layer: Box::new(FixedVhd { file, footer }),
        parent: None,
    })
}

/// The parent's path: that relative to the file if there is one, else its name beside the file.
fn parent(file: &ImageFile, header: &VhdDynamicHeader) -> Result<Parent, ImportError> {
    let mut name = header.parent_name.clone();
    if let Some((offset, length)) = header.parent_path
        && length <= LOCATOR_PATH_MAX
    {
        name = text(&file.part(offset, u64::from(length))?, u16::from_le_bytes);
    }
    Ok(Parent {
        path: file.beside(&plain_path(&name), "parent")?,
        format: None,
        identity: Some(header.parent_id),
    })
}

/// A Windows path as one of this server: relative ones as they are, of absolute ones the file name.
pub(super) fn plain_path(windows: &str) -> String {
    let absolute = windows.starts_with('\\') || windows.get(1..2) == Some(":");
    let path = windows.replace('\\', "/");
    match path.rsplit_once('/') {
        Some((_, name)) if absolute => name.to_owned(),
        _ => path.strip_prefix("./").unwrap_or(&path).to_owned(),
    }
}

struct FixedVhd {
    file: ImageFile,
    footer: VhdFooter,
}

impl Layer for FixedVhd {
    fn size_bytes(&self) -> u64 {
        self.footer.size_bytes
    }

    fn files(&self) -> Vec<&ImageFile> {
        vec![&self.file]
    }

    fn run(&self, offset: u64, limit: u64) -> Result<Run<'_>, ImportError> {
        stored_or_hole(&self.file, offset, limit)
    }

    fn identity(&self) -> Option<Identity> {
        Some(self.footer.unique_id)
    }
}

struct DynamicVhd {
    file: ImageFile,
    footer: VhdFooter,
    header: VhdDynamicHeader,
    /// Bytes of the bitmap in front of a block.
    bitmap_bytes: u64,
}

impl Layer for DynamicVhd {
    fn size_bytes(&self) -> u64 {
        self.footer.size_bytes
    }

    fn files(&self) -> Vec<&ImageFile> {
        vec![&self.file]
    }

    fn run(&self, offset: u64, limit: u64) -> Result<Run<'_>, ImportError> {
        let block_bytes = u64::from(self.header.block_bytes);
        let (block, within) = (offset / block_bytes, offset % block_bytes);
        let limit = limit.min(block_bytes - within);
        let entry = self.file.entry(self.header.table_offset + block * 4)?;
        let sector = u32::from_be_bytes(entry);
        if sector == NOWHERE {
            return Ok(Run {
                length: limit,
                content: Content::Below,
            });
        }
        let bitmap = u64::from(sector) * SECTOR_BYTES;
        let stored = Content::Stored {
            file: &self.file,
            offset: bitmap + self.bitmap_bytes + within,
        };
        // What a dynamic file holds is the disk's wherever a block is; programs that write it do not agree about the bitmap.
        if self.footer.kind != VhdKind::Differencing {
            return Ok(Run {
                length: limit,
                content: stored,
            });
        }
        let first = within / SECTOR_BYTES;
        let held = |sector: u64| -> Result<bool, ImportError> {
            let [byte] = self.file.entry(bitmap + sector / 8)?;
            Ok(byte >> (7 - sector % 8) & 1 == 1)
        };
        let here = held(first)?;
        let sectors = (within + limit).div_ceil(SECTOR_BYTES);
        let mut end = first + 1;
        while end < sectors && held(end)? == here {
            end += 1;
        }
        Ok(Run {
            length: limit.min(end * SECTOR_BYTES - within),
            content: if here { stored } else { Content::Below },
        })
    }

    fn identity(&self) -> Option<Identity> {
        Some(self.footer.unique_id)
    }
}
