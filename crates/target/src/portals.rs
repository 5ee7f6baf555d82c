//! Which portals an initiator is told of (RFC 7143 Appendix C).

use std::net::{IpAddr, SocketAddr};

/// The portals among `listening` that the initiator at `peer` can reach, which reached us at `reached`: that one first.
///
/// One that listens on every address is told as the address that was reached. Left out is what only this machine
/// reaches, what cannot be written down (a link-local address needs the interface of its reader), and the other
/// family of addresses: an initiator that has none of it would try in vain, for as long as its log-in may take.
pub(crate) fn reachable(
    listening: &[SocketAddr],
    reached: SocketAddr,
    peer: IpAddr,
) -> Vec<SocketAddr> {
    let reached = canonical(reached);
    let peer = peer.to_canonical();
    let mut portals = vec![reached];
    for &address in listening {
        let mut portal = canonical(address);
        if portal.ip().is_unspecified() {
            portal.set_ip(reached.ip());
        }
        let ip = portal.ip();
        let is_reachable = ip.is_ipv4() == reached.ip().is_ipv4()
            && (!ip.is_loopback() || peer.is_loopback())
            && !is_link_local(ip);
        if is_reachable && !portals.contains(&portal) {
            portals.push(portal);
        }
    }
    portals
}

/// An IPv4 address in its own form, and no zone: the other end has its own ones.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Portals that are listened on, the one that was reached, who asks, what it is told.
    type Row = (
        &'static [&'static str],
        &'static str,
        &'static str,
        &'static [&'static str],
    );

    const TABLE: &[Row] = &[
        // Both paths of a server with two cards, the one that works first.
        (
            &["10.0.0.1:3260", "10.1.0.1:3260"],
            "10.1.0.1:3260",
            "10.1.0.9",
            &["10.1.0.1:3260", "10.0.0.1:3260"],
        ),
        // Everywhere is no address; two ports of it are two portals.
        (
            &["0.0.0.0:3260", "0.0.0.0:3261"],
            "10.0.0.1:3261",
            "10.0.0.9",
            &["10.0.0.1:3261", "10.0.0.1:3260"],
        ),
        (
            &["[::]:3260"],
            "[::ffff:10.0.0.1]:3260",
            "::ffff:10.0.0.9",
            &["10.0.0.1:3260"],
        ),
        (
            &["[::]:3260"],
            "[fd77::1]:3260",
            "fd77::9",
            &["[fd77::1]:3260"],
        ),
        // The machine's own address is of use to itself only.
        (
            &["127.0.0.1:3260", "10.0.0.1:3260"],
            "10.0.0.1:3260",
            "10.0.0.9",
            &["10.0.0.1:3260"],
        ),
        (
            &["127.0.0.1:3260", "10.0.0.1:3260"],
            "127.0.0.1:3260",
            "127.0.0.1",
            &["127.0.0.1:3260", "10.0.0.1:3260"],
        ),
        // The other family, and what needs a zone.
        (
            &["10.0.0.1:3260", "[fd77::1]:3260", "[fe80::1]:3260"],
            "[fd77::1]:3260",
            "fd77::9",
            &["[fd77::1]:3260"],
        ),
        (
            &["[fe80::1]:3260"],
            "[fe80::1]:3260",
            "fe80::9",
            &["[fe80::1]:3260"],
        ),
    ];

    #[test]
    fn an_initiator_is_told_of_each_portal_that_it_can_reach() {
        for &(listening, reached, peer, expected) in TABLE {
            let listening: Vec<SocketAddr> =
                listening.iter().map(|one| one.parse().unwrap()).collect();
            let told = reachable(&listening, reached.parse().unwrap(), peer.parse().unwrap());
            let told: Vec<String> = told.iter().map(ToString::to_string).collect();
            assert_eq!(told, expected, "{listening:?} by {reached}");
        }
    }
}
