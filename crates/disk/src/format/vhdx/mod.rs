//! Hyper-V's format (\[MS-VHDX\] 8.0). All integers are little-endian.

mod locator;
mod log;

pub use locator::ParentLocator;
pub(crate) use log::Patches;
pub use log::{Change, LogEntry};

use super::vhd::plain_path;
use super::{
    Content, HeaderError, Identity, ImageFile, Layer, Opened, Parent, Run, field, le16, le32, le64,
    refuse,
};
use crate::error::ImportError;

pub(crate) const MAGIC: &[u8; 8] = b"vhdxfile";
/// The two headers; the newer one that is whole counts (\[MS-VHDX\] 2.2.2).
pub(crate) const HEADER_OFFSETS: [u64; 2] = [64 << 10, 128 << 10];
pub(crate) const HEADER_BYTES: usize = 4096;
/// The two copies of the region table (\[MS-VHDX\] 2.2.3).
pub(crate) const REGION_OFFSETS: [u64; 2] = [192 << 10, 256 << 10];
pub(crate) const TABLE_BYTES: usize = 64 << 10;
const REGIONS_MAX: u32 = 2047;
const ITEMS_MAX: u16 = 2047;
/// Largest parent locator that is read, in bytes.
const LOCATOR_BYTES_MAX: u32 = 64 << 10;
pub(crate) const MIB: u64 = 1 << 20;
/// States of a block in the block table (\[MS-VHDX\] 2.5.1.1): its data is zero; lies where the entry says; partly there.
pub(crate) const BLOCK_ZERO: u64 = 2;
pub(crate) const BLOCK_PRESENT: u64 = 6;
const BLOCK_PARTLY_PRESENT: u64 = 7;

pub(crate) const BAT_REGION: [u8; 16] = guid("2dc27766f62342009d64115e9bfd4a08");
pub(crate) const METADATA_REGION: [u8; 16] = guid("8b7ca20647904b9ab8fe575f050f886e");
pub(crate) const FILE_PARAMETERS: [u8; 16] = guid("caa16737fa364d43b3b633f0aa44e76b");
pub(crate) const DISK_SIZE: [u8; 16] = guid("2fa54224cd1b4876b2115dbed83bf4b8");
pub(crate) const LOGICAL_SECTOR_SIZE: [u8; 16] = guid("8141bf1da96f4709ba47f233a8faab5f");
pub(crate) const PHYSICAL_SECTOR_SIZE: [u8; 16] = guid("cda348c7445d44719cc9e9885251c556");
/// What the disk answers to SCSI page 83.
pub(crate) const PAGE_83: [u8; 16] = guid("beca12abb2e6452393efc309e000c746");
pub(crate) const PARENT_LOCATOR: [u8; 16] = guid("a8d35f2db30b454dabf7d3d84834ab0c");

/// The header of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VhdxHeader {
    /// The greater one counts.
    pub sequence: u64,
    /// Changes with every change of what the disk holds.
    pub data_write_id: [u8; 16],
    /// Zero if the log holds nothing that the file does not.
    pub log_id: [u8; 16],
    /// Where the log is: offset and bytes.
    pub log: (u64, u32),
}

/// Where the regions of the file are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VhdxRegions {
    /// The block table: offset and bytes.
    pub bat: (u64, u32),
    /// The metadata: offset and bytes.
    pub metadata: (u64, u32),
}

/// What the metadata table says, places relative to the region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VhdxItems {
    /// File parameters.
    pub parameters: u32,
    /// Size of the disk.
    pub disk_size: u32,
    /// Logical sector size.
    pub sector_size: u32,
    /// Parent locator: offset and bytes.
    pub parent: Option<(u32, u32)>,
}

impl VhdxHeader {
    /// Reads a header of 4096 bytes.
    ///
    /// # Errors
    /// If it is cut off, damaged or of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let whole = table(bytes, b"head", HEADER_BYTES)?;
        if le16(whole, 66)? != 1 {
            return refuse(
                66,
                format!("VHDX version {} is not supported", le16(whole, 66)?),
            );
        }
        Ok(Self {
            sequence: le64(whole, 8)?,
            data_write_id: field(whole, 32)?,
            log_id: field(whole, 48)?,
            log: (le64(whole, 72)?, le32(whole, 68)?),
        })
    }
}

