//! Records of NTFS: of files and of the nodes of directories, with the attributes of a file.

use super::Unreadable;
use crate::format::{le16, le32, le64};

/// Each piece of this many bytes ends with two bytes that lie elsewhere in the record.
const PIECE_BYTES: usize = 512;
const END: u32 = u32::MAX;
/// Compressed or encrypted.
const FLAGS_PACKED: u16 = 0x40ff;

/// A record whose pieces are put together.
pub(super) struct Record {
    bytes: Vec<u8>,
}

impl Record {
    /// Checks the record and puts the ends of its pieces back.
    pub(super) fn decode(mut bytes: Vec<u8>, magic: [u8; 4]) -> Result<Self, Unreadable> {
        if !bytes.starts_with(&magic) {
            return Err(Unreadable::Damaged("a record is missing"));
        }
        let (at, count) = (usize::from(le16(&bytes, 4)?), usize::from(le16(&bytes, 6)?));
        let ends = bytes.get(at..at + 2 * count).map(<[u8]>::to_vec);
        let Some(ends) = ends.filter(|_| count == bytes.len() / PIECE_BYTES + 1) else {
            return Err(Unreadable::Damaged("a record is damaged"));
        };
        let (mark, ends) = ends.split_at(2);
        for (piece, end) in bytes.chunks_mut(PIECE_BYTES).zip(ends.chunks(2)) {
            let (_, last) = piece.split_at_mut(PIECE_BYTES - 2);
            if last != mark {
                return Err(Unreadable::Damaged("a record was written only in part"));
            }
            last.copy_from_slice(end);
        }
        Ok(Self { bytes })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The attributes of a file's record, up to the first one that is not whole.
    pub(super) fn attributes(&self) -> impl Iterator<Item = Attribute<'_>> {
        let mut at = le16(&self.bytes, 20).map_or(self.bytes.len(), usize::from);
        std::iter::from_fn(move || {
            let found = Attribute::decode(self.bytes.get(at..)?)?;
            at += found.bytes.len();
            Some(found)
        })
    }
}

/// Something that a file has: its data, a directory's index.
#[derive(Clone)]
pub(super) struct Attribute<'r> {
    bytes: &'r [u8],
    kind: u32,
    name: &'r [u8],
    pub(super) id: u16,
}

impl<'r> Attribute<'r> {
    fn decode(rest: &'r [u8]) -> Option<Self> {
        let kind = le32(rest, 0).ok()?;
        let length = le32(rest, 4).ok()? as usize;
        if kind == END || length < 24 {
            return None;
        }
        let bytes = rest.get(..length)?;
        let name = usize::from(le16(bytes, 10).ok()?);
        Some(Self {
            bytes,
            kind,
            name: bytes.get(name..name + 2 * usize::from(bytes[9]))?,
            id: le16(bytes, 14).ok()?,
        })
    }

    pub(super) fn is(&self, kind: u32, name: &str) -> bool {
        self.kind == kind && is_named(self.name, name)
    }

    /// Its value, if that lies in the record.
    pub(super) fn resident(&self) -> Result<Option<&'r [u8]>, Unreadable> {
        if self.bytes[8] != 0 {
            return Ok(None);
        }
        let length = le32(self.bytes, 16)? as usize;
        let at = usize::from(le16(self.bytes, 20)?);
        match self.bytes.get(at..).and_then(|rest| rest.get(..length)) {
            Some(value) => Ok(Some(value)),
            None => Err(Unreadable::Damaged(
                "an attribute is longer than its record",
            )),
        }
    }

    /// Of one that lies in clusters: the first cluster of the file that this piece tells, and where they are.
    pub(super) fn runs(&self) -> Result<(u64, &'r [u8]), Unreadable> {
        if le16(self.bytes, 12)? & FLAGS_PACKED != 0 {
            return Err(Unreadable::Damaged("a file is compressed or encrypted"));
        }
        let at = usize::from(le16(self.bytes, 32)?);
        match self.bytes.get(at..) {
            Some(runs) => Ok((le64(self.bytes, 16)?, runs)),
            None => Err(Unreadable::Damaged("an attribute is cut off")),
        }
    }

    /// Of the first piece of one that lies in clusters: its length, and how much of that was ever written.
    pub(super) fn lengths(&self) -> Result<(u64, u64), Unreadable> {
        Ok((le64(self.bytes, 48)?, le64(self.bytes, 56)?))
    }
}

/// Says in which record a piece of an attribute is.
pub(super) struct ListEntry<'l> {
    kind: u32,
    name: &'l [u8],
    pub(super) record: u64,
    pub(super) id: u16,
}

impl<'l> ListEntry<'l> {
    /// All entries, up to the first one that is not whole.
    pub(super) fn all(list: &'l [u8]) -> impl Iterator<Item = Self> {
        let mut rest = list;
        std::iter::from_fn(move || {
            let length = usize::from(le16(rest, 4).ok()?);
            let entry = rest.get(..length).filter(|entry| entry.len() >= 26)?;
            rest = &rest[length..];
            let name = usize::from(entry[7]);
            Some(Self {
                kind: le32(entry, 0).ok()?,
                name: entry.get(name..name + 2 * usize::from(entry[6]))?,
                record: record_number(le64(entry, 16).ok()?),
                id: le16(entry, 24).ok()?,
            })
        })
    }

    pub(super) fn is(&self, kind: u32, name: &str) -> bool {
        self.kind == kind && is_named(self.name, name)
    }
}

/// The number of the record that a reference names; the rest of it tells how often the record was used.
pub(super) fn record_number(reference: u64) -> u64 {
    reference & ((1 << 48) - 1)
}

/// True if UTF-16 says `name`.
fn is_named(units: &[u8], name: &str) -> bool {
    units.len() == 2 * name.len()
        && units
            .chunks(2)
            .zip(name.bytes())
            .all(|(unit, byte)| unit == [byte, 0])
}
