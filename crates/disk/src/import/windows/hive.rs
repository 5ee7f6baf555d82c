//! A registry hive, read-only. All integers are little-endian; the format is described by M. Suhanov, "Windows registry file format
//! specification".

use super::Unreadable;
use super::volume::{Content, Volume};
use crate::format::{le16, le32};

/// Bytes in front of the cells.
const BASE_BYTES: u64 = 4096;
const KEY_BYTES: u64 = 76;
const VALUE_BYTES: u64 = 20;
/// A key's or value's name has one byte a letter.
const KEY_NAME_SHORT: u16 = 0x20;
const VALUE_NAME_SHORT: u16 = 1;
/// Set in the length of a value that lies in place of its offset.
const INLINE: u32 = 1 << 31;
/// Longest value that is read, in bytes: longer ones lie in pieces.
const VALUE_BYTES_MAX: u32 = 16_344;
const VALUES_MAX: u32 = 4096;

/// A hive in a file.
pub(super) struct Hive<'v> {
    volume: &'v Volume<'v>,
    file: Content,
}

/// A key of the hive.
pub(super) struct Key {
    /// Its name.
    pub(super) name: String,
    subkeys: u32,
    subkeys_at: u32,
    values: u32,
    values_at: u32,
}

impl<'v> Hive<'v> {
    /// Opens the hive; the second value is its root.
    pub(super) fn open(volume: &'v Volume<'v>, file: Content) -> Result<(Self, Key), Unreadable> {
        let hive = Self { volume, file };
        let mut base = [0; 48];
        volume.read_content(&hive.file, 0, &mut base)?;
        if !base.starts_with(b"regf") {
            return Err(Unreadable::Damaged(
                "a registry file does not begin like one",
            ));
        }
        let root = hive.key_at(le32(&base, 36)?)?;
        Ok((hive, root))
    }

    /// The key that a path leads to.
    pub(super) fn key(&self, from: &Key, path: &[&str]) -> Result<Option<Key>, Unreadable> {
        let Some((name, rest)) = path.split_first() else {
            return Ok(None);
        };
        let mut found = None;
        self.each_subkey(from, &mut |key| {
            let here = key.name.eq_ignore_ascii_case(name);
            if here {
                found = Some(key);
            }
            Ok(!here)
        })?;
        match (found, rest.is_empty()) {
            (Some(key), false) => self.key(&key, rest),
            (found, _) => Ok(found),
        }
    }

