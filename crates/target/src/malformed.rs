//! Malformed input, counted: one event per peer and minute.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most peers remembered at once; beyond it the oldest are forgotten.
const PEERS_MAX: usize = 1024;
/// At most one event per peer in this time.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// Counts malformed input by peer.
#[derive(Debug, Default)]
pub(crate) struct MalformedInput {
    peers: Mutex<HashMap<IpAddr, Peer>>,
}

#[derive(Debug)]
struct Peer {
    reported: Instant,
    since: u64,
}

impl MalformedInput {
    /// Counts one; the number since the last report if it is time for the next.
    pub(crate) fn count(&self, now: Instant, peer: IpAddr) -> Option<u64> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = peers.get_mut(&peer) {
            known.since += 1;
            if now.saturating_duration_since(known.reported) < REPORT_EVERY {
                return None;
            }
            known.reported = now;
            return Some(std::mem::take(&mut known.since));
        }
        if peers.len() >= PEERS_MAX {
            peers.retain(|_, known| now.saturating_duration_since(known.reported) < REPORT_EVERY);
        }
        if peers.len() >= PEERS_MAX {
            peers.clear();
        }
        peers.insert(
            peer,
            Peer {
                reported: now,
                since: 0,
            },
        );
        Some(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_reported_once_a_minute_with_its_count() {
        let input = MalformedInput::default();
        let start = Instant::now();
        let peer = IpAddr::from([10, 0, 0, 1]);
        assert_eq!(input.count(start, peer), Some(1));
        assert_eq!(input.count(start, peer), None);
        assert_eq!(input.count(start, IpAddr::from([10, 0, 0, 2])), Some(1));
        assert_eq!(input.count(start + REPORT_EVERY, peer), Some(2));
    }
}
