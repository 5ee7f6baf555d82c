//! Read-only TFTP server: packets and transfers as values; the sockets behind the feature server.
//!
//! RFC 1350 with the option extensions of RFC 2347, 2348 (block size), 2349 (time-out, transfer
//! size) and 7440 (window size). [`Packet`] is the wire, [`Negotiated`] what the two sides agree
//! on, [`Transfer`] one file on its way to one client.

mod negotiation;
mod netascii;
mod packet;
mod transfer;

#[cfg(feature = "server")]
pub mod server;

pub use negotiation::{BLKSIZE_DEFAULT, BLKSIZE_MAX, BLKSIZE_MIN, Limits, Negotiated, negotiate};
pub use netascii::to_netascii;
pub use packet::{DecodeError, ErrorCode, Mode, Options, Packet, Request};
pub use transfer::{Event, Failure, Transfer, Transmit};
