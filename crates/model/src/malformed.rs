//! What peers can trigger without any right, counted; told at most once per peer and minute.

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

/// Counts one kind of happening per peer (a refusal, say) and says when to tell of it.
#[derive(Clone, Debug, Default)]
pub struct PeerTally {
    peers: HashMap<String, Count>,
}

/// What to tell of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tallied {
    /// The peer, or `others`.
    pub peer: String,
    /// The first reason since the last report.
    pub reason: String,
    /// How many since the last report, this one included.
    pub count: u64,
}

#[derive(Clone, Debug)]
struct Count {
    reported: Timestamp,
    reason: String,
    unreported: u64,
}

impl PeerTally {
    /// Counts one; says what to log and send, if it is time: at a peer's first, and then at its
    /// first after each minute.
    pub fn record(&mut self, now: Timestamp, peer: &str, reason: &str) -> Option<Tallied> {
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(peer) {
            self.peers.retain(|_, count| !count.is_due(now));
        }
        let full = self.peers.len() >= PEERS_MAX && !self.peers.contains_key(peer);
        let peer = if full { OTHERS } else { peer };
        let due = self.peers.get(peer).is_none_or(|count| count.is_due(now));
        let count = self.peers.entry(peer.to_owned()).or_insert(Count {
            reported: now,
            reason: String::new(),
            unreported: 0,
        });
        count.unreported += 1;
        if count.reason.is_empty() {
            reason[..reason.floor_char_boundary(REASON_BYTES_MAX)].clone_into(&mut count.reason);
        }
        due.then(|| count.report(peer, now))
    }

    /// What came since the last report of each peer, a minute after that; quiet peers are
    /// forgotten. To be called now and then by those who want the last count too.
    pub fn handle_timeout(&mut self, now: Timestamp) -> Vec<Tallied> {
        let mut reports = Vec::new();
        self.peers.retain(|peer, count| {
            let noisy = count.unreported > 0;
            if noisy && count.is_due(now) {
                reports.push(count.report(peer, now));
            }
            noisy || !count.is_due(now)
        });
        reports
    }
}

impl Count {
    fn is_due(&self, now: Timestamp) -> bool {
        now.millis_since(self.reported) >= REPORT_EVERY_MS
    }

    fn report(&mut self, peer: &str, now: Timestamp) -> Tallied {
        self.reported = now;
        Tallied {
            peer: peer.to_owned(),
            reason: std::mem::take(&mut self.reason),
            count: std::mem::take(&mut self.unreported),
        }
    }
}

/// Counts malformed input of one protocol and says when to report it.
#[derive(Clone, Debug)]
pub struct MalformedTally {
    protocol: &'static str,
    tally: PeerTally,
}

impl MalformedTally {
    /// For a protocol, e.g. `dhcp`.
    pub fn new(protocol: &'static str) -> Self {
        Self {
            protocol,
            tally: PeerTally::default(),
        }
    }

    /// Counts one; gives the [`EventKind::Malformed`] to log and send, if it is time for one, as
    /// [`PeerTally::record`] says.
    pub fn record(&mut self, now: Timestamp, peer: &str, reason: &str) -> Option<EventKind> {
        let told = self.tally.record(now, peer, reason)?;
        Some(self.event(told))
    }

    /// What came since the last reports, as [`PeerTally::handle_timeout`] says.
    pub fn handle_timeout(&mut self, now: Timestamp) -> Vec<EventKind> {
        let told = self.tally.handle_timeout(now);
        told.into_iter().map(|told| self.event(told)).collect()
    }

    fn event(&self, told: Tallied) -> EventKind {
        EventKind::Malformed {
            protocol: self.protocol.to_owned(),
            peer: told.peer,
            reason: told.reason,
            count: told.count,
        }
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
        assert!(tally.tally.peers.len() <= PEERS_MAX + 1);
    }

    #[test]
    fn the_last_count_of_a_peer_that_fell_silent_is_told_too_and_then_it_is_forgotten() {
        let mut tally = PeerTally::default();
        tally.record(Timestamp(0), "a", "x");
        tally.record(Timestamp(1), "a", "y");
        assert_eq!(tally.handle_timeout(Timestamp(59_999)), []);
        let last = Tallied {
            peer: "a".into(),
            reason: "y".into(),
            count: 1,
        };
        assert_eq!(tally.handle_timeout(Timestamp(60_000)), [last]);
        assert_eq!(tally.handle_timeout(Timestamp(119_999)), []);
        assert_eq!(tally.peers.len(), 1);
        assert_eq!(tally.handle_timeout(Timestamp(120_000)), []);
        assert!(tally.peers.is_empty());
    }
}
