//! The log of a file that was not closed (\[MS-VHDX\] 2.3): changes of its tables that may not be in their places yet.
//!
//! They are laid over the file in memory; the file stays as it is.

use std::collections::{BTreeMap, HashSet};

use super::{VhdxHeader, checksum};
use crate::error::ImportError;
use crate::format::{HeaderError, ImageFile, field, le32, le64, refuse};

/// Unit of the log and of what it changes, in bytes.
const SECTOR_BYTES: u64 = 4096;
const DESCRIPTOR_BYTES: usize = 32;
/// Where the descriptors begin.
const ENTRY_HEADER_BYTES: usize = 64;
/// Largest log that is read: Hyper-V makes logs of 1 MiB, qemu-img of up to 256 MiB.
const LOG_BYTES_MAX: u32 = 256 << 20;
const MAGIC: &[u8; 4] = b"loge";

/// An entry of the log: changes that are made together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Each entry has the next number.
    pub sequence: u64,
    /// Bytes of the log that it takes.
    pub length: u32,
    /// Where in the log the oldest entry begins whose changes may not be in their places.
    pub tail: u32,
    /// Which log it belongs to.
    pub log_id: [u8; 16],
    /// The file had at least this length in bytes when it was written.
    pub flushed_bytes: u64,
    /// Length in bytes that the file has with all changes.
    pub file_bytes: u64,
    /// What it changes.
    pub changes: Vec<Change>,
}

/// A change of the file, at multiples of 4096 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Zeros.
    Zeros {
        /// From where on, in bytes.
        offset: u64,
        /// How many bytes.
        length: u64,
    },
    /// One sector of 4096 bytes.
    Sector {
        /// Where, in bytes.
        offset: u64,
        /// Its content.
        bytes: Vec<u8>,
    },
}

impl LogEntry {
    /// Bytes of the entry that begins with `sector`.
    fn length(sector: &[u8]) -> Result<u32, HeaderError> {
        let length = le32(sector, 8)?;
        if !sector.starts_with(MAGIC) || length == 0 || u64::from(length) % SECTOR_BYTES != 0 {
            return refuse(0, "no log entry begins there");
        }
        Ok(length)
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// If it is cut off or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let length = Self::length(bytes)?;
        let Some(whole) = bytes.get(..length as usize) else {
            return refuse(8, "its log entry is cut off");
        };
        if checksum(whole) != le32(whole, 4)? {
            return refuse(4, "its log entry is damaged: wrong checksum");
        }
        let sequence = le64(whole, 16)?;
        let count = le32(whole, 24)? as usize;
        let described = count
            .checked_mul(DESCRIPTOR_BYTES)
            .and_then(|bytes| bytes.checked_add(ENTRY_HEADER_BYTES))
            .map(|bytes| bytes.next_multiple_of(SECTOR_BYTES as usize))
            .filter(|&bytes| bytes <= whole.len());
        let Some(described) = described else {
            return refuse(24, format!("a log entry cannot have {count} descriptors"));
        };
        let mut sectors = whole[described..].chunks(SECTOR_BYTES as usize);
        let mut changes = Vec::with_capacity(count);
        for at in (ENTRY_HEADER_BYTES..).step_by(DESCRIPTOR_BYTES).take(count) {
            changes.push(Change::decode(whole, at, sequence, &mut sectors)?);
        }
        Ok(Self {
            sequence,
            length,
            tail: le32(whole, 12)?,
            log_id: field(whole, 32)?,
            flushed_bytes: le64(whole, 48)?,
            file_bytes: le64(whole, 56)?,
            changes,
        })
    }
}

