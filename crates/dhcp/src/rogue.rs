//! Other DHCP servers heard on our networks.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use dess_model::{DhcpMode, EventKind, MacAddr, Timestamp};

use crate::recent::Recent;

/// How often one server is reported, in milliseconds.
const REPORT_MS: i64 = 60 * 1000;
/// After how long without a word of the site's own server another one takes its place, in
/// milliseconds.
const EXPECTED_MS: i64 = 60 * 60 * 1000;
/// Most interfaces for which the site's own server is remembered.
const INTERFACES_MAX: usize = 64;

/// Which foreign servers were heard and reported.
#[derive(Clone, Debug)]
pub(crate) struct RogueLedger {
    reported: Recent<(String, Ipv4Addr)>,
    /// Per interface: the site's own server and when it was last heard.
    expected: HashMap<String, (Ipv4Addr, Timestamp)>,
}

impl Default for RogueLedger {
    fn default() -> Self {
        Self {
            reported: Recent::new(REPORT_MS),
            expected: HashMap::new(),
        }
    }
}

impl RogueLedger {
    /// A server that is not ours spoke. Where we are proxy, the first one heard is the site's own
    /// and only further ones are reported.
    pub(crate) fn observe(
        &mut self,
        now: Timestamp,
        mode: DhcpMode,
        interface: &str,
        server: Ipv4Addr,
        mac: Option<MacAddr>,
    ) -> Option<EventKind> {
        if mode == DhcpMode::Proxy && self.is_expected(now, interface, server) {
            return None;
        }
        if !self.reported.is_first((interface.to_owned(), server), now) {
            return None;
        }
        tracing::warn!(
            rogue.server = %server,
            rogue.mac = mac.map(|mac| mac.to_string()),
            interface,
            "another DHCP server answers on {interface}: {server}"
        );
        Some(EventKind::RogueDhcp {
            server,
            mac,
            interface: interface.to_owned(),
        })
    }

    fn is_expected(&mut self, now: Timestamp, interface: &str, server: Ipv4Addr) -> bool {
        if let Some((expected, heard_at)) = self.expected.get_mut(interface)
            && now.0 - heard_at.0 < EXPECTED_MS
        {
            if *expected == server {
                *heard_at = now;
            }
            return *expected == server;
        }
        if self.expected.len() < INTERFACES_MAX || self.expected.contains_key(interface) {
            tracing::info!(dhcp.server = %server, interface, "the site's DHCP server is {server}");
            self.expected.insert(interface.to_owned(), (server, now));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const SECOND: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);

    #[test]
    fn a_foreign_server_is_reported_once_a_minute() {
        let mut ledger = RogueLedger::default();
        let mut heard = |ms| {
            ledger
                .observe(Timestamp(ms), DhcpMode::Server, "eth0", FIRST, None)
                .is_some()
        };
        assert_eq!(
            [heard(0), heard(59_999), heard(60_000)],
            [true, false, true]
        );
    }

    #[test]
    fn as_proxy_the_sites_own_server_is_expected_and_a_second_one_is_not() {
        let mut ledger = RogueLedger::default();
        let mut heard = |ms, server| {
            ledger
                .observe(Timestamp(ms), DhcpMode::Proxy, "eth0", server, None)
                .is_some()
        };
        assert_eq!([heard(0, FIRST), heard(0, SECOND)], [false, true]);
        assert!(!heard(EXPECTED_MS - 1, FIRST));
        // It moved to another address: after an hour that is the site's own.
        assert!(heard(EXPECTED_MS, SECOND));
        assert!(!heard(2 * EXPECTED_MS, SECOND));
        assert!(heard(2 * EXPECTED_MS, FIRST));
    }
}
