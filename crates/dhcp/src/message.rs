//! The DHCPv4 message (RFC 2131 §2): decoded once at the edge, valid by type inside.

use std::net::Ipv4Addr;

use dess_model::MacAddr;

use crate::option::{self, Options, code};
use crate::{DecodeError, TooLong};

/// Bytes before the options field, magic cookie included.
const HEADER_BYTES: usize = 240;
/// Shortest message sent: BOOTP's size, which old relay agents insist on (RFC 1542 §2.1).
const MESSAGE_BYTES_MIN: usize = 300;
/// Largest message that every client accepts: 576 bytes less the IP and UDP headers (RFC 2131 §2).
pub const MESSAGE_BYTES_DEFAULT: usize = 548;
/// Largest message ever sent, whatever option 57 allows: one Ethernet frame.
pub const MESSAGE_BYTES_MAX: usize = 1472;
/// Bytes of `file`.
const FILE_BYTES: usize = 128;
/// Bytes of `sname`.
const SNAME_BYTES: usize = 64;
/// RFC 2131 §3.
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// The broadcast bit of `flags`.
const FLAG_BROADCAST: u16 = 0x8000;

/// Direction of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// From a client: BOOTREQUEST.
    Request,
    /// From a server: BOOTREPLY.
    Reply,
}

/// Option 53 (RFC 2132 §9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageType {
    /// Client looks for servers.
    Discover,
    /// Server offers.
    Offer,
    /// Client takes, verifies or extends.
    Request,
    /// Client found the address in use.
    Decline,
    /// Server confirms.
    Ack,
    /// Server refuses.
    Nak,
    /// Client gives the address back.
    Release,
    /// Client has an address and wants the rest.
    Inform,
}

impl MessageType {
    fn from_wire(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Discover,
            2 => Self::Offer,
            3 => Self::Request,
            4 => Self::Decline,
            5 => Self::Ack,
            6 => Self::Nak,
            7 => Self::Release,
            8 => Self::Inform,
            _ => return None,
        })
    }

    fn to_wire(self) -> u8 {
        match self {
            Self::Discover => 1,
            Self::Offer => 2,
            Self::Request => 3,
            Self::Decline => 4,
            Self::Ack => 5,
            Self::Nak => 6,
            Self::Release => 7,
            Self::Inform => 8,
        }
    }
}

/// One DHCP message over Ethernet. Field names are the RFC's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Direction.
    pub op: Operation,
    /// Option 53; none in plain BOOTP.
    pub message_type: Option<MessageType>,
    /// Relay agents passed.
    pub hops: u8,
    /// Transaction.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// True if the client cannot take unicast before it has an address.
    pub broadcast: bool,
    /// The client's address, if it uses one.
    pub ciaddr: Ipv4Addr,
    /// Your address: what the server gives.
    pub yiaddr: Ipv4Addr,
    /// Next server of the boot.
    pub siaddr: Ipv4Addr,
    /// Relay agent.
    pub giaddr: Ipv4Addr,
    /// The client's network card.
    pub chaddr: MacAddr,
    /// Server name, up to 63 bytes; empty if the field holds options.
    pub sname: Vec<u8>,
    /// Boot file, up to 127 bytes; empty if the field holds options.
    pub file: Vec<u8>,
    /// Everything else.
    pub options: Options,
}

