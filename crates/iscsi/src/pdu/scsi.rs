//! SCSI Command and SCSI Response (RFC 7143 §11.3, §11.4).

use super::header::{FLAG_FINAL, Header, Writer, expect_opcode, is_immediate, u32_at, u64_at};
use super::{DecodeError, Sequence};

const FLAG_READ: u8 = 0x40;
const FLAG_WRITE: u8 = 0x20;
const ATTRIBUTE_MASK: u8 = 0x07;

/// A SCSI command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScsiRequest {
    /// Does not consume a CmdSN.
    pub immediate: bool,
    /// No unsolicited Data-Out PDUs follow.
    pub last: bool,
    /// Data flows to the initiator.
    pub read: bool,
    /// Data flows from the initiator.
    pub write: bool,
    /// Task attribute, 0 to 7.
    pub attribute: u8,
    /// Logical unit.
    pub lun: u64,
    /// Initiator task tag.
    pub itt: u32,
    /// Bytes that the initiator expects to move.
    pub expected_data_transfer_length: u32,
    /// Command number.
    pub cmd_sn: u32,
    /// Next StatSN that the initiator expects.
    pub exp_stat_sn: u32,
    /// Command descriptor block; the start of it if an additional header segment has the rest.
    pub cdb: [u8; 16],
}

impl ScsiRequest {
    pub(crate) const OPCODE: u8 = 0x01;

    /// Reads the header.
    ///
    /// # Errors
    /// If the opcode is another.
    pub fn decode(header: &Header) -> Result<Self, DecodeError> {
        expect_opcode(header, Self::OPCODE)?;
        let mut cdb = [0; 16];
        cdb.copy_from_slice(&header[32..48]);
        Ok(Self {
            immediate: is_immediate(header),
            last: header[1] & FLAG_FINAL != 0,
            read: header[1] & FLAG_READ != 0,
            write: header[1] & FLAG_WRITE != 0,
            attribute: header[1] & ATTRIBUTE_MASK,
            lun: u64_at(header, 8),
            itt: u32_at(header, 16),
            expected_data_transfer_length: u32_at(header, 20),
            cmd_sn: u32_at(header, 24),
            exp_stat_sn: u32_at(header, 28),
            cdb,
        })
    }

    /// Writes the header of a PDU with so many bytes of immediate data.
    pub fn encode(&self, data_length: usize) -> Header {
        let flags = if self.last { FLAG_FINAL } else { 0 }
            | if self.read { FLAG_READ } else { 0 }
            | if self.write { FLAG_WRITE } else { 0 }
            | self.attribute & ATTRIBUTE_MASK;
        Writer::new(Self::OPCODE, self.immediate, flags)
            .data_length(data_length)
            .u64(8, self.lun)
            .u32(16, self.itt)
            .u32(20, self.expected_data_transfer_length)
            .u32(24, self.cmd_sn)
            .u32(28, self.exp_stat_sn)
            .bytes(32, &self.cdb)
            .finish()
    }
}

/// How far the data of a command differs from what the initiator expected (RFC 7143 §11.4.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Residual {
    /// Not at all.
    #[default]
    None,
    /// So many bytes could not be moved, because the initiator expected fewer.
    Overflow(u32),
    /// So many bytes of what the initiator expected were not moved.
    Underflow(u32),
}

impl Residual {
    /// What is left between the initiator's expectation and what the command moves.
    pub fn between(expected: u32, transfer_length: u64) -> Self {
        let expected = u64::from(expected);
        if transfer_length > expected {
            Self::Overflow(u32::try_from(transfer_length - expected).unwrap_or(u32::MAX))
        } else if transfer_length < expected {
            Self::Underflow((expected - transfer_length) as u32)
        } else {
            Self::None
        }
    }

    pub(crate) fn flags(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Overflow(_) => 0x04,
            Self::Underflow(_) => 0x02,
        }
    }

    pub(crate) fn count(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Overflow(count) | Self::Underflow(count) => count,
        }
    }

    pub(crate) fn decode(flags: u8, count: u32) -> Result<Self, DecodeError> {
        match flags & 0x06 {
            0 => Ok(Self::None),
            0x04 => Ok(Self::Overflow(count)),
            0x02 => Ok(Self::Underflow(count)),
            both => Err(DecodeError::Field {
                field: "Residual Overflow and Underflow",
                value: u32::from(both),
            }),
        }
    }
}

/// The answer to a SCSI command; its data segment is the sense length and the sense data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScsiResponsePdu {
    /// iSCSI response: 0 completed at target, 1 target failure.
    pub response: u8,
    /// SCSI status.
    pub status: u8,
    /// Initiator task tag.
    pub itt: u32,
    /// Sequence numbers.
    pub sequence: Sequence,
    /// Data-In or R2T PDUs that were sent for the command.
    pub exp_data_sn: u32,
    /// Residual.
    pub residual: Residual,
}

impl ScsiResponsePdu {
    pub(crate) const OPCODE: u8 = 0x21;

    /// Reads the header.
    ///
    /// # Errors
    /// If the opcode is another, or both residual flags are set.
    pub fn decode(header: &Header) -> Result<Self, DecodeError> {
        expect_opcode(header, Self::OPCODE)?;
        Ok(Self {
            response: header[2],
            status: header[3],
            itt: u32_at(header, 16),
            sequence: Sequence::decode(header),
            exp_data_sn: u32_at(header, 36),
            residual: Residual::decode(header[1], u32_at(header, 44))?,
        })
    }

    /// Writes the header of a PDU with so many bytes of sense.
    pub fn encode(&self, data_length: usize) -> Header {
        Writer::new(Self::OPCODE, false, FLAG_FINAL | self.residual.flags())
            .u8(2, self.response)
            .u8(3, self.status)
            .data_length(data_length)
            .u32(16, self.itt)
            .sequence(self.sequence)
            .u32(36, self.exp_data_sn)
            .u32(44, self.residual.count())
            .finish()
    }
}
