//! The DHCP service's probe: a DISCOVER that goes by unicast to the server's own address on each interface.
//!
//! The kernel delivers it to the socket that is bound to the interface, as it does with a client's, and the answer comes
//! back the same way; nothing is seen on the wire.

use std::net::{Ipv4Addr, SocketAddr};

use dess_dhcp::option::code;
use dess_dhcp::{MESSAGE_BYTES_MAX, Message, MessageType, Operation, Options, SERVER_PORT};
use dess_model::{DhcpMode, PROBE_MAC, ProbeFailure, ProbeStep, SiteSnapshot};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrIn;
use tokio::net::UdpSocket;

use crate::{failed, unusable, within};

/// Wants an offer on each interface.
pub(crate) async fn probe(snapshot: &SiteSnapshot) -> Result<(), ProbeFailure> {
    for interface in &snapshot.server.interfaces {
        let address = address_of(snapshot, interface).ok_or_else(|| ProbeFailure::NoAddress {
            interface: interface.clone(),
        })?;
        let at = SocketAddr::from((address, SERVER_PORT));
        let offer = within(at, ProbeStep::Dhcp, discover(at)).await?;
        check(snapshot, address, &offer).map_err(|detail| unusable(at, ProbeStep::Dhcp, detail))?;
    }
    Ok(())
}

/// The interface's address in a network of the site.
pub(crate) fn address_of(snapshot: &SiteSnapshot, interface: &str) -> Option<Ipv4Addr> {
    let addresses = getifaddrs().ok()?;
    let of_interface = addresses.filter(|entry| entry.interface_name == interface);
    let mut addresses = of_interface.filter_map(|entry| {
        let address = entry.address?;
        address.as_sockaddr_in().map(SockaddrIn::ip)
    });
    addresses.find(|&address| snapshot.subnet_of(address).is_some())
}

async fn discover(at: SocketAddr) -> Result<Message, ProbeFailure> {
    let broke = |error: std::io::Error| failed(at, &error);
    let socket = UdpSocket::bind((at.ip(), 0)).await.map_err(broke)?;
    socket.connect(at).await.map_err(broke)?;
    let question = question(rand::random());
    let mut datagram = Vec::new();
    question
        .encode(MESSAGE_BYTES_MAX, &mut datagram)
        .map_err(|error| unusable(at, ProbeStep::Dhcp, error.to_string()))?;
    socket.send(&datagram).await.map_err(broke)?;
    let mut buffer = vec![0; 2048];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(broke)?;
        match Message::decode(&buffer[..length]) {
            Ok(answer) if answer.xid == question.xid => return Ok(answer),
            Ok(_) => {}
            Err(error) => return Err(unusable(at, ProbeStep::Dhcp, error.to_string())),
        }
    }
}

/// What the firmware of a BIOS PC asks.
pub(crate) fn question(xid: u32) -> Message {
    let mut options = Options::default();
    options.set(code::VENDOR_CLASS, *b"PXEClient:Arch:00000:UNDI:002001");
    options.set(code::ARCHITECTURE, [0, 0]);
    Message {
        op: Operation::Request,
        message_type: Some(MessageType::Discover),
        hops: 0,
        xid,
        secs: 0,
        broadcast: false,
        ciaddr: Ipv4Addr::UNSPECIFIED,
        yiaddr: Ipv4Addr::UNSPECIFIED,
        siaddr: Ipv4Addr::UNSPECIFIED,
        giaddr: Ipv4Addr::UNSPECIFIED,
        chaddr: PROBE_MAC,
        sname: Vec::new(),
        file: Vec::new(),
        options,
    }
}

/// Whether a PC could boot by this offer. That no address is left is no fault of the service.
fn check(snapshot: &SiteSnapshot, address: Ipv4Addr, offer: &Message) -> Result<(), String> {
    if offer.op != Operation::Reply || offer.message_type != Some(MessageType::Offer) {
        return Err(format!("no offer: {:?}", offer.message_type));
    }
    if offer.file.is_empty() && !offer.options.contains(code::BOOT_FILE_NAME) {
        return Err("an offer without a boot file".to_owned());
    }
    let serves = snapshot.subnet_of(address).map(|subnet| subnet.mode) == Some(DhcpMode::Server);
    if serves && !offer.options.contains(code::SUBNET_MASK) {
        return Err("an offer without a network mask".to_owned());
    }
    Ok(())
}
