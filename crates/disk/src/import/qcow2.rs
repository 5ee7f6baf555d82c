//! What the qcow2 library does not check: features it would ignore, and tables and clusters that lie behind the end of a
//! truncated file (it reads those as zeros).
//!
//! Layout: QEMU, `docs/interop/qcow2.rst`. All integers are big-endian.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use imago::file::File as ImagoFile;
use imago::qcow2::Qcow2;
use imago::raw::Raw;
use imago::{DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder, StorageOpenOptions};

use super::{ImageFormat, source};
use crate::error::ImportError;

pub(super) const MAGIC: &[u8; 4] = b"QFI\xfb";
/// Bytes of the header that a version 2 file has.
const V2_BYTES: usize = 72;
/// Bytes read for the header with its extensions and the backing file's name; they lie in the first cluster.
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Longest backing file name (the format's own limit).
const BACKING_NAME_MAX: usize = 1023;
/// Most files in one backing chain.
const CHAIN_MAX: usize = 32;
/// Longest L1 table, in entries (QEMU's own limit, 32 MiB).
const L1_ENTRIES_MAX: u32 = 4 << 20;
const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;
const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
const ALL_ZEROS: u64 = 1;

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
}

/// A qcow2 header that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Qcow2DecodeError {
    /// Where in the file, in bytes.
    pub offset: u64,
    /// Why, for people.
    pub reason: String,
}

impl Qcow2Header {
    /// Reads the start of a file: the header, its extensions, and the backing file's name.
    ///
    /// # Errors
    /// If it is cut off, damaged, or needs a feature that cannot be imported.
    pub fn decode(bytes: &[u8]) -> Result<Self, Qcow2DecodeError> {
        if !bytes.starts_with(MAGIC) {
            return refuse(0, "it is not a qcow2 image");
        }
        if bytes.len() < V2_BYTES {
            return refuse(bytes.len(), "its header is cut off");
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
        let mut extensions = V2_BYTES;
        if version == 3 {
            check_features(bytes)?;
            extensions = be32(bytes, 100)? as usize;
            if extensions < 104 || extensions > bytes.len() {
                return refuse(100, format!("its header cannot have {extensions} bytes"));
            }
        }
        let header = Self {
            version,
            cluster_bits,
            size_bytes: be64(bytes, 24)?,
            l1_entries: be32(bytes, 36)?,
            l1_offset: be64(bytes, 40)?,
            backing_file: backing_file(bytes)?,
            backing_format: backing_format(bytes, extensions)?,
        };
        header.check_l1()?;
        Ok(header)
    }

    fn check_l1(&self) -> Result<(), Qcow2DecodeError> {
        let per_l1 = self.cluster_bytes() * (self.cluster_bytes() / 8);
        if self.l1_entries > L1_ENTRIES_MAX
            || u64::from(self.l1_entries) < self.size_bytes.div_ceil(per_l1)
        {
            let entries = self.l1_entries;
            return refuse(36, format!("its L1 table cannot have {entries} entries"));
        }
        Ok(())
    }

    fn cluster_bytes(&self) -> u64 {
        1 << self.cluster_bits
    }
}

/// Opens a qcow2 file with its backing files, after checking each of them.
pub(super) fn open(path: &Path, file: File) -> Result<FormatAccess<ImagoFile>, ImportError> {
    open_in_chain(path, file, 1)
}

fn open_in_chain(
    path: &Path,
    mut file: File,
    depth: usize,
) -> Result<FormatAccess<ImagoFile>, ImportError> {
    let file_bytes = file
        .seek(SeekFrom::End(0))
        .map_err(ImportError::source(path, 0))?;
    let mut start = vec![0; file_bytes.min(HEADER_BYTES_MAX as u64) as usize];
    file.read_exact_at(&mut start, 0)
        .map_err(ImportError::source(path, 0))?;
    let header = Qcow2Header::decode(&start)
        .map_err(|error| ImportError::refused(path, error.offset, error.reason))?;
    Extents {
        path,
        file: &file,
        file_bytes,
        header: &header,
    }
    .check()?;
    let backing = match &header.backing_file {
        Some(name) => {
            if depth == CHAIN_MAX {
                return Err(ImportError::refused(
                    path,
                    8,
                    "it has too many backing files",
                ));
            }
            Some(open_backing(path, name, &header, depth)?)
        }
        None => None,
    };
    let failed = || ImportError::source(path, 0);
    let image = Qcow2::<ImagoFile>::builder(storage(path, file)?)
        .backing(backing)
        .open(DenyImplicitOpenGate::default())
        .map_err(failed())?;
    Ok(FormatAccess::new(image))
}

fn open_backing(
    overlay: &Path,
    name: &str,
    header: &Qcow2Header,
    depth: usize,
) -> Result<FormatAccess<ImagoFile>, ImportError> {
    let path = backing_path(overlay, name)?;
    let file = File::open(&path).map_err(ImportError::source(&path, 0))?;
    let format = match header.backing_format.as_deref() {
        Some("raw" | "file") => ImageFormat::Raw,
        Some("qcow2") => ImageFormat::Qcow2,
        Some(other) => {
            let reason = format!("its backing file has format {other}, which is not supported");
            return Err(ImportError::refused(overlay, 8, reason));
        }
        None => source::detect(&path, &file)?,
    };
    match format {
        ImageFormat::Qcow2 => open_in_chain(&path, file, depth + 1),
        ImageFormat::Raw => Raw::builder(storage(&path, file)?)
            .open(DenyImplicitOpenGate::default())
            .map(FormatAccess::new)
            .map_err(ImportError::source(&path, 0)),
    }
}

/// An image names its backing file itself, so it could name any file of this server: only files in its own directory or
/// below are followed, links included.
fn backing_path(overlay: &Path, name: &str) -> Result<PathBuf, ImportError> {
    let name = name.strip_prefix("file:").unwrap_or(name);
    let resolve = |path: &Path| path.canonicalize().map_err(ImportError::source(path, 0));
    let overlay_file = resolve(overlay)?;
    let directory = overlay_file.parent().unwrap_or(Path::new("/"));
    let path = resolve(&directory.join(name))?;
    if path.starts_with(directory) {
        Ok(path)
    } else {
        let reason = format!(
            "its backing file {} lies outside its own directory; put it beside the image",
            path.display()
        );
        Err(ImportError::refused(overlay, 8, reason))
    }
}

fn storage(path: &Path, file: File) -> Result<ImagoFile, ImportError> {
    ImagoFile::from_open_file(file, StorageOpenOptions::new().filename(path))
        .map_err(ImportError::source(path, 0))
}

/// Walks the L1 and L2 tables: everything that they name must lie in the file.
struct Extents<'a> {
    path: &'a Path,
    file: &'a File,
    file_bytes: u64,
    header: &'a Qcow2Header,
}

