//! Commands as values.

use crate::persistent::{PersistentIn, PersistentOut};
use crate::{LOGICAL_BLOCK_BYTES, Sense};

/// Consecutive logical blocks, as a CDB names them (not yet checked against a capacity).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockRange {
    /// First logical block.
    pub lba: u64,
    /// How many.
    pub blocks: u64,
}

impl BlockRange {
    /// Checks the range against a capacity in blocks. An empty range may start at the end.
    ///
    /// # Errors
    /// LOGICAL BLOCK ADDRESS OUT OF RANGE.
    pub fn check(self, capacity_blocks: u64) -> Result<(), Sense> {
        match self.lba.checked_add(self.blocks) {
            Some(end) if end <= capacity_blocks => Ok(()),
            _ => Err(Sense::LBA_OUT_OF_RANGE),
        }
    }

    /// Offset of the first byte; right for ranges that passed [`check`](Self::check).
    pub fn offset_bytes(self) -> u64 {
        self.lba.saturating_mul(LOGICAL_BLOCK_BYTES)
    }

    /// Length in bytes; right for ranges that passed [`check`](Self::check).
    pub fn length_bytes(self) -> u64 {
        self.blocks.saturating_mul(LOGICAL_BLOCK_BYTES)
    }
}

/// What VERIFY and WRITE AND VERIFY compare with (BYTCHK).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// Nothing: the blocks are only read.
    None,
    /// The Data-Out, byte by byte.
    Whole,
    /// One block of Data-Out with every block of the range.
    OneBlock,
}

/// Which form of a MODE SENSE or MODE SELECT command it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ModeForm {
    /// The 6-byte CDB with a 4-byte parameter header.
    Six,
    /// The 10-byte CDB with an 8-byte parameter header.
    Ten,
}

/// MODE SENSE (SPC-4 §6.11, §6.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ModeSense {
    /// 6 or 10.
    pub form: ModeForm,
    /// DBD: leave out the block descriptor.
    pub no_block_descriptor: bool,
    /// LLBAA: a 16-byte block descriptor may be used.
    pub long_lba: bool,
    /// PAGE CONTROL: 0 current, 1 changeable, 2 default, 3 saved.
    pub control: u8,
    /// PAGE CODE; 0x3f for all.
    pub page: u8,
    /// SUBPAGE CODE; 0xff for all.
    pub subpage: u8,
    /// ALLOCATION LENGTH in bytes.
    pub allocation: u32,
}

/// MODE SELECT (SPC-4 §6.9, §6.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ModeSelect {
    /// 6 or 10.
    pub form: ModeForm,
    /// PARAMETER LIST LENGTH in bytes.
    pub length: u32,
}

/// What REPORT SUPPORTED OPERATION CODES asks for (SPC-4 §6.35).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpcodeQuery {
    /// RCTD: with command timeouts descriptors.
    pub timeouts: bool,
    /// REPORTING OPTIONS, 0 to 3.
    pub options: u8,
    /// REQUESTED OPERATION CODE.
    pub opcode: u8,
    /// REQUESTED SERVICE ACTION.
    pub service_action: u16,
    /// ALLOCATION LENGTH in bytes.
    pub allocation: u32,
}

/// Service action of RECEIVE COPY RESULTS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CopyUse {
    /// COPY STATUS of an EXTENDED COPY of this nexus.
    Status {
        /// LIST IDENTIFIER.
        list_id: u8,
    },
    /// OPERATING PARAMETERS.
    OperatingParameters,
}

