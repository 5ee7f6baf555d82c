//! Login Request and Login Response (RFC 7143 §11.12, §11.13).

use super::header::{Header, Writer, expect_opcode, is_immediate, u16_at, u32_at};
use super::{DecodeError, Sequence};

const FLAG_TRANSIT: u8 = 0x80;
const FLAG_CONTINUE: u8 = 0x40;

/// A stage of the login phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Security negotiation (0).
    Security,
    /// Operational parameters (1).
    Operational,
    /// Full feature phase (3).
    FullFeature,
}

impl Stage {
    fn from_bits(field: &'static str, bits: u8) -> Result<Self, DecodeError> {
        match bits & 3 {
            0 => Ok(Self::Security),
            1 => Ok(Self::Operational),
            3 => Ok(Self::FullFeature),
            other => Err(DecodeError::Field {
                field,
                value: u32::from(other),
            }),
        }
    }

    fn bits(self) -> u8 {
        match self {
            Self::Security => 0,
            Self::Operational => 1,
            Self::FullFeature => 3,
        }
    }
}

fn transition(header: &Header) -> Result<Option<Stage>, DecodeError> {
    if header[1] & FLAG_TRANSIT == 0 {
        return Ok(None);
    }
    Stage::from_bits("NSG", header[1]).map(Some)
}

fn flags(csg: Stage, nsg: Option<Stage>, more: bool) -> u8 {
    (csg.bits() << 2)
        | nsg.map_or(0, |stage| FLAG_TRANSIT | stage.bits())
        | if more { FLAG_CONTINUE } else { 0 }
}

/// A login request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginRequest {
    /// Immediate bit; always set by a correct initiator.
    pub immediate: bool,
    /// The text goes on in the next PDU (C bit).
    pub more: bool,
    /// Current stage.
    pub csg: Stage,
    /// Stage to go to, if the T bit is set.
    pub nsg: Option<Stage>,
    /// Highest protocol version that the initiator speaks.
    pub version_max: u8,
    /// Lowest protocol version that the initiator speaks.
    pub version_min: u8,
    /// Initiator's part of the session id.
    pub isid: [u8; 6],
    /// Target's part of the session id; 0 for a new session.
    pub tsih: u16,
    /// Initiator task tag.
    pub itt: u32,
    /// Connection id.
    pub cid: u16,
    /// First command number of the session.
    pub cmd_sn: u32,
    /// Next StatSN that the initiator expects.
    pub exp_stat_sn: u32,
}

impl LoginRequest {
    pub(crate) const OPCODE: u8 = 0x03;

    /// Reads the header.
    ///
    /// # Errors
    /// If the opcode is another or a stage does not exist.
    pub fn decode(header: &Header) -> Result<Self, DecodeError> {
        expect_opcode(header, Self::OPCODE)?;
        let mut isid = [0; 6];
        isid.copy_from_slice(&header[8..14]);
        Ok(Self {
            immediate: is_immediate(header),
            more: header[1] & FLAG_CONTINUE != 0,
            csg: Stage::from_bits("CSG", header[1] >> 2)?,
            nsg: transition(header)?,
            version_max: header[2],
            version_min: header[3],
            isid,
            tsih: u16_at(header, 14),
            itt: u32_at(header, 16),
            cid: u16_at(header, 20),
            cmd_sn: u32_at(header, 24),
            exp_stat_sn: u32_at(header, 28),
        })
    }

    /// Writes the header of a PDU with so many bytes of text.
    pub fn encode(&self, data_length: usize) -> Header {
        let flags = flags(self.csg, self.nsg, self.more);
        Writer::new(Self::OPCODE, self.immediate, flags)
            .u8(2, self.version_max)
            .u8(3, self.version_min)
            .data_length(data_length)
            .bytes(8, &self.isid)
            .u16(14, self.tsih)
            .u32(16, self.itt)
            .u16(20, self.cid)
            .u32(24, self.cmd_sn)
            .u32(28, self.exp_stat_sn)
            .finish()
    }
}

/// A login response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginResponse {
    /// The text goes on in the next PDU (C bit).
    pub more: bool,
    /// Current stage, as in the request.
    pub csg: Stage,
    /// Stage that is gone to.
    pub nsg: Option<Stage>,
    /// As in the request.
    pub isid: [u8; 6],
    /// Set in the last response of a login.
    pub tsih: u16,
    /// As in the request.
    pub itt: u32,
    /// Sequence numbers.
    pub sequence: Sequence,
    /// Status class and detail; 0 is success.
    pub status: u16,
}

impl LoginResponse {
    pub(crate) const OPCODE: u8 = 0x23;

    /// Reads the header.
    ///
    /// # Errors
    /// If the opcode is another or a stage does not exist.
    pub fn decode(header: &Header) -> Result<Self, DecodeError> {
        expect_opcode(header, Self::OPCODE)?;
        let mut isid = [0; 6];
        isid.copy_from_slice(&header[8..14]);
        Ok(Self {
            more: header[1] & FLAG_CONTINUE != 0,
            csg: Stage::from_bits("CSG", header[1] >> 2)?,
            nsg: transition(header)?,
            isid,
            tsih: u16_at(header, 14),
            itt: u32_at(header, 16),
            sequence: Sequence::decode(header),
            status: u16_at(header, 36),
        })
    }

    /// Writes the header of a PDU with so many bytes of text.
    pub fn encode(&self, data_length: usize) -> Header {
        let flags = flags(self.csg, self.nsg, self.more);
        Writer::new(Self::OPCODE, false, flags)
            .data_length(data_length)
            .bytes(8, &self.isid)
            .u16(14, self.tsih)
            .u32(16, self.itt)
            .sequence(self.sequence)
            .u16(36, self.status)
            .finish()
    }
}
