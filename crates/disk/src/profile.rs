//! Boot profile: which parts of a version its boots read, in which order (`docs/format/boot-profile.md`).

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use dess_model::VersionRef;

/// Unit in which reads are noted, in bytes.
pub const PROFILE_UNIT_BYTES: u64 = 64 * 1024;
/// Most units of a profile, and of the reads of one boot: 4 GiB of the disk.
pub const PROFILE_UNITS_MAX: usize = 1 << 16;

/// What a boot adds to the weight of a unit that it read.
const WEIGHT_OF_A_BOOT: u8 = 64;
/// A unit is read ahead from this weight on: one boot of the last three read it, or many of those before.
const WEIGHT_WANTED: u8 = 32;
/// Below this weight a unit is forgotten.
const WEIGHT_KEPT: u8 = 8;

const MAGIC: &[u8; 8] = b"DESSBOOT";
const FORMAT: u32 = 1;
const HEADER_BYTES: usize = 40;
const UNIT_BYTES: usize = 5;
const CRC_BYTES: usize = 4;

/// Units of a version with the weight of the boots that read them: each boot takes a quarter of a weight away and adds
/// to those that it read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootProfile {
    version: VersionRef,
    boots: u32,
    units: Vec<(u32, u8)>,
}

/// A file that is no profile of the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileDecodeError {
    /// The length does not fit.
    #[error("it is cut off")]
    Length,
    /// No profile, or of another release.
    #[error("it has another format")]
    Format,
    /// The content was changed.
    #[error("wrong checksum")]
    Checksum,
    /// It tells of another version.
    #[error("it belongs to another version")]
    Foreign,
}

impl BootProfile {
    /// The profile of a version that nobody has booted.
    pub fn new(version: VersionRef) -> Self {
        Self {
            version,
            boots: 0,
            units: Vec::new(),
        }
    }

    /// Whose it is.
    pub fn version(&self) -> VersionRef {
        self.version
    }

    /// How many boots it was made of; saturates.
    pub fn boots(&self) -> u32 {
        self.boots
    }

    /// Bytes that are read ahead.
    pub fn wanted_bytes(&self) -> u64 {
        self.wanted_units().count() as u64 * PROFILE_UNIT_BYTES
    }

    /// The parts of the disk to read ahead, in the order in which boots read them; neighbours are one range.
    pub fn wanted(&self) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for unit in self.wanted_units() {
            let start = u64::from(unit) * PROFILE_UNIT_BYTES;
            match ranges.last_mut() {
                Some(last) if last.end == start => last.end += PROFILE_UNIT_BYTES,
                _ => ranges.push(start..start + PROFILE_UNIT_BYTES),
            }
        }
        ranges
    }

    /// How many of the units that a boot read would have been read ahead.
    pub fn predicted(&self, read: &[u32]) -> usize {
        let wanted: HashSet<u32> = self.wanted_units().collect();
        read.iter().filter(|unit| wanted.contains(unit)).count()
    }

    /// Adds a boot: the units that it read, each once, in the order of the first read. Those beyond
    /// [`PROFILE_UNITS_MAX`] are left out.
    pub fn add_boot(&mut self, read: &[u32]) {
        let read = &read[..read.len().min(PROFILE_UNITS_MAX)];
        let before: HashMap<u32, u8> = self.units.iter().copied().collect();
        let faded = |unit: &u32| {
            before
                .get(unit)
                .map_or(0, |&weight| weight - weight.div_ceil(4))
        };
        let of_now: HashSet<u32> = read.iter().copied().collect();
        let now = read
            .iter()
            .map(|unit| (*unit, faded(unit).saturating_add(WEIGHT_OF_A_BOOT)));
        let earlier = self.units.iter().map(|(unit, _)| (*unit, faded(unit)));
        let earlier =
            earlier.filter(|(unit, weight)| *weight >= WEIGHT_KEPT && !of_now.contains(unit));
        self.units = now.chain(earlier).take(PROFILE_UNITS_MAX).collect();
        self.boots = self.boots.saturating_add(1);
    }

    /// The file's content.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(self.version.image.0.as_bytes());
        bytes.extend_from_slice(&self.version.number.to_le_bytes());
        bytes.extend_from_slice(&self.boots.to_le_bytes());
        // At most PROFILE_UNITS_MAX.
        bytes.extend_from_slice(&(self.units.len() as u32).to_le_bytes());
        debug_assert_eq!(bytes.len(), HEADER_BYTES);
        for (unit, weight) in &self.units {
            bytes.extend_from_slice(&unit.to_le_bytes());
            bytes.push(*weight);
        }
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the file's content.
    ///
    /// # Errors
    /// If it is no whole profile of this version.
    pub fn decode(bytes: &[u8], version: VersionRef) -> Result<Self, ProfileDecodeError> {
        use ProfileDecodeError::{Checksum, Foreign, Format, Length};
        let (content, crc) = bytes.split_last_chunk::<CRC_BYTES>().ok_or(Length)?;
        let (header, units) = content.split_first_chunk::<HEADER_BYTES>().ok_or(Length)?;
        let number = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        if &header[..8] != MAGIC || number(8) != FORMAT {
            return Err(Format);
        }
        let count = number(36) as usize;
        if count > PROFILE_UNITS_MAX || units.len() != count * UNIT_BYTES {
            return Err(Length);
        }
        if crc32c::crc32c(content) != u32::from_le_bytes(*crc) {
            return Err(Checksum);
        }
        if header[12..28] != *version.image.0.as_bytes() || number(28) != version.number {
            return Err(Foreign);
        }
        let units = units.chunks_exact(UNIT_BYTES);
        let units = units.map(|unit| {
            let index = u32::from_le_bytes([unit[0], unit[1], unit[2], unit[3]]);
            (index, unit[4])
        });
        Ok(Self {
            version,
            boots: number(32),
            units: units.collect(),
        })
    }

    fn wanted_units(&self) -> impl Iterator<Item = u32> {
        let units = self.units.iter();
        let wanted = units.filter(|(_, weight)| *weight >= WEIGHT_WANTED);
        wanted.map(|(unit, _)| *unit)
    }
}

#[cfg(test)]
mod tests;
