//! The archive (`docs/format/backup.md`): pieces in, bytes out, and back.

use std::io::{self, Read, Write};

use dess_model::{Timestamp, VersionRef};
use serde::{Deserialize, Serialize};

use super::BackupError;
use crate::map_file::{u32_at, u64_at};
use crate::overlay::OverlayDescriptor;
use crate::version::{CHUNK_BYTES, Manifest};

const MAGIC: &[u8; 8] = b"DESSBAK1";
const RECORD_MAGIC: &[u8; 4] = b"BREC";
const FORMAT: u32 = 1;
const START_BYTES: usize = 16;
const HEADER_BYTES_MAX: u32 = 1 << 20;
const RECORD_BYTES: usize = 32;
/// Most bytes of the disk in one record.
pub(super) const PIECE_BYTES_MAX: u64 = CHUNK_BYTES;
const KIND_PLAIN: u32 = 1;
const KIND_ZSTD: u32 = 2;
const KIND_ZEROS: u32 = 3;
const KIND_END: u32 = 4;
const ZSTD_LEVEL: i32 = 1;

/// A version that the reader of an archive must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupBase {
    /// Which.
    pub version: VersionRef,
    /// What it holds.
    pub image_crc32c: u32,
}

/// What an archive holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupHeader {
    /// Name of the image, for people.
    pub image_name: String,
    /// The version, if it holds one.
    pub manifest: Option<Manifest>,
    /// The overlay, if it holds a disk.
    pub overlay: Option<OverlayDescriptor>,
    /// What it lies on.
    pub base: Option<BackupBase>,
    /// When it was made.
    pub created: Timestamp,
}

/// Writes an archive.
pub(super) struct ArchiveWriter<'a> {
    out: &'a mut dyn Write,
    records: u64,
    headers_crc: u32,
    packer: zstd::bulk::Compressor<'static>,
    packed: Vec<u8>,
    written: u64,
}

impl<'a> ArchiveWriter<'a> {
    pub(super) fn begin(
        out: &'a mut dyn Write,
        header: &BackupHeader,
    ) -> Result<Self, BackupError> {
        let json = serde_json::to_vec(header).expect("numbers and strings have a JSON form");
        let mut start = MAGIC.to_vec();
        start.extend_from_slice(&FORMAT.to_le_bytes());
        start.extend_from_slice(&(json.len() as u32).to_le_bytes());
        start.extend_from_slice(&json);
        let crc = crc32c::crc32c(&start);
        start.extend_from_slice(&crc.to_le_bytes());
        out.write_all(&start).map_err(BackupError::Write)?;
        Ok(Self {
            out,
            records: 0,
            headers_crc: 0,
            packer: zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(BackupError::Write)?,
            packed: Vec::with_capacity(zstd::zstd_safe::compress_bound(PIECE_BYTES_MAX as usize)),
            written: start.len() as u64,
        })
    }

    /// Adds what lies at `offset` of the disk, at most [`PIECE_BYTES_MAX`].
    pub(super) fn add(&mut self, offset: u64, bytes: &[u8]) -> Result<(), BackupError> {
        let length = bytes.len() as u32;
        if bytes.iter().all(|&byte| byte == 0) {
            return self.record(KIND_ZEROS, offset, length, 0, Payload::None);
        }
        let crc = crc32c::crc32c(bytes);
        self.packed.clear();
        let packed = self
            .packer
            .compress_to_buffer(bytes, &mut self.packed)
            .map_err(BackupError::Write)?;
        match packed < bytes.len() {
            true => self.record(KIND_ZSTD, offset, length, crc, Payload::Packed),
            false => self.record(KIND_PLAIN, offset, length, crc, Payload::Plain(bytes)),
        }
    }

    fn record(
        &mut self,
        kind: u32,
        offset: u64,
        length: u32,
        crc: u32,
        payload: Payload<'_>,
    ) -> Result<(), BackupError> {
        let payload: &[u8] = match payload {
            Payload::None => &[],
            Payload::Plain(bytes) => bytes,
            Payload::Packed => &self.packed[..],
        };
        let mut header = [0; RECORD_BYTES];
        header[..4].copy_from_slice(RECORD_MAGIC);
        header[4..8].copy_from_slice(&kind.to_le_bytes());
        header[8..16].copy_from_slice(&offset.to_le_bytes());
        header[16..20].copy_from_slice(&length.to_le_bytes());
        header[20..24].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        header[24..28].copy_from_slice(&crc.to_le_bytes());
        let crc = crc32c::crc32c(&header[..28]);
        header[28..].copy_from_slice(&crc.to_le_bytes());
        self.out
            .write_all(&header)
            .and_then(|()| self.out.write_all(payload))
            .map_err(BackupError::Write)?;
        self.headers_crc = crc32c::crc32c_append(self.headers_crc, &header[..28]);
        self.records += 1;
        self.written += (RECORD_BYTES + payload.len()) as u64;
        Ok(())
    }

    /// Writes the end; answers the length of the archive in bytes.
    pub(super) fn finish(mut self) -> Result<u64, BackupError> {
        let (records, crc) = (self.records, self.headers_crc);
        self.record(KIND_END, records, crc, 0, Payload::None)?;
        self.out.flush().map_err(BackupError::Write)?;
        Ok(self.written)
    }
}

enum Payload<'a> {
    None,
    Plain(&'a [u8]),
    /// In the writer's buffer.
    Packed,
}

