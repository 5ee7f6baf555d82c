//! EXTENDED COPY within one disk (SPC-4 §6.4, LID1): blocks are copied without going to the initiator and back.

use crate::command::{BlockRange, CopyUse};
use crate::field::{u16_at, u24_at, u32_at, u64_at};
use crate::{LOGICAL_BLOCK_BYTES, LogicalUnit, Sense};

/// Most target descriptors of one command: source and destination.
const TARGETS_MAX: usize = 2;
/// Most segment descriptors of one command.
const SEGMENTS_MAX: usize = 8;
/// Most blocks of one segment: what its field holds.
const SEGMENT_BLOCKS_MAX: u32 = 65_535;

const HEADER_BYTES: usize = 16;
const TARGET_BYTES: usize = 32;
const SEGMENT_BYTES: usize = 28;
/// Most bytes of descriptors.
const DESCRIPTORS_BYTES_MAX: usize = TARGETS_MAX * TARGET_BYTES + SEGMENTS_MAX * SEGMENT_BYTES;

/// Identification descriptor target descriptor (SPC-4 §6.4.5.4).
const IDENTIFICATION: u8 = 0xe4;
/// Copy from block device to block device (SPC-4 §6.4.6.4).
const BLOCK_TO_BLOCK: u8 = 0x02;

/// One piece of an EXTENDED COPY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopySegment {
    /// What is copied.
    pub source: BlockRange,
    /// Where to.
    pub destination: BlockRange,
}

/// How an EXTENDED COPY ended, as RECEIVE COPY RESULTS tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyRecord {
    /// LIST IDENTIFIER.
    pub list_id: u8,
    /// True if all was copied.
    pub good: bool,
    /// Segments that were copied; 0 if one was not.
    pub segments: u16,
}

/// Reads the parameter list and checks it against the disk, which is the only copy target.
///
/// # Errors
/// What is wrong with the list; nothing has been copied then.
pub fn copy_segments(list: &[u8], unit: &LogicalUnit) -> Result<Vec<CopySegment>, Sense> {
    if list.is_empty() {
        return Ok(Vec::new());
    }
    if list.len() < HEADER_BYTES {
        return Err(Sense::PARAMETER_LENGTH);
    }
    let targets_bytes = usize::from(u16_at(list, 2));
    let segments_bytes = usize::try_from(u32_at(list, 8)).unwrap_or(usize::MAX);
    let descriptors_bytes = targets_bytes.saturating_add(segments_bytes);
    let descriptors = &list[HEADER_BYTES..];
    if descriptors_bytes > descriptors.len() || descriptors_bytes > DESCRIPTORS_BYTES_MAX {
        return Err(Sense::PARAMETER_LENGTH);
    }
    if u32_at(list, 12) != 0 {
        return Err(Sense::INLINE_DATA_TOO_LONG);
    }
    let (targets, segments) = descriptors[..descriptors_bytes].split_at(targets_bytes);
    let targets = count_targets(targets, unit)?;
    read_segments(segments, targets, unit)
}

fn count_targets(descriptors: &[u8], unit: &LogicalUnit) -> Result<usize, Sense> {
    let (whole, rest) = descriptors.as_chunks::<TARGET_BYTES>();
    if !rest.is_empty() {
        return Err(Sense::parameter_field(2));
    }
    if whole.len() > TARGETS_MAX {
        return Err(Sense::TOO_MANY_TARGETS);
    }
    for descriptor in whole {
        if descriptor[0] != IDENTIFICATION {
            return Err(Sense::UNKNOWN_TARGET_DESCRIPTOR);
        }
        let length = usize::from(descriptor[7]);
        let designator = descriptor.get(8..8 + length).unwrap_or_default();
        // Binary, NAA, of the logical unit.
        let naa = descriptor[4] & 0x0f == 1 && descriptor[5] & 0x3f == 3;
        if !naa || designator != unit.naa.to_be_bytes() {
            return Err(Sense::COPY_TARGET_UNREACHABLE);
        }
        if u64::from(u24_at(descriptor, 29)) != LOGICAL_BLOCK_BYTES {
            return Err(Sense::INVALID_FIELD_IN_PARAMETERS);
        }
    }
    Ok(whole.len())
}