impl Change {
    fn decode<'a>(
        entry: &[u8],
        at: usize,
        sequence: u64,
        sectors: &mut impl Iterator<Item = &'a [u8]>,
    ) -> Result<Self, HeaderError> {
        let offset = le64(entry, at + 16)?;
        if le64(entry, at + 24)? != sequence || !offset.is_multiple_of(SECTOR_BYTES) {
            return refuse(
                at as u64,
                "its log entry is damaged: a descriptor of another",
            );
        }
        match &field::<4>(entry, at)? {
            b"zero" => {
                let length = le64(entry, at + 8)?;
                if !length.is_multiple_of(SECTOR_BYTES) || offset.checked_add(length).is_none() {
                    return refuse(at as u64, format!("a log cannot clear {length} bytes"));
                }
                Ok(Self::Zeros { offset, length })
            }
            b"desc" => {
                let Some(sector) = sectors.next() else {
                    return refuse(at as u64, "its log entry lacks a sector");
                };
                let number = u64::from(le32(sector, 4)?) << 32 | u64::from(le32(sector, 4092)?);
                if !sector.starts_with(b"data") || number != sequence {
                    return refuse(at as u64, "its log entry is damaged: a sector of another");
                }
                // Signature and numbers lie where these bytes of the sector belong.
                let mut bytes = sector.to_vec();
                bytes[..8].copy_from_slice(&entry[at + 8..at + 16]);
                bytes[4092..].copy_from_slice(&entry[at + 4..at + 8]);
                Ok(Self::Sector { offset, bytes })
            }
            _ => refuse(at as u64, "its log has a descriptor that is not known"),
        }
    }
}

/// Lays the changes of the log over the file.
pub(super) fn replay(file: &mut ImageFile, header: &VhdxHeader) -> Result<(), ImportError> {
    let (start, length) = header.log;
    if length > LOG_BYTES_MAX || !u64::from(length).is_multiple_of(SECTOR_BYTES) {
        return Err(file.refused(start, format!("a log cannot have {length} bytes")));
    }
    let log = file.part(start, u64::from(length))?;
    let sequence = match newest_sequence(&log, &header.log_id) {
        Ok(sequence) => sequence,
        // The header announced a log into which nothing was written.
        Err(Torn(false)) => return Ok(()),
        Err(Torn(true)) => {
            let reason = "it was not closed, and its log is damaged: it must be repaired by the program that made it";
            return Err(file.refused(start, reason));
        }
    };
    let mut patches = Patches::default();
    for entry in sequence {
        if entry.flushed_bytes > file.length() {
            let reason = format!(
                "it is truncated: its log says that it had {} bytes",
                entry.flushed_bytes
            );
            return Err(file.refused(file.length(), reason));
        }
        patches.end = entry.file_bytes;
        for change in entry.changes {
            patches.lay(change);
        }
    }
    file.patch(patches);
    Ok(())
}

/// There is no whole sequence; true if there is a part of one.
struct Torn(bool);

/// The entries that are to be replayed: of all whole sequences, that with the greatest numbers (\[MS-VHDX\] 2.3.2).
fn newest_sequence(log: &[u8], log_id: &[u8; 16]) -> Result<Vec<LogEntry>, Torn> {
    let (mut entries, mut torn) = whole_entries(log, log_id);
    let sectors = log.len() as u64 / SECTOR_BYTES;
    let next = |at: u64, entry: &LogEntry| (at + u64::from(entry.length) / SECTOR_BYTES) % sectors;
    let followed: HashSet<(u64, u64)> = entries
        .iter()
        .filter_map(|(&at, entry)| Some((next(at, entry), entry.sequence.checked_add(1)?)))
        .collect();
    let mut newest: Option<(u64, Vec<u64>)> = None;
    for (&first, entry) in &entries {
        if followed.contains(&(first, entry.sequence)) {
            continue;
        }
        let (mut at, mut head, mut places) = (first, entry, vec![first]);
        while let Some(entry) = entries.get(&next(at, head))
            && head.sequence.checked_add(1) == Some(entry.sequence)
        {
            at = next(at, head);
            head = entry;
            places.push(at);
        }
        let tail = u64::from(head.tail) / SECTOR_BYTES;
        match places.iter().position(|&place| place == tail) {
            Some(begin)
                if newest
                    .as_ref()
                    .is_none_or(|(last, _)| *last < head.sequence) =>
            {
                newest = Some((head.sequence, places.split_off(begin)));
            }
            Some(_) => {}
            None => torn = true,
        }
    }
    let (_, places) = newest.ok_or(Torn(torn))?;
    Ok(places.iter().filter_map(|at| entries.remove(at)).collect())
}

