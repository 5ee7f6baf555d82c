//! What the kernel knows of TCP connections, asked over netlink (sock_diag(7)): nothing of it
//! touches the connections themselves.

use std::collections::HashMap;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use dess_model::TcpCounters;
use socket2::{Domain, Protocol, Socket, Type};

/// `AF_NETLINK` and `NETLINK_SOCK_DIAG` (linux/netlink.h).
const AF_NETLINK: i32 = 16;
const NETLINK_SOCK_DIAG: i32 = 4;
/// Message types (linux/netlink.h, linux/sock_diag.h).
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const REQUEST_DUMP: u16 = 0x301;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
/// `1 << TCP_ESTABLISHED`.
const ESTABLISHED: u32 = 1 << 1;
/// `INET_DIAG_INFO`: the attribute with `struct tcp_info` (linux/inet_diag.h).
const INET_DIAG_INFO: u16 = 2;

const HEADER_BYTES: usize = 16;
/// `struct inet_diag_msg`.
const MESSAGE_BYTES: usize = 72;
/// Where `struct tcp_info` has its fields (linux/tcp.h).
const TCPI_LAST_ACK_RECV: usize = 56;
const TCPI_RTT: usize = 68;
const TCPI_TOTAL_RETRANS: usize = 100;

/// The kernel answers at once; this only bounds a surprise.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// More than the kernel puts into one datagram.
const DATAGRAM_BYTES: usize = 64 * 1024;

/// What the kernel knows of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TcpState {
    /// For people.
    pub(crate) counters: TcpCounters,
    /// Milliseconds since its last acknowledgement; its kernel sends one, whatever its programs do.
    pub(crate) acknowledged_ms_ago: u32,
}

/// All established connections at a local port, by the peer's address (an IPv4 address in its own
/// form).
pub(crate) fn connections(local_port: u16) -> io::Result<HashMap<SocketAddr, TcpState>> {
    let mut found = HashMap::new();
    for family in [AF_INET, AF_INET6] {
        let mut socket = Socket::new(
            Domain::from(AF_NETLINK),
            Type::DGRAM.cloexec(),
            Some(Protocol::from(NETLINK_SOCK_DIAG)),
        )?;
        socket.set_read_timeout(Some(ANSWER_WITHIN))?;
        socket.send(&request(family, local_port))?;
        let mut datagram = vec![0; DATAGRAM_BYTES];
        loop {
            let length = socket.read(&mut datagram)?;
            if take_answers(&datagram[..length], &mut found)? {
                break;
            }
        }
    }
    Ok(found)
}

/// Asks for the connections at a port: `struct nlmsghdr`, `struct inet_diag_req_v2`.
fn request(family: u8, local_port: u16) -> Vec<u8> {
    let mut body = vec![family, IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 0];
    body.extend_from_slice(&ESTABLISHED.to_ne_bytes());
    body.extend_from_slice(&local_port.to_be_bytes());
    // Any peer, any address, any interface, no cookie.
    body.resize(56, 0);
    let length = (HEADER_BYTES + body.len()) as u32;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend_from_slice(&REQUEST_DUMP.to_ne_bytes());
    message.resize(HEADER_BYTES, 0);
    message.extend_from_slice(&body);
    message
}

/// Takes the messages of a datagram; true after the last one of the dump.
fn take_answers(
    mut datagram: &[u8],
    found: &mut HashMap<SocketAddr, TcpState>,
) -> io::Result<bool> {
    while let (Some(length), Some(kind)) = (u32_at(datagram, 0), u16_at(datagram, 4)) {
        let length = length as usize;
        let Some(body) = datagram.get(HEADER_BYTES..length) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let code = u32_at(body, 0).map_or(0, |code| code.cast_signed().wrapping_neg());
                return Err(io::Error::from_raw_os_error(code));
            }
            SOCK_DIAG_BY_FAMILY => found.extend(connection(body)),
            _ => {}
        }
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    Ok(false)
}

/// `struct inet_diag_msg` with its attributes.
fn connection(message: &[u8]) -> Option<(SocketAddr, TcpState)> {
    let peer_port = u16::from_be_bytes(message.get(6..8)?.try_into().ok()?);
    let address = message.get(24..40)?;
    let address = match *message.first()? {
        AF_INET => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(&address[..4]).ok()?)),
        _ => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?)),
    };
    let info = attribute(message.get(MESSAGE_BYTES..)?, INET_DIAG_INFO)?;
    let state = TcpState {
        counters: TcpCounters {
            rtt_us: u32_at(info, TCPI_RTT)?,
            retransmits: u32_at(info, TCPI_TOTAL_RETRANS)?,
        },
        acknowledged_ms_ago: u32_at(info, TCPI_LAST_ACK_RECV)?,
    };
    Some((SocketAddr::new(address.to_canonical(), peer_port), state))
}

fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16_at(attributes, 0)?);
        let body = attributes.get(4..length)?;
        if u16_at(attributes, 2)? == wanted {
            return Some(body);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    bytes.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    bytes.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_kernel_tells_the_round_trip_time_of_our_connections_only() {
        for address in ["127.0.0.1:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                continue;
            };
            let port = listener.local_addr().unwrap().port();
            let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            // A round trip, so that there is something to tell.
            client.write_all(b"x").unwrap();
            let mut byte = [0];
            server.read_exact(&mut byte).unwrap();
            server.write_all(&byte).unwrap();
            client.read_exact(&mut byte).unwrap();
            let found = connections(port).unwrap();
            assert_eq!(found.len(), 1, "{found:?}");
            let state = found[&client.local_addr().unwrap()];
            let counters = state.counters;
            assert!((1..1_000_000).contains(&counters.rtt_us), "{counters:?}");
            assert_eq!(counters.retransmits, 0);
            assert!(state.acknowledged_ms_ago < 60_000, "{state:?}");
        }
    }

    proptest! {
        #[test]
        fn garbage_from_the_kernel_is_an_error_or_nothing(bytes: Vec<u8>) {
            let mut found = HashMap::new();
            let _ = take_answers(&bytes, &mut found);
            let _ = connection(&bytes);
        }
    }
}
