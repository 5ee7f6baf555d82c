//! The file that is imported, whatever its format.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use imago::file::File as ImagoFile;
use imago::{FormatAccess, Mapping};
use rustix::io::Errno;

use super::{ImageFormat, ImportSource, qcow2};
use crate::error::ImportError;
use crate::version::SourceInfo;

/// Bytes that tell a format.
const MAGIC_BYTES: usize = 8;

/// Formats that are known, so that they are not taken for raw disks.
const FOREIGN: &[(&[u8], &str)] = &[
    (b"KDMV", "a VMDK image"),
    (b"COWD", "a VMDK image"),
    (b"vhdxfile", "a VHDX image"),
    (b"conectix", "a dynamic VHD image"),
    (b"<<< ", "a VirtualBox (VDI) image"),
    (b"\x1f\x8b", "a gzip stream"),
    (b"\x28\xb5\x2f\xfd", "a zstd stream"),
    (b"\xfd7zXZ\0", "an xz stream"),
    (b"BZh", "a bzip2 stream"),
    (b"PK\x03\x04", "a zip archive"),
];

pub(super) struct Source {
    path: PathBuf,
    file_bytes: u64,
    content: Content,
    /// The disk is known to be zero from any offset asked before up to here.
    zero_until: Cell<u64>,
}

enum Content {
    Raw(File),
    Qcow2(FormatAccess<ImagoFile>),
}

impl Source {
    pub(super) fn open(source: &ImportSource) -> Result<Self, ImportError> {
        let path = &source.path;
        let mut file = File::open(path).map_err(ImportError::source(path, 0))?;
        let failed = || ImportError::source(path, 0);
        // Block devices have a size only to seek.
        let file_bytes = file.seek(SeekFrom::End(0)).map_err(failed())?;
        if file.metadata().map_err(failed())?.is_dir() {
            return Err(failed()(io::ErrorKind::IsADirectory.into()));
        }
        let format = match source.format {
            Some(format) => format,
            None => detect(path, &file)?,
        };
        let content = match format {
            ImageFormat::Raw => Content::Raw(file),
            ImageFormat::Qcow2 => Content::Qcow2(qcow2::open(path, file)?),
        };
        Ok(Self {
            path: path.clone(),
            file_bytes,
            content,
            zero_until: Cell::new(0),
        })
    }

    /// Size of the disk in bytes.
    pub(super) fn size_bytes(&self) -> u64 {
        match &self.content {
            Content::Raw(_) => self.file_bytes,
            Content::Qcow2(image) => image.size(),
        }
    }

    pub(super) fn info(&self) -> SourceInfo {
        let name = self.path.file_name().unwrap_or_default();
        SourceInfo {
            name: name.to_string_lossy().into_owned(),
            format: match &self.content {
                Content::Raw(_) => ImageFormat::Raw,
                Content::Qcow2(_) => ImageFormat::Qcow2,
            },
            file_bytes: self.file_bytes,
        }
    }

    /// True if the range is known to be zero without reading it. Ranges are asked in rising order.
    pub(super) fn reads_as_zero(&self, offset: u64, length: u64) -> Result<bool, ImportError> {
        let end = offset + length;
        if self.zero_until.get() < end {
            let zero_until = match &self.content {
                Content::Raw(file) => next_data(file, offset),
                Content::Qcow2(image) => next_mapped(image, offset),
            };
            let zero_until = zero_until.map_err(ImportError::source(&self.path, offset))?;
            self.zero_until.set(zero_until);
        }
        Ok(self.zero_until.get() >= end)
    }

    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ImportError> {
        match &self.content {
            Content::Raw(file) => file.read_exact_at(buffer, offset),
            Content::Qcow2(image) => image.read(buffer, offset),
        }
        .map_err(ImportError::source(&self.path, offset))
    }
}

/// Where the next data may be, from `offset` on.
fn next_data(file: &File, offset: u64) -> io::Result<u64> {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(offset)) {
        Ok(data) => Ok(data),
        Err(Errno::NXIO) => Ok(u64::MAX),
        // The file system, or a block device, does not know holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(offset),
        Err(error) => Err(error.into()),
    }
}

fn next_mapped(image: &FormatAccess<ImagoFile>, mut offset: u64) -> io::Result<u64> {
    loop {
        match image.get_mapping(offset, image.size().saturating_sub(offset))? {
            (Mapping::Zero { .. }, run) if run > 0 => offset += run,
            (Mapping::Eof { .. }, _) => return Ok(u64::MAX),
            _ => return Ok(offset),
        }
    }
}

/// Tells the format by the first bytes. What is no known format is a raw disk.
pub(super) fn detect(path: &Path, file: &File) -> Result<ImageFormat, ImportError> {
    let mut magic = [0; MAGIC_BYTES];
    let mut filled = 0;
    while filled < MAGIC_BYTES {
        match file.read_at(&mut magic[filled..], filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ImportError::source(path, filled as u64)(error)),
        }
    }
    if magic.starts_with(qcow2::MAGIC) {
        return Ok(ImageFormat::Qcow2);
    }
    match FOREIGN.iter().find(|(start, _)| magic.starts_with(start)) {
        Some((_, what)) => Err(ImportError::refused(
            path,
            0,
            format!("it is {what}; convert it to raw or qcow2 first"),
        )),
        None => Ok(ImageFormat::Raw),
    }
}
