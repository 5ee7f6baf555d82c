//! Checksums of a version's content (`docs/format/version.md`).

use super::Manifest;
use crate::map_file::{u32_at, u64_at};

/// Bytes of disk that one checksum covers.
pub(crate) const CHUNK_BYTES: u64 = 1 << 20;
const MAGIC: &[u8; 8] = b"DESSSUM1";
const FORMAT: u32 = 1;
const HEADER_BYTES: usize = 48;

/// Content of the file `sums`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums {
    /// Image id.
    pub image: [u8; 16],
    /// Version number.
    pub number: u64,
    /// Size of the disk in bytes.
    pub size_bytes: u64,
    /// CRC32C of each MiB of the disk.
    pub chunks: Vec<u32>,
}

/// A file `sums` that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SumsDecodeError {
    /// Too short, too long, or not a checksum file.
    #[error("it is not a whole checksum file")]
    Malformed,
    /// Wrong checksum of the checksums.
    #[error("wrong checksum")]
    Checksum,
    /// Written by another release.
    #[error("it has format {0}; this release reads format 1")]
    Format(u32),
}

impl Sums {
    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + 4 * self.chunks.len() + 4);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&(CHUNK_BYTES as u32).to_le_bytes());
        out.extend_from_slice(&self.image);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.size_bytes.to_le_bytes());
        for chunk in &self.chunks {
            out.extend_from_slice(&chunk.to_le_bytes());
        }
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    /// Reads the file's bytes.
    ///
    /// # Errors
    /// If they are not what `encode` makes.
    pub fn decode(bytes: &[u8]) -> Result<Self, SumsDecodeError> {
        if bytes.len() < HEADER_BYTES + 4 || &bytes[..8] != MAGIC {
            return Err(SumsDecodeError::Malformed);
        }
        let (body, crc) = bytes.split_at(bytes.len() - 4);
        if crc32c::crc32c(body) != u32_at(crc, 0) {
            return Err(SumsDecodeError::Checksum);
        }
        if u32_at(body, 8) != FORMAT {
            return Err(SumsDecodeError::Format(u32_at(body, 8)));
        }
        let size_bytes = u64_at(body, 40);
        let list = &body[HEADER_BYTES..];
        if u64::from(u32_at(body, 12)) != CHUNK_BYTES
            || !list.len().is_multiple_of(4)
            || list.len() as u64 / 4 != size_bytes.div_ceil(CHUNK_BYTES)
        {
            return Err(SumsDecodeError::Malformed);
        }
        let mut image = [0; 16];
        image.copy_from_slice(&body[16..32]);
        Ok(Self {
            image,
            number: u64_at(body, 32),
            size_bytes,
            chunks: list.chunks_exact(4).map(|crc| u32_at(crc, 0)).collect(),
        })
    }

    pub(crate) fn belongs_to(&self, manifest: &Manifest) -> bool {
        self.image == *manifest.version.image.0.as_bytes()
            && self.number == u64::from(manifest.version.number)
            && self.size_bytes == manifest.size_bytes
    }
}

/// CRC-32C of a piece of a disk. Of long pieces `crc-fast` makes it several times as fast as `crc32c` where the processor multiplies
/// polynomials in wide registers; publishing is little else.
pub(crate) fn chunk_sum(piece: &[u8]) -> u32 {
    // A CRC-32 has no upper half.
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, piece) as u32
}

/// Checksum of a disk of `size_bytes` from those of its chunks.
pub(crate) fn combine_sums(chunks: &[u32], size_bytes: u64) -> u32 {
    let mut image = ImageSum::default();
    for (index, &crc) in chunks.iter().enumerate() {
        let left = size_bytes - index as u64 * CHUNK_BYTES;
        image.join(crc, left.min(CHUNK_BYTES) as usize);
    }
    image.value()
}

/// Checksum of the whole disk, joined from those of its pieces.
pub(crate) struct ImageSum {
    crc: u32,
    zero_chunk: u32,
    /// What each byte of a checksum becomes when a chunk of zeros follows. Joining by table, as the general way takes
    /// long enough to be felt in a sparse terabyte.
    chunk_shift: [[u32; 256]; 4],
}

impl Default for ImageSum {
    fn default() -> Self {
        let chunk = CHUNK_BYTES as usize;
        Self {
            crc: 0,
            zero_chunk: crc32c::crc32c(&vec![0; chunk]),
            chunk_shift: chunk_shift(),
        }
    }
}

impl ImageSum {
    /// Adds a piece; returns its own checksum.
    pub(crate) fn push(&mut self, piece: &[u8]) -> u32 {
        let crc = chunk_sum(piece);
        self.join(crc, piece.len());
        crc
    }

    /// Adds a piece by its own checksum, which it returns.
    pub(crate) fn push_known(&mut self, crc: u32, length: u64) -> u32 {
        self.join(crc, length as usize);
        crc
    }

    /// Adds a piece of zeros, at most a chunk; returns its own checksum.
    pub(crate) fn push_zeros(&mut self, length: u64) -> u32 {
        let crc = if length == CHUNK_BYTES {
            self.zero_chunk
        } else {
            crc32c::crc32c(&vec![0; length as usize])
        };
        self.join(crc, length as usize);
        crc
    }

    pub(crate) fn value(&self) -> u32 {
        self.crc
    }

    fn join(&mut self, crc: u32, length: usize) {
        self.crc = if length as u64 == CHUNK_BYTES {
            let bytes = self.crc.to_le_bytes();
            bytes
                .iter()
                .zip(&self.chunk_shift)
                .fold(crc, |sum, (&byte, shift)| sum ^ shift[usize::from(byte)])
        } else {
            crc32c::crc32c_combine(self.crc, crc, length)
        };
    }
}

/// A checksum is linear in its bits, so the table of a byte is joined from those of its bits.
fn chunk_shift() -> [[u32; 256]; 4] {
    std::array::from_fn(|byte| {
        let bits: [u32; 8] = std::array::from_fn(|bit| {
            crc32c::crc32c_combine(1 << (8 * byte + bit), 0, CHUNK_BYTES as usize)
        });
        std::array::from_fn(|value| {
            (0..8)
                .filter(|bit| value >> bit & 1 == 1)
                .fold(0, |sum, bit: usize| sum ^ bits[bit])
        })
    })
}
