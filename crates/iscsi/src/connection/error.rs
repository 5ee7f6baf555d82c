//! Errors that end a connection.

use crate::pdu::{DecodeError, RejectReason};

/// How a peer broke the protocol so that the connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// Something else than a Login Request before full feature phase.
    #[error("opcode {opcode:#04x} before the login is done")]
    NotLoggedIn {
        /// The opcode.
        opcode: u8,
    },
    /// A Login Request in full feature phase.
    #[error("a login request after the login")]
    LoginAgain,
    /// A data segment longer than we declared.
    #[error("a data segment of {length} bytes where {limit} are allowed")]
    DataTooLong {
        /// Its length.
        length: usize,
        /// What we declared.
        limit: usize,
    },
    /// A header does not match its digest; at error recovery level 0 the connection is lost.
    #[error("a header does not match its digest")]
    HeaderDigest,
    /// Data of a command does not match its digest.
    #[error("data of opcode {opcode:#04x} does not match its digest")]
    DataDigest {
        /// The opcode.
        opcode: u8,
    },
    /// More commands ahead of a missing one than are kept.
    #[error("too much data ahead of a missing command")]
    TooFarAhead,
    /// Text that goes on for ever, or cannot be read.
    #[error("text exchange too long or malformed")]
    Text,
    /// A PDU that would get a Reject from an initiator that cannot stand one.
    #[error("opcode {opcode:#04x} refused: {reason:?}")]
    Refused {
        /// The opcode.
        opcode: u8,
        /// Why.
        reason: RejectReason,
    },
    /// A login header that cannot be read.
    #[error("malformed login header")]
    Malformed(#[source] DecodeError),
}
