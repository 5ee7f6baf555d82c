//! A logical unit as its initiator sees it, and the answers that need no data of the disk.

use crate::command::{CopyUse, Medium, Query};
use crate::copy::{self, CopyRecord};
use crate::{LOGICAL_BLOCK_BYTES, ModeState, Sense};
use crate::{inquiry, mode, opcodes};

/// Limits that the block limits VPD page states and the decoder enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockLimits {
    /// Most blocks that initiators are asked to transfer by one command.
    pub transfer_blocks_max: u32,
    /// Most blocks that one command is served with: UEFI loaders that never ask for the limit
    /// read 32 MiB at once.
    pub served_blocks_max: u32,
    /// Blocks per command that work best.
    pub transfer_blocks_optimal: u32,
    /// Most blocks that one UNMAP command names.
    pub unmap_blocks_max: u32,
    /// Most block descriptors of one UNMAP command.
    pub unmap_descriptors_max: u32,
    /// Most blocks that one WRITE SAME command writes.
    pub write_same_blocks_max: u64,
    /// Most blocks that COMPARE AND WRITE compares.
    pub compare_and_write_blocks_max: u8,
}

/// The limits of every disk of DESS.
pub const BLOCK_LIMITS: BlockLimits = BlockLimits {
    transfer_blocks_max: 16_384,
    served_blocks_max: 65_535,
    transfer_blocks_optimal: 2048,
    unmap_blocks_max: 1 << 20,
    unmap_descriptors_max: 256,
    write_same_blocks_max: 65_535,
    compare_and_write_blocks_max: 128,
};

/// Description of a disk. Everything in it but the capacity stays the same for the disk's life:
/// Windows takes a changed identifier for another disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogicalUnit {
    /// Unit serial number, printable ASCII, at most 32 characters.
    pub serial: String,
    /// NAA identifier, 64 bits, including its type in the upper 4 bits.
    pub naa: u64,
    /// Name of the target port without the portal group, e.g. the target's IQN.
    pub target_name: String,
    /// Size in logical blocks.
    pub capacity_blocks: u64,
    /// Logical blocks in a physical block, as a power of two: 3 for 512e, 0 for 512n.
    pub physical_block_exponent: u8,
    /// True if the disk cannot be written at all.
    pub read_only: bool,
    /// True if UNMAP gives space back.
    pub thin: bool,
}

impl LogicalUnit {
    /// Answers a query; the data is already cut to the allocation length.
    ///
    /// # Errors
    /// The sense with which the command ends, e.g. for a page that does not exist.
    pub fn answer(&self, query: &Query, state: &ModeState) -> Result<Vec<u8>, Sense> {
        let (data, allocation) = match *query {
            Query::Inquiry { page, allocation } => {
                let data = match page {
                    None => inquiry::standard(),
                    Some(page) => inquiry::vital_product_data(self, page)?,
                };
                (data, allocation)
            }
            Query::RequestSense {
                descriptor,
                allocation,
            } => (Sense::NONE.encode(descriptor), allocation),
            Query::ModeSense(ref query) => (mode::sense(self, state, query)?, query.allocation),
            Query::ReadCapacity10 => (self.capacity_10(), u32::MAX),
            Query::ReadCapacity16 { allocation } => (self.capacity_16(), allocation),
            Query::SupportedOpcodes(ref query) => {
                (opcodes::report(query, self.thin)?, query.allocation)
            }
            Query::ReadDefectData {
                twelve,
                format,
                allocation,
            } => (defects(twelve, format), allocation),
        };
        Ok(truncated(data, allocation))
    }

    /// Answers RECEIVE COPY RESULTS; `record` is of the nexus's last EXTENDED COPY. Cut to the allocation length.
    ///
    /// # Errors
    /// INVALID FIELD IN CDB for a list that was not copied.
    pub fn copy_results(
        usage: CopyUse,
        record: Option<&CopyRecord>,
        allocation: u32,
    ) -> Result<Vec<u8>, Sense> {
        Ok(truncated(copy::results(usage, record)?, allocation))
    }

    /// Answers INQUIRY and REQUEST SENSE for a logical unit that does not exist (SPC-4 §6.6.1);
    /// all else is refused.
    ///
    /// # Errors
    /// LOGICAL UNIT NOT SUPPORTED.
    pub fn answer_absent(query: &Query) -> Result<Vec<u8>, Sense> {
        let (data, allocation) = match *query {
            Query::Inquiry {
                page: None,
                allocation,
            } => (inquiry::absent(), allocation),
            Query::RequestSense {
                descriptor,
                allocation,
            } => (Sense::LUN_NOT_SUPPORTED.encode(descriptor), allocation),
            Query::Inquiry { .. }
            | Query::ModeSense(_)
            | Query::ReadCapacity10
            | Query::ReadCapacity16 { .. }
            | Query::SupportedOpcodes(_)
            | Query::ReadDefectData { .. } => return Err(Sense::LUN_NOT_SUPPORTED),
        };
        Ok(truncated(data, allocation))
    }

