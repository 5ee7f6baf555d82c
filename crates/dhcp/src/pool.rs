//! The order in which addresses of a pool are given: probed ahead, then never used, then the one
//! unused for longest. No step searches the pool, whatever its size.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::Ipv4Addr;

use dess_model::{AddressRange, Timestamp};

use crate::lease::LeaseTable;

/// Addresses kept probed ahead per pool.
const READY_MAX: usize = 64;
/// Addresses being probed at once per pool.
const PROBING_MAX: usize = 64;
/// How long a probe's good result counts, in milliseconds.
const READY_MS: i64 = 5 * 60 * 1000;
/// After how long a probe without a result is given up, in milliseconds.
const PROBE_MS_MAX: i64 = 30 * 1000;

/// An address taken from a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// The address.
    pub(crate) address: Ipv4Addr,
    /// True if a probe found it unused a short while ago.
    pub(crate) probed: bool,
}

/// Supply of one pool. What is in use is known by the [`LeaseTable`]; this only keeps the order.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    range: AddressRange,
    /// Next address never handed out since this pool was built.
    next: Option<Ipv4Addr>,
    /// Addresses that were in use, by the time at which that ends or ended.
    by_expiry: BTreeSet<(Timestamp, Ipv4Addr)>,
    ready: VecDeque<(Ipv4Addr, Timestamp)>,
    probing: HashMap<Ipv4Addr, Timestamp>,
}

impl Pool {
    /// A pool over `range`; addresses that have a binding count as used.
    pub(crate) fn new(range: AddressRange, leases: &LeaseTable) -> Self {
        let used = leases
            .iter()
            .filter(|binding| range.contains(binding.address))
            .map(|binding| (binding.expires_at, binding.address));
        Self {
            range,
            next: (range.first <= range.last).then_some(range.first),
            by_expiry: used.collect(),
            ready: VecDeque::new(),
            probing: HashMap::new(),
        }
    }

    /// The pool after the site changed: addresses passed over because they were reserved may be
    /// free now, so it starts over. Results of probes stay.
    pub(crate) fn renewed(self, leases: &LeaseTable) -> Self {
        Self {
            ready: self.ready,
            probing: self.probing,
            ..Self::new(self.range, leases)
        }
    }

    /// The pool's range.
    pub(crate) fn range(&self) -> AddressRange {
        self.range
    }

    /// Takes an address that `usable` agrees to and that has no live binding.
    pub(crate) fn take(
        &mut self,
        now: Timestamp,
        leases: &LeaseTable,
        usable: impl Fn(Ipv4Addr) -> bool,
    ) -> Option<Taken> {
        if let Some(address) = self.take_probed(now, leases, &usable) {
            return Some(Taken {
                address,
                probed: true,
            });
        }
        let free = |address| leases.by_address(address).is_none_or(|b| !b.is_live(now));
        let address = self
            .take_unprobed(now, leases, &usable)
            .or_else(|| self.take_probing(free, &usable))?;
        Some(Taken {
            address,
            probed: false,
        })
    }

    /// As [`take`](Self::take), but only one that a probe found unused a short while ago.
    pub(crate) fn take_probed(
        &mut self,
        now: Timestamp,
        leases: &LeaseTable,
        usable: impl Fn(Ipv4Addr) -> bool,
    ) -> Option<Ipv4Addr> {
        while let Some((address, probed_at)) = self.ready.pop_front() {
            let live = leases.by_address(address).is_some_and(|b| b.is_live(now));
            if live || !usable(address) {
                continue;
            }
            if now.0 - probed_at.0 < READY_MS {
                return Some(address);
            }
            self.recycle(address, Timestamp(0));
        }
        None
    }

    /// Takes this very address, if a probe found it unused a short while ago.
    pub(crate) fn take_ready(&mut self, now: Timestamp, address: Ipv4Addr) -> bool {
        let found = self
            .ready
            .iter()
            .position(|&(ready, probed_at)| ready == address && now.0 - probed_at.0 < READY_MS);
        found.is_some_and(|at| self.ready.remove(at).is_some())
    }

