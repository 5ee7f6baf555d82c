//! Disk images of other programs: what lies where in their files. Import reads them, export writes them.
//!
//! Every format is a table that says, for any place of the disk, where its bytes are: a [`Layer`]. A [`Chain`] of
//! layers (an image with its backing files) is read like one disk. Nothing in these files is trusted: tables are read piece by
//! piece where they are needed, and never behind the end of the file.

mod chain;
mod file;
pub mod qcow2;
mod raw;
mod unpack;
pub mod vhd;
pub mod vhdx;
pub mod vmdk;

use serde::{Deserialize, Serialize};

pub(crate) use chain::{Chain, detect_start};
pub(crate) use file::ImageFile;
pub(crate) use unpack::{Codec, Packed, Unpacker};

use crate::error::ImportError;

/// Format of a disk image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// The bytes of the disk.
    Raw,
    /// QEMU's format, version 2 or 3.
    Qcow2,
    /// Virtual PC's and Hyper-V's older format: fixed, dynamic or differencing.
    Vhd,
    /// Hyper-V's format: fixed, dynamic or differencing.
    Vhdx,
    /// VMware's format: sparse, flat, split or stream-optimised.
    Vmdk,
}

/// A header that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct HeaderError {
    /// Where in the file, in bytes.
    pub offset: u64,
    /// Why, for people.
    pub reason: String,
}

/// One image file (or several that make one), without its backing files.
pub(crate) trait Layer: Send + Sync {
    /// Size of the disk in bytes.
    fn size_bytes(&self) -> u64;

    /// What the disk holds from `offset` on, for at least 1 and at most `limit` bytes. `offset` lies in the disk.
    fn run(&self, offset: u64, limit: u64) -> Result<Run<'_>, ImportError>;

    /// The files that it is read from.
    fn files(&self) -> Vec<&ImageFile>;

    /// By what an image that lies on this one knows it.
    fn identity(&self) -> Option<Identity> {
        None
    }
}

/// What an image calls its parent, and is called by its child; shorter ones are filled up with zeros.
pub(crate) type Identity = [u8; 16];

/// A part of the disk that lies in one piece.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) length: u64,
    pub(crate) content: Content<'a>,
}

#[derive(Clone, Copy)]
pub(crate) enum Content<'a> {
    /// What the backing file holds there; zeros without one.
    Below,
    Zero,
    /// As it is, at this offset of the file.
    Stored {
        file: &'a ImageFile,
        offset: u64,
    },
    Packed(Packed<'a>),
}

/// The image that another one lies on.
pub(crate) struct Parent {
    pub(crate) path: std::path::PathBuf,
    pub(crate) format: Option<ImageFormat>,
    /// What the child calls it, if it says so.
    pub(crate) identity: Option<Identity>,
}

/// An open image.
pub(crate) struct Opened {
    pub(crate) layer: Box<dyn Layer>,
    pub(crate) parent: Option<Parent>,
}

fn refuse<T>(offset: u64, reason: impl Into<String>) -> Result<T, HeaderError> {
    Err(HeaderError {
        offset,
        reason: reason.into(),
    })
}

/// A field of a header that may be cut off.
fn field<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N], HeaderError> {
    match bytes.get(offset..).and_then(|rest| rest.first_chunk()) {
        Some(field) => Ok(*field),
        None => refuse(bytes.len() as u64, "its header is cut off"),
    }
}

fn be32(bytes: &[u8], offset: usize) -> Result<u32, HeaderError> {
    field(bytes, offset).map(u32::from_be_bytes)
}

fn be64(bytes: &[u8], offset: usize) -> Result<u64, HeaderError> {
    field(bytes, offset).map(u64::from_be_bytes)
}

pub(crate) fn le16(bytes: &[u8], offset: usize) -> Result<u16, HeaderError> {
    field(bytes, offset).map(u16::from_le_bytes)
}

pub(crate) fn le32(bytes: &[u8], offset: usize) -> Result<u32, HeaderError> {
    field(bytes, offset).map(u32::from_le_bytes)
}

pub(crate) fn le64(bytes: &[u8], offset: usize) -> Result<u64, HeaderError> {
    field(bytes, offset).map(u64::from_le_bytes)
}

#[cfg(test)]
pub(crate) mod tests;