impl VhdxRegions {
    /// Reads a region table of 64 KiB.
    ///
    /// # Errors
    /// If it is cut off, damaged, or names a region that is not known but required.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let whole = table(bytes, b"regi", TABLE_BYTES)?;
        let count = le32(whole, 8)?;
        if count > REGIONS_MAX {
            return refuse(8, format!("it cannot have {count} regions"));
        }
        let (mut bat, mut metadata) = (None, None);
        for index in 0..count as usize {
            let at = 16 + index * 32;
            let place = (le64(whole, at + 16)?, le32(whole, at + 24)?);
            match field::<16>(whole, at)? {
                BAT_REGION => bat = Some(place),
                METADATA_REGION => metadata = Some(place),
                _ if le32(whole, at + 28)? & 1 != 0 => {
                    return refuse(at as u64, "it needs a region that is not known");
                }
                _ => {}
            }
        }
        match (bat, metadata) {
            (Some(bat), Some(metadata)) => Ok(Self { bat, metadata }),
            _ => refuse(8, "its region table lacks the block table or the metadata"),
        }
    }
}

impl VhdxItems {
    /// Reads a metadata table of 64 KiB.
    ///
    /// # Errors
    /// If it is cut off, damaged, or names an item that is not known but required.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let Some(whole) = bytes
            .get(..TABLE_BYTES)
            .filter(|b| b.starts_with(b"metadata"))
        else {
            return refuse(0, "its metadata is missing or cut off");
        };
        let count = le16(whole, 10)?;
        if count > ITEMS_MAX {
            return refuse(10, format!("it cannot have {count} metadata items"));
        }
        let (mut parameters, mut disk_size, mut sector_size, mut parent) = (None, None, None, None);
        for index in 0..usize::from(count) {
            let at = 32 + index * 32;
            let (offset, length) = (le32(whole, at + 16)?, le32(whole, at + 20)?);
            let flags = le32(whole, at + 24)?;
            let (user, required) = (flags & 1 != 0, flags & 4 != 0);
            match field::<16>(whole, at)? {
                FILE_PARAMETERS => parameters = Some(offset),
                DISK_SIZE => disk_size = Some(offset),
                LOGICAL_SECTOR_SIZE => sector_size = Some(offset),
                PARENT_LOCATOR => parent = Some((offset, length)),
                id if required && !user && !HARMLESS.contains(&id) => {
                    return refuse(at as u64, "it needs metadata that is not known");
                }
                _ => {}
            }
        }
        match (parameters, disk_size, sector_size) {
            (Some(parameters), Some(disk_size), Some(sector_size)) => Ok(Self {
                parameters,
                disk_size,
                sector_size,
                parent,
            }),
            _ => refuse(
                10,
                "its metadata lacks the block size, disk size or sector size",
            ),
        }
    }
}

/// Required metadata that says nothing about where the data is: physical sector size, SCSI page 83.
const HARMLESS: [[u8; 16]; 2] = [PHYSICAL_SECTOR_SIZE, PAGE_83];

/// A checked table: signature, CRC32C over it with the checksum as zeros.
fn table<'a>(bytes: &'a [u8], magic: &[u8; 4], length: usize) -> Result<&'a [u8], HeaderError> {
    let Some(whole) = bytes.get(..length) else {
        return refuse(bytes.len() as u64, "its header is cut off");
    };
    if !whole.starts_with(magic) {
        return refuse(0, "its header is missing");
    }
    if checksum(whole) != le32(whole, 4)? {
        return refuse(4, "its header is damaged: wrong checksum");
    }
    Ok(whole)
}

/// CRC32C over a table whose checksum, the second four bytes, counts as zeros.
pub(crate) fn checksum(table: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&table[..4]), &[0; 4]);
    crc32c::crc32c_append(crc, &table[8..])
}

