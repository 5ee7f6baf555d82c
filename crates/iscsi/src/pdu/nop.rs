//! NOP-Out and NOP-In (RFC 7143 §11.18, §11.19).

use super::header::{FLAG_FINAL, Header, Writer, expect_opcode, is_immediate, u32_at, u64_at};
use super::{DecodeError, Sequence};

/// A ping of the initiator, or its answer to ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NopOut {
    /// Does not consume a CmdSN.
    pub immediate: bool,
    /// Copied from our ping, else 0.
    pub lun: u64,
    /// [`NO_TAG`](super::NO_TAG) if no answer is wanted.
    pub itt: u32,
    /// That of our ping, else [`NO_TAG`](super::NO_TAG).
    pub ttt: u32,
    /// Command number.
    pub cmd_sn: u32,
    /// Next StatSN that the initiator expects.
    pub exp_stat_sn: u32,
}

impl NopOut {
    pub(crate) const OPCODE: u8 = 0x00;

    /// Reads the header.
    ///
    /// # Errors
    /// If the opcode is another.
    pub fn decode(header: &Header) -> Result<Self, DecodeError> {
        expect_opcode(header, Self::OPCODE)?;
        Ok(Self {
            immediate: is_immediate(header),
            lun: u64_at(header, 8),
            itt: u32_at(header, 16),
            ttt: u32_at(header, 20),
            cmd_sn: u32_at(header, 24),
            exp_stat_sn: u32_at(header, 28),
        })
    }

    /// Writes the header of a PDU with so many bytes of data.
    pub fn encode(&self, data_length: usize) -> Header {
        Writer::new(Self::OPCODE, self.immediate, FLAG_FINAL)
            .data_length(data_length)
            .u64(8, self.lun)
            .u32(16, self.itt)
            .u32(20, self.ttt)
            .u32(24, self.cmd_sn)
            .u32(28, self.exp_stat_sn)
            .finish()
    }
}

/// Answer to a ping, or a ping of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NopIn {
    /// Meaningful with a valid `ttt`.
    pub lun: u64,
    /// That of the ping, or [`NO_TAG`](super::NO_TAG).
    pub itt: u32,
    /// [`NO_TAG`](super::NO_TAG) if no answer is wanted.
    pub ttt: u32,
    /// Sequence numbers.
    pub sequence: Sequence,
}

impl NopIn {
    pub(crate) const OPCODE: u8 = 0x20;

    /// Reads the header.
    ///
    /// # Errors
    /// If the opcode is another.
    pub fn decode(header: &Header) -> Result<Self, DecodeError> {
        expect_opcode(header, Self::OPCODE)?;
        Ok(Self {
            lun: u64_at(header, 8),
            itt: u32_at(header, 16),
            ttt: u32_at(header, 20),
            sequence: Sequence::decode(header),
        })
    }

    /// Writes the header of a PDU with so many bytes of data.
    pub fn encode(&self, data_length: usize) -> Header {
        Writer::new(Self::OPCODE, false, FLAG_FINAL)
            .data_length(data_length)
            .u64(8, self.lun)
            .u32(16, self.itt)
            .u32(20, self.ttt)
            .sequence(self.sequence)
            .finish()
    }
}