impl Message {
    /// Reads a datagram.
    ///
    /// # Errors
    /// If it is not a DHCP message over Ethernet, or an option is cut off.
    pub fn decode(datagram: &[u8]) -> Result<Self, DecodeError> {
        let length = datagram.len();
        let (header, field) = datagram
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or(DecodeError::Short { length })?;
        let op = match header[0] {
            1 => Operation::Request,
            2 => Operation::Reply,
            other => return Err(DecodeError::Operation(other)),
        };
        let (htype, hlen) = (header[1], header[2]);
        if (htype, hlen) != (1, 6) {
            return Err(DecodeError::Hardware { htype, hlen });
        }
        if header[236..] != COOKIE {
            return Err(DecodeError::Cookie);
        }
        let chaddr = MacAddr(array(header, 28));
        if !chaddr.is_unicast() {
            return Err(DecodeError::GroupAddress);
        }
        let mut message = Self {
            op,
            message_type: None,
            hops: header[3],
            xid: u32::from_be_bytes(array(header, 4)),
            secs: u16::from_be_bytes(array(header, 8)),
            broadcast: u16::from_be_bytes(array(header, 10)) & FLAG_BROADCAST != 0,
            ciaddr: address(header, 12),
            yiaddr: address(header, 16),
            siaddr: address(header, 20),
            giaddr: address(header, 24),
            chaddr,
            sname: Vec::new(),
            file: Vec::new(),
            options: Options::default(),
        };
        message.read_options(header, field)?;
        Ok(message)
    }

    /// Appends the message to `out`, at most `limit` bytes of it. Options that do not fit into
    /// their own field go to `file` and `sname` if those are free (option 52); option 82 is the
    /// last of all.
    ///
    /// # Errors
    /// If it does not fit; `out` is then unchanged.
    pub fn encode(&self, limit: usize, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let layout = self.layout(limit).ok_or(TooLong { limit })?;
        let start = out.len();
        self.write_header(out);
        let overload = layout.overload();
        if overload != 0 {
            option::write(code::OVERLOAD, &[overload], out);
        }
        if let Some(kind) = self.message_type {
            option::write(code::MESSAGE_TYPE, &[kind.to_wire()], out);
        }
        write_pieces(&layout.main, out);
        out.push(code::END);
        let sname = start + 44;
        if overload & 2 != 0 {
            overwrite(&layout.sname, &mut out[sname..sname + SNAME_BYTES]);
        }
        if overload & 1 != 0 {
            let file = sname + SNAME_BYTES;
            overwrite(&layout.file, &mut out[file..file + FILE_BYTES]);
        }
        if out.len() - start < MESSAGE_BYTES_MIN {
            out.resize(start + MESSAGE_BYTES_MIN, code::PAD);
        }
        Ok(())
    }

    /// Most bytes that the sender of this message accepts in a reply (option 57, RFC 2132 §9.10).
    pub fn reply_limit(&self) -> usize {
        let headers = 28;
        self.options
            .first_u16(code::MAX_MESSAGE_SIZE)
            .map_or(MESSAGE_BYTES_DEFAULT, |size| {
                usize::from(size)
                    .saturating_sub(headers)
                    .clamp(MESSAGE_BYTES_DEFAULT, MESSAGE_BYTES_MAX)
            })
    }

    fn read_options(
        &mut self,
        header: &[u8; HEADER_BYTES],
        field: &[u8],
    ) -> Result<(), DecodeError> {
        let overload = self.options.read_field(field)?.unwrap_or(0);
        let file = &header[108..108 + FILE_BYTES];
        let sname = &header[44..44 + SNAME_BYTES];
        if overload & 1 != 0 {
            self.options.read_field(file)?;
        } else {
            self.file = text(file);
        }
        if overload & 2 != 0 {
            self.options.read_field(sname)?;
        } else {
            self.sname = text(sname);
        }
        let Some(value) = self.options.value(code::MESSAGE_TYPE) else {
            return Ok(());
        };
        let &[number] = value else {
            return Err(DecodeError::Length {
                code: code::MESSAGE_TYPE,
                length: value.len(),
            });
        };
        self.message_type =
            Some(MessageType::from_wire(number).ok_or(DecodeError::MessageType(number))?);
        self.options.remove(code::MESSAGE_TYPE);
        Ok(())
    }

