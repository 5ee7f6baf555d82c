//! The header of a qcow2 file.

use crate::format::{HeaderError, be32, be64, refuse};

pub(crate) const MAGIC: &[u8; 4] = b"QFI\xfb";
/// Bytes of the header that a version 2 file has.
const V2_BYTES: usize = 72;
/// Longest backing file name (the format's own limit).
const BACKING_NAME_MAX: usize = 1023;
/// Longest L1 table, in entries (QEMU's own limit, 32 MiB).
const L1_ENTRIES_MAX: u32 = 4 << 20;
const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;
const EXTENSION_DATA_FILE: u32 = 0x4441_5441;
/// Where a cluster or table lies, in an entry of a table.
pub(crate) const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
/// The cluster has one reference only.
pub(crate) const COPIED: u64 = 1 << 63;
/// The cluster is compressed.
pub(crate) const COMPRESSED: u64 = 1 << 62;
/// The cluster is zero, in version 3 and without subclusters.
pub(crate) const ZERO_CLUSTER: u64 = 1 << 0;

const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

/// The header fields that an import depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qcow2Header {
    /// 2 or 3.
    pub version: u32,
    /// Cluster size as a power of two, 9 to 21.
    pub cluster_bits: u32,
    /// Size of the disk in bytes.
    pub size_bytes: u64,
    /// Entries of the L1 table.
    pub l1_entries: u32,
    /// Where the L1 table is.
    pub l1_offset: u64,
    /// Name of the backing file as written in the header.
    pub backing_file: Option<String>,
    /// Its format, if told.
    pub backing_format: Option<String>,
    /// The clusters lie in another file.
    pub has_data_file: bool,
    /// Its name, if told.
    pub data_file: Option<String>,
    /// Clusters have 32 subclusters each, and entries of L2 tables 16 bytes.
    pub extended_l2: bool,
    /// Compressed clusters are so by zstd, else by deflate.
    pub zstd: bool,
}

impl Qcow2Header {
    /// Reads the start of a file: the header, its extensions, and the backing file's name.
    ///
    /// # Errors
    /// If it is cut off, damaged, or needs a feature that cannot be imported.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        if !bytes.starts_with(MAGIC) {
            return refuse(0, "it is not a qcow2 image");
        }
        if bytes.len() < V2_BYTES {
            return refuse(bytes.len() as u64, "its header is cut off");
        }
        let version = be32(bytes, 4)?;
        if version != 2 && version != 3 {
            return refuse(4, format!("qcow2 version {version} is not supported"));
        }
        let cluster_bits = be32(bytes, 20)?;
        if !(9..=21).contains(&cluster_bits) {
            return refuse(20, format!("a cluster cannot have 2^{cluster_bits} bytes"));
        }
        match be32(bytes, 32)? {
            0 => {}
            1 => return refuse(32, "it is encrypted (AES); decrypt it with qemu-img first"),
            2 => return refuse(32, "it is encrypted (LUKS); decrypt it with qemu-img first"),
            other => return refuse(32, format!("it is encrypted by unknown method {other}")),
        }
        let mut header = Self {
            version,
            cluster_bits,
            size_bytes: be64(bytes, 24)?,
            l1_entries: be32(bytes, 36)?,
            l1_offset: be64(bytes, 40)?,
            backing_file: backing_file(bytes)?,
            backing_format: None,
            has_data_file: false,
            data_file: None,
            extended_l2: false,
            zstd: false,
        };
        let mut extensions = V2_BYTES;
        if version == 3 {
            header.take_features(bytes)?;
            extensions = be32(bytes, 100)? as usize;
            if extensions < 104 || extensions > bytes.len() {
                return refuse(100, format!("its header cannot have {extensions} bytes"));
            }
        }
        header.take_extensions(bytes, extensions)?;
        header.check_l1()?;
        Ok(header)
    }

    fn check_l1(&self) -> Result<(), HeaderError> {
        let per_l1 = self.cluster_bytes() * (self.cluster_bytes() / self.l2_entry_bytes());
        if self.l1_entries > L1_ENTRIES_MAX
            || u64::from(self.l1_entries) < self.size_bytes.div_ceil(per_l1)
        {
            let entries = self.l1_entries;
            return refuse(36, format!("its L1 table cannot have {entries} entries"));
        }
        Ok(())
    }

    pub(crate) fn cluster_bytes(&self) -> u64 {
        1 << self.cluster_bits
    }

    pub(crate) fn l2_entry_bytes(&self) -> u64 {
        if self.extended_l2 { 16 } else { 8 }
    }

    fn take_features(&mut self, bytes: &[u8]) -> Result<(), HeaderError> {
        let features = be64(bytes, 72)?;
        if features & CORRUPT != 0 {
            return refuse(
                72,
                "it is marked as corrupt; repair it with qemu-img check first",
            );
        }
        // A dirty image has only its reference counts out of date, which reading does not use.
        let unknown =
            features & !(DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION_TYPE | EXTENDED_L2);
        if unknown != 0 {
            return refuse(72, format!("it needs unknown features ({unknown:#x})"));
        }
        self.has_data_file = features & EXTERNAL_DATA != 0;
        self.extended_l2 = features & EXTENDED_L2 != 0;
        if self.extended_l2 && self.cluster_bits < 14 {
            return refuse(20, "subclusters cannot have less than 512 bytes");
        }
        if features & COMPRESSION_TYPE != 0 {
            self.zstd = match bytes.get(104) {
                Some(0) => false,
                Some(1) => true,
                _ => return refuse(104, "it is compressed in an unknown way"),
            };
        }
        Ok(())
    }

    fn take_extensions(&mut self, bytes: &[u8], mut at: usize) -> Result<(), HeaderError> {
        // Extensions of a version 2 file lie behind its header too, unless the backing name or the first table does.
        while at + 8 <= bytes.len() {
            let (kind, length) = (be32(bytes, at)?, be32(bytes, at + 4)? as usize);
            if kind == 0 {
                break;
            }
            let Some(value) = bytes.get(at + 8..).and_then(|rest| rest.get(..length)) else {
                return refuse(at as u64, "a header extension is cut off");
            };
            let text = || Some(String::from_utf8_lossy(value).into_owned());
            match kind {
                EXTENSION_BACKING_FORMAT => self.backing_format = text(),
                EXTENSION_DATA_FILE if self.has_data_file => self.data_file = text(),
                _ => {}
            }
            at += 8 + length.next_multiple_of(8);
        }
        Ok(())
    }
}

fn backing_file(bytes: &[u8]) -> Result<Option<String>, HeaderError> {
    let offset = be64(bytes, 8)?;
    let length = be32(bytes, 16)? as usize;
    if offset == 0 || length == 0 {
        return Ok(None);
    }
    let name = usize::try_from(offset)
        .ok()
        .filter(|_| length <= BACKING_NAME_MAX)
        .and_then(|start| bytes.get(start..start.checked_add(length)?));
    let Some(name) = name else {
        return refuse(8, "the name of its backing file lies outside the header");
    };
    match std::str::from_utf8(name) {
        Ok(name) if name.starts_with("json:") => refuse(
            offset,
            "its backing file is described by JSON, which is not supported",
        ),
        Ok(name) => Ok(Some(name.to_owned())),
        Err(_) => refuse(offset, "the name of its backing file is not UTF-8"),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
