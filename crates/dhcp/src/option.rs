//! DHCP options: code points, the list of a message, and how it is cut to length (RFC 2132, RFC 3396).

use std::net::Ipv4Addr;

use crate::DecodeError;

/// Option codes by their RFC names.
pub mod code {
    /// Padding; has no length (RFC 2132 §3.1).
    pub const PAD: u8 = 0;
    /// Subnet mask (RFC 2132 §3.3).
    pub const SUBNET_MASK: u8 = 1;
    /// Routers (RFC 2132 §3.5).
    pub const ROUTER: u8 = 3;
    /// Name servers (RFC 2132 §3.8).
    pub const DOMAIN_NAME_SERVER: u8 = 6;
    /// Host name (RFC 2132 §3.14).
    pub const HOST_NAME: u8 = 12;
    /// Domain name (RFC 2132 §3.17).
    pub const DOMAIN_NAME: u8 = 15;
    /// Root path: here the iSCSI disk of a UEFI initiator (RFC 4173 §5).
    pub const ROOT_PATH: u8 = 17;
    /// Broadcast address (RFC 2132 §5.3).
    pub const BROADCAST_ADDRESS: u8 = 28;
    /// Vendor-specific information; PXE's sub-options (RFC 2132 §8.4).
    pub const VENDOR_SPECIFIC: u8 = 43;
    /// Requested address (RFC 2132 §9.1).
    pub const REQUESTED_ADDRESS: u8 = 50;
    /// Lease time in seconds (RFC 2132 §9.2).
    pub const LEASE_TIME: u8 = 51;
    /// Which of `file` and `sname` hold options (RFC 2132 §9.3).
    pub const OVERLOAD: u8 = 52;
    /// Message type (RFC 2132 §9.6).
    pub const MESSAGE_TYPE: u8 = 53;
    /// Server identifier (RFC 2132 §9.7).
    pub const SERVER_IDENTIFIER: u8 = 54;
    /// Parameter request list (RFC 2132 §9.8).
    pub const PARAMETER_LIST: u8 = 55;
    /// Text for people in a NAK or DECLINE (RFC 2132 §9.9).
    pub const MESSAGE: u8 = 56;
    /// Largest message that the sender accepts, IP header included (RFC 2132 §9.10).
    pub const MAX_MESSAGE_SIZE: u8 = 57;
    /// T1 in seconds (RFC 2132 §9.11).
    pub const RENEWAL_TIME: u8 = 58;
    /// T2 in seconds (RFC 2132 §9.12).
    pub const REBINDING_TIME: u8 = 59;
    /// Vendor class, e.g. `PXEClient:Arch:00007:UNDI:003016` (RFC 2132 §9.13).
    pub const VENDOR_CLASS: u8 = 60;
    /// Client identifier; echoed (RFC 6842).
    pub const CLIENT_IDENTIFIER: u8 = 61;
    /// TFTP server name (RFC 2132 §9.4).
    pub const TFTP_SERVER_NAME: u8 = 66;
    /// Boot file name (RFC 2132 §9.5).
    pub const BOOT_FILE_NAME: u8 = 67;
    /// User class, e.g. `iPXE` (RFC 3004).
    pub const USER_CLASS: u8 = 77;
    /// Relay agent information; echoed, last (RFC 3046 §2.2).
    pub const RELAY_AGENT: u8 = 82;
    /// Client system architecture (RFC 4578 §2.1).
    pub const ARCHITECTURE: u8 = 93;
    /// Client network interface (RFC 4578 §2.2).
    pub const NETWORK_INTERFACE: u8 = 94;
    /// Client machine identifier, echoed (RFC 4578 §2.3).
    pub const MACHINE_IDENTIFIER: u8 = 97;
    /// iPXE's encapsulated options.
    pub const IPXE: u8 = 175;
    /// End of a field's options; has no length (RFC 2132 §3.2).
    pub const END: u8 = 255;
}

/// Longest value of one option instance (its length is one byte).
const INSTANCE_BYTES_MAX: usize = 255;

/// The options of a message in order; an option that came in several instances is one value here
/// (RFC 3396 §7). Unknown options are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    list: Vec<(u8, Vec<u8>)>,
}

