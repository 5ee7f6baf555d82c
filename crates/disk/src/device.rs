//! Block devices: small, synchronous and stackable.

use std::io;

/// Size of the unit in which overlays track writes, in bytes.
pub const BLOCK_BYTES: u64 = 4096;

/// Something that can be read like a disk. A golden image implements only this, so writing to one
/// does not compile.
pub trait BlockRead: Send + Sync {
    /// Size in bytes; a multiple of 512.
    fn size_bytes(&self) -> u64;

    /// Fills `buffer` from `offset`. The caller keeps to the size; reading past it is an error.
    ///
    /// # Errors
    /// If the store fails or the range is outside the device.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// As [`read_at`](Self::read_at), but never waits for a disk: fails with
    /// [`io::ErrorKind::WouldBlock`] if some of the data is not in memory. `buffer` may then hold
    /// a part of it.
    ///
    /// # Errors
    /// As `read_at`, and `WouldBlock`.
    fn try_read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// A disk that a client may write. All methods may be called from several threads; ranges that
/// overlap are ordered by the caller.
pub trait BlockDevice: BlockRead {
    /// Writes `data` at `offset`. When it returns, the write survives the death of this process;
    /// it survives a power cut only after [`flush`](Self::flush).
    ///
    /// # Errors
    /// If the store fails, is full, or the range is outside the device.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Makes the range read as zeros and gives its space back where it can.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at).
    fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()>;

    /// Whether the byte at `offset` takes space in the store, and for how many bytes from there (at least 1, at most
    /// `limit`) that is so. What takes none reads as zeros. May wait for the store.
    ///
    /// # Errors
    /// If the store fails or the range is outside the device.
    fn allocation(&self, offset: u64, limit: u64) -> io::Result<(bool, u64)>;

    /// Makes everything written so far survive a power cut (for volatile disks: does nothing).
    /// May take long: call it from a thread that may wait.
    ///
    /// # Errors
    /// If the store fails; the disk then refuses writes until it was checked.
    fn flush(&self) -> io::Result<()>;
}

/// The range must lie in the disk.
pub(crate) fn check_range(size_bytes: u64, offset: u64, length: u64) -> io::Result<()> {
    match offset.checked_add(length) {
        Some(end) if end <= size_bytes => Ok(()),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{length} bytes at {offset} lie outside the disk of {size_bytes} bytes"),
        )),
    }
}
