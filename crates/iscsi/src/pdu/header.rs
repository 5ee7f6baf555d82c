//! The basic header segment that every PDU starts with (RFC 7143 §11.2.1).

use super::DecodeError;

/// Length of the basic header segment.
pub const HEADER_BYTES: usize = 48;

/// The bytes of a basic header segment.
pub type Header = [u8; HEADER_BYTES];

/// The reserved value of initiator and target task tags: "no task".
pub const NO_TAG: u32 = 0xffff_ffff;

/// Bit 7 of byte 1: last PDU of a sequence.
pub(crate) const FLAG_FINAL: u8 = 0x80;

const FLAG_IMMEDIATE: u8 = 0x40;
const OPCODE_MASK: u8 = 0x3f;

/// Lengths of what follows a header, without digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    /// Additional header segments in bytes; at most 1020.
    pub ahs_bytes: usize,
    /// Data segment in bytes without padding; at most 16 MiB - 1.
    pub data_bytes: usize,
}

impl Segments {
    /// Reads the lengths.
    pub fn of(header: &Header) -> Self {
        let data = u32::from_be_bytes([0, header[5], header[6], header[7]]);
        Self {
            ahs_bytes: usize::from(header[4]) * 4,
            data_bytes: data as usize,
        }
    }
}

/// Bytes needed to pad a segment to a multiple of four.
pub fn padding(length: usize) -> usize {
    length.wrapping_neg() & 3
}

pub(crate) fn opcode(header: &Header) -> u8 {
    header[0] & OPCODE_MASK
}

pub(crate) fn is_immediate(header: &Header) -> bool {
    header[0] & FLAG_IMMEDIATE != 0
}

pub(crate) fn u16_at(header: &Header, offset: usize) -> u16 {
    u16::from_be_bytes([header[offset], header[offset + 1]])
}

pub(crate) fn u32_at(header: &Header, offset: usize) -> u32 {
    u32::from_be_bytes([
        header[offset],
        header[offset + 1],
        header[offset + 2],
        header[offset + 3],
    ])
}

pub(crate) fn u64_at(header: &Header, offset: usize) -> u64 {
    (u64::from(u32_at(header, offset)) << 32) | u64::from(u32_at(header, offset + 4))
}

/// Fills a header field by field.
pub(crate) struct Writer(Header);

impl Writer {
    pub(crate) fn new(opcode: u8, immediate: bool, flags: u8) -> Self {
        let mut header = [0; HEADER_BYTES];
        header[0] = opcode | if immediate { FLAG_IMMEDIATE } else { 0 };
        header[1] = flags;
        Self(header)
    }

    pub(crate) fn data_length(mut self, length: usize) -> Self {
        debug_assert!(length < 1 << 24, "a data segment fits 24 bits");
        let bytes = (length as u32).to_be_bytes();
        self.0[5..8].copy_from_slice(&bytes[1..]);
        self
    }

    pub(crate) fn bytes(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(crate) fn u8(self, offset: usize, value: u8) -> Self {
        self.bytes(offset, &[value])
    }

    pub(crate) fn u16(self, offset: usize, value: u16) -> Self {
        self.bytes(offset, &value.to_be_bytes())
    }

    pub(crate) fn u32(self, offset: usize, value: u32) -> Self {
        self.bytes(offset, &value.to_be_bytes())
    }

    pub(crate) fn u64(self, offset: usize, value: u64) -> Self {
        self.bytes(offset, &value.to_be_bytes())
    }

    /// StatSN, ExpCmdSN and MaxCmdSN, where every target PDU has them.
    pub(crate) fn sequence(self, sequence: super::Sequence) -> Self {
        self.u32(24, sequence.stat_sn)
            .u32(28, sequence.exp_cmd_sn)
            .u32(32, sequence.max_cmd_sn)
    }

    pub(crate) fn finish(self) -> Header {
        self.0
    }
}

pub(crate) fn expect_opcode(header: &Header, expected: u8) -> Result<(), DecodeError> {
    if opcode(header) == expected {
        Ok(())
    } else {
        Err(DecodeError::WrongOpcode {
            found: opcode(header),
            expected,
        })
    }
}
