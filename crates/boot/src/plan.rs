//! Client and policy to boot plan: what a client that asks for its script is to do.

use std::net::{IpAddr, Ipv4Addr};

use dess_model::{ClientEntry, MacAddr, SiteSnapshot};

use crate::script::Screen;

/// What a client does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootPlan<'a> {
    /// It boots its disk, once the iSCSI service has it ready.
    Boot(&'a ClientEntry),
    /// It shows a screen and asks again.
    Wait(Screen),
}

/// Whether a peer may have a client's script, which holds the secret of its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It may.
    Granted,
    /// The client's address is reserved, and the peer has another.
    ForeignAddress {
        /// The reserved one.
        reserved: Ipv4Addr,
    },
}

/// The plan for the client with this network card, asked for by `peer`.
pub fn boot_plan(snapshot: &SiteSnapshot, mac: MacAddr, peer: IpAddr) -> BootPlan<'_> {
    let Some(client) = snapshot.client_by_mac(mac) else {
        return BootPlan::Wait(Screen::Registering);
    };
    if let Access::ForeignAddress { reserved } = script_access(snapshot, client, peer) {
        return BootPlan::Wait(Screen::ForeignAddress { reserved });
    }
    if !client.approved {
        return BootPlan::Wait(Screen::AwaitsApproval);
    }
    match client.version {
        Some(version) if snapshot.version(version).is_some() => BootPlan::Boot(client),
        Some(_) | None => BootPlan::Wait(Screen::NoImage),
    }
}

/// Decides by the peer's address (`docs/adr/0004-boot-service.md`): a client with a reserved
/// address asks from it. Where another server gives the addresses (proxyDHCP), or none is reserved,
/// the address proves nothing and is not looked at.
pub fn script_access(snapshot: &SiteSnapshot, client: &ClientEntry, peer: IpAddr) -> Access {
    match snapshot.required_address(client) {
        Some(reserved) if peer.to_canonical() != IpAddr::V4(reserved) => {
            Access::ForeignAddress { reserved }
        }
        _ => Access::Granted,
    }
}

#[cfg(test)]
pub(crate) mod tests;
