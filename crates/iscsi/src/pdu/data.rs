//! SCSI Data-Out, SCSI Data-In and Ready To Transfer (RFC 7143 §11.7, §11.8).

use super::header::{FLAG_FINAL, Header, Writer, expect_opcode, u32_at, u64_at};
use super::{DecodeError, Residual, Sequence};

const FLAG_STATUS: u8 = 0x01;

/// A piece of write data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataOut {
    /// Last PDU of its sequence.
    pub last: bool,
    /// That of the R2T, else 0.
    pub lun: u64,
    /// Initiator task tag of the command.
    pub itt: u32,
    /// That of the R2T, or [`NO_TAG`](super::NO_TAG) if unsolicited.
    pub ttt: u32,
    /// Next StatSN that the initiator expects.
    pub exp_stat_sn: u32,
    /// Number within the sequence, from 0.
    pub data_sn: u32,
    /// Place of the data within that of the command.
    pub buffer_offset: u32,
}

impl DataOut {
    pub(crate) const OPCODE: u8 = 0x05;

    /// Reads the header.
    ///
    /// # Errors
    /// If the opcode is another.
    pub fn decode(header: &Header) -> Result<Self, DecodeError> {
        expect_opcode(header, Self::OPCODE)?;
        Ok(Self {
            last: header[1] & FLAG_FINAL != 0,
            lun: u64_at(header, 8),
            itt: u32_at(header, 16),
            ttt: u32_at(header, 20),
            exp_stat_sn: u32_at(header, 28),
            data_sn: u32_at(header, 36),
            buffer_offset: u32_at(header, 40),
        })
    }

    /// Writes the header of a PDU with so many bytes of data.
    pub fn encode(&self, data_length: usize) -> Header {
        let flags = if self.last { FLAG_FINAL } else { 0 };
        Writer::new(Self::OPCODE, false, flags)
            .data_length(data_length)
            .u64(8, self.lun)
            .u32(16, self.itt)
            .u32(20, self.ttt)
            .u32(28, self.exp_stat_sn)
            .u32(36, self.data_sn)
            .u32(40, self.buffer_offset)
            .finish()
    }
}

/// Status that rides on the last Data-In PDU of a command ("phase collapse").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataInStatus {
    /// SCSI status.
    pub status: u8,
    /// Residual.
    pub residual: Residual,
}

/// A piece of read data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataIn {
    /// Last PDU of its sequence.
    pub last: bool,
    /// Status of the command, on its last PDU only.
    pub status: Option<DataInStatus>,
    /// Initiator task tag of the command.
    pub itt: u32,
    /// Sequence numbers.
    pub sequence: Sequence,
    /// Number within the command, from 0.
    pub data_sn: u32,
    /// Place of the data within that of the command.
    pub buffer_offset: u32,
}

impl DataIn {
    pub(crate) const OPCODE: u8 = 0x25;

    /// Reads the header.
    ///
    /// # Errors
    /// If the opcode is another, or both residual flags are set.
    pub fn decode(header: &Header) -> Result<Self, DecodeError> {
        expect_opcode(header, Self::OPCODE)?;
        let status = if header[1] & FLAG_STATUS != 0 {
            Some(DataInStatus {
                status: header[3],
                residual: Residual::decode(header[1], u32_at(header, 44))?,
            })
        } else {
            None
        };
        Ok(Self {
            last: header[1] & FLAG_FINAL != 0,
            status,
            itt: u32_at(header, 16),
            sequence: Sequence::decode(header),
            data_sn: u32_at(header, 36),
            buffer_offset: u32_at(header, 40),
        })
    }

    /// Writes the header of a PDU with so many bytes of data.
    pub fn encode(&self, data_length: usize) -> Header {
        let mut flags = if self.last { FLAG_FINAL } else { 0 };
        let mut status = 0;
        let mut residual = 0;
        if let Some(carried) = self.status {
            flags |= FLAG_STATUS | carried.residual.flags();
            status = carried.status;
            residual = carried.residual.count();
        }
        Writer::new(Self::OPCODE, false, flags)
            .u8(3, status)
            .data_length(data_length)
            .u32(16, self.itt)
            .u32(20, super::NO_TAG)
            .sequence(self.sequence)
            .u32(36, self.data_sn)
            .u32(40, self.buffer_offset)
            .u32(44, residual)
            .finish()
    }
}

/// R2T: asks for a burst of write data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyToTransfer {
    /// Logical unit of the command.
    pub lun: u64,
    /// Initiator task tag of the command.
    pub itt: u32,
    /// Copied into the Data-Out PDUs.
    pub ttt: u32,
    /// Sequence numbers; `stat_sn` is that of the next response.
    pub sequence: Sequence,
    /// Number within the command, from 0.
    pub r2t_sn: u32,
    /// Place of the burst within the data of the command.
    pub buffer_offset: u32,
    /// Bytes wanted; at least 1.
    pub desired_data_transfer_length: u32,
}

impl ReadyToTransfer {
    pub(crate) const OPCODE: u8 = 0x31;

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
            r2t_sn: u32_at(header, 36),
            buffer_offset: u32_at(header, 40),
            desired_data_transfer_length: u32_at(header, 44),
        })
    }

    /// Writes the header; an R2T has no data.
    pub fn encode(&self) -> Header {
        Writer::new(Self::OPCODE, false, FLAG_FINAL)
            .u64(8, self.lun)
            .u32(16, self.itt)
            .u32(20, self.ttt)
            .sequence(self.sequence)
            .u32(36, self.r2t_sn)
            .u32(40, self.buffer_offset)
            .u32(44, self.desired_data_transfer_length)
            .finish()
    }
}
