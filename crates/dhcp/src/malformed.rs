//! Malformed datagrams: counted, told once per peer and minute.

use std::collections::HashMap;
use std::net::SocketAddrV4;

use dess_model::{EventKind, MacAddr, Timestamp};

use crate::DecodeError;

/// Most peers told apart; the rest is counted under one name.
const PEERS_MAX: usize = 256;
/// How often one peer is reported, in milliseconds.
const REPORT_MS: i64 = 60 * 1000;

/// Counts per peer.
#[derive(Clone, Debug, Default)]
pub(crate) struct MalformedLedger {
    peers: HashMap<String, Account>,
}

#[derive(Clone, Debug)]
struct Account {
    reported_at: Timestamp,
    reason: DecodeError,
    unreported: u64,
}

impl MalformedLedger {
    /// Counts one datagram; the event is to be sent, if there is one.
    pub(crate) fn record(
        &mut self,
        now: Timestamp,
        source: SocketAddrV4,
        datagram: &[u8],
        reason: DecodeError,
    ) -> Option<EventKind> {
        let mut peer = peer_name(source, datagram);
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&peer) {
            "others".clone_into(&mut peer);
        }
        if let Some(account) = self.peers.get_mut(&peer) {
            account.unreported += 1;
            return account.due(now).then(|| account.report(&peer, now));
        }
        let mut account = Account {
            reported_at: now,
            reason,
            unreported: 1,
        };
        let event = account.report(&peer, now);
        self.peers.insert(peer, account);
        Some(event)
    }

    /// Reports what came since the last report of each peer, and forgets quiet peers.
    pub(crate) fn handle_timeout(&mut self, now: Timestamp) -> Vec<EventKind> {
        let mut events = Vec::new();
        self.peers.retain(|peer, account| {
            if !account.due(now) {
                return true;
            }
            let noisy = account.unreported > 0;
            if noisy {
                events.push(account.report(peer, now));
            }
            noisy
        });
        events
    }
}

impl Account {
    fn due(&self, now: Timestamp) -> bool {
        now.0 - self.reported_at.0 >= REPORT_MS
    }

    fn report(&mut self, peer: &str, now: Timestamp) -> EventKind {
        let (reason, count) = (self.reason, self.unreported);
        tracing::warn!(
            peer = peer,
            malformed.count = count,
            "malformed DHCP datagram from {peer}: {reason}"
        );
        self.reported_at = now;
        self.unreported = 0;
        EventKind::Malformed {
            protocol: "dhcp".to_owned(),
            peer: peer.to_owned(),
            reason: reason.to_string(),
            count,
        }
    }
}

/// A client without an address is told apart by the MAC address that it claims.
fn peer_name(source: SocketAddrV4, datagram: &[u8]) -> String {
    if !source.ip().is_unspecified() {
        return source.ip().to_string();
    }
    match datagram.get(28..34).and_then(|mac| mac.try_into().ok()) {
        Some(mac) => MacAddr(mac).to_string(),
        None => source.ip().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(event: Option<EventKind>) -> Option<u64> {
        match event? {
            EventKind::Malformed { count, .. } => Some(count),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_peer_is_reported_at_once_then_once_a_minute_with_what_came_meanwhile() {
        let mut ledger = MalformedLedger::default();
        let source = SocketAddrV4::new([10, 0, 0, 9].into(), 68);
        let mut record = |ms| {
            let reason = DecodeError::Short { length: 1 };
            count(ledger.record(Timestamp(ms), source, b"x", reason))
        };
        assert_eq!(record(0), Some(1));
        assert_eq!(record(1), None);
        assert_eq!(record(59_999), None);
        assert_eq!(record(60_000), Some(3));
        assert_eq!(record(60_001), None);
        assert!(ledger.handle_timeout(Timestamp(90_000)).is_empty());
        assert_eq!(
            count(ledger.handle_timeout(Timestamp(120_000)).pop()),
            Some(1)
        );
        assert!(ledger.handle_timeout(Timestamp(180_000)).is_empty());
        assert!(ledger.peers.is_empty());
    }

    #[test]
    fn a_flood_of_invented_peers_is_bounded() {
        let mut ledger = MalformedLedger::default();
        for number in 0..10_000_u32 {
            let source = SocketAddrV4::new(number.into(), 68);
            ledger.record(Timestamp(0), source, b"x", DecodeError::Cookie);
        }
        assert!(ledger.peers.len() <= PEERS_MAX + 1);
    }
}
