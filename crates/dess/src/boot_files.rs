//! The boot files, as the TFTP side asks for them.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use dess_boot::files::{BootFile, BootFiles, FileError};
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

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_into(offset, buffer)
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
