//! Text Request and Text Response (RFC 7143 §11.10, §11.11).

use super::header::{FLAG_FINAL, Header, Writer, expect_opcode, is_immediate, u32_at, u64_at};
use super::{DecodeError, Sequence};

const FLAG_CONTINUE: u8 = 0x40;

/// A text request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextRequest {
    /// Does not consume a CmdSN.
    pub immediate: bool,
    /// The initiator has no more to say (F bit).
    pub last: bool,
    /// The text goes on in the next PDU (C bit).
    pub more: bool,
    /// Copied from the last response, else 0.
    pub lun: u64,
    /// Initiator task tag.
    pub itt: u32,
    /// That of the last response, or [`NO_TAG`](super::NO_TAG) for a new exchange.
    pub ttt: u32,
    /// Command number.
    pub cmd_sn: u32,
    /// Next StatSN that the initiator expects.
    pub exp_stat_sn: u32,
}

impl TextRequest {
    pub(crate) const OPCODE: u8 = 0x04;

    /// Reads the header.
    ///
    /// # Errors
    /// If the opcode is another.
    pub fn decode(header: &Header) -> Result<Self, DecodeError> {
        expect_opcode(header, Self::OPCODE)?;
        Ok(Self {
            immediate: is_immediate(header),
            last: header[1] & FLAG_FINAL != 0,
            more: header[1] & FLAG_CONTINUE != 0,
            lun: u64_at(header, 8),
            itt: u32_at(header, 16),
            ttt: u32_at(header, 20),
            cmd_sn: u32_at(header, 24),
            exp_stat_sn: u32_at(header, 28),
        })
    }

    /// Writes the header of a PDU with so many bytes of text.
    pub fn encode(&self, data_length: usize) -> Header {
        let flags =
            if self.last { FLAG_FINAL } else { 0 } | if self.more { FLAG_CONTINUE } else { 0 };
        Writer::new(Self::OPCODE, self.immediate, flags)
            .data_length(data_length)
            .u64(8, self.lun)
            .u32(16, self.itt)
            .u32(20, self.ttt)
            .u32(24, self.cmd_sn)
            .u32(28, self.exp_stat_sn)
            .finish()
    }
}

/// A text response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextResponse {
    /// The exchange is over (F bit).
    pub last: bool,
    /// The text goes on in the next PDU (C bit).
    pub more: bool,
    /// Initiator task tag of the request.
    pub itt: u32,
    /// [`NO_TAG`](super::NO_TAG) if the exchange is over.
    pub ttt: u32,
    /// Sequence numbers.
    pub sequence: Sequence,
}

impl TextResponse {
    pub(crate) const OPCODE: u8 = 0x24;

    /// Reads the header.
    ///
    /// # Errors
    /// If the opcode is another.
    pub fn decode(header: &Header) -> Result<Self, DecodeError> {
        expect_opcode(header, Self::OPCODE)?;
        Ok(Self {
            last: header[1] & FLAG_FINAL != 0,
            more: header[1] & FLAG_CONTINUE != 0,
            itt: u32_at(header, 16),
            ttt: u32_at(header, 20),
            sequence: Sequence::decode(header),
        })
    }

    /// Writes the header of a PDU with so many bytes of text.
    pub fn encode(&self, data_length: usize) -> Header {
        let flags =
            if self.last { FLAG_FINAL } else { 0 } | if self.more { FLAG_CONTINUE } else { 0 };
        Writer::new(Self::OPCODE, false, flags)
            .data_length(data_length)
            .u32(16, self.itt)
            .u32(20, self.ttt)
            .sequence(self.sequence)
            .finish()
    }
}