/// Opens a VHDX file.
pub(super) fn open(mut file: ImageFile) -> Result<Opened, ImportError> {
    if !file.start(8)?.starts_with(MAGIC) {
        return Err(file.refused(0, "it is not a VHDX image"));
    }
    let header = newest_header(&file)?;
    if header.log_id != [0; 16] {
        log::replay(&mut file, &header)?;
    }
    let regions = first_good(&file, REGION_OFFSETS, TABLE_BYTES, VhdxRegions::decode)?;
    let (metadata, metadata_bytes) = regions.metadata;
    file.contains(metadata, u64::from(metadata_bytes))?;
    let items = VhdxItems::decode(&file.part(metadata, TABLE_BYTES as u64)?)
        .map_err(|error| file.refused_header(metadata, error))?;
    let image = VhdxImage::new(file, &header, &regions, &items)?;
    let parent = match (image.differencing, items.parent) {
        (false, _) => None,
        (true, Some(place)) => Some(image.parent(metadata, place)?),
        (true, None) => {
            let reason = "it does not say what its parent is";
            return Err(image.file.refused(metadata, reason));
        }
    };
    Ok(Opened {
        layer: Box::new(image),
        parent,
    })
}

fn newest_header(file: &ImageFile) -> Result<VhdxHeader, ImportError> {
    let mut read = HEADER_OFFSETS.map(|at| {
        let bytes = file.part(at, HEADER_BYTES as u64)?;
        VhdxHeader::decode(&bytes).map_err(|error| file.refused_header(at, error))
    });
    read.sort_by_key(|header| header.as_ref().ok().map(|header| header.sequence));
    let [_, newest] = read;
    newest
}

fn first_good<T>(
    file: &ImageFile,
    places: [u64; 2],
    length: usize,
    decode: fn(&[u8]) -> Result<T, HeaderError>,
) -> Result<T, ImportError> {
    let [first, second] = places.map(|at| {
        let bytes = file.part(at, length as u64)?;
        decode(&bytes).map_err(|error| file.refused_header(at, error))
    });
    second.or(first)
}

struct VhdxImage {
    file: ImageFile,
    size_bytes: u64,
    block_bytes: u64,
    sector_bytes: u64,
    /// Payload blocks between two sector bitmap blocks in the block table.
    chunk_blocks: u64,
    bat: u64,
    differencing: bool,
    identity: Identity,
}

impl VhdxImage {
    fn new(
        file: ImageFile,
        header: &VhdxHeader,
        regions: &VhdxRegions,
        items: &VhdxItems,
    ) -> Result<Self, ImportError> {
        let metadata = regions.metadata.0;
        let at = |item: u32| metadata.saturating_add(u64::from(item));
        let block_bytes = u64::from(u32::from_le_bytes(file.entry(at(items.parameters))?));
        let flags = u32::from_le_bytes(file.entry(at(items.parameters).saturating_add(4))?);
        let size_bytes = u64::from_le_bytes(file.entry(at(items.disk_size))?);
        let sector_bytes = u64::from(u32::from_le_bytes(file.entry(at(items.sector_size))?));
        if !block_bytes.is_power_of_two() || !(MIB..=256 * MIB).contains(&block_bytes) {
            let reason = format!("a block cannot have {block_bytes} bytes");
            return Err(file.refused(at(items.parameters), reason));
        }
        if sector_bytes != 512 && sector_bytes != 4096 {
            let reason = format!("a sector cannot have {sector_bytes} bytes");
            return Err(file.refused(at(items.sector_size), reason));
        }
        if size_bytes > 64 << 40 || !size_bytes.is_multiple_of(sector_bytes) {
            let reason = format!("a VHDX cannot have {size_bytes} bytes");
            return Err(file.refused(at(items.disk_size), reason));
        }
        let image = Self {
            size_bytes,
            block_bytes,
            sector_bytes,
            chunk_blocks: (sector_bytes << 23) / block_bytes,
            bat: regions.bat.0,
            differencing: flags & 2 != 0,
            identity: header.data_write_id,
            file,
        };
        let blocks = size_bytes.div_ceil(block_bytes);
        let last = blocks.saturating_sub(1);
        let entries = match image.differencing {
            true => image.bitmap_entry(last) + 1,
            false => image.block_entry(last) + 1,
        };
        if entries * 8 > u64::from(regions.bat.1) {
            let reason = "its block table is too short for the disk";
            return Err(image.file.refused(image.bat, reason));
        }
        image.file.contains(image.bat, entries * 8)?;
        Ok(image)
    }

    fn block_entry(&self, block: u64) -> u64 {
        block + block / self.chunk_blocks
    }