    fn write_header(&self, out: &mut Vec<u8>) {
        let op = match self.op {
            Operation::Request => 1,
            Operation::Reply => 2,
        };
        let flags = if self.broadcast { FLAG_BROADCAST } else { 0 };
        out.extend_from_slice(&[op, 1, 6, self.hops]);
        out.extend_from_slice(&self.xid.to_be_bytes());
        out.extend_from_slice(&self.secs.to_be_bytes());
        out.extend_from_slice(&flags.to_be_bytes());
        for address in [self.ciaddr, self.yiaddr, self.siaddr, self.giaddr] {
            out.extend_from_slice(&address.octets());
        }
        out.extend_from_slice(&self.chaddr.0);
        out.extend_from_slice(&[0; 10]);
        write_text(&self.sname, SNAME_BYTES, out);
        write_text(&self.file, FILE_BYTES, out);
        out.extend_from_slice(&COOKIE);
    }

    /// Decides in which field each option goes. None if they do not all fit.
    fn layout(&self, limit: usize) -> Option<Layout<'_>> {
        let kind = if self.message_type.is_some() { 3 } else { 0 };
        let end = 1;
        let overload = 3;
        let room = limit.checked_sub(HEADER_BYTES + kind + end)?;
        let (relay, ordinary): (Vec<_>, Vec<_>) = self
            .options
            .iter()
            .partition(|(code, _)| *code == code::RELAY_AGENT);
        let total: usize = self.options.iter().map(|(_, v)| option::wire_len(v)).sum();
        let mut layout = Layout::default();
        if total <= room {
            layout.main = ordinary;
            layout.main.extend(relay);
            return Some(layout);
        }
        let mut main = room.checked_sub(overload)?;
        let mut file = if self.file.is_empty() {
            FILE_BYTES - 1
        } else {
            0
        };
        let mut sname = if self.sname.is_empty() {
            SNAME_BYTES - 1
        } else {
            0
        };
        // Relay agents look for option 82 at the end of the options field.
        main = main.checked_sub(relay.iter().map(|(_, v)| option::wire_len(v)).sum())?;
        for (code, value) in ordinary {
            let length = option::wire_len(value);
            let (left, list) = if length <= main {
                (&mut main, &mut layout.main)
            } else if length <= file {
                (&mut file, &mut layout.file)
            } else if length <= sname {
                (&mut sname, &mut layout.sname)
            } else {
                return None;
            };
            *left -= length;
            list.push((code, value));
        }
        layout.main.extend(relay);
        Some(layout)
    }
}

/// Which option goes where.
#[derive(Default)]
struct Layout<'a> {
    main: Vec<(u8, &'a [u8])>,
    file: Vec<(u8, &'a [u8])>,
    sname: Vec<(u8, &'a [u8])>,
}

impl Layout<'_> {
    fn overload(&self) -> u8 {
        u8::from(!self.file.is_empty()) | u8::from(!self.sname.is_empty()) << 1
    }
}

fn write_pieces(pieces: &[(u8, &[u8])], out: &mut Vec<u8>) {
    for (code, value) in pieces {
        option::write(*code, value, out);
    }
}

fn overwrite(pieces: &[(u8, &[u8])], field: &mut [u8]) {
    let mut bytes = Vec::with_capacity(field.len());
    write_pieces(pieces, &mut bytes);
    bytes.push(code::END);
    bytes.resize(field.len(), code::PAD);
    field.copy_from_slice(&bytes);
}

/// Text up to the first zero byte. The last byte of the field is one by rule (RFC 2131 §2), so a
/// peer that uses it for text loses it.
fn text(field: &[u8]) -> Vec<u8> {
    field
        .iter()
        .copied()
        .take(field.len() - 1)
        .take_while(|&byte| byte != 0)
        .collect()
}

/// Text cut to leave room for the zero that ends it.
fn write_text(text: &[u8], width: usize, out: &mut Vec<u8>) {
    let kept = &text[..text.len().min(width - 1)];
    out.extend_from_slice(kept);
    out.resize(out.len() + width - kept.len(), 0);
}

fn array<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[at..at + N]);
    bytes
}

fn address(header: &[u8; HEADER_BYTES], at: usize) -> Ipv4Addr {
    Ipv4Addr::from(array::<4>(header, at))
}

#[cfg(test)]
mod tests;