impl Extents<'_> {
    fn check(&self) -> Result<(), ImportError> {
        let l1_bytes = u64::from(self.header.l1_entries) * 8;
        let l1 = self.table(self.header.l1_offset, l1_bytes, "L1 table")?;
        let cluster = self.header.cluster_bytes();
        let l2_covers = cluster * (cluster / 8);
        for (index, entry) in (0u64..).zip(l1) {
            let guest = index * l2_covers;
            let l2_offset = entry & OFFSET_MASK;
            if l2_offset == 0 || guest >= self.header.size_bytes {
                continue;
            }
            for (slot, entry) in (0u64..).zip(self.table(l2_offset, cluster, "L2 table")?) {
                let left = self
                    .header
                    .size_bytes
                    .saturating_sub(guest + slot * cluster);
                self.check_cluster(entry, l2_offset + slot * 8, left)?;
            }
        }
        Ok(())
    }

    /// `left`: bytes of disk from the cluster on.
    fn check_cluster(&self, entry: u64, entry_offset: u64, left: u64) -> Result<(), ImportError> {
        if left == 0 || entry == 0 {
            return Ok(());
        }
        let (offset, length, file_bytes) = if entry & COMPRESSED != 0 {
            let sector_bits = self.header.cluster_bits - 8;
            let offset_bits = 62 - sector_bits;
            let offset = entry & ((1 << offset_bits) - 1);
            let sectors = ((entry & (COMPRESSED - 1)) >> offset_bits) + 1;
            // The last one may end within the last sector of the file.
            let file_bytes = self.file_bytes.next_multiple_of(512);
            (offset / 512 * 512, sectors * 512, file_bytes)
        } else if entry & OFFSET_MASK == 0 || (self.header.version == 3 && entry & ALL_ZEROS != 0) {
            return Ok(());
        } else {
            let length = self.header.cluster_bytes().min(left);
            (entry & OFFSET_MASK, length, self.file_bytes)
        };
        if offset.saturating_add(length) > file_bytes {
            return Err(self.truncated(offset, length, "a cluster", entry_offset));
        }
        Ok(())
    }

    fn table(&self, offset: u64, length: u64, what: &str) -> Result<Vec<u64>, ImportError> {
        if offset.saturating_add(length) > self.file_bytes {
            return Err(self.truncated(offset, length, what, offset));
        }
        let mut bytes = vec![0; length as usize];
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(ImportError::source(self.path, offset))?;
        let entries = bytes.as_chunks::<8>().0.iter();
        Ok(entries.map(|entry| u64::from_be_bytes(*entry)).collect())
    }

    fn truncated(&self, offset: u64, length: u64, what: &str, at: u64) -> ImportError {
        let have = self.file_bytes;
        let reason = format!(
            "it is truncated or damaged: {what} lies at {offset} to {}, but the file has {have} bytes",
            offset.saturating_add(length)
        );
        ImportError::refused(self.path, at, reason)
    }
}

