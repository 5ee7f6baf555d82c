//! The boot files, as the TFTP side asks for them.

use std::io;
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use dess_boot::files::{BootFile, BootFiles, Content, FileError};
use dess_tftp::server::{FileBody, FileSource, OpenError};

/// The directories that TFTP and HTTP share.
pub(crate) struct TftpFiles(pub(crate) Arc<BootFiles>);

impl FileSource for TftpFiles {
    fn open(&self, name: &str, _peer: IpAddr) -> Result<Box<dyn FileBody>, OpenError> {
        match self.0.open(name) {
            Ok(file) => Ok(Box::new(Body(file))),
            Err(error) => Err(refusal(&error)),
        }
    }
}

struct Body(BootFile);

impl FileBody for Body {
    fn length(&self) -> u64 {
        self.0.length
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        match &self.0.content {
            Content::Memory(bytes) => bytes.read_at(offset, length),
            Content::Disk(file) => {
                let left = self.0.length.saturating_sub(offset);
                let length = usize::try_from(left).unwrap_or(length).min(length);
                let mut buffer = vec![0; length];
                file.read_exact_at(&mut buffer, offset)?;
                Ok(buffer.into())
            }
        }
    }
}

/// One answer per kind of error; the text is for the log.
fn refusal(error: &FileError) -> OpenError {
    let text = error.to_string();
    match error {
        FileError::NotFound { .. } => OpenError::NotFound(text),
        FileError::BadName { .. } | FileError::NotRegular { .. } => OpenError::Refused(text),
        FileError::Io { .. } => OpenError::Unreadable(text),
    }
}
