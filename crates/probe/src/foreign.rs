//! Other DHCP servers: who else answers a DISCOVER on the site's networks.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use dess_dhcp::option::code;
use dess_dhcp::{CLIENT_PORT, MESSAGE_BYTES_MAX, Message, MessageType, Operation, SERVER_PORT};
use dess_model::{DhcpMode, MacAddr, SiteSnapshot};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::dhcp;

/// How long other servers have for their answer; some look first whether the address is in use, for a second.
const ANSWERS_WAIT: Duration = Duration::from_millis(2500);

/// A DHCP server that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignServer {
    /// Where it answers.
    pub interface: String,
    /// Its address.
    pub server: Ipv4Addr,
    /// Its network card, if the kernel's neighbour table knows it.
    pub mac: Option<MacAddr>,
}

/// Broadcasts a DISCOVER on each interface of the site and tells who answered but this server. Beside a DHCP server of the
/// site (proxyDHCP) one is expected; then only more than one are told.
///
/// The others may hold the address that they offer for some seconds.
pub async fn foreign_dhcp_servers(snapshot: &SiteSnapshot) -> Vec<ForeignServer> {
    let mut found = Vec::new();
    for interface in &snapshot.server.interfaces {
        let Some(own) = dhcp::address_of(snapshot, interface) else {
            continue;
        };
        // Without the right to do so, or with the interface gone, nothing can be said.
        let Ok(heard) = listen(snapshot, interface, own).await else {
            continue;
        };
        let mode = snapshot.subnet_of(own).map(|subnet| subnet.mode);
        if mode == Some(DhcpMode::Proxy) && heard.len() < 2 {
            continue;
        }
        let table = fs::read_to_string("/proc/net/arp").unwrap_or_default();
        found.extend(heard.into_iter().map(|server| ForeignServer {
            interface: interface.clone(),
            server,
            mac: neighbour(&table, server),
        }));
    }
    found
}

async fn listen(
    snapshot: &SiteSnapshot,
    interface: &str,
    own: Ipv4Addr,
) -> io::Result<BTreeSet<Ipv4Addr>> {
    let socket = bind(interface)?;
    let mut question = dhcp::question(rand::random());
    question.broadcast = true;
    let mut datagram = Vec::new();
    question
        .encode(MESSAGE_BYTES_MAX, &mut datagram)
        .map_err(io::Error::other)?;
    let everybody = SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT);
    socket.send_to(&datagram, everybody).await?;
    let mut heard = BTreeSet::new();
    let mut buffer = vec![0; 2048];
    let collect = async {
        while let Ok(length) = socket.recv(&mut buffer).await {
            let Ok(answer) = Message::decode(&buffer[..length]) else {
                continue;
            };
            let offers = answer.op == Operation::Reply
                && answer.message_type == Some(MessageType::Offer)
                && answer.xid == question.xid;
            let server = answer.options.address(code::SERVER_IDENTIFIER);
            let server = server
                .filter(|&server| offers && server != own && server != snapshot.server.address);
            heard.extend(server);
        }
    };
    // It never ends by itself.
    let _ = timeout(ANSWERS_WAIT, collect).await;
    Ok(heard)
}

fn bind(interface: &str) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_broadcast(true)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT).into())?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket.into())
}

/// The network card of an address in `/proc/net/arp`.
fn neighbour(table: &str, address: Ipv4Addr) -> Option<MacAddr> {
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_whitespace();
        let ip: Ipv4Addr = columns.next()?.parse().ok()?;
        let mac: MacAddr = columns.nth(2)?.parse().ok()?;
        (ip == address && mac.is_unicast()).then_some(mac)
    })
}
