//! The header of a sparse extent, and the text that describes an image (VMware, "Virtual Disk Format 5.0"). All integers are
//! little-endian.

use crate::format::unpack::UNIT_BYTES_MAX;
use crate::format::{HeaderError, field, le16, le32, le64, refuse};

pub(crate) const MAGIC: &[u8; 4] = b"KDMV";
pub(crate) const DESCRIPTOR_MAGIC: &[u8] = b"# Disk DescriptorFile";
pub(crate) const SECTOR_BYTES: u64 = 512;
pub(crate) const HEADER_BYTES: usize = 512;
/// The directory's place is told by the footer.
pub(crate) const DIRECTORY_AT_END: u64 = u64::MAX;
/// The bytes that newline conversion would change are there.
pub(crate) const FLAG_NEWLINES: u32 = 1 << 0;
const FLAG_ZERO_GRAINS: u32 = 1 << 2;
pub(crate) const FLAG_COMPRESSED: u32 = 1 << 16;
pub(crate) const FLAG_MARKERS: u32 = 1 << 17;
/// Bytes that newline conversion would change.
pub(crate) const NEWLINES: [u8; 4] = *b"\n \r\n";
const EXTENTS_MAX: usize = 4096;

/// The header of a sparse extent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmdkHeader {
    /// Size of the extent's part of the disk, in sectors.
    pub capacity_sectors: u64,
    /// Sectors of a grain, a power of two.
    pub grain_sectors: u64,
    /// Where the embedded descriptor is, in sectors; 0 without one.
    pub descriptor_sector: u64,
    /// Its length in sectors.
    pub descriptor_sectors: u64,
    /// Entries of one grain table.
    pub table_entries: u32,
    /// Where the grain directory is, in sectors; [`u64::MAX`] if the footer tells.
    pub directory_sector: u64,
    /// Entry 1 of a grain table is a grain of zeros.
    pub zero_grains: bool,
    /// Grains are compressed (zlib) behind a marker.
    pub compressed: bool,
}

impl VmdkHeader {
    /// Reads the header (or footer).
    ///
    /// # Errors
    /// If it is cut off, damaged, or needs a feature that cannot be imported.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        if !bytes.starts_with(MAGIC) {
            return refuse(0, "it is not a sparse VMDK extent");
        }
        if bytes.len() < HEADER_BYTES {
            return refuse(bytes.len() as u64, "its header is cut off");
        }
        let version = le32(bytes, 4)?;
        if !(1..=3).contains(&version) {
            return refuse(4, format!("VMDK version {version} is not supported"));
        }
        let flags = le32(bytes, 8)?;
        if flags & FLAG_NEWLINES != 0 && field::<4>(bytes, 73)? != NEWLINES {
            return refuse(73, "it was transferred as text, which has damaged it");
        }
        let grain_sectors = le64(bytes, 20)?;
        if !grain_sectors.is_power_of_two() || grain_sectors > UNIT_BYTES_MAX / SECTOR_BYTES {
            return refuse(20, format!("a grain cannot have {grain_sectors} sectors"));
        }
        let table_entries = le32(bytes, 44)?;
        if !table_entries.is_power_of_two() || table_entries > 1 << 16 {
            let reason = format!("a grain table cannot have {table_entries} entries");
            return refuse(44, reason);
        }
        let capacity_sectors = le64(bytes, 12)?;
        if capacity_sectors > crate::version::DISK_BYTES_MAX / SECTOR_BYTES {
            return refuse(12, format!("{capacity_sectors} sectors are too many"));
        }
        let compressed = flags & FLAG_COMPRESSED != 0;
        if compressed && (flags & FLAG_MARKERS == 0 || le16(bytes, 77)? != 1) {
            return refuse(77, "it is compressed in an unknown way");
        }
        Ok(Self {
            capacity_sectors,
            grain_sectors,
            descriptor_sector: le64(bytes, 28)?,
            descriptor_sectors: le64(bytes, 36)?,
            table_entries,
            directory_sector: le64(bytes, 56)?,
            zero_grains: flags & FLAG_ZERO_GRAINS != 0,
            compressed,
        })
    }

    pub(crate) fn grain_bytes(&self) -> u64 {
        self.grain_sectors * SECTOR_BYTES
    }

    /// Entries of the grain directory.
    pub(crate) fn tables(&self) -> u64 {
        self.capacity_sectors
            .div_ceil(self.grain_sectors)
            .div_ceil(u64::from(self.table_entries))
    }
}