    /// Calls `take` with every key in a key until it answers false.
    pub(super) fn each_subkey(
        &self,
        key: &Key,
        take: &mut dyn FnMut(Key) -> Result<bool, Unreadable>,
    ) -> Result<(), Unreadable> {
        if key.subkeys == 0 {
            return Ok(());
        }
        let list = self.list(key.subkeys_at)?;
        let lists = match &list.kind {
            b"ri" => list.places.clone(),
            _ => vec![key.subkeys_at],
        };
        for place in lists {
            let part = self.list(place)?;
            if &part.kind == b"ri" {
                return Err(Unreadable::Damaged(
                    "a list of registry keys leads to itself",
                ));
            }
            for place in part.places {
                if !take(self.key_at(place)?)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// A text; of several, all of them with a space between.
    pub(super) fn text(&self, key: &Key, name: &str) -> Result<Option<String>, Unreadable> {
        let value = self.value(key, name)?;
        Ok(value.map(|bytes| {
            let units = bytes.as_chunks::<2>().0.iter();
            let text: String = char::decode_utf16(units.map(|unit| u16::from_le_bytes(*unit)))
                .map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect();
            let texts: Vec<&str> = text.split('\0').filter(|text| !text.is_empty()).collect();
            texts.join(" ")
        }))
    }

    /// A number of four bytes.
    pub(super) fn number(&self, key: &Key, name: &str) -> Result<Option<u32>, Unreadable> {
        let value = self.value(key, name)?;
        Ok(value.and_then(|bytes| Some(u32::from_le_bytes(*bytes.first_chunk()?))))
    }

    fn value(&self, key: &Key, name: &str) -> Result<Option<Vec<u8>>, Unreadable> {
        if key.values > VALUES_MAX {
            return Err(Unreadable::Damaged("a registry key has too many values"));
        }
        let list = self.cell(key.values_at, 0, u64::from(key.values) * 4)?;
        for place in list.as_chunks::<4>().0 {
            let place = u32::from_le_bytes(*place);
            let head = self.cell(place, 0, VALUE_BYTES)?;
            if !head.starts_with(b"vk") {
                return Err(Unreadable::Damaged("a registry value is damaged"));
            }
            let short = le16(&head, 16)? & VALUE_NAME_SHORT != 0;
            if self
                .name(place, VALUE_BYTES, le16(&head, 2)?, short)?
                .eq_ignore_ascii_case(name)
            {
                let (length, at) = (le32(&head, 4)?, le32(&head, 8)?);
                return match length & INLINE {
                    0 if length > VALUE_BYTES_MAX => {
                        Err(Unreadable::Damaged("a registry value is too long"))
                    }
                    0 => self.cell(at, 0, length.into()).map(Some),
                    _ => Ok(head
                        .get(8..8 + (length & 7).min(4) as usize)
                        .map(<[u8]>::to_vec)),
                };
            }
        }
        Ok(None)
    }

    fn key_at(&self, place: u32) -> Result<Key, Unreadable> {
        let head = self.cell(place, 0, KEY_BYTES)?;
        if !head.starts_with(b"nk") {
            return Err(Unreadable::Damaged("a registry key is damaged"));
        }
        let short = le16(&head, 2)? & KEY_NAME_SHORT != 0;
        Ok(Key {
            name: self.name(place, KEY_BYTES, le16(&head, 72)?, short)?,
            subkeys: le32(&head, 20)?,
            subkeys_at: le32(&head, 28)?,
            values: le32(&head, 36)?,
            values_at: le32(&head, 40)?,
        })
    }

    fn name(&self, place: u32, at: u64, length: u16, short: bool) -> Result<String, Unreadable> {
        let bytes = self.cell(place, at, length.into())?;
        Ok(match short {
            true => bytes.iter().map(|byte| char::from(*byte)).collect(),
            false => {
                let units = bytes.as_chunks::<2>().0.iter();
                let units: Vec<u16> = units.map(|unit| u16::from_le_bytes(*unit)).collect();
                String::from_utf16_lossy(&units)
            }
        })
    }

    fn list(&self, place: u32) -> Result<List, Unreadable> {
        let head = self.cell(place, 0, 4)?;
        let kind = [head[0], head[1]];
        let entry_bytes = match &kind {
            b"lf" | b"lh" => 8,
            b"li" | b"ri" => 4,
            _ => return Err(Unreadable::Damaged("a list of registry keys is damaged")),
        };
        let entries = self.cell(place, 4, u64::from(le16(&head, 2)?) * entry_bytes)?;
        let places = entries
            .chunks(entry_bytes as usize)
            .map(|entry| le32(entry, 0))
            .collect::<Result<_, _>>()?;
        Ok(List { kind, places })
    }

    /// A part of a cell: `at` bytes behind its beginning.
    fn cell(&self, place: u32, at: u64, length: u64) -> Result<Vec<u8>, Unreadable> {
        if length == 0 {
            return Ok(Vec::new());
        }
        let mut bytes = vec![0; (4 + at + length) as usize];
        let start = BASE_BYTES + u64::from(place);
        self.volume.read_content(&self.file, start, &mut bytes)?;
        // Cells in use have negative sizes, which count themselves.
        let used = le32(&bytes, 0)?.cast_signed().checked_neg().unwrap_or(0);
        if i64::from(used) < bytes.len() as i64 {
            return Err(Unreadable::Damaged("a part of the registry is damaged"));
        }
        Ok(bytes.split_off(4 + at as usize))
    }
}

/// A list of keys, or of such lists.
struct List {
    kind: [u8; 2],
    places: Vec<u32>,
}