/// A command that the description of the logical unit answers, without data of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Query {
    /// INQUIRY; of the standard data, or of a VPD page.
    Inquiry {
        /// The VPD page asked for.
        page: Option<u8>,
        /// ALLOCATION LENGTH in bytes.
        allocation: u32,
    },
    /// REQUEST SENSE.
    RequestSense {
        /// DESC: in descriptor format.
        descriptor: bool,
        /// ALLOCATION LENGTH in bytes.
        allocation: u32,
    },
    /// MODE SENSE.
    ModeSense(ModeSense),
    /// READ CAPACITY (10).
    ReadCapacity10,
    /// READ CAPACITY (16).
    ReadCapacity16 {
        /// ALLOCATION LENGTH in bytes.
        allocation: u32,
    },
    /// REPORT SUPPORTED OPERATION CODES.
    SupportedOpcodes(OpcodeQuery),
    /// READ DEFECT DATA (10 and 12): an overlay has no defects.
    ReadDefectData {
        /// True for the 12-byte form with its longer header.
        twelve: bool,
        /// REQ_PLIST, REQ_GLIST and DEFECT LIST FORMAT.
        format: u8,
        /// ALLOCATION LENGTH in bytes.
        allocation: u32,
    },
}

/// A command that reads or writes the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Medium {
    /// READ.
    Read(BlockRange),
    /// WRITE; with FUA it is durable before it is acknowledged.
    Write {
        /// Where.
        range: BlockRange,
        /// Force unit access.
        fua: bool,
    },
    /// WRITE AND VERIFY: durable, then read back.
    WriteAndVerify {
        /// Where.
        range: BlockRange,
    },
    /// VERIFY.
    Verify {
        /// Where.
        range: BlockRange,
        /// With what.
        comparison: Comparison,
    },
    /// COMPARE AND WRITE: the Data-Out holds the blocks to compare, then the blocks to write.
    CompareAndWrite {
        /// Where.
        range: BlockRange,
        /// Force unit access.
        fua: bool,
    },
    /// ORWRITE: bitwise or with what is there.
    OrWrite {
        /// Where.
        range: BlockRange,
        /// Force unit access.
        fua: bool,
    },
    /// WRITE SAME: one block of Data-Out, written to the whole range.
    WriteSame {
        /// Where.
        range: BlockRange,
        /// UNMAP: give the space back.
        unmap: bool,
        /// NDOB: no Data-Out, zeros are meant.
        no_data: bool,
    },
    /// UNMAP; the ranges are in the parameter list.
    Unmap {
        /// PARAMETER LIST LENGTH in bytes.
        length: u32,
    },
    /// SYNCHRONIZE CACHE; always of the whole disk.
    SynchronizeCache(BlockRange),
    /// PRE-FETCH.
    Prefetch(BlockRange),
    /// EXTENDED COPY; the ranges are in the parameter list.
    Copy {
        /// PARAMETER LIST LENGTH in bytes.
        length: u32,
    },
    /// GET LBA STATUS.
    LbaStatus {
        /// First block of interest.
        lba: u64,
        /// ALLOCATION LENGTH in bytes.
        allocation: u32,
    },
}

/// One command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// TEST UNIT READY.
    TestUnitReady,
    /// Answered from the description of the logical unit.
    Query(Query),
    /// Reads or writes the disk.
    Medium(Medium),
    /// MODE SELECT.
    ModeSelect(ModeSelect),
    /// RECEIVE COPY RESULTS.
    CopyResults {
        /// What is asked.
        usage: CopyUse,
        /// ALLOCATION LENGTH in bytes.
        allocation: u32,
    },
    /// START STOP UNIT; a disk on a server neither stops nor ejects.
    StartStopUnit,
    /// PREVENT ALLOW MEDIUM REMOVAL; the medium cannot be removed anyway.
    PreventAllow {
        /// PREVENT.
        prevent: bool,
    },
    /// PERSISTENT RESERVE IN.
    PersistentIn {
        /// What is asked.
        action: PersistentIn,
        /// ALLOCATION LENGTH in bytes.
        allocation: u32,
    },
    /// PERSISTENT RESERVE OUT.
    PersistentOut {
        /// What is to be done.
        action: PersistentOut,
        /// PARAMETER LIST LENGTH in bytes.
        length: u32,
    },
    /// RESERVE (6).
    Reserve,
    /// RELEASE (6).
    Release,
    /// REPORT LUNS: of the target, not of the logical unit.
    ReportLuns {
        /// SELECT REPORT.
        select: u8,
        /// ALLOCATION LENGTH in bytes.
        allocation: u32,
    },
}

