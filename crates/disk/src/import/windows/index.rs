//! A node of a directory: names in order, between them the nodes below.

use std::cmp::Ordering;

use super::Unreadable;
use super::record::record_number;
use crate::format::{le16, le32, le64};

const HAS_BELOW: u8 = 1;
const LAST: u8 = 2;
/// Where the name is in an entry.
const NAME: usize = 16 + 66;

/// What a node says about a name.
pub(super) enum Step {
    /// It is the name of this file.
    Found(u64),
    /// It would be in the node at this place.
    Below(u64),
    /// There is none.
    Missing,
}

/// Looks for a name of ASCII letters in the node whose header lies at `header`.
pub(super) fn search(node: &[u8], header: usize, name: &str) -> Result<Step, Unreadable> {
    let damaged = || Unreadable::Damaged("a directory is damaged");
    let mut at = header.saturating_add(le32(node, header)? as usize);
    loop {
        let length = usize::from(le16(node, at.saturating_add(8))?);
        let entry = node.get(at..).and_then(|rest| rest.get(..length));
        let entry = entry
            .filter(|entry| entry.len() >= 16)
            .ok_or_else(damaged)?;
        let last = entry[12] & LAST != 0;
        let order = match last {
            true => Ordering::Less,
            false => {
                let units = usize::from(*entry.get(NAME - 2).ok_or_else(damaged)?);
                let found = entry.get(NAME..NAME + 2 * units).ok_or_else(damaged)?;
                compare(name, found)
            }
        };
        match order {
            Ordering::Equal => return Ok(Step::Found(record_number(le64(entry, 0)?))),
            Ordering::Less if entry[12] & HAS_BELOW != 0 => {
                return Ok(Step::Below(le64(entry, entry.len() - 8)?));
            }
            Ordering::Less => return Ok(Step::Missing),
            Ordering::Greater => at += length,
        }
    }
}

/// NTFS compares names by their units, letters as large ones. Only those of ASCII matter: no other letter becomes one.
fn compare(name: &str, units: &[u8]) -> Ordering {
    let found = units.as_chunks::<2>().0.iter().map(|unit| {
        let unit = u16::from_le_bytes(*unit);
        u8::try_from(unit).map_or(unit, |byte| byte.to_ascii_uppercase().into())
    });
    let name = name
        .bytes()
        .map(|byte| u16::from(byte.to_ascii_uppercase()));
    name.cmp(found)
}
