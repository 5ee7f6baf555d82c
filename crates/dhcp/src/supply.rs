//! Which address a client gets: reservation, former address, wish, pool; and what becomes of it.

use std::net::Ipv4Addr;

use dess_model::{MacAddr, Subnet, Timestamp};

use crate::call::Call;
use crate::lease::{Binding, BindingState, LeaseTable};
use crate::pool::Pool;
use crate::site::{SiteIndex, is_host};

/// How long an offered address is held, in milliseconds.
const OFFER_MS: i64 = 30 * 1000;
/// How long an address that somebody else uses is given to nobody, in milliseconds.
pub(crate) const QUARANTINE_MS: i64 = 10 * 60 * 1000;

/// Leases and the pools they come from.
#[derive(Debug)]
pub(crate) struct Supply {
    leases: LeaseTable,
    /// One per subnet of the site, by position.
    pools: Vec<Option<Pool>>,
    /// Until when leases may be missing that were given before the start.
    doubt_until: Timestamp,
}

impl Supply {
    pub(crate) fn new(leases: LeaseTable) -> Self {
        Self {
            leases,
            pools: Vec::new(),
            doubt_until: Timestamp(0),
        }
    }

    pub(crate) fn doubt(&mut self, until: Timestamp) {
        self.doubt_until = until;
    }

    /// True if an address may be somebody's though no lease tells so, and a probe can tell.
    pub(crate) fn in_doubt(&self, now: Timestamp, call: &Call<'_>) -> bool {
        now < self.doubt_until && on_link(call.subnet, call.arrival.local)
    }

    pub(crate) fn leases(&self) -> &LeaseTable {
        &self.leases
    }

    /// Makes the pools anew for a new revision of the site. A pool whose range did not change
    /// keeps what its probes found.
    pub(crate) fn rebuild(&mut self, site: &SiteIndex) {
        let mut former: Vec<_> = self.pools.drain(..).flatten().collect();
        for subnet in &site.snapshot().subnets {
            let pool = subnet.pool.map(|range| {
                let same = former.iter().position(|pool| pool.range() == range);
                match same {
                    Some(at) => former.swap_remove(at).renewed(&self.leases),
                    None => Pool::new(range, &self.leases),
                }
            });
            self.pools.push(pool);
        }
    }

    /// Chooses the address to offer and holds it.
    pub(crate) fn offer(
        &mut self,
        now: Timestamp,
        call: &Call<'_>,
        hint: Option<Ipv4Addr>,
    ) -> Option<Ipv4Addr> {
        let mac = call.request.chaddr;
        let address = self
            .known_address(now, call, hint)
            .or_else(|| hint.filter(|&address| self.take_wish(now, call, address)))
            .or_else(|| self.take(now, call))?;
        let held = self.leases.by_address(address);
        let has_it =
            held.is_some_and(|b| b.mac == mac && b.state == BindingState::Leased && b.is_live(now));
        if !has_it {
            self.put(Binding {
                address,
                mac,
                state: BindingState::Offered,
                expires_at: Timestamp(now.0 + OFFER_MS),
            });
        }
        Some(address)
    }

    /// An address of the subnet's pool that is nobody's now. It is only looked at: nothing is held or probed for it.
    pub(crate) fn vacant(&self, now: Timestamp, call: &Call<'_>) -> Option<Ipv4Addr> {
        let range = call.subnet.pool?;
        let addresses = u32::from(range.first)..=u32::from(range.last);
        addresses.map(Ipv4Addr::from).find(|&address| {
            let held = self.leases.by_address(address);
            call.site.is_poolable(call.subnet, address) && held.is_none_or(|b| !b.is_live(now))
        })
    }

    /// Leases the address to the client if it may have it. `in_use`: the client already works
    /// with it (RENEWING, REBINDING).
    pub(crate) fn grant(
        &mut self,
        now: Timestamp,
        call: &Call<'_>,
        address: Ipv4Addr,
        in_use: bool,
    ) -> Option<Binding> {
        let mac = call.request.chaddr;
        if !self.may_have(now, call, address, in_use) {
            return None;
        }
        let binding = Binding {
            address,
            mac,
            state: BindingState::Leased,
            expires_at: Timestamp(now.0 + lease_ms(call)),
        };
        self.put(binding);
        Some(binding)
    }