fn read_segments(
    descriptors: &[u8],
    targets: usize,
    unit: &LogicalUnit,
) -> Result<Vec<CopySegment>, Sense> {
    if descriptors.len() > SEGMENTS_MAX * SEGMENT_BYTES {
        return Err(Sense::TOO_MANY_SEGMENTS);
    }
    let (whole, rest) = descriptors.as_chunks::<SEGMENT_BYTES>();
    let mut segments = Vec::new();
    for descriptor in whole {
        if descriptor[0] != BLOCK_TO_BLOCK
            || usize::from(u16_at(descriptor, 2)) != SEGMENT_BYTES - 4
        {
            return Err(Sense::UNKNOWN_SEGMENT_DESCRIPTOR);
        }
        let index = |at| usize::from(u16_at(descriptor, at));
        if index(4) >= targets || index(6) >= targets {
            return Err(Sense::UNREACHABLE_COPY_TARGET);
        }
        let blocks = u64::from(u16_at(descriptor, 10));
        let range = |lba| BlockRange { lba, blocks };
        let segment = CopySegment {
            source: range(u64_at(descriptor, 12)),
            destination: range(u64_at(descriptor, 20)),
        };
        for range in [segment.source, segment.destination] {
            let checked = range.check(unit.capacity_blocks);
            checked.map_err(|_| Sense::COPY_ABORTED)?;
        }
        segments.push(segment);
    }
    match rest {
        [] => Ok(segments),
        [code, ..] if *code != BLOCK_TO_BLOCK => Err(Sense::UNKNOWN_SEGMENT_DESCRIPTOR),
        _ => Err(Sense::parameter_field(8)),
    }
}

impl CopyRecord {
    /// The record of a command with this parameter list; none if its end is not to be told (LIST ID USAGE).
    pub fn new(list: &[u8], good: bool) -> Option<Self> {
        if list.len() < HEADER_BYTES || list[1] & 0x18 == 0x18 {
            return None;
        }
        let segments = u16::try_from(u32_at(list, 8) as usize / SEGMENT_BYTES).unwrap_or(u16::MAX);
        Some(Self {
            list_id: list[0],
            good,
            segments: if good { segments } else { 0 },
        })
    }
}

/// The parameter data of RECEIVE COPY RESULTS.
pub(crate) fn results(usage: CopyUse, record: Option<&CopyRecord>) -> Result<Vec<u8>, Sense> {
    match usage {
        CopyUse::OperatingParameters => Ok(operating_parameters()),
        CopyUse::Status { list_id } => {
            let record = record.filter(|record| record.list_id == list_id);
            let record = record.ok_or(Sense::cdb_field(2, None))?;
            let state = if record.good { 0x01 } else { 0x02 };
            let [high, low] = record.segments.to_be_bytes();
            Ok(vec![0, 0, 0, 8, state, high, low, 0, 0, 0, 0, 0])
        }
    }
}

/// SPC-4 §6.20.4, without held data or inline data.
fn operating_parameters() -> Vec<u8> {
    let mut data = vec![0; 46];
    data[3] = 42;
    data[4] = 0x01; // SNLID: a command without a list identifier is accepted
    data[8..10].copy_from_slice(&(TARGETS_MAX as u16).to_be_bytes());
    data[10..12].copy_from_slice(&(SEGMENTS_MAX as u16).to_be_bytes());
    data[12..16].copy_from_slice(&(DESCRIPTORS_BYTES_MAX as u32).to_be_bytes());
    data[16..20].copy_from_slice(&segment_bytes_max().to_be_bytes());
    data[35] = 1; // TOTAL CONCURRENT COPIES
    data[36] = 1; // MAXIMUM CONCURRENT COPIES
    data[37] = 9; // DATA SEGMENT GRANULARITY: a block
    data[43] = 2;
    data[44..46].copy_from_slice(&[BLOCK_TO_BLOCK, IDENTIFICATION]);
    data
}

fn segment_bytes_max() -> u32 {
    SEGMENT_BLOCKS_MAX * LOGICAL_BLOCK_BYTES as u32
}

/// Body of the third-party copy VPD page (SPC-4 §7.8.17): supported commands, parameter data, supported descriptors and general
/// copy operations.
pub(crate) fn vital_product_data() -> Vec<u8> {
    let mut body = vec![0x00, 0x01, 0, 8, 7, 0x83, 1, 0x00, 0x84, 2, 0x00, 0x03];
    body.extend_from_slice(&[0x00, 0x04, 0, 28, 0, 0, 0, 0]);
    body.extend_from_slice(&(TARGETS_MAX as u16).to_be_bytes());
    body.extend_from_slice(&(SEGMENTS_MAX as u16).to_be_bytes());
    body.extend_from_slice(&(DESCRIPTORS_BYTES_MAX as u32).to_be_bytes());
    body.extend_from_slice(&[0; 16]);
    body.extend_from_slice(&[0x00, 0x08, 0, 4, 2, BLOCK_TO_BLOCK, IDENTIFICATION, 0]);
    body.extend_from_slice(&[0x80, 0x01, 0, 32, 0, 0, 0, 1, 0, 0, 0, 1]);
    body.extend_from_slice(&segment_bytes_max().to_be_bytes());
    body.push(9);
    body.extend_from_slice(&[0; 19]);
    body
}

#[cfg(test)]
mod tests;
