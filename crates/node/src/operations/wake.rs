//! Wake-on-LAN: the packet that switches a PC on.
//!
//! AMD's magic packet: six bytes of ones, then the network card's address 16 times, anywhere in a
//! frame. Nobody answers it; that a client wakes is seen when it boots.

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};

use dess_model::{ClientId, MacAddr, ServerEntry, Subnet};
use nix::sys::socket::{setsockopt, sockopt::BindToDevice};
use serde_json::json;

use super::clients::fetch;
use super::{OperationError, Operations, Result};

/// The port that is usual for it (discard); cards look at the payload alone.
const PORT: u16 = 9;

impl Operations {
    /// Sends the packet that wakes a client: as the broadcast of each of the site's networks, and
    /// as the limited broadcast on each of the server's interfaces. Audited.
    ///
    /// # Errors
    /// If there is no such client or no site, or no packet could be sent.
    pub async fn client_wake(&self, id: ClientId) -> Result<()> {
        let site = self.site().await?.ok_or(OperationError::NoSite)?;
        let client = fetch(&mut self.read().await?, id).await?;
        send(client.mac, &site.server, &site.subnets, PORT).map_err(|error| {
            let name = &client.name;
            OperationError::Refused(format!(
                "the packet that wakes {name} cannot be sent: {error}"
            ))
        })?;
        self.audit_append("client.wake", &client.name, json!({"mac": client.mac}))
            .await
    }
}

/// Sends the packet everywhere that it can be sent to.
///
/// # Errors
/// The last one, if it could be sent nowhere.
pub(super) fn send(
    mac: MacAddr,
    server: &ServerEntry,
    subnets: &[Subnet],
    port: u16,
) -> io::Result<()> {
    let packet = magic_packet(mac);
    let directed = subnets.iter().map(|subnet| {
        let socket = broadcaster(server.address)?;
        socket.send_to(&packet, (subnet.network.broadcast(), port))
    });
    // The limited one leaves by the interface that it is told, whatever the routes say.
    let limited = server.interfaces.iter().map(|interface| {
        let socket = broadcaster(server.address)?;
        setsockopt(&socket, BindToDevice, &OsString::from(interface))?;
        socket.send_to(&packet, (Ipv4Addr::BROADCAST, port))
    });
    let mut failure = None;
    let mut sent = false;
    for result in directed.chain(limited) {
        match result {
            Ok(_) => sent = true,
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) if !sent => Err(error),
        Some(error) => {
            tracing::debug!(%error, "a packet that wakes a client could not be sent everywhere");
            Ok(())
        }
        None => Ok(()),
    }
}

fn broadcaster(address: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((address, 0))?;
    socket.set_broadcast(true)?;
    Ok(socket)
}

fn magic_packet(mac: MacAddr) -> [u8; 102] {
    let mut packet = [0xff; 102];
    for copy in packet[6..].chunks_exact_mut(6) {
        copy.copy_from_slice(&mac.0);
    }
    packet
}
