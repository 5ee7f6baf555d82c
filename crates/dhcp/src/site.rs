//! The site snapshot with its indexes: made once per revision, so that a packet costs no search.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use dess_model::{ClientEntry, MacAddr, SiteSnapshot, Subnet};

/// A snapshot indexed by network card and by reserved address.
#[derive(Clone, Debug)]
pub struct SiteIndex {
    snapshot: Arc<SiteSnapshot>,
    by_mac: HashMap<MacAddr, usize>,
    by_address: HashMap<Ipv4Addr, MacAddr>,
    own: HashSet<Ipv4Addr>,
}

impl SiteIndex {
    /// Indexes a snapshot. `own` are this machine's addresses; they are never given away.
    pub fn new(snapshot: Arc<SiteSnapshot>, own: impl IntoIterator<Item = Ipv4Addr>) -> Self {
        let clients = snapshot.clients.iter().enumerate();
        let by_mac = clients.map(|(at, client)| (client.mac, at)).collect();
        let by_address = snapshot
            .clients
            .iter()
            .filter_map(|client| Some((client.address?, client.mac)))
            .collect();
        let mut own: HashSet<_> = own.into_iter().collect();
        own.insert(snapshot.server.address);
        Self {
            snapshot,
            by_mac,
            by_address,
            own,
        }
    }

    /// The snapshot itself.
    pub fn snapshot(&self) -> &SiteSnapshot {
        &self.snapshot
    }

    /// The client with this network card.
    pub fn client(&self, mac: MacAddr) -> Option<&ClientEntry> {
        self.by_mac.get(&mac).map(|&at| &self.snapshot.clients[at])
    }

    /// Whose address this is by reservation.
    pub fn reserved_for(&self, address: Ipv4Addr) -> Option<MacAddr> {
        self.by_address.get(&address).copied()
    }

    /// True for an address of this machine.
    pub fn is_own(&self, address: Ipv4Addr) -> bool {
        self.own.contains(&address)
    }

    /// Position of the subnet that holds an address.
    pub(crate) fn subnet_at(&self, address: Ipv4Addr) -> Option<usize> {
        self.snapshot
            .subnets
            .iter()
            .position(|subnet| subnet.network.contains(&address))
    }

    /// The subnet at a position that [`subnet_at`](Self::subnet_at) gave.
    pub(crate) fn subnet(&self, at: usize) -> &Subnet {
        &self.snapshot.subnets[at]
    }

    /// True if a client without a reservation may have the address: inside the pool, nobody's by
    /// reservation, not ours, and neither the network's nor its broadcast address.
    pub(crate) fn is_poolable(&self, subnet: &Subnet, address: Ipv4Addr) -> bool {
        subnet.pool.is_some_and(|pool| pool.contains(address))
            && self.reserved_for(address).is_none()
            && is_host(subnet, address)
            && !self.is_own(address)
    }
}

/// True if the address can be a host's in the subnet.
pub(crate) fn is_host(subnet: &Subnet, address: Ipv4Addr) -> bool {
    let network = subnet.network;
    network.contains(&address)
        && (network.prefix_len() >= 31
            || (address != network.network() && address != network.broadcast()))
}
