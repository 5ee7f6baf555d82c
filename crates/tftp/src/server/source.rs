//! Where files come from.

use std::io;
use std::net::IpAddr;

use bytes::Bytes;

/// Finds files by the names that clients ask for. Called on the transfer's own thread: may block.
pub trait FileSource: Send + Sync + 'static {
    /// Opens a file.
    ///
    /// # Errors
    /// If there is none of this name or it cannot be served; the client is told.
    fn open(&self, name: &str, peer: IpAddr) -> Result<Box<dyn FileBody>, OpenError>;
}

/// An open file.
pub trait FileBody: Send {
    /// Size in bytes; fixed while it is open.
    fn length(&self) -> u64;

    /// Fills `buffer` with what is at `offset`: the count of bytes, fewer only at the end of the
    /// file.
    ///
    /// # Errors
    /// If the disk fails.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

/// Why there is nothing to send.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No such file: ERROR 1. The text is for the log.
    #[error("{0}")]
    NotFound(String),
    /// There is one, or a name, that is not served: ERROR 2. The text is for the log.
    #[error("{0}")]
    Refused(String),
    /// The disk failed: ERROR 0. The text is for the log.
    #[error("{0}")]
    Unreadable(String),
}

impl FileBody for Bytes {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let start = usize::try_from(offset).map_or(self.len(), |offset| offset.min(self.len()));
        let count = buffer.len().min(self.len() - start);
        buffer[..count].copy_from_slice(&self[start..start + count]);
        Ok(count)
    }
}
