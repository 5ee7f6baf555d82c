//! The parent locator of a differencing file (\[MS-VHDX\] 2.6.2.6).

use super::guid;
use crate::format::{HeaderError, le16, le32, refuse};

const LOCATOR_ENTRIES_MAX: u16 = 64;

/// What a differencing file says of its parent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParentLocator {
    /// The parent's path as Windows writes it; a relative one if there is one.
    pub path: Option<String>,
    /// Identity of what the parent held.
    pub linkage: Option<[u8; 16]>,
}

impl ParentLocator {
    /// Reads the locator.
    ///
    /// # Errors
    /// If it is cut off or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let count = le16(bytes, 18)?;
        if count > LOCATOR_ENTRIES_MAX {
            return refuse(18, format!("it cannot have {count} parent locators"));
        }
        let mut locator = Self::default();
        let mut relative = None;
        for index in 0..usize::from(count) {
            let at = 20 + index * 12;
            let text = |place: usize, length: usize| -> Result<String, HeaderError> {
                let (offset, length) = (le32(bytes, place)?, le16(bytes, length)?);
                let part = bytes
                    .get(offset as usize..)
                    .and_then(|rest| rest.get(..usize::from(length)));
                match part {
                    Some(part) => Ok(utf16(part)),
                    None => refuse(place as u64, "its parent locator is cut off"),
                }
            };
            let (key, value) = (text(at, at + 8)?, text(at + 4, at + 10)?);
            match key.as_str() {
                "relative_path" => relative = Some(value),
                "absolute_win32_path" | "volume_path" => locator.path = Some(value),
                "parent_linkage" => locator.linkage = guid_text(&value),
                _ => {}
            }
        }
        locator.path = relative.or(locator.path);
        Ok(locator)
    }
}

fn utf16(bytes: &[u8]) -> String {
    let units = bytes.as_chunks::<2>().0.iter();
    char::decode_utf16(units.map(|pair| u16::from_le_bytes(*pair)))
        .map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

/// A GUID as people write it, in braces.
fn guid_text(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    (digits.len() == 32).then(|| guid(std::str::from_utf8(&digits).unwrap_or_default()))
}
