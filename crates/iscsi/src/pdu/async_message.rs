//! Asynchronous Message (RFC 7143 §11.9).

use super::header::{FLAG_FINAL, Header, Writer, expect_opcode, u16_at, u64_at};
use super::{DecodeError, NO_TAG, Sequence};

/// What the target tells by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsyncEvent {
    /// A SCSI event; the data segment is sense length and sense data (0).
    Scsi,
    /// The initiator is to log out within so many seconds (1).
    LogoutRequest {
        /// Seconds.
        within_secs: u16,
    },
    /// The target is about to drop the session (3).
    SessionDrop {
        /// Seconds to wait before the next login.
        time2wait: u16,
        /// Seconds for which tasks are kept after that.
        time2retain: u16,
    },
    /// Any other.
    Other {
        /// Event code.
        code: u8,
        /// Its three parameters.
        parameters: [u16; 3],
    },
}

/// An asynchronous message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsyncMessage {
    /// Logical unit, for SCSI events.
    pub lun: u64,
    /// What happened.
    pub event: AsyncEvent,
    /// Sequence numbers.
    pub sequence: Sequence,
}

impl AsyncMessage {
    pub(crate) const OPCODE: u8 = 0x32;

    /// Reads the header.
    ///
    /// # Errors
    /// If the opcode is another.
    pub fn decode(header: &Header) -> Result<Self, DecodeError> {
        expect_opcode(header, Self::OPCODE)?;
        let parameters = [38, 40, 42].map(|offset| u16_at(header, offset));
        let event = match header[36] {
            0 if parameters == [0; 3] => AsyncEvent::Scsi,
            1 if parameters[..2] == [0; 2] => AsyncEvent::LogoutRequest {
                within_secs: parameters[2],
            },
            3 if parameters[0] == 0 => AsyncEvent::SessionDrop {
                time2wait: parameters[1],
                time2retain: parameters[2],
            },
            code => AsyncEvent::Other { code, parameters },
        };
        Ok(Self {
            lun: u64_at(header, 8),
            event,
            sequence: Sequence::decode(header),
        })
    }

    /// Writes the header of a PDU with so many bytes of data.
    pub fn encode(&self, data_length: usize) -> Header {
        let (code, parameters) = match self.event {
            AsyncEvent::Scsi => (0, [0; 3]),
            AsyncEvent::LogoutRequest { within_secs } => (1, [0, 0, within_secs]),
            AsyncEvent::SessionDrop {
                time2wait,
                time2retain,
            } => (3, [0, time2wait, time2retain]),
            AsyncEvent::Other { code, parameters } => (code, parameters),
        };
        Writer::new(Self::OPCODE, false, FLAG_FINAL)
            .data_length(data_length)
            .u64(8, self.lun)
            .u32(16, NO_TAG)
            .sequence(self.sequence)
            .u8(36, code)
            .u16(38, parameters[0])
            .u16(40, parameters[1])
            .u16(42, parameters[2])
            .finish()
    }
}
