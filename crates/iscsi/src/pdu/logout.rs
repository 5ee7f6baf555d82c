//! Logout Request and Logout Response (RFC 7143 §11.14, §11.15).

use super::header::{FLAG_FINAL, Header, Writer, expect_opcode, is_immediate, u16_at, u32_at};
use super::{DecodeError, Sequence};

/// What an initiator wants to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogoutReason {
    /// Close the session (0).
    CloseSession,
    /// Close one connection (1).
    CloseConnection,
    /// Remove a connection for recovery (2).
    RemoveForRecovery,
    /// Anything else.
    Unknown(u8),
}

impl LogoutReason {
    fn from_bits(bits: u8) -> Self {
        match bits {
            0 => Self::CloseSession,
            1 => Self::CloseConnection,
            2 => Self::RemoveForRecovery,
            other => Self::Unknown(other),
        }
    }

    fn bits(self) -> u8 {
        match self {
            Self::CloseSession => 0,
            Self::CloseConnection => 1,
            Self::RemoveForRecovery => 2,
            Self::Unknown(other) => other & 0x7f,
        }
    }
}

/// A logout request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogoutRequest {
    /// Does not consume a CmdSN.
    pub immediate: bool,
    /// What to leave.
    pub reason: LogoutReason,
    /// Initiator task tag.
    pub itt: u32,
    /// The connection, unless the session is closed.
    pub cid: u16,
    /// Command number.
    pub cmd_sn: u32,
    /// Next StatSN that the initiator expects.
    pub exp_stat_sn: u32,
}

impl LogoutRequest {
    pub(crate) const OPCODE: u8 = 0x06;

    /// Reads the header.
    ///
    /// # Errors
    /// If the opcode is another.
    pub fn decode(header: &Header) -> Result<Self, DecodeError> {
        expect_opcode(header, Self::OPCODE)?;
        Ok(Self {
            immediate: is_immediate(header),
            reason: LogoutReason::from_bits(header[1] & 0x7f),
            itt: u32_at(header, 16),
            cid: u16_at(header, 20),
            cmd_sn: u32_at(header, 24),
            exp_stat_sn: u32_at(header, 28),
        })
    }

    /// Writes the header; the request has no data.
    pub fn encode(&self) -> Header {
        Writer::new(
            Self::OPCODE,
            self.immediate,
            FLAG_FINAL | self.reason.bits(),
        )
        .u32(16, self.itt)
        .u16(20, self.cid)
        .u32(24, self.cmd_sn)
        .u32(28, self.exp_stat_sn)
        .finish()
    }
}

/// How a logout ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogoutResult {
    /// Closed (0).
    Closed,
    /// No such connection (1).
    CidNotFound,
    /// Connection recovery is not supported (2).
    RecoveryNotSupported,
    /// Cleanup failed (3).
    CleanupFailed,
}

impl LogoutResult {
    fn code(self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::CidNotFound => 1,
            Self::RecoveryNotSupported => 2,
            Self::CleanupFailed => 3,
        }
    }
}

/// A logout response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogoutResponse {
    /// How it ended.
    pub result: LogoutResult,
    /// Initiator task tag of the request.
    pub itt: u32,
    /// Sequence numbers.
    pub sequence: Sequence,
    /// Seconds to wait before the next login.
    pub time2wait: u16,
    /// Seconds for which tasks are kept after that.
    pub time2retain: u16,
}

impl LogoutResponse {
    pub(crate) const OPCODE: u8 = 0x26;

    /// Reads the header.
    ///
    /// # Errors
    /// If the opcode is another or the response code does not exist.
    pub fn decode(header: &Header) -> Result<Self, DecodeError> {
        expect_opcode(header, Self::OPCODE)?;
        let result = match header[2] {
            0 => LogoutResult::Closed,
            1 => LogoutResult::CidNotFound,
            2 => LogoutResult::RecoveryNotSupported,
            3 => LogoutResult::CleanupFailed,
            other => {
                return Err(DecodeError::Field {
                    field: "Response",
                    value: u32::from(other),
                });
            }
        };
        Ok(Self {
            result,
            itt: u32_at(header, 16),
            sequence: Sequence::decode(header),
            time2wait: u16_at(header, 40),
            time2retain: u16_at(header, 42),
        })
    }

    /// Writes the header; the response has no data.
    pub fn encode(&self) -> Header {
        Writer::new(Self::OPCODE, false, FLAG_FINAL)
            .u8(2, self.result.code())
            .u32(16, self.itt)
            .sequence(self.sequence)
            .u16(40, self.time2wait)
            .u16(42, self.time2retain)
            .finish()
    }
}
