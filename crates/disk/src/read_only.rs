//! A version as a disk that cannot be written: a data disk that all clients share.

use std::io;
use std::sync::Arc;

use crate::device::{BLOCK_BYTES, BlockDevice, BlockRead, check_range};
use crate::version::Version;

/// A version without an overlay. Every write fails.
pub struct ReadOnlyDisk(Arc<Version>);

impl ReadOnlyDisk {
    /// A disk on this version.
    pub fn new(version: Arc<Version>) -> Self {
        Self(version)
    }

    /// What is on it.
    pub fn version(&self) -> &Arc<Version> {
        &self.0
    }
}

impl BlockRead for ReadOnlyDisk {
    fn size_bytes(&self) -> u64 {
        self.0.size_bytes()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, buffer)
    }

    fn try_read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.try_read_at(offset, buffer)
    }
}

impl BlockDevice for ReadOnlyDisk {
    fn write_at(&self, _offset: u64, _data: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn write_zeroes(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn allocation(&self, offset: u64, limit: u64) -> io::Result<(bool, u64)> {
        check_range(self.size_bytes(), offset, limit)?;
        let block = offset / BLOCK_BYTES;
        let end = (offset + limit).div_ceil(BLOCK_BYTES);
        let (layer, run) = self.0.locate(block, end - block);
        let bytes = ((block + run) * BLOCK_BYTES - offset).min(limit);
        Ok((layer.is_some(), bytes))
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}