    /// Checks a command against what this disk is: its size, its kind, and whether it may be
    /// written (MODE SELECT may forbid it).
    ///
    /// # Errors
    /// LOGICAL BLOCK ADDRESS OUT OF RANGE, WRITE PROTECTED, or for a request to give back space of
    /// a disk that is not thin, INVALID COMMAND OPERATION CODE or INVALID FIELD IN CDB.
    pub fn admit(&self, medium: &Medium, state: &ModeState) -> Result<(), Sense> {
        match medium {
            Medium::Unmap { .. } if !self.thin => return Err(Sense::INVALID_OPCODE),
            Medium::WriteSame { unmap: true, .. } if !self.thin => {
                return Err(Sense::cdb_field(1, Some(3)));
            }
            _ => {}
        }
        if let Some(range) = medium.range() {
            range.check(self.capacity_blocks)?;
        }
        if medium.writes() && (self.read_only || state.software_write_protect) {
            return Err(Sense::WRITE_PROTECTED);
        }
        Ok(())
    }

    /// Size in bytes.
    pub fn capacity_bytes(&self) -> u64 {
        self.capacity_blocks * LOGICAL_BLOCK_BYTES
    }

    fn capacity_10(&self) -> Vec<u8> {
        let last = u32::try_from(self.capacity_blocks.saturating_sub(1)).unwrap_or(u32::MAX);
        let mut data = last.to_be_bytes().to_vec();
        data.extend_from_slice(&(LOGICAL_BLOCK_BYTES as u32).to_be_bytes());
        data
    }

    fn capacity_16(&self) -> Vec<u8> {
        let mut data = vec![0; 32];
        let last = self.capacity_blocks.saturating_sub(1);
        data[..8].copy_from_slice(&last.to_be_bytes());
        data[8..12].copy_from_slice(&(LOGICAL_BLOCK_BYTES as u32).to_be_bytes());
        data[13] = self.physical_block_exponent;
        if self.thin {
            data[14] = LBPME | LBPRZ;
        }
        data
    }
}

/// Consecutive blocks that are all mapped or all not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LbaExtent {
    /// How many.
    pub blocks: u64,
    /// False if they take no space and read as zeros.
    pub mapped: bool,
}

/// The parameter data of GET LBA STATUS (SBC-3 §5.6.2) for extents that follow each other from `lba` on, cut to the allocation
/// length.
pub fn lba_status(mut lba: u64, extents: &[LbaExtent], allocation: u32) -> Vec<u8> {
    let mut data = vec![0; 8];
    for extent in extents {
        // What does not fit into 32 bits is reported up to there; the initiator asks again.
        let blocks = u32::try_from(extent.blocks).unwrap_or(u32::MAX);
        data.extend_from_slice(&lba.to_be_bytes());
        data.extend_from_slice(&blocks.to_be_bytes());
        data.extend_from_slice(&[u8::from(!extent.mapped), 0, 0, 0]);
        if u64::from(blocks) < extent.blocks {
            break;
        }
        lba += extent.blocks;
    }
    let following = u32::try_from(data.len() - 4).unwrap_or(u32::MAX);
    data[..4].copy_from_slice(&following.to_be_bytes());
    truncated(data, allocation)
}

/// The parameter data of REPORT LUNS (SPC-4 §6.33) of a target with these logical units, numbered up to 255; cut to the
/// allocation length.
///
/// # Errors
/// INVALID FIELD IN CDB for an unknown SELECT REPORT.
pub fn report_luns(select: u8, luns: &[u8], allocation: u32) -> Result<Vec<u8>, Sense> {
    let listed = match select {
        0x00 | 0x02 => luns,
        // Only well-known logical units: there is none.
        0x01 => &[],
        _ => return Err(Sense::cdb_field(2, None)),
    };
    // At most 256 of them.
    let mut data = (listed.len() as u32 * 8).to_be_bytes().to_vec();
    data.resize(8, 0);
    for &lun in listed {
        data.extend_from_slice(&[0, lun, 0, 0, 0, 0, 0, 0]);
    }
    Ok(truncated(data, allocation))
}

/// The number of a logical unit in the first level of an 8-byte LUN field; none if the field uses
/// a form that no disk here has (SAM-5 §4.7).
pub fn lun_number(lun: [u8; 8]) -> Option<u16> {
    let flat = u16::from_be_bytes([lun[0], lun[1]]);
    if lun[2..] != [0; 6] {
        return None;
    }
    match flat >> 14 {
        0 if flat < 256 => Some(flat),
        1 => Some(flat & 0x3fff),
        _ => None,
    }
}

/// An empty defect list in the format asked for.
fn defects(twelve: bool, format: u8) -> Vec<u8> {
    let mut data = vec![0; if twelve { 8 } else { 4 }];
    data[1] = format & 0x1f;
    data
}

fn truncated(mut data: Vec<u8>, allocation: u32) -> Vec<u8> {
    data.truncate(usize::try_from(allocation).unwrap_or(usize::MAX));
    data
}

/// READ CAPACITY (16): logical block provisioning is on.
const LBPME: u8 = 0x80;
/// READ CAPACITY (16): unmapped blocks read as zeros.
const LBPRZ: u8 = 0x40;

#[cfg(test)]
mod tests;