/// The entries of this log by their first sector, and whether there are damaged ones.
fn whole_entries(log: &[u8], log_id: &[u8; 16]) -> (BTreeMap<u64, LogEntry>, bool) {
    let (mut entries, mut torn) = (BTreeMap::new(), false);
    // Entries that lie in each other would be looked at again and again.
    let mut budget = 4 * log.len();
    let mut start = 0;
    while let Some(rest) = log.get(start..).filter(|rest| !rest.is_empty()) {
        let own = field::<16>(rest, 32).is_ok_and(|id| id == *log_id);
        let place = start;
        start += SECTOR_BYTES as usize;
        if !own || !rest.starts_with(MAGIC) {
            continue;
        }
        let length = LogEntry::length(rest).map_or(usize::MAX, |length| length as usize);
        if length > log.len().min(budget) {
            torn = true;
            continue;
        }
        budget -= length;
        // An entry may go on at the log's beginning.
        let decoded = match rest.get(..length) {
            Some(whole) => LogEntry::decode(whole),
            None => LogEntry::decode(&[rest, &log[..length - rest.len()]].concat()),
        };
        match decoded {
            Ok(entry) => {
                start = place + length;
                entries.insert(place as u64 / SECTOR_BYTES, entry);
            }
            Err(_) => torn = true,
        }
    }
    (entries, torn)
}

/// What lies over the bytes of a file.
#[derive(Default)]
pub(crate) struct Patches {
    /// By their place.
    sectors: BTreeMap<u64, Vec<u8>>,
    /// Ranges that are zero where no sector lies over them: beginnings and ends; none touches another.
    zeros: BTreeMap<u64, u64>,
    /// Least length of the file with them.
    end: u64,
}

impl Patches {
    fn lay(&mut self, change: Change) {
        match change {
            Change::Sector { offset, bytes } => {
                self.sectors.insert(offset, bytes);
            }
            Change::Zeros { length: 0, .. } => {}
            Change::Zeros { offset, length } => {
                let (mut start, mut end) = (offset, offset + length);
                while let Some((&at, _)) = self.sectors.range(start..end).next() {
                    self.sectors.remove(&at);
                }
                while let Some((&from, &to)) = self.zeros.range(..=end).next_back()
                    && to >= start
                {
                    self.zeros.remove(&from);
                    (start, end) = (start.min(from), end.max(to));
                }
                self.zeros.insert(start, end);
            }
        }
    }

    /// Length that the file has with them, in bytes.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Lays them over `bytes`, which were read from `offset` on.
    pub(crate) fn apply(&self, offset: u64, bytes: &mut [u8]) {
        let end = offset + bytes.len() as u64;
        let within = |from: u64, to: u64| {
            let (from, to) = (from.clamp(offset, end), to.clamp(offset, end));
            (from - offset) as usize..(to - offset) as usize
        };
        let zeros = self.zeros.range(..end).rev();
        for (&from, &to) in zeros.take_while(|&(_, &to)| to > offset) {
            bytes[within(from, to)].fill(0);
        }
        let first = offset.saturating_sub(SECTOR_BYTES - 1);
        for (&at, sector) in self.sectors.range(first..end) {
            let range = within(at, at + SECTOR_BYTES);
            let skipped = (offset.max(at) - at) as usize;
            let part = &sector[skipped..skipped + range.len()];
            bytes[range].copy_from_slice(part);
        }
    }
}

#[cfg(test)]
mod tests;
