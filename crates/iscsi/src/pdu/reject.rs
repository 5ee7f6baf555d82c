//! Reject (RFC 7143 §11.17).

use super::header::{FLAG_FINAL, Header, Writer, expect_opcode};
use super::{DecodeError, NO_TAG, Sequence};

/// Why a PDU was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectReason {
    /// The data digest does not match (0x02).
    DataDigestError,
    /// What a SNACK asks for cannot be sent again (0x03); only above error recovery level 0.
    SnackReject,
    /// Against the protocol (0x04).
    ProtocolError,
    /// Unknown opcode, or not in this kind of session (0x05).
    CommandNotSupported,
    /// Too many immediate commands (0x06).
    ImmediateCommandReject,
    /// The initiator task tag is in use (0x07).
    TaskInProgress,
    /// A field is impossible (0x09).
    InvalidPduField,
    /// Any other (RFC 7143 §11.17.1).
    Other(u8),
}

impl RejectReason {
    fn code(self) -> u8 {
        match self {
            Self::DataDigestError => 0x02,
            Self::SnackReject => 0x03,
            Self::ProtocolError => 0x04,
            Self::CommandNotSupported => 0x05,
            Self::ImmediateCommandReject => 0x06,
            Self::TaskInProgress => 0x07,
            Self::InvalidPduField => 0x09,
            Self::Other(code) => code,
        }
    }

    fn from_code(code: u8) -> Self {
        match code {
            0x02 => Self::DataDigestError,
            0x03 => Self::SnackReject,
            0x04 => Self::ProtocolError,
            0x05 => Self::CommandNotSupported,
            0x06 => Self::ImmediateCommandReject,
            0x07 => Self::TaskInProgress,
            0x09 => Self::InvalidPduField,
            other => Self::Other(other),
        }
    }
}

/// Refuses a PDU, whose header is the data segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Why.
    pub reason: RejectReason,
    /// Sequence numbers.
    pub sequence: Sequence,
}

impl Reject {
    pub(crate) const OPCODE: u8 = 0x3f;

    /// Reads the header.
    ///
    /// # Errors
    /// If the opcode is another.
    pub fn decode(header: &Header) -> Result<Self, DecodeError> {
        expect_opcode(header, Self::OPCODE)?;
        Ok(Self {
            reason: RejectReason::from_code(header[2]),
            sequence: Sequence::decode(header),
        })
    }

    /// Writes the header of a PDU with so many bytes of data (the refused header).
    pub fn encode(&self, data_length: usize) -> Header {
        Writer::new(Self::OPCODE, false, FLAG_FINAL)
            .u8(2, self.reason.code())
            .data_length(data_length)
            .u32(16, NO_TAG)
            .sequence(self.sequence)
            .finish()
    }
}
