//! The networks that a site serves.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// What the DHCP service does on a subnet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum DhcpMode {
    /// Gives addresses and boot information.
    #[default]
    Server,
    /// Another server gives the addresses; only boot information is added (PXE proxyDHCP).
    Proxy,
}

/// First and last address of a pool, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AddressRange {
    /// First address.
    pub first: Ipv4Addr,
    /// Last address; not below `first`.
    pub last: Ipv4Addr,
}

impl AddressRange {
    /// True if the address lies in the range.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        self.first <= address && address <= self.last
    }

    /// All addresses in order.
    pub fn iter(&self) -> impl Iterator<Item = Ipv4Addr> + use<> {
        (u32::from(self.first)..=u32::from(self.last)).map(Ipv4Addr::from)
    }
}

/// One IPv4 subnet of the site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Subnet {
    /// Network and prefix length, e.g. `10.77.0.0/24`.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub network: Ipv4Net,
    /// Whether addresses are given here.
    pub mode: DhcpMode,
    /// Addresses for clients without a reservation; none in proxy mode.
    pub pool: Option<AddressRange>,
    /// Default gateway; told to operating systems, never to firmware.
    pub router: Option<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Lease time in seconds, 60 or more; T1 is 1/2 and T2 7/8 of it (RFC 2131 §4.4.5).
    pub lease_secs: u32,
}
