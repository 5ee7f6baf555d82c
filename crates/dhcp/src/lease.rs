//! Which network card holds which address, and until when.
//!
//! Leases are keyed by MAC address, not by client identifier (option 61): firmware, iPXE and the
//! operating system of one PC send different identifiers from the same card and must all get the
//! same address, or the iSCSI session that iPXE opened dies when the system takes over. A
//! deviation from RFC 2131 §2 that every PXE server needs.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use dess_model::{MacAddr, Timestamp};

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BindingState {
    /// Offered and held for the client; in memory only.
    Offered,
    /// Leased. After `expires_at` the address goes to others only when the pool is used up.
    Leased,
    /// In use by somebody who has no lease; nobody gets it until `expires_at`.
    Quarantined,
}

/// One address that is or was in use. The same value is the journal's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Binding {
    /// The address.
    pub address: Ipv4Addr,
    /// Whose it is or was.
    pub mac: MacAddr,
    /// What kind.
    pub state: BindingState,
    /// End of lease, hold or quarantine.
    pub expires_at: Timestamp,
}

impl Binding {
    /// True until the end of lease, hold or quarantine.
    pub fn is_live(&self, now: Timestamp) -> bool {
        now < self.expires_at
    }
}

/// All bindings; at most one per address and, quarantine apart, one per network card.
#[derive(Clone, Debug, Default)]
pub struct LeaseTable {
    by_address: HashMap<Ipv4Addr, Binding>,
    by_mac: HashMap<MacAddr, Ipv4Addr>,
}

impl LeaseTable {
    /// A table from the journal's records, oldest first; later ones replace earlier ones.
    pub fn from_records(records: impl IntoIterator<Item = Binding>) -> Self {
        let mut table = Self::default();
        for record in records {
            table.put(record);
        }
        table
    }

    /// Ends sooner what would last longer than it could have been given for: the wall clock was
    /// ahead when it was written. `longest_ms` tells how long that is at most.
    pub fn shorten(&mut self, now: Timestamp, longest_ms: impl Fn(&Binding) -> i64) {
        for binding in self.by_address.values_mut() {
            let latest = now.0.saturating_add(longest_ms(binding));
            binding.expires_at.0 = binding.expires_at.0.min(latest);
        }
    }

    /// What is known of an address.
    pub fn by_address(&self, address: Ipv4Addr) -> Option<&Binding> {
        self.by_address.get(&address)
    }

    /// The network card's present or former address.
    pub fn by_mac(&self, mac: MacAddr) -> Option<&Binding> {
        self.by_address.get(self.by_mac.get(&mac)?)
    }

    /// All bindings, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Binding> {
        self.by_address.values()
    }

    /// Records a binding. What the address was before is forgotten, and so is the address that
    /// the same card had before; that one is returned if it was another.
    pub fn put(&mut self, binding: Binding) -> Option<Binding> {
        let evicted = self.by_address.insert(binding.address, binding);
        if let Some(evicted) = evicted
            && self.by_mac.get(&evicted.mac) == Some(&evicted.address)
        {
            self.by_mac.remove(&evicted.mac);
        }
        if binding.state == BindingState::Quarantined {
            return None;
        }
        let former = self.by_mac.insert(binding.mac, binding.address)?;
        if former == binding.address {
            return None;
        }
        self.by_address.remove(&former)
    }

    /// True if nobody but `mac` has a claim on the address at the moment.
    pub fn is_free_for(&self, address: Ipv4Addr, mac: MacAddr, now: Timestamp) -> bool {
        self.by_address.get(&address).is_none_or(|binding| {
            !binding.is_live(now)
                || (binding.mac == mac && binding.state != BindingState::Quarantined)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    fn binding(last: u8, mac: MacAddr, state: BindingState) -> Binding {
        Binding {
            address: Ipv4Addr::new(10, 0, 0, last),
            mac,
            state,
            expires_at: Timestamp(1000),
        }
    }

    #[test]
    fn a_card_has_one_address_and_an_address_one_card() {
        let mut table = LeaseTable::default();
        assert_eq!(table.put(binding(1, A, BindingState::Leased)), None);
        let former = table.put(binding(2, A, BindingState::Leased));
        assert_eq!(former, Some(binding(1, A, BindingState::Leased)));
        assert_eq!(table.iter().count(), 1);
        table.put(binding(2, B, BindingState::Leased));
        assert_eq!(table.by_mac(A), None);
        assert_eq!(table.by_mac(B), Some(&binding(2, B, BindingState::Leased)));
    }

    #[test]
    fn an_end_further_away_than_a_lease_can_last_is_brought_forward() {
        let mut table = LeaseTable::from_records([
            binding(1, A, BindingState::Leased),
            Binding {
                expires_at: Timestamp(i64::MAX),
                ..binding(2, B, BindingState::Leased)
            },
        ]);
        table.shorten(Timestamp(600), |_| 500);
        let end = |last| {
            table
                .by_address(Ipv4Addr::new(10, 0, 0, last))
                .map(|b| b.expires_at)
        };
        assert_eq!(end(1), Some(Timestamp(1000)));
        assert_eq!(end(2), Some(Timestamp(1100)));
    }

    #[test]
    fn a_quarantined_address_is_free_for_nobody_until_it_ends() {
        let mut table = LeaseTable::default();
        table.put(binding(1, A, BindingState::Leased));
        table.put(binding(1, A, BindingState::Quarantined));
        let address = Ipv4Addr::new(10, 0, 0, 1);
        assert!(!table.is_free_for(address, A, Timestamp(999)));
        assert!(table.is_free_for(address, A, Timestamp(1000)));
        assert_eq!(table.by_mac(A), None);
        table.put(binding(2, A, BindingState::Leased));
        assert_eq!(table.iter().count(), 2);
    }
}
