//! Faults of a map file.

use std::path::Path;

use super::{Fault, Remedy, Severity};
use crate::block_map::{WORD_BLOCKS, Word};
use crate::device::BLOCK_BYTES;
use crate::map_file::{
    MapContent, MapDecodeError, MapEnd, MapHeader, RECORDS_OFFSET, SLOT_BYTES, decode_map,
};

/// Looks at the bytes of the map at `path`, which should belong to `header`. Answers what it holds as far as that can be told.
pub(super) fn check(
    path: &Path,
    bytes: &[u8],
    header: &MapHeader,
    faults: &mut Vec<Fault>,
) -> Option<MapContent> {
    let slots = check_header(path, bytes, header, faults);
    let content = match decode_map(bytes) {
        Ok(content) if content.header == *header => content,
        // Told by the header's faults.
        _ if slots == 0 => return None,
        Ok(_) => return None,
        Err(error) => {
            faults.push(Fault::damage(path, error.to_string()));
            return None;
        }
    };
    let length = bytes.len() as u64;
    let rest = content.valid_bytes.min(length)..length;
    match content.end {
        MapEnd::Clean => {}
        MapEnd::Torn if header.kind == crate::MapKind::Overlay => {
            let problem = format!(
                "{} bytes at the end belong to a flush that was never acknowledged (as after a power cut); the next start cuts them off",
                rest.end - rest.start
            );
            faults.push(Fault::new(path, Severity::Note, problem).at(rest));
        }
        MapEnd::Torn | MapEnd::Damaged => {
            let problem = format!(
                "record number {} is broken, and others follow it",
                content.next_sequence
            );
            faults.push(Fault::damage(path, problem).at(rest).remedy(Remedy::Map));
        }
    }
    let outside = outside(&content.words, header.size_bytes);
    if outside > 0 {
        let problem = format!("it names {outside} blocks outside the disk");
        faults.push(Fault::damage(path, problem).remedy(Remedy::Map));
    }
    Some(content)
}

/// How many slots are good.
fn check_header(path: &Path, bytes: &[u8], header: &MapHeader, faults: &mut Vec<Fault>) -> usize {
    let slots: Vec<Result<MapHeader, MapDecodeError>> = (0..2)
        .map(|slot| MapHeader::decode(bytes.get(slot * SLOT_BYTES..).unwrap_or_default()))
        .collect();
    let good = |slot: &Result<MapHeader, MapDecodeError>| slot.as_ref() == Ok(header);
    let whole = slots.iter().filter(|slot| good(slot)).count();
    for (number, slot) in slots.iter().enumerate().filter(|(_, slot)| !good(slot)) {
        let reason = match slot {
            Ok(_) => "it belongs to something else".to_owned(),
            Err(error) => error.to_string(),
        };
        let (severity, state) = match whole {
            0 => (Severity::Damage, "so is the other"),
            _ => (Severity::Warning, "the other is whole and is used"),
        };
        let problem = format!(
            "header {} of 2 is not usable ({reason}); {state}",
            number + 1
        );
        let start = (number * SLOT_BYTES) as u64;
        let end = start + SLOT_BYTES as u64;
        faults.push(
            Fault::new(path, severity, problem)
                .at(start..end)
                .remedy(Remedy::Map),
        );
    }
    if whole > 0 && bytes.len() < RECORDS_OFFSET {
        faults.push(Fault::damage(path, "it is cut off").remedy(Remedy::Map));
    }
    whole
}

/// How many words name blocks outside the disk.
pub(super) fn outside(words: &[Word], size_bytes: u64) -> usize {
    let blocks = size_bytes.div_ceil(BLOCK_BYTES);
    let lies_outside = |&&(index, _): &&Word| u64::from(index) * WORD_BLOCKS >= blocks;
    words.iter().filter(lies_outside).count()
}
