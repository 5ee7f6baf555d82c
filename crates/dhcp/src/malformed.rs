//! Who sent a malformed datagram, and what is logged of it.

use std::net::SocketAddrV4;

use dess_model::{EventKind, MacAddr};

/// A client without an address is told apart by the MAC address that it claims.
pub(crate) fn peer_name(source: SocketAddrV4, datagram: &[u8]) -> String {
    if !source.ip().is_unspecified() {
        return source.ip().to_string();
    }
    match datagram.get(28..34).and_then(|mac| mac.try_into().ok()) {
        Some(mac) => MacAddr(mac).to_string(),
        None => source.ip().to_string(),
    }
}

/// Logs an event that is due.
pub(crate) fn log(event: &EventKind) {
    if let EventKind::Malformed {
        peer,
        reason,
        count,
        ..
    } = event
    {
        tracing::warn!(
            peer,
            malformed.count = count,
            "malformed DHCP datagram from {peer}: {reason}"
        );
    }
}
