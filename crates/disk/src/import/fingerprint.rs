//! What an interrupted import remembers of its source.

use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};

use crate::error::ImportError;
use crate::format::Chain;

const FORMAT: u32 = 1;
/// Bytes at the start of every file of the source that are looked at.
const START_BYTES: u64 = 64 * 1024;

/// What tells whether a source is still the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprint {
    format: u32,
    size_bytes: u64,
    /// Of every file: path, device, inode, length, time of the last change in nanoseconds, CRC32C of its first 64 KiB.
    files: Vec<(String, u64, u64, u64, i128, u32)>,
}

impl Fingerprint {
    pub(super) fn of(image: &Chain) -> Result<Self, ImportError> {
        let mut files = Vec::new();
        for file in image.files() {
            let found = file
                .file()
                .metadata()
                .map_err(ImportError::source(file.path(), 0))?;
            let changed =
                i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec());
            files.push((
                file.path().to_string_lossy().into_owned(),
                found.dev(),
                found.ino(),
                file.length(),
                changed,
                crc32c::crc32c(&file.start(START_BYTES)?),
            ));
        }
        Ok(Self {
            format: FORMAT,
            size_bytes: image.size_bytes(),
            files,
        })
    }
}
