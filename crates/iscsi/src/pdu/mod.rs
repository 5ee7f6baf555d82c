//! Protocol data units (RFC 7143 §11).
//!
//! Every type reads (`decode`) and writes (`encode`) the 48 bytes of its basic header; data
//! segments stay apart, so that they are never copied. Names are those of the RFC.

mod async_message;
mod data;
mod header;
mod login;
mod logout;
mod nop;
mod reject;
mod scsi;
mod snack;
mod task;
mod text;

#[cfg(test)]
mod tests;

pub use async_message::{AsyncEvent, AsyncMessage};
pub use data::{DataIn, DataInStatus, DataOut, ReadyToTransfer};
pub use header::{HEADER_BYTES, Header, NO_TAG, Segments, padding};
pub use login::{LoginRequest, LoginResponse, Stage};
pub use logout::{LogoutReason, LogoutRequest, LogoutResponse, LogoutResult};
pub use nop::{NopIn, NopOut};
pub use reject::{Reject, RejectReason};
pub use scsi::{Residual, ScsiRequest, ScsiResponsePdu};
pub use snack::SnackRequest;
pub use task::{TaskRequest, TaskResponse};
pub use text::{TextRequest, TextResponse};

pub(crate) use header::{is_immediate, opcode};

/// The sequence numbers that every PDU of a target carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    /// Number of this response (or of the next, for PDUs that have none of their own).
    pub stat_sn: u32,
    /// The next command that the target expects.
    pub exp_cmd_sn: u32,
    /// The last command that the target takes.
    pub max_cmd_sn: u32,
}

impl Sequence {
    pub(crate) fn decode(header: &Header) -> Self {
        Self {
            stat_sn: header::u32_at(header, 24),
            exp_cmd_sn: header::u32_at(header, 28),
            max_cmd_sn: header::u32_at(header, 32),
        }
    }
}

/// A header that is not what it claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than a header.
    #[error("{length} bytes are shorter than a header")]
    Short {
        /// Bytes there.
        length: usize,
    },
    /// No request that this target knows.
    #[error("unknown opcode {0:#04x}")]
    UnknownOpcode(u8),
    /// Decoded as something else than it is.
    #[error("opcode {found:#04x} where {expected:#04x} belongs")]
    WrongOpcode {
        /// Opcode there.
        found: u8,
        /// Opcode that belongs there.
        expected: u8,
    },
    /// A field has a value that the RFC does not allow.
    #[error("field {field} has the impossible value {value:#x}")]
    Field {
        /// Name of the field in the RFC.
        field: &'static str,
        /// Its value.
        value: u32,
    },
}

/// A PDU from the initiator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// NOP-Out.
    NopOut(NopOut),
    /// SCSI Command.
    Scsi(ScsiRequest),
    /// Task Management Function Request.
    Task(TaskRequest),
    /// Login Request.
    Login(LoginRequest),
    /// Text Request.
    Text(TextRequest),
    /// SCSI Data-Out.
    DataOut(DataOut),
    /// Logout Request.
    Logout(LogoutRequest),
    /// SNACK Request.
    Snack(SnackRequest),
}

impl Request {
    /// Reads the header at the start of `bytes`.
    ///
    /// # Errors
    /// If there are fewer than 48 bytes, the opcode is no request, or a field is impossible.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let header: &Header = bytes.first_chunk().ok_or(DecodeError::Short {
            length: bytes.len(),
        })?;
        Ok(match opcode(header) {
            NopOut::OPCODE => Self::NopOut(NopOut::decode(header)?),
            ScsiRequest::OPCODE => Self::Scsi(ScsiRequest::decode(header)?),
            TaskRequest::OPCODE => Self::Task(TaskRequest::decode(header)?),
            LoginRequest::OPCODE => Self::Login(LoginRequest::decode(header)?),
            TextRequest::OPCODE => Self::Text(TextRequest::decode(header)?),
            DataOut::OPCODE => Self::DataOut(DataOut::decode(header)?),
            LogoutRequest::OPCODE => Self::Logout(LogoutRequest::decode(header)?),
            SnackRequest::OPCODE => Self::Snack(SnackRequest::decode(header)?),
            other => return Err(DecodeError::UnknownOpcode(other)),
        })
    }
}