fn check_features(bytes: &[u8]) -> Result<(), Qcow2DecodeError> {
    let features = be64(bytes, 72)?;
    if features & CORRUPT != 0 {
        return refuse(
            72,
            "it is marked as corrupt; repair it with qemu-img check first",
        );
    }
    if features & EXTERNAL_DATA != 0 {
        return refuse(
            72,
            "its data is in another file; convert it with qemu-img first",
        );
    }
    if features & EXTENDED_L2 != 0 {
        return refuse(
            72,
            "it has subclusters (extended L2); convert it with qemu-img first",
        );
    }
    if features & COMPRESSION_TYPE != 0 && bytes.get(104) != Some(&0) {
        return refuse(
            104,
            "it is compressed with zstd; convert it with qemu-img first",
        );
    }
    // A dirty image has only its reference counts out of date, which reading does not use.
    let unknown = features & !(DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION_TYPE | EXTENDED_L2);
    if unknown != 0 {
        return refuse(72, format!("it needs unknown features ({unknown:#x})"));
    }
    Ok(())
}

fn backing_file(bytes: &[u8]) -> Result<Option<String>, Qcow2DecodeError> {
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
            offset as usize,
            "its backing file is described by JSON, which is not supported",
        ),
        Ok(name) => Ok(Some(name.to_owned())),
        Err(_) => refuse(offset as usize, "the name of its backing file is not UTF-8"),
    }
}

fn backing_format(bytes: &[u8], mut at: usize) -> Result<Option<String>, Qcow2DecodeError> {
    // Extensions of a version 2 file lie behind its header too, unless the backing name or the first table does.
    while at + 8 <= bytes.len() {
        let (kind, length) = (be32(bytes, at)?, be32(bytes, at + 4)? as usize);
        if kind == 0 {
            break;
        }
        let Some(value) = bytes.get(at + 8..).and_then(|rest| rest.get(..length)) else {
            return refuse(at, "a header extension is cut off");
        };
        if kind == EXTENSION_BACKING_FORMAT {
            return Ok(Some(String::from_utf8_lossy(value).into_owned()));
        }
        at += 8 + length.next_multiple_of(8);
    }
    Ok(None)
}

fn be32(bytes: &[u8], offset: usize) -> Result<u32, Qcow2DecodeError> {
    match bytes.get(offset..).and_then(|rest| rest.first_chunk()) {
        Some(field) => Ok(u32::from_be_bytes(*field)),
        None => refuse(offset, "its header is cut off"),
    }
}

fn be64(bytes: &[u8], offset: usize) -> Result<u64, Qcow2DecodeError> {
    match bytes.get(offset..).and_then(|rest| rest.first_chunk()) {
        Some(field) => Ok(u64::from_be_bytes(*field)),
        None => refuse(offset, "its header is cut off"),
    }
}

fn refuse<T>(offset: usize, reason: impl Into<String>) -> Result<T, Qcow2DecodeError> {
    Err(Qcow2DecodeError {
        offset: offset as u64,
        reason: reason.into(),
    })
}

#[cfg(test)]
mod tests;