    /// The client chose another server: an offer held for it is free again.
    pub(crate) fn withdraw(&mut self, now: Timestamp, mac: MacAddr) {
        if let Some(&binding) = self.leases.by_mac(mac)
            && binding.state == BindingState::Offered
        {
            self.end(now, binding);
        }
    }

    /// The client gives its address back. It stays the client's former address.
    pub(crate) fn release(
        &mut self,
        now: Timestamp,
        address: Ipv4Addr,
        mac: MacAddr,
    ) -> Option<Binding> {
        let binding = *self.leases.by_address(address)?;
        let is_lease = binding.state == BindingState::Leased;
        (is_lease && binding.mac == mac && binding.is_live(now)).then(|| self.end(now, binding))
    }

    /// The client found its address in use by somebody else.
    pub(crate) fn quarantine(
        &mut self,
        now: Timestamp,
        address: Ipv4Addr,
        mac: MacAddr,
    ) -> Option<Binding> {
        let binding = self.leases.by_address(address)?;
        let held = binding.mac == mac && binding.state != BindingState::Quarantined;
        held.then(|| self.put_quarantined(now, address, mac))
    }

    /// The next addresses to probe in the pools that hold a local address's subnet.
    pub(crate) fn wanted_probes(
        &mut self,
        now: Timestamp,
        site: &SiteIndex,
        local: &[Ipv4Addr],
    ) -> Vec<Ipv4Addr> {
        let mut wanted = Vec::new();
        for (at, pool) in self.pools.iter_mut().enumerate() {
            let subnet = site.subnet(at);
            if let Some(pool) = pool.as_mut().filter(|_| on_link(subnet, local)) {
                let usable = |address| site.is_poolable(subnet, address);
                wanted.extend(pool.wanted_probes(now, &self.leases, usable));
            }
        }
        wanted
    }

    /// The result of a probe.
    pub(crate) fn handle_probe(
        &mut self,
        now: Timestamp,
        address: Ipv4Addr,
        occupant: Option<MacAddr>,
    ) -> Option<Binding> {
        let Some(occupant) = occupant else {
            for pool in self.pools.iter_mut().flatten() {
                pool.probed_free(now, address);
            }
            return None;
        };
        let mut known = false;
        for pool in self.pools.iter_mut().flatten() {
            known |= pool.probed_used(address);
        }
        let leased = self
            .leases
            .by_address(address)
            .is_some_and(|b| b.is_live(now));
        if !known || leased {
            return None;
        }
        let has_lease = self.leases.by_mac(occupant).is_some_and(|b| b.is_live(now));
        if now < self.doubt_until && !has_lease {
            // Most likely its lease is the one that is missing. Refused, a PC would lose its disk.
            let binding = Binding {
                address,
                mac: occupant,
                state: BindingState::Leased,
                expires_at: self.doubt_until,
            };
            self.put(binding);
            return Some(binding);
        }
        Some(self.put_quarantined(now, address, occupant))
    }

    /// The reservation, else the former address, if the client can have it now. In doubt,
    /// somebody may have got the former one since, unless the client still knows it.
    fn known_address(
        &mut self,
        now: Timestamp,
        call: &Call<'_>,
        hint: Option<Ipv4Addr>,
    ) -> Option<Ipv4Addr> {
        let mac = call.request.chaddr;
        if let Some(reserved) = self.reservation(now, call) {
            return Some(reserved);
        }
        let former = *self.leases.by_mac(mac)?;
        let address = former.address;
        let fits = call.site.is_poolable(call.subnet, address)
            && self.leases.is_free_for(address, mac, now);
        let certain = former.is_live(now) || !self.in_doubt(now, call) || hint == Some(address);
        (fits && (certain || self.take_ready(now, call, address))).then_some(address)
    }

    /// The client's reserved address, if it lies in the subnet and nobody still has a lease on it.
    fn reservation(&self, now: Timestamp, call: &Call<'_>) -> Option<Ipv4Addr> {
        let address = call.client?.address?;
        let fits = is_host(call.subnet, address) && !call.site.is_own(address);
        (fits && self.leases.is_free_for(address, call.request.chaddr, now)).then_some(address)
    }