    fn bitmap_entry(&self, block: u64) -> u64 {
        block / self.chunk_blocks * (self.chunk_blocks + 1) + self.chunk_blocks
    }

    /// State and place that an entry of the block table tells.
    fn block(&self, entry: u64) -> Result<(u64, u64), ImportError> {
        let value = u64::from_le_bytes(self.file.entry(self.bat + entry * 8)?);
        Ok((value & 7, value & !(MIB - 1)))
    }

    fn partly(&self, offset: u64, limit: u64, data: u64) -> Result<Run<'_>, ImportError> {
        let block = offset / self.block_bytes;
        let entry = self.bitmap_entry(block);
        let (state, bitmap) = self.block(entry)?;
        if state != BLOCK_PRESENT {
            let at = self.bat + entry * 8;
            return Err(self.file.refused(at, "a sector bitmap of it is missing"));
        }
        let chunk_bytes = self.chunk_blocks * self.block_bytes;
        let held = |sector: u64| -> Result<bool, ImportError> {
            let [byte] = self.file.entry(bitmap.saturating_add(sector / 8))?;
            Ok(byte >> (sector % 8) & 1 == 1)
        };
        let within = offset % chunk_bytes;
        let first = within / self.sector_bytes;
        let here = held(first)?;
        let end = (within + limit).div_ceil(self.sector_bytes);
        let mut next = first + 1;
        while next < end && held(next)? == here {
            next += 1;
        }
        Ok(Run {
            length: limit.min(next * self.sector_bytes - within),
            content: match here {
                true => Content::Stored {
                    file: &self.file,
                    offset: data,
                },
                false => Content::Below,
            },
        })
    }

    /// The parent that the locator names (\[MS-VHDX\] 2.6.2.6), by its path relative to the file if there is one.
    fn parent(&self, metadata: u64, (offset, length): (u32, u32)) -> Result<Parent, ImportError> {
        let at = metadata.saturating_add(u64::from(offset));
        if length > LOCATOR_BYTES_MAX {
            return Err(self.file.refused(at, "its parent locator is too long"));
        }
        let bytes = self.file.part(at, u64::from(length))?;
        let locator =
            ParentLocator::decode(&bytes).map_err(|error| self.file.refused_header(at, error))?;
        let Some(path) = locator.path else {
            return Err(self.file.refused(at, "it does not say where its parent is"));
        };
        Ok(Parent {
            path: self.file.beside(&plain_path(&path), "parent")?,
            format: None,
            identity: locator.linkage,
        })
    }
}

impl Layer for VhdxImage {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn files(&self) -> Vec<&ImageFile> {
        vec![&self.file]
    }

    fn run(&self, offset: u64, limit: u64) -> Result<Run<'_>, ImportError> {
        let (block, within) = (offset / self.block_bytes, offset % self.block_bytes);
        let limit = limit.min(self.block_bytes - within);
        let entry = self.block_entry(block);
        let (state, place) = self.block(entry)?;
        let data = place.saturating_add(within);
        let content = match state {
            0 => Content::Below,
            1..=3 => Content::Zero,
            BLOCK_PRESENT => Content::Stored {
                file: &self.file,
                offset: data,
            },
            BLOCK_PARTLY_PRESENT if self.differencing => return self.partly(offset, limit, data),
            other => {
                let reason = format!("it is damaged: a block cannot be in state {other}");
                return Err(self.file.refused(self.bat + entry * 8, reason));
            }
        };
        Ok(Run {
            length: limit,
            content,
        })
    }

    fn identity(&self) -> Option<Identity> {
        Some(self.identity)
    }
}

/// A GUID of 32 digits as it lies in a file: the first three fields are little-endian.
const fn guid(digits: &str) -> [u8; 16] {
    const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    const fn nibble(digit: u8) -> u8 {
        match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            b'A'..=b'F' => digit - b'A' + 10,
            _ => 0,
        }
    }
    let digits = digits.as_bytes();
    let mut bytes = [0; 16];
    let mut at = 0;
    while at < 16 {
        let from = ORDER[at] * 2;
        bytes[at] = nibble(digits[from]) << 4 | nibble(digits[from + 1]);
        at += 1;
    }
    bytes
}
