//! Which sessions are logged one by one: all of a client that boots, few of one that logs in and out for ever.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

/// Sessions of one address that are logged however soon they follow each other: several boots.
const AT_ONCE: u32 = 16;
/// Another one is logged after each such time.
const EVERY: Duration = Duration::from_secs(4);
/// Most addresses that are told apart; beyond, all others are counted together.
const PEERS_MAX: usize = 1024;
const OTHERS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Counts the sessions of each address.
#[derive(Debug, Default)]
pub(crate) struct SessionLog {
    peers: HashMap<IpAddr, Allowance>,
}

#[derive(Debug)]
struct Allowance {
    left: u32,
    since: Instant,
    untold: u64,
}

impl SessionLog {
    /// A session begins: if it is to be logged, how many of its address were not since the last that was.
    pub(crate) fn record(&mut self, now: Instant, peer: IpAddr) -> Option<u64> {
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&peer) {
            self.peers.retain(|_, allowance| !allowance.refill(now));
        }
        let full = self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&peer);
        let peer = if full { OTHERS } else { peer };
        let allowance = self.peers.entry(peer).or_insert(Allowance {
            left: AT_ONCE,
            since: now,
            untold: 0,
        });
        allowance.refill(now);
        if allowance.left == 0 {
            allowance.untold += 1;
            return None;
        }
        allowance.left -= 1;
        Some(std::mem::take(&mut allowance.untold))
    }
}

impl Allowance {
    /// True if it is whole again.
    fn refill(&mut self, now: Instant) -> bool {
        while self.left < AT_ONCE && now.saturating_duration_since(self.since) >= EVERY {
            self.left += 1;
            self.since += EVERY;
        }
        if self.left == AT_ONCE {
            self.since = now;
        }
        self.left == AT_ONCE && self.untold == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number + 1).into()
    }

    #[test]
    fn boots_are_logged_and_a_flood_is_counted() {
        let mut log = SessionLog::default();
        let start = Instant::now();
        let told = (0..10_000).filter(|_| log.record(start, peer(0)).is_some());
        assert_eq!(told.count(), AT_ONCE as usize);
        assert_eq!(log.record(start, peer(1)), Some(0));
        assert_eq!(log.record(start + EVERY, peer(0)), Some(10_000 - 16));
        assert_eq!(log.record(start + EVERY, peer(0)), None);
        let later = start + EVERY * 1000;
        assert_eq!(log.record(later, peer(0)), Some(1));
        let told = (0..100).filter(|_| log.record(later, peer(0)).is_some());
        assert_eq!(told.count(), AT_ONCE as usize - 1);
    }

    #[test]
    fn many_addresses_cost_bounded_memory_and_lines() {
        let mut log = SessionLog::default();
        let start = Instant::now();
        let told = (0..10_000).filter(|&number| log.record(start, peer(number)).is_some());
        assert_eq!(told.count(), PEERS_MAX + AT_ONCE as usize);
        assert!(log.peers.len() <= PEERS_MAX + 1);
        assert_eq!(log.record(start + EVERY * 100, peer(20_000)), Some(0));
        assert!(log.peers.len() <= 2);
    }
}