/// What an extent's part of the disk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VmdkExtentKind {
    /// A sparse file.
    Sparse {
        /// Its name.
        file: String,
    },
    /// A part of a file that holds the disk's bytes.
    Flat {
        /// Its name.
        file: String,
        /// Where in it, in sectors.
        sector: u64,
    },
    /// Nothing.
    Zero,
}

/// A line of the descriptor that names an extent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmdkExtent {
    /// Its part of the disk.
    pub sectors: u64,
    /// What is there.
    pub kind: VmdkExtentKind,
}

/// The text that describes an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmdkDescriptor {
    /// Content id.
    pub cid: u32,
    /// That of the parent, if there is one.
    pub parent_cid: Option<u32>,
    /// Name of the parent.
    pub parent_name: Option<String>,
    /// In the order of the disk.
    pub extents: Vec<VmdkExtent>,
}

impl VmdkDescriptor {
    /// Reads the text, up to its first zero byte.
    ///
    /// # Errors
    /// If a line of it has no meaning that is known, with its place.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let end = bytes.iter().position(|&byte| byte == 0);
        let bytes = &bytes[..end.unwrap_or(bytes.len())];
        let mut descriptor = Self::default();
        let mut at = 0;
        for line in bytes.split(|&byte| byte == b'\n') {
            let text = String::from_utf8_lossy(line);
            descriptor.take(text.trim(), at)?;
            at += line.len() as u64 + 1;
        }
        Ok(descriptor)
    }

    fn take(&mut self, line: &str, at: u64) -> Result<(), HeaderError> {
        let access = line.split_ascii_whitespace().next().unwrap_or_default();
        if let "RW" | "RDONLY" | "NOACCESS" = access {
            if self.extents.len() == EXTENTS_MAX {
                return refuse(at, "it has too many extents");
            }
            self.extents.push(extent(line, at)?);
            return Ok(());
        }
        let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) else {
            return Ok(());
        };
        let value = value.trim().trim_matches('"');
        let cid = || match u32::from_str_radix(value, 16) {
            Ok(cid) => Ok(cid),
            Err(_) => refuse(at, format!("{value} is no content id")),
        };
        match key.trim() {
            "CID" => self.cid = cid()?,
            "parentCID" => self.parent_cid = Some(cid()?).filter(|&cid| cid != u32::MAX),
            "parentFileNameHint" => self.parent_name = Some(value.to_owned()),
            _ => {}
        }
        Ok(())
    }
}

/// `RW 4192256 SPARSE "disk-s001.vmdk"`, `RW 81920 FLAT "disk-flat.vmdk" 0`, `RW 100 ZERO`.
fn extent(line: &str, at: u64) -> Result<VmdkExtent, HeaderError> {
    let mut words = line.splitn(4, char::is_whitespace);
    let (sectors, kind) = (words.nth(1), words.next());
    let Some(sectors) = sectors.and_then(|sectors| sectors.parse().ok()) else {
        return refuse(at, "an extent does not say how many sectors it has");
    };
    if sectors > crate::version::DISK_BYTES_MAX / SECTOR_BYTES {
        return refuse(at, format!("{sectors} sectors are too many"));
    }
    let kind = kind.unwrap_or_default();
    if kind == "ZERO" {
        let kind = VmdkExtentKind::Zero;
        return Ok(VmdkExtent { sectors, kind });
    }
    let rest = words.next().unwrap_or_default().trim();
    let Some((file, tail)) = rest.strip_prefix('"').and_then(|rest| rest.split_once('"')) else {
        return refuse(at, "an extent does not name its file");
    };
    let file = file.to_owned();
    let kind = match kind {
        "SPARSE" => VmdkExtentKind::Sparse { file },
        "FLAT" | "VMFS" => {
            let sector = tail.split_ascii_whitespace().next().unwrap_or("0");
            let Ok(sector) = sector.parse::<u32>() else {
                return refuse(at, format!("{sector} is no place in a file"));
            };
            let sector = u64::from(sector);
            VmdkExtentKind::Flat { file, sector }
        }
        other => return refuse(at, format!("an extent of kind {other} is not supported")),
    };
    Ok(VmdkExtent { sectors, kind })
}

#[cfg(test)]
mod tests;
