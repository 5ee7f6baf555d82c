//! The map file (`docs/format/version.md`): header slots and records. Bytes in, values out.

use crate::block_map::Word;

/// Bytes of one header slot.
pub(crate) const SLOT_BYTES: usize = 4096;
/// Where the records begin.
pub(crate) const RECORDS_OFFSET: usize = 2 * SLOT_BYTES;
/// Most entries of one record.
const RECORD_ENTRIES: usize = 4096;
const RECORD_HEADER_BYTES: usize = 32;
const ENTRY_BYTES: usize = 12;
const FORMAT: u32 = 1;
const MAGIC: &[u8; 8] = b"DESSMAP1";
const RECORD_MAGIC: &[u8; 4] = b"MREC";
const FLAG_LAST: u32 = 1;
const CRC_OFFSET: usize = SLOT_BYTES - 4;

/// What a map file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// A layer of a version.
    Version,
    /// An overlay, durable.
    Overlay,
    /// An overlay, in memory.
    Live,
}

/// Header of a map file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapHeader {
    /// What the file belongs to.
    pub kind: MapKind,
    /// Image id or disk id.
    pub owner: [u8; 16],
    /// Version number or generation.
    pub number: u64,
    /// Size of the disk in bytes.
    pub size_bytes: u64,
    /// Boot of the kernel (live map), else zeros.
    pub boot_id: [u8; 16],
}

/// How a map file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapEnd {
    /// With a whole record that closes its flush.
    Clean,
    /// With a flush that was never acknowledged, as after a power cut.
    Torn,
    /// A record in front of an acknowledged one is broken.
    Damaged,
}

/// Content of a map file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapContent {
    /// Its header.
    pub header: MapHeader,
    /// Word index and bits, in file order; to be joined by OR.
    pub words: Vec<(u32, u64)>,
    /// Bytes up to the end of the last whole record.
    pub valid_bytes: u64,
    /// Sequence of the next record.
    pub next_sequence: u64,
    /// Number of the last flush seen, 0 if none.
    pub last_flush: u64,
    /// How it ends.
    pub end: MapEnd,
}

/// A map file without a usable header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapDecodeError {
    /// Too short.
    #[error("the header is cut off")]
    Short,
    /// Not a map file.
    #[error("it is not a map file")]
    Magic,
    /// Both header slots have wrong checksums.
    #[error("the header has a wrong checksum")]
    Checksum,
    /// Written by another release.
    #[error("it has format {0}; this release reads format 1")]
    Format(u32),
    /// Unknown kind.
    #[error("it is of unknown kind {0}")]
    Kind(u32),
}