    /// Tells that an address is or was in use until `until`: it comes last after that.
    pub(crate) fn recycle(&mut self, address: Ipv4Addr, until: Timestamp) {
        if self.range.contains(address) {
            self.by_expiry.insert((until, address));
        }
    }

    /// Tells that the time noted for an address changed.
    pub(crate) fn reschedule(
        &mut self,
        address: Ipv4Addr,
        from: Option<Timestamp>,
        until: Timestamp,
    ) {
        if let Some(from) = from {
            self.by_expiry.remove(&(from, address));
        }
        self.recycle(address, until);
    }

    /// The next addresses to probe ahead of need. Each is out of the ordinary supply until
    /// [`probed_free`](Self::probed_free) or [`probed_used`](Self::probed_used) tells the result.
    pub(crate) fn wanted_probes(
        &mut self,
        now: Timestamp,
        leases: &LeaseTable,
        usable: impl Fn(Ipv4Addr) -> bool,
    ) -> Vec<Ipv4Addr> {
        self.give_up_late(now);
        let mut wanted = Vec::new();
        while self.ready.len() + self.probing.len() < READY_MAX && self.probing.len() < PROBING_MAX
        {
            let Some(address) = self.take_unprobed(now, leases, &usable) else {
                break;
            };
            self.probing.insert(address, now);
            wanted.push(address);
        }
        wanted
    }

    /// A probe found nobody. False if the address was not being probed any more.
    pub(crate) fn probed_free(&mut self, now: Timestamp, address: Ipv4Addr) -> bool {
        let known = self.probing.remove(&address).is_some();
        if known {
            self.ready.push_back((address, now));
        }
        known
    }

    /// A probe found somebody. False if the address was not being probed any more.
    pub(crate) fn probed_used(&mut self, address: Ipv4Addr) -> bool {
        self.probing.remove(&address).is_some()
    }

    fn take_unprobed(
        &mut self,
        now: Timestamp,
        leases: &LeaseTable,
        usable: impl Fn(Ipv4Addr) -> bool,
    ) -> Option<Ipv4Addr> {
        while let Some(address) = self.next {
            self.next = (address < self.range.last).then(|| Ipv4Addr::from(u32::from(address) + 1));
            if leases.by_address(address).is_none()
                && usable(address)
                && !self.probing.contains_key(&address)
            {
                return Some(address);
            }
        }
        while let Some(&(until, address)) = self.by_expiry.first() {
            if until > now {
                return None;
            }
            self.by_expiry.pop_first();
            let live = leases.by_address(address).is_some_and(|b| b.is_live(now));
            if !live && usable(address) && !self.probing.contains_key(&address) {
                return Some(address);
            }
        }
        None
    }

    /// A client in need gets an address whose probe is still under way.
    fn take_probing(
        &mut self,
        free: impl Fn(Ipv4Addr) -> bool,
        usable: impl Fn(Ipv4Addr) -> bool,
    ) -> Option<Ipv4Addr> {
        let address = *self
            .probing
            .keys()
            .find(|address| free(**address) && usable(**address))?;
        self.probing.remove(&address);
        Some(address)
    }

    fn give_up_late(&mut self, now: Timestamp) {
        let late = |since: Timestamp| now.0 - since.0 >= PROBE_MS_MAX;
        let given_up: Vec<_> = self
            .probing
            .extract_if(|_, since| late(*since))
            .map(|(address, _)| address)
            .collect();
        while let Some(&(address, probed_at)) = self.ready.front()
            && now.0 - probed_at.0 >= READY_MS
        {
            self.ready.pop_front();
            self.recycle(address, Timestamp(0));
        }
        for address in given_up {
            self.recycle(address, Timestamp(0));
        }
    }
}

#[cfg(test)]
mod tests;