    /// True if the client gets the address it wishes for: one of the pool, nobody's, not even
    /// formerly. Only a probed one: the client may have it from another server, and so may
    /// another machine. In doubt it is most likely the client's own.
    fn take_wish(&mut self, now: Timestamp, call: &Call<'_>, address: Ipv4Addr) -> bool {
        if !call.site.is_poolable(call.subnet, address) {
            return false;
        }
        let mac = call.request.chaddr;
        if self.in_doubt(now, call) {
            return self.leases.is_free_for(address, mac, now);
        }
        match self.leases.by_address(address) {
            Some(binding) => binding.mac == mac && !binding.is_live(now),
            None => self.take_ready(now, call, address),
        }
    }

    /// Takes this very address, if a probe found it unused a short while ago.
    fn take_ready(&mut self, now: Timestamp, call: &Call<'_>, address: Ipv4Addr) -> bool {
        let pool = self.pools.get_mut(call.subnet_at).and_then(Option::as_mut);
        pool.is_some_and(|pool| pool.take_ready(now, address))
    }

    fn take(&mut self, now: Timestamp, call: &Call<'_>) -> Option<Ipv4Addr> {
        let in_doubt = self.in_doubt(now, call);
        let pool = self.pools.get_mut(call.subnet_at)?.as_mut()?;
        let usable = |address| call.site.is_poolable(call.subnet, address);
        if in_doubt {
            return pool.take_probed(now, &self.leases, usable);
        }
        let taken = pool.take(now, &self.leases, usable)?;
        if !taken.probed {
            tracing::debug!(
                lease.address = %taken.address,
                "{} is offered without having been probed",
                taken.address
            );
        }
        Some(taken.address)
    }

    /// A running client is never refused because reservations changed: it would lose its disk. It
    /// moves at its next boot. A machine that is no client of ours has no disk to lose: it makes
    /// way when it renews an address that is now reserved for a client.
    fn may_have(&self, now: Timestamp, call: &Call<'_>, address: Ipv4Addr, in_use: bool) -> bool {
        let mac = call.request.chaddr;
        let fits = is_host(call.subnet, address) && !call.site.is_own(address);
        if !fits || !self.leases.is_free_for(address, mac, now) {
            return false;
        }
        let held = self.leases.by_mac(mac);
        if in_use && held.is_some_and(|b| b.address == address && b.state == BindingState::Leased) {
            let for_another = call.site.reserved_for(address).is_some_and(|by| by != mac);
            return call.client.is_some() || !for_another;
        }
        match self.reservation(now, call) {
            Some(reserved) if !in_use => reserved == address,
            _ => match call.site.reserved_for(address) {
                Some(owner) => owner == mac,
                None => call.site.is_poolable(call.subnet, address),
            },
        }
    }

    fn put_quarantined(&mut self, now: Timestamp, address: Ipv4Addr, mac: MacAddr) -> Binding {
        let binding = Binding {
            address,
            mac,
            state: BindingState::Quarantined,
            expires_at: Timestamp(now.0 + QUARANTINE_MS),
        };
        self.put(binding);
        binding
    }

    fn end(&mut self, now: Timestamp, binding: Binding) -> Binding {
        let ended = Binding {
            expires_at: now,
            ..binding
        };
        self.put(ended);
        ended
    }

    fn put(&mut self, binding: Binding) {
        let until = self
            .leases
            .by_address(binding.address)
            .map(|b| b.expires_at);
        let former = self.leases.put(binding);
        for pool in self.pools.iter_mut().flatten() {
            pool.reschedule(binding.address, until, binding.expires_at);
            if let Some(former) = former {
                pool.reschedule(former.address, Some(former.expires_at), Timestamp(0));
            }
        }
    }
}

/// True if the subnet is that of an interface with these addresses: its machines can be probed.
fn on_link(subnet: &Subnet, local: &[Ipv4Addr]) -> bool {
    local.iter().any(|address| subnet.network.contains(address))
}

fn lease_ms(call: &Call<'_>) -> i64 {
    i64::from(call.subnet.lease_secs) * 1000
}