impl MapHeader {
    /// One header slot.
    pub fn encode(&self) -> Vec<u8> {
        let mut slot = vec![0; SLOT_BYTES];
        let kind: u32 = match self.kind {
            MapKind::Version => 1,
            MapKind::Overlay => 2,
            MapKind::Live => 3,
        };
        slot[..8].copy_from_slice(MAGIC);
        slot[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        slot[12..16].copy_from_slice(&kind.to_le_bytes());
        slot[16..32].copy_from_slice(&self.owner);
        slot[32..40].copy_from_slice(&self.number.to_le_bytes());
        slot[40..48].copy_from_slice(&self.size_bytes.to_le_bytes());
        slot[48..64].copy_from_slice(&self.boot_id);
        let crc = crc32c::crc32c(&slot[..CRC_OFFSET]);
        slot[CRC_OFFSET..].copy_from_slice(&crc.to_le_bytes());
        slot
    }

    /// Reads one header slot.
    ///
    /// # Errors
    /// If it is cut off, of another release or has a wrong checksum.
    pub fn decode(slot: &[u8]) -> Result<Self, MapDecodeError> {
        let slot = slot.get(..SLOT_BYTES).ok_or(MapDecodeError::Short)?;
        if &slot[..8] != MAGIC {
            return Err(MapDecodeError::Magic);
        }
        if crc32c::crc32c(&slot[..CRC_OFFSET]) != u32_at(slot, CRC_OFFSET) {
            return Err(MapDecodeError::Checksum);
        }
        if u32_at(slot, 8) != FORMAT {
            return Err(MapDecodeError::Format(u32_at(slot, 8)));
        }
        let kind = match u32_at(slot, 12) {
            1 => MapKind::Version,
            2 => MapKind::Overlay,
            3 => MapKind::Live,
            other => return Err(MapDecodeError::Kind(other)),
        };
        Ok(Self {
            kind,
            owner: bytes_at(slot, 16),
            number: u64_at(slot, 32),
            size_bytes: u64_at(slot, 40),
            boot_id: bytes_at(slot, 48),
        })
    }

    /// Both header slots.
    pub(crate) fn encode_file(&self) -> Vec<u8> {
        self.encode().repeat(2)
    }

    fn seed(&self) -> u32 {
        let seed = crc32c::crc32c(&self.owner);
        crc32c::crc32c_append(seed, &self.number.to_le_bytes())
    }

    /// Appends the records of one flush and returns how many they are. Nothing for no words.
    pub(crate) fn encode_flush(
        &self,
        words: &[Word],
        flush: u64,
        first_sequence: u64,
        out: &mut Vec<u8>,
    ) -> u64 {
        let records = words.chunks(RECORD_ENTRIES);
        let count = records.len();
        for (index, entries) in records.enumerate() {
            let start = out.len();
            let flags = if index + 1 == count { FLAG_LAST } else { 0 };
            out.extend_from_slice(RECORD_MAGIC);
            out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
            out.extend_from_slice(&(first_sequence + index as u64).to_le_bytes());
            out.extend_from_slice(&flush.to_le_bytes());
            out.extend_from_slice(&flags.to_le_bytes());
            out.extend_from_slice(&[0; 4]);
            for (word, bits) in entries {
                out.extend_from_slice(&word.to_le_bytes());
                out.extend_from_slice(&bits.to_le_bytes());
            }
            let crc = record_crc(self.seed(), &out[start..]);
            out[start + 28..start + 32].copy_from_slice(&crc.to_le_bytes());
        }
        count as u64
    }
}

/// Bytes that the records of `words` words take.
pub(crate) fn records_bytes(words: usize) -> u64 {
    (words.div_ceil(RECORD_ENTRIES) * RECORD_HEADER_BYTES + words * ENTRY_BYTES) as u64
}

/// Reads a map file with records (versions and overlays).
///
/// # Errors
/// If no header slot is usable. A broken end is not an error: see [`MapContent::end`].
pub fn decode_map(bytes: &[u8]) -> Result<MapContent, MapDecodeError> {
    let header = MapHeader::decode(bytes).or_else(|error| {
        let second = bytes.get(SLOT_BYTES..).ok_or(error)?;
        MapHeader::decode(second).map_err(|_| error)
    })?;
    let mut content = MapContent {
        header,
        words: Vec::new(),
        valid_bytes: RECORDS_OFFSET as u64,
        next_sequence: 0,
        last_flush: 0,
        end: MapEnd::Clean,
    };
    let mut rest = bytes.get(RECORDS_OFFSET..).unwrap_or_default();
    let mut closed = true;
    while let Some(record) = Record::decode(rest, header.seed()) {
        if record.sequence != content.next_sequence || record.flush < content.last_flush {
            break;
        }
        content.words.extend(record.words());
        content.next_sequence += 1;
        content.last_flush = record.flush;
        content.valid_bytes += record.len() as u64;
        closed = record.last;
        rest = &rest[record.len()..];
    }
    content.end = if rest.is_empty() && closed {
        MapEnd::Clean
    } else {
        // The flush in which the first missing record was written.
        let broken_flush = content.last_flush + u64::from(closed);
        let acknowledged = (4..rest.len().saturating_sub(RECORD_HEADER_BYTES - 1))
            .step_by(4)
            .filter_map(|at| Record::decode(&rest[at..], header.seed()))
            .any(|record| record.flush > broken_flush);
        if acknowledged {
            MapEnd::Damaged
        } else {
            MapEnd::Torn
        }
    };
    Ok(content)
}

/// All words of the whole records in a map file that may be broken, in no order.
pub(crate) fn salvage_records(bytes: &[u8], header: &MapHeader) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = bytes.get(RECORDS_OFFSET..).unwrap_or_default();
    while rest.len() >= RECORD_HEADER_BYTES {
        // Records have lengths of whole 4 bytes.
        let skipped = match Record::decode(rest, header.seed()) {
            Some(record) => {
                words.extend(record.words());
                record.len()
            }
            None => 4,
        };
        rest = rest.get(skipped..).unwrap_or_default();
    }
    words
}

struct Record<'a> {
    sequence: u64,
    flush: u64,
    last: bool,
    entries: &'a [u8],
}

impl<'a> Record<'a> {
    fn decode(bytes: &'a [u8], seed: u32) -> Option<Self> {
        let header = bytes.get(..RECORD_HEADER_BYTES)?;
        let count = u32_at(header, 4) as usize;
        if &header[..4] != RECORD_MAGIC || count == 0 || count > RECORD_ENTRIES {
            return None;
        }
        let record = bytes.get(..RECORD_HEADER_BYTES + count * ENTRY_BYTES)?;
        if record_crc(seed, record) != u32_at(header, 28) {
            return None;
        }
        Some(Self {
            sequence: u64_at(header, 8),
            flush: u64_at(header, 16),
            last: u32_at(header, 24) & FLAG_LAST != 0,
            entries: &record[RECORD_HEADER_BYTES..],
        })
    }

    fn len(&self) -> usize {
        RECORD_HEADER_BYTES + self.entries.len()
    }

    fn words(&self) -> impl Iterator<Item = Word> {
        self.entries
            .chunks_exact(ENTRY_BYTES)
            .map(|entry| (u32_at(entry, 0), u64_at(entry, 4)))
    }
}

fn record_crc(seed: u32, record: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(seed, &record[..28]);
    crc32c::crc32c_append(crc, &record[RECORD_HEADER_BYTES..])
}

fn bytes_at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[offset..offset + N]);
    field
}

pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes_at(bytes, offset))
}

pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes_at(bytes, offset))
}

#[cfg(test)]
mod tests;
