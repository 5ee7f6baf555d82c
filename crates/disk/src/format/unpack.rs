//! Compressed units of disk images.

use flate2::{Decompress, FlushDecompress};
use zstd::stream::raw::{Decoder as ZstdDecoder, Operation};

use super::ImageFile;
use crate::error::ImportError;

/// Largest unit (a cluster or grain) that is unpacked in one piece, in bytes.
pub(crate) const UNIT_BYTES_MAX: u64 = 32 << 20;
/// Most that a unit may grow when it is compressed, in bytes.
const GROWTH_MAX: u64 = 64 << 10;

/// How a unit is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    /// RFC 1951.
    Deflate,
    /// RFC 1950.
    Zlib,
    /// RFC 8878.
    Zstd,
}

/// A compressed unit in a file.
#[derive(Clone, Copy)]
pub(crate) struct Packed<'a> {
    pub(crate) file: &'a ImageFile,
    /// Where its compressed bytes begin.
    pub(crate) offset: u64,
    /// At most how many they are.
    pub(crate) length: u64,
    /// Bytes of the disk in the whole unit, at most [`UNIT_BYTES_MAX`].
    pub(crate) unit_bytes: u64,
    /// Where in the unit the run begins.
    pub(crate) skip: u64,
    pub(crate) codec: Codec,
}

impl Packed<'_> {
    fn is_same_unit(&self, of: (usize, u64)) -> bool {
        of == self.key()
    }

    fn key(&self) -> (usize, u64) {
        (std::ptr::from_ref(self.file).addr(), self.offset)
    }
}

/// What unpacks units; one of each thread, as it keeps its buffers.
#[derive(Default)]
pub(crate) struct Unpacker {
    packed: Vec<u8>,
    unit: Vec<u8>,
    /// Which unit `unit` holds.
    holds: Option<(usize, u64)>,
}

impl Unpacker {
    /// Unpacks `out.len()` bytes from where the run begins.
    pub(crate) fn unpack(&mut self, from: &Packed<'_>, out: &mut [u8]) -> Result<(), ImportError> {
        if !self.holds.is_some_and(|key| from.is_same_unit(key)) {
            self.holds = None;
            self.fill(from)?;
            self.holds = Some(from.key());
        }
        let start = from.skip as usize;
        match self.unit.get(start..start + out.len()) {
            Some(bytes) => {
                out.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(damaged(from)),
        }
    }

    fn fill(&mut self, from: &Packed<'_>) -> Result<(), ImportError> {
        if from.unit_bytes > UNIT_BYTES_MAX || from.length > from.unit_bytes + GROWTH_MAX {
            return Err(damaged(from));
        }
        self.packed.resize(from.length as usize, 0);
        self.unit.resize(from.unit_bytes as usize, 0);
        from.file.read(from.offset, &mut self.packed)?;
        let filled = match from.codec {
            Codec::Deflate => inflate(&self.packed, &mut self.unit, false),
            Codec::Zlib => inflate(&self.packed, &mut self.unit, true),
            Codec::Zstd => unpack_zstd(&self.packed, &mut self.unit),
        };
        self.unit.truncate(filled.ok_or_else(|| damaged(from))?);
        Ok(())
    }
}

/// Bytes unpacked; `None` if the input is damaged.
fn inflate(packed: &[u8], out: &mut [u8], zlib: bool) -> Option<usize> {
    let mut decoder = Decompress::new(zlib);
    decoder
        .decompress(packed, out, FlushDecompress::Finish)
        .ok()?;
    usize::try_from(decoder.total_out()).ok()
}

/// As `inflate`. What follows the frame in the last sector is not looked at.
fn unpack_zstd(packed: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut decoder = ZstdDecoder::new().ok()?;
    let (mut read, mut written) = (0, 0);
    while written < out.len() {
        let step = decoder
            .run_on_buffers(&packed[read..], &mut out[written..])
            .ok()?;
        read += step.bytes_read;
        written += step.bytes_written;
        let stuck = step.bytes_read == 0 && step.bytes_written == 0;
        if step.remaining == 0 || stuck {
            break;
        }
    }
    Some(written)
}

fn damaged(unit: &Packed<'_>) -> ImportError {
    unit.file
        .refused(unit.offset, "a compressed part of it is damaged")
}
