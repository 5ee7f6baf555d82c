//! Task Management Function Request and Response (RFC 7143 §11.5, §11.6).

use super::header::{FLAG_FINAL, Header, Writer, expect_opcode, is_immediate, u32_at, u64_at};
use super::{DecodeError, Sequence};

/// A task management request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRequest {
    /// Does not consume a CmdSN.
    pub immediate: bool,
    /// Function code, 1 to 8 in the RFC.
    pub function: u8,
    /// Logical unit.
    pub lun: u64,
    /// Initiator task tag of the request itself.
    pub itt: u32,
    /// Initiator task tag of the task to abort or reassign.
    pub referenced_task_tag: u32,
    /// Command number.
    pub cmd_sn: u32,
    /// Next StatSN that the initiator expects.
    pub exp_stat_sn: u32,
    /// Command number of the task to abort.
    pub ref_cmd_sn: u32,
    /// Next Data-In number, for reassignment.
    pub exp_data_sn: u32,
}

impl TaskRequest {
    pub(crate) const OPCODE: u8 = 0x02;

    /// Reads the header.
    ///
    /// # Errors
    /// If the opcode is another.
    pub fn decode(header: &Header) -> Result<Self, DecodeError> {
        expect_opcode(header, Self::OPCODE)?;
        Ok(Self {
            immediate: is_immediate(header),
            function: header[1] & 0x7f,
            lun: u64_at(header, 8),
            itt: u32_at(header, 16),
            referenced_task_tag: u32_at(header, 20),
            cmd_sn: u32_at(header, 24),
            exp_stat_sn: u32_at(header, 28),
            ref_cmd_sn: u32_at(header, 32),
            exp_data_sn: u32_at(header, 36),
        })
    }

    /// Writes the header; the request has no data.
    pub fn encode(&self) -> Header {
        Writer::new(
            Self::OPCODE,
            self.immediate,
            FLAG_FINAL | self.function & 0x7f,
        )
        .u64(8, self.lun)
        .u32(16, self.itt)
        .u32(20, self.referenced_task_tag)
        .u32(24, self.cmd_sn)
        .u32(28, self.exp_stat_sn)
        .u32(32, self.ref_cmd_sn)
        .u32(36, self.exp_data_sn)
        .finish()
    }
}

/// The answer to a task management request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskResponse {
    /// Response code: 0 complete, 1 no such task, 2 no such LUN, 4 reassignment not supported,
    /// 5 not supported, 6 not authorised, 255 rejected.
    pub response: u8,
    /// Initiator task tag of the request.
    pub itt: u32,
    /// Sequence numbers.
    pub sequence: Sequence,
}

impl TaskResponse {
    pub(crate) const OPCODE: u8 = 0x22;

    /// Reads the header.
    ///
    /// # Errors
    /// If the opcode is another.
    pub fn decode(header: &Header) -> Result<Self, DecodeError> {
        expect_opcode(header, Self::OPCODE)?;
        Ok(Self {
            response: header[2],
            itt: u32_at(header, 16),
            sequence: Sequence::decode(header),
        })
    }

    /// Writes the header; the response has no data.
    pub fn encode(&self) -> Header {
        Writer::new(Self::OPCODE, false, FLAG_FINAL)
            .u8(2, self.response)
            .u32(16, self.itt)
            .sequence(self.sequence)
            .finish()
    }
}
