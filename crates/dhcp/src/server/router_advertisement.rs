//! A router advertisement that ends iPXE's 13 s search for IPv6 routers (RFC 4861 §4.2).
//!
//! It says "no router here": lifetime 0, no prefix, sent only to the client that asked and only
//! while that client boots. Nobody's IPv6 is changed by it.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};

use dess_model::MacAddr;
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::UdpSocket;

/// ff02::2 (RFC 4291 §2.7.1).
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
/// Neighbour discovery is valid only with this hop limit (RFC 4861 §6.1).
const HOP_LIMIT: u32 = 255;

/// Checksum (bytes 2 and 3) is the kernel's; all times and the lifetime are 0: "not a router".
pub(crate) const ADVERTISEMENT: [u8; 16] = {
    let mut bytes = [0; 16];
    bytes[0] = ROUTER_ADVERTISEMENT;
    bytes
};

/// A raw ICMPv6 socket on the interface that hears router solicitations.
///
/// # Errors
/// If the interface has no IPv6 or the right is missing.
pub(crate) fn bind(interface: &str) -> io::Result<UdpSocket> {
    let index = if_nametoindex(interface)?;
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.join_multicast_v6(&ALL_ROUTERS, index)?;
    socket.set_unicast_hops_v6(HOP_LIMIT)?;
    socket.set_multicast_hops_v6(HOP_LIMIT)?;
    socket.bind(&SockAddr::from(SocketAddrV6::new(
        Ipv6Addr::UNSPECIFIED,
        0,
        0,
        0,
    )))?;
    socket.set_nonblocking(true)?;
    // Only the file descriptor matters: recv_from and send_to work on raw sockets alike.
    UdpSocket::from_std(socket.into())
}

/// The network card that solicits, if the message is a router solicitation from the link.
pub(crate) fn solicitor(source: SocketAddr, message: &[u8]) -> Option<MacAddr> {
    let SocketAddr::V6(source) = source else {
        return None;
    };
    let source = *source.ip();
    if !source.is_unicast_link_local() {
        return None;
    }
    let (header, mut options) = message.split_first_chunk::<8>()?;
    if header[..2] != [ROUTER_SOLICITATION, 0] {
        return None;
    }
    while let [kind, eights, ..] = *options {
        let (option, rest) = options.split_at_checked(usize::from(eights) * 8)?;
        if let (SOURCE_LINK_LAYER_ADDRESS, [_, _, mac @ ..]) = (kind, option) {
            return mac.first_chunk().copied().map(MacAddr);
        }
        if rest.len() == options.len() {
            return None;
        }
        options = rest;
    }
    from_interface_identifier(source)
}

/// Undoes the modified EUI-64 form (RFC 4291 appendix A).
fn from_interface_identifier(address: Ipv6Addr) -> Option<MacAddr> {
    match address.octets()[8..] {
        [a, b, c, 0xff, 0xfe, d, e, f] => Some(MacAddr([a ^ 2, b, c, d, e, f])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x77, 0, 0x10]);

    fn link_local() -> SocketAddr {
        "[fe80::5054:ff:fe77:10]:0".parse().unwrap()
    }

    #[test]
    fn the_solicitor_is_known_by_its_option_or_by_its_address() {
        let mut message = vec![133, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(solicitor(link_local(), &message), Some(MAC));
        message.extend([14, 1, 0, 0, 0, 0, 0, 0]);
        message.extend([1, 1, 2, 0, 0, 0, 0, 9]);
        assert_eq!(
            solicitor(link_local(), &message),
            Some(MacAddr([2, 0, 0, 0, 0, 9]))
        );
    }

    #[test]
    fn other_messages_other_senders_and_broken_options_are_ignored() {
        let good = [133, 0, 0, 0, 0, 0, 0, 0];
        let global = "[fd77::1]:0".parse().unwrap();
        assert_eq!(solicitor(global, &good), None);
        assert_eq!(solicitor("10.0.0.1:0".parse().unwrap(), &good), None);
        assert_eq!(solicitor(link_local(), &good[..7]), None);
        assert_eq!(solicitor(link_local(), &[134, 0, 0, 0, 0, 0, 0, 0]), None);
        let endless = [133, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
        assert_eq!(solicitor(link_local(), &endless), None);
        let cut = [133, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0];
        assert_eq!(solicitor(link_local(), &cut), None);
    }
}
