//! The site: set-up and what it is made of.

use std::net::{Ipv4Addr, SocketAddrV4};

use dess_model::{AddressRange, DhcpMode, Registration, ServerEntry, Subnet};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::{OperationError, Operations, Result};

/// Everything that a new site needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteSetup {
    /// Name of the site.
    pub name: String,
    /// The server's address as its clients reach it; inside `subnet`.
    pub server_address: Ipv4Addr,
    /// Network interfaces that DHCP answers on, one or more.
    pub interfaces: Vec<String>,
    /// The clients' network.
    pub subnet: Ipv4Net,
    /// Whether addresses are given, or another server gives them.
    pub mode: DhcpMode,
    /// Addresses for clients without a reservation; required in server mode.
    pub pool: Option<AddressRange>,
    /// Default gateway of the operating systems.
    pub router: Option<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Lease time in seconds, 60 or more.
    pub lease_secs: u32,
    /// Port of the HTTP boot service.
    pub http_port: u16,
    /// iSCSI portals; if empty, port 3260 of the server's address.
    pub portals: Vec<SocketAddrV4>,
    /// What to do with unknown clients.
    pub registration: Registration,
}

/// The site as set up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteView {
    /// Name of the site.
    pub name: String,
    /// What to do with unknown clients.
    pub registration: Registration,
    /// Grows with every change of the site.
    pub revision: u64,
    /// The server.
    pub server: ServerEntry,
    /// Networks served.
    pub subnets: Vec<Subnet>,
}

impl Operations {
    /// Sets the site up: creates the database (if missing), the server, the subnet and the
    /// default group.
    ///
    /// # Errors
    /// If a field is wrong, or the site is set up already.
    pub async fn site_init(&self, setup: SiteSetup) -> Result<SiteView> {
        let _ = setup;
        Err(OperationError::NoSite)
    }

    /// The site; none before it was set up.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn site(&self) -> Result<Option<SiteView>> {
        Ok(None)
    }

    /// Changes what happens to unknown clients from now on.
    ///
    /// # Errors
    /// If the site is not set up.
    pub async fn registration_set(&self, registration: Registration) -> Result<()> {
        let _ = registration;
        Err(OperationError::NoSite)
    }
}