/// Reads an archive.
pub(super) struct ArchiveReader<'a> {
    input: &'a mut dyn Read,
    header: BackupHeader,
    size_bytes: u64,
    /// Bytes of the archive read so far.
    at: u64,
    /// Where the last piece ended.
    end: u64,
    records: u64,
    headers_crc: u32,
    stored: Vec<u8>,
    bytes: Vec<u8>,
}

/// A part of the disk.
pub(super) struct Piece<'a> {
    pub(super) offset: u64,
    pub(super) length: u64,
    /// `None` for zeros.
    pub(super) bytes: Option<&'a [u8]>,
}

impl<'a> ArchiveReader<'a> {
    pub(super) fn open(input: &'a mut dyn Read) -> Result<Self, BackupError> {
        let mut start = vec![0; START_BYTES];
        read(input, 0, &mut start)?;
        if &start[..8] != MAGIC {
            return Err(BackupError::damaged(0, "it is no backup of DESS"));
        }
        if u32_at(&start, 8) != FORMAT {
            let reason = format!(
                "it has format {}; this release reads format {FORMAT}",
                u32_at(&start, 8)
            );
            return Err(BackupError::damaged(8, reason));
        }
        let length = u32_at(&start, 12);
        if length > HEADER_BYTES_MAX {
            return Err(BackupError::damaged(12, "the header is too long"));
        }
        start.resize(START_BYTES + length as usize, 0);
        read(input, START_BYTES as u64, &mut start[START_BYTES..])?;
        let mut crc = [0; 4];
        read(input, start.len() as u64, &mut crc)?;
        if crc32c::crc32c(&start) != u32::from_le_bytes(crc) {
            return Err(BackupError::damaged(16, "the header has a wrong checksum"));
        }
        let header: BackupHeader = serde_json::from_slice(&start[START_BYTES..])
            .map_err(|error| BackupError::damaged(16, error.to_string()))?;
        let size_bytes = match (&header.manifest, &header.overlay) {
            (Some(manifest), None) => manifest.size_bytes,
            (None, Some(overlay)) => overlay.size_bytes,
            _ => {
                return Err(BackupError::damaged(
                    16,
                    "it is neither a version nor a disk",
                ));
            }
        };
        Ok(Self {
            input,
            header,
            size_bytes,
            at: start.len() as u64 + 4,
            end: 0,
            records: 0,
            headers_crc: 0,
            stored: Vec::new(),
            bytes: Vec::new(),
        })
    }

    pub(super) fn header(&self) -> &BackupHeader {
        &self.header
    }

    /// The next piece, checked; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Piece<'_>>, BackupError> {
        let start = self.at;
        let mut header = [0; RECORD_BYTES];
        read(self.input, start, &mut header)?;
        if &header[..4] != RECORD_MAGIC || crc32c::crc32c(&header[..28]) != u32_at(&header, 28) {
            return Err(BackupError::damaged(start, "there is no whole record"));
        }
        self.at += RECORD_BYTES as u64;
        let (kind, offset) = (u32_at(&header, 4), u64_at(&header, 8));
        let (length, stored) = (u32_at(&header, 16), u32_at(&header, 20));
        if kind == KIND_END {
            self.check_end(offset, length)?;
            return Ok(None);
        }
        self.headers_crc = crc32c::crc32c_append(self.headers_crc, &header[..28]);
        self.records += 1;
        let length = u64::from(length);
        let end = offset.checked_add(length);
        let fits = offset >= self.end && end.is_some_and(|end| end <= self.size_bytes);
        if !fits || length == 0 || length > PIECE_BYTES_MAX || u64::from(stored) > length {
            return Err(BackupError::damaged(
                start,
                "the record does not fit the disk",
            ));
        }
        self.end = offset + length;
        self.stored.resize(stored as usize, 0);
        read(self.input, self.at, &mut self.stored)?;
        self.at += u64::from(stored);
        let bytes = match kind {
            KIND_ZEROS => None,
            KIND_PLAIN => Some(&self.stored[..]),
            KIND_ZSTD => {
                self.bytes.resize(length as usize, 0);
                let unpacked = zstd::bulk::decompress_to_buffer(&self.stored, &mut self.bytes[..]);
                if !unpacked.is_ok_and(|unpacked| unpacked as u64 == length) {
                    return Err(BackupError::damaged(start, "the record cannot be unpacked"));
                }
                Some(&self.bytes[..])
            }
            other => {
                let reason = format!("the record has the unknown kind {other}");
                return Err(BackupError::damaged(start, reason));
            }
        };
        if let Some(bytes) = bytes
            && (bytes.len() as u64 != length || crc32c::crc32c(bytes) != u32_at(&header, 24))
        {
            return Err(BackupError::damaged(
                start,
                "the record has a wrong checksum",
            ));
        }
        Ok(Some(Piece {
            offset,
            length,
            bytes,
        }))
    }

    fn check_end(&mut self, records: u64, crc: u32) -> Result<(), BackupError> {
        if records != self.records || crc != self.headers_crc {
            return Err(BackupError::damaged(self.at, "records are missing"));
        }
        let mut more = [0];
        match self.input.read(&mut more) {
            Ok(0) => Ok(()),
            Ok(_) => Err(BackupError::damaged(self.at, "something follows the end")),
            Err(source) => Err(BackupError::Read {
                at: self.at,
                source,
            }),
        }
    }
}

fn read(input: &mut dyn Read, at: u64, buffer: &mut [u8]) -> Result<(), BackupError> {
    input
        .read_exact(buffer)
        .map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => BackupError::damaged(at, "it is cut off"),
            _ => BackupError::Read { at, source },
        })
}
