//! SNACK Request (RFC 7143 §11.16); always refused at error recovery level 0.

use super::DecodeError;
use super::header::{FLAG_FINAL, Header, Writer, expect_opcode, u32_at, u64_at};

/// A request to send something again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnackRequest {
    /// Kind: 0 data or R2T, 1 status, 2 data acknowledgement, 3 R-data.
    pub kind: u8,
    /// Logical unit, for data acknowledgements.
    pub lun: u64,
    /// Initiator task tag.
    pub itt: u32,
    /// Target transfer tag or SNACK tag.
    pub ttt: u32,
    /// Next StatSN that the initiator expects.
    pub exp_stat_sn: u32,
    /// First missing number.
    pub beg_run: u32,
    /// How many are missing; 0 means all from there.
    pub run_length: u32,
}

impl SnackRequest {
    pub(crate) const OPCODE: u8 = 0x10;

    /// Reads the header.
    ///
    /// # Errors
    /// If the opcode is another.
    pub fn decode(header: &Header) -> Result<Self, DecodeError> {
        expect_opcode(header, Self::OPCODE)?;
        Ok(Self {
            kind: header[1] & 0x0f,
            lun: u64_at(header, 8),
            itt: u32_at(header, 16),
            ttt: u32_at(header, 20),
            exp_stat_sn: u32_at(header, 28),
            beg_run: u32_at(header, 40),
            run_length: u32_at(header, 44),
        })
    }

    /// Writes the header; the request has no data.
    pub fn encode(&self) -> Header {
        Writer::new(Self::OPCODE, false, FLAG_FINAL | self.kind & 0x0f)
            .u64(8, self.lun)
            .u32(16, self.itt)
            .u32(20, self.ttt)
            .u32(28, self.exp_stat_sn)
            .u32(40, self.beg_run)
            .u32(44, self.run_length)
            .finish()
    }
}
