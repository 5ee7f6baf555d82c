//! The bytes of a disk, as they are.

use rustix::io::Errno;

use super::{Content, ImageFile, Layer, Run};
use crate::error::ImportError;

pub(crate) struct RawImage {
    file: ImageFile,
}

impl RawImage {
    pub(crate) fn new(file: ImageFile) -> Self {
        Self { file }
    }
}

impl Layer for RawImage {
    fn size_bytes(&self) -> u64 {
        self.file.length()
    }

    fn files(&self) -> Vec<&ImageFile> {
        vec![&self.file]
    }

    fn run(&self, offset: u64, limit: u64) -> Result<Run<'_>, ImportError> {
        stored_or_hole(&self.file, offset, limit)
    }
}

/// A part of a file that holds a disk's bytes: what is a hole in it is zero.
pub(crate) fn stored_or_hole(
    file: &ImageFile,
    offset: u64,
    limit: u64,
) -> Result<Run<'_>, ImportError> {
    let data = match rustix::fs::seek(file.file(), rustix::fs::SeekFrom::Data(offset)) {
        Ok(data) => data,
        Err(Errno::NXIO) => u64::MAX,
        // The file system, or a block device, does not know holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => offset,
        Err(error) => return Err(ImportError::source(file.path(), offset)(error.into())),
    };
    Ok(if data > offset {
        Run {
            length: limit.min(data - offset),
            content: Content::Zero,
        }
    } else {
        Run {
            length: limit,
            content: Content::Stored { file, offset },
        }
    })
}
