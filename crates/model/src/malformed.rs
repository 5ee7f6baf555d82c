//! Malformed input, counted; told at most once per peer and minute.

use std::collections::HashMap;

use crate::{EventKind, Timestamp};

/// Most peers that are told apart; beyond, all others share one count.
const PEERS_MAX: usize = 1024;
/// Least time between two reports on one peer, in milliseconds.
const REPORT_EVERY_MS: u64 = 60_000;
/// Longest reason that is kept, in bytes.
const REASON_BYTES_MAX: usize = 200;
/// Name of the shared count.
const OTHERS: &str = "others";

/// Counts malformed input of one protocol and says when to report it.
#[derive(Debug)]
pub struct MalformedTally {
    protocol: &'static str,
    peers: HashMap<String, Count>,
}

#[derive(Debug)]
struct Count {
    reported: Timestamp,
    reason: String,
    unreported: u64,
}

impl MalformedTally {
    /// For a protocol, e.g. `dhcp`.
    pub fn new(protocol: &'static str) -> Self {
        Self {
            protocol,
            peers: HashMap::new(),
        }
    }

    /// Counts one; gives the [`EventKind::Malformed`] to log and send, if it is time for one: at a
    /// peer's first, and then at its first after each minute.
    pub fn record(&mut self, now: Timestamp, peer: &str, reason: &str) -> Option<EventKind> {
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(peer) {
            self.peers
                .retain(|_, count| now.millis_since(count.reported) < REPORT_EVERY_MS);
        }
        let full = self.peers.len() >= PEERS_MAX && !self.peers.contains_key(peer);
        let peer = if full { OTHERS } else { peer };
        let due = match self.peers.get(peer) {
            Some(count) => now.millis_since(count.reported) >= REPORT_EVERY_MS,
            None => true,
        };
        let count = self.peers.entry(peer.to_owned()).or_insert(Count {
            reported: now,
            reason: String::new(),
            unreported: 0,
        });
        count.unreported += 1;
        if count.reason.is_empty() {
            reason[..reason.floor_char_boundary(REASON_BYTES_MAX)].clone_into(&mut count.reason);
        }
        if !due {
            return None;
        }
        count.reported = now;
        Some(EventKind::Malformed {
            protocol: self.protocol.to_owned(),
            peer: peer.to_owned(),
            reason: std::mem::take(&mut count.reason),
            count: std::mem::take(&mut count.unreported),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(event: Option<EventKind>) -> Option<(String, String, u64)> {
        match event? {
            EventKind::Malformed {
                peer,
                reason,
                count,
                ..
            } => Some((peer, reason, count)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_peer_is_reported_at_its_first_and_then_once_a_minute_with_the_count() {
        let mut tally = MalformedTally::new("tftp");
        let mut at = |ms, peer, reason| told(tally.record(Timestamp(ms), peer, reason));
        assert_eq!(at(0, "a", "x"), Some(("a".into(), "x".into(), 1)));
        assert_eq!(at(1, "a", "y"), None);
        assert_eq!(at(59_999, "a", "z"), None);
        assert_eq!(at(5, "b", "x"), Some(("b".into(), "x".into(), 1)));
        assert_eq!(at(60_000, "a", "w"), Some(("a".into(), "y".into(), 3)));
        assert_eq!(at(60_001, "a", "w"), None);
    }

    #[test]
    fn a_flood_of_forged_peers_is_held_to_a_bounded_number_of_entries_and_reports() {
        let mut tally = MalformedTally::new("tftp");
        let reports = (0..10_000)
            .filter_map(|n| tally.record(Timestamp(n), &n.to_string(), "x"))
            .count();
        assert_eq!(reports, PEERS_MAX + 1);
        assert!(tally.peers.len() <= PEERS_MAX + 1);
    }
}