impl Options {
    /// The raw value of an option.
    pub fn value(&self, code: u8) -> Option<&[u8]> {
        self.list
            .iter()
            .find(|(found, _)| *found == code)
            .map(|(_, value)| value.as_slice())
    }

    /// True if the option is there, even with an empty value.
    pub fn contains(&self, code: u8) -> bool {
        self.value(code).is_some()
    }

    /// An option that holds exactly one address. A wrong length counts as absent.
    pub fn address(&self, code: u8) -> Option<Ipv4Addr> {
        let bytes: [u8; 4] = self.value(code)?.try_into().ok()?;
        Some(Ipv4Addr::from(bytes))
    }

    /// The first 16-bit number of an option.
    ///
    /// Seen: PXE ROMs that send option 93 twice or as a list; the first entry counts.
    pub fn first_u16(&self, code: u8) -> Option<u16> {
        let bytes = self.value(code)?.first_chunk::<2>()?;
        Some(u16::from_be_bytes(*bytes))
    }

    /// All options in order.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.list.iter().map(|(code, value)| (*code, &value[..]))
    }

    /// Sets an option, replacing its former value in place. PAD, END and OVERLOAD are the
    /// encoder's own and are ignored.
    pub fn set(&mut self, code: u8, value: impl Into<Vec<u8>>) {
        if matches!(code, code::PAD | code::END | code::OVERLOAD) {
            return;
        }
        match self.list.iter_mut().find(|(found, _)| *found == code) {
            Some((_, old)) => *old = value.into(),
            None => self.list.push((code, value.into())),
        }
    }

    /// Sets an option to one address.
    pub fn set_address(&mut self, code: u8, address: Ipv4Addr) {
        self.set(code, address.octets());
    }

    /// Sets an option to a 32-bit number.
    pub fn set_u32(&mut self, code: u8, number: u32) {
        self.set(code, number.to_be_bytes());
    }

    /// Removes an option; true if it was there.
    pub fn remove(&mut self, code: u8) -> bool {
        let before = self.list.len();
        self.list.retain(|(found, _)| *found != code);
        before != self.list.len()
    }

    /// Reads one field of options and appends it to what earlier fields held (RFC 3396 §5: the
    /// options field first, then `file`, then `sname`). Returns the value of OVERLOAD in it.
    pub(crate) fn read_field(&mut self, mut field: &[u8]) -> Result<Option<u8>, DecodeError> {
        let mut overload = None;
        loop {
            let Some((&code, rest)) = field.split_first() else {
                // Seen: requests without END. The field's end is as good.
                return Ok(overload);
            };
            match code {
                code::PAD => field = rest,
                code::END => return Ok(overload),
                _ => {
                    let (value, after) = split_value(code, rest)?;
                    match (code, value) {
                        (code::OVERLOAD, [flags]) => overload = Some(*flags),
                        (code::OVERLOAD, _) => {
                            let length = value.len();
                            return Err(DecodeError::Length { code, length });
                        }
                        _ => self.append(code, value),
                    }
                    field = after;
                }
            }
        }
    }

    fn append(&mut self, code: u8, value: &[u8]) {
        match self.list.iter_mut().find(|(found, _)| *found == code) {
            Some((_, old)) => old.extend_from_slice(value),
            None => self.list.push((code, value.to_vec())),
        }
    }
}

fn split_value(code: u8, rest: &[u8]) -> Result<(&[u8], &[u8]), DecodeError> {
    let (&length, rest) = rest.split_first().ok_or(DecodeError::Truncated { code })?;
    rest.split_at_checked(usize::from(length))
        .ok_or(DecodeError::Truncated { code })
}

/// Bytes that an option takes on the wire, headers of all its instances included.
pub(crate) fn wire_len(value: &[u8]) -> usize {
    let instances = value.len().div_ceil(INSTANCE_BYTES_MAX).max(1);
    value.len() + 2 * instances
}

/// Writes an option, in several instances if it is long (RFC 3396 §6).
pub(crate) fn write(code: u8, value: &[u8], out: &mut Vec<u8>) {
    if value.is_empty() {
        out.extend_from_slice(&[code, 0]);
    }
    for piece in value.chunks(INSTANCE_BYTES_MAX) {
        let length = u8::try_from(piece.len()).unwrap_or(u8::MAX);
        out.extend_from_slice(&[code, length]);
        out.extend_from_slice(piece);
    }
}