impl Command {
    /// Bytes of Data-Out that the command takes.
    pub fn data_out_bytes(&self) -> u64 {
        match self {
            Self::Medium(medium) => medium.data_out_bytes(),
            Self::ModeSelect(select) => u64::from(select.length),
            Self::PersistentOut { length, .. } => u64::from(*length),
            Self::TestUnitReady
            | Self::Query(_)
            | Self::StartStopUnit
            | Self::PreventAllow { .. }
            | Self::PersistentIn { .. }
            | Self::CopyResults { .. }
            | Self::Reserve
            | Self::Release
            | Self::ReportLuns { .. } => 0,
        }
    }

    /// True if a pending unit attention does not stop the command (SPC-4 §5.14, SAM-5 §5.14).
    pub fn passes_unit_attention(&self) -> bool {
        matches!(
            self,
            Self::Query(Query::Inquiry { .. } | Query::RequestSense { .. })
                | Self::ReportLuns { .. }
        )
    }

    /// True if a reservation of another initiator does not stop the command (SPC-2 table 9).
    pub fn passes_reservation(&self) -> bool {
        match self {
            Self::Query(query) => match query {
                Query::Inquiry { .. }
                | Query::RequestSense { .. }
                | Query::ReadCapacity10
                | Query::ReadCapacity16 { .. }
                | Query::SupportedOpcodes(_) => true,
                Query::ModeSense(_) | Query::ReadDefectData { .. } => false,
            },
            Self::Release | Self::PreventAllow { prevent: false } | Self::ReportLuns { .. } => true,
            Self::TestUnitReady
            | Self::Medium(_)
            | Self::ModeSelect(_)
            | Self::StartStopUnit
            | Self::PreventAllow { prevent: true }
            | Self::PersistentIn { .. }
            | Self::PersistentOut { .. }
            | Self::CopyResults { .. }
            | Self::Reserve => false,
        }
    }
}

impl Medium {
    /// Bytes of Data-Out that the command takes.
    pub fn data_out_bytes(&self) -> u64 {
        match self {
            Self::Write { range, .. }
            | Self::WriteAndVerify { range, .. }
            | Self::OrWrite { range, .. } => range.length_bytes(),
            Self::Verify { range, comparison } => match comparison {
                Comparison::None => 0,
                Comparison::Whole => range.length_bytes(),
                Comparison::OneBlock => LOGICAL_BLOCK_BYTES,
            },
            Self::CompareAndWrite { range, .. } => range.length_bytes().saturating_mul(2),
            Self::WriteSame { no_data: false, .. } => LOGICAL_BLOCK_BYTES,
            Self::Unmap { length } | Self::Copy { length } => u64::from(*length),
            Self::WriteSame { no_data: true, .. }
            | Self::Read(_)
            | Self::SynchronizeCache(_)
            | Self::Prefetch(_)
            | Self::LbaStatus { .. } => 0,
        }
    }

    /// True if it changes the disk.
    pub fn writes(&self) -> bool {
        match self {
            Self::Write { .. }
            | Self::WriteAndVerify { .. }
            | Self::CompareAndWrite { .. }
            | Self::OrWrite { .. }
            | Self::WriteSame { .. }
            | Self::Copy { .. }
            | Self::Unmap { .. } => true,
            Self::Read(_)
            | Self::Verify { .. }
            | Self::SynchronizeCache(_)
            | Self::Prefetch(_)
            | Self::LbaStatus { .. } => false,
        }
    }

    /// The blocks that the CDB names; none if the parameter list does.
    pub fn range(&self) -> Option<BlockRange> {
        match self {
            Self::Read(range)
            | Self::Write { range, .. }
            | Self::WriteAndVerify { range, .. }
            | Self::Verify { range, .. }
            | Self::CompareAndWrite { range, .. }
            | Self::OrWrite { range, .. }
            | Self::WriteSame { range, .. }
            | Self::SynchronizeCache(range)
            | Self::Prefetch(range) => Some(*range),
            Self::LbaStatus { lba, .. } => Some(BlockRange {
                lba: *lba,
                blocks: 1,
            }),
            Self::Unmap { .. } | Self::Copy { .. } => None,
        }
    }
}
