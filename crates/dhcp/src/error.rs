//! Why bytes are not a DHCP message.

/// Bytes from the network that are not a usable DHCPv4 message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Shorter than the fixed part and the cookie (RFC 2131 §2).
    #[error("{length} bytes are too short for a DHCP message")]
    Short {
        /// Bytes received.
        length: usize,
    },
    /// No magic cookie: plain BOOTP or something else (RFC 2131 §3).
    #[error("the DHCP magic cookie is missing")]
    Cookie,
    /// Neither request nor reply.
    #[error("operation code {0} is neither request nor reply")]
    Operation(u8),
    /// Not Ethernet with a six-byte address.
    #[error("hardware type {htype} with address length {hlen} is not Ethernet")]
    Hardware {
        /// Hardware type as sent.
        htype: u8,
        /// Address length as sent.
        hlen: u8,
    },
    /// The hardware address cannot belong to one network card.
    #[error("the hardware address is a group address or all zero")]
    GroupAddress,
    /// An option's length leads past the end of its field.
    #[error("option {code} is cut off")]
    Truncated {
        /// The option.
        code: u8,
    },
    /// An option that must have a certain length has another.
    #[error("option {code} has length {length}")]
    Length {
        /// The option.
        code: u8,
        /// Its length as sent.
        length: usize,
    },
    /// A message type that RFC 2131 does not define.
    #[error("message type {0} is unknown")]
    MessageType(u8),
}

/// A reply does not fit into what the client accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message needs more than {limit} bytes")]
pub struct TooLong {
    /// Most bytes allowed.
    pub limit: usize,
}
