//! Duplicate-address probes ahead of need: they cost no client a wait.
//!
//! A datagram to the discard port makes the kernel ask for the address by ARP; its neighbour
//! table tells the result. An entry that was there before may be of a machine long gone: the
//! kernel confirms it within eight seconds (5 s delay, 3 unicast tries) or drops it, so only an
//! entry that outlives that counts as occupied.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use dess_model::MacAddr;
use tokio::net::UdpSocket;

/// How long a machine has for its ARP reply.
const ANSWER_AFTER: Duration = Duration::from_secs(1);
/// How long the kernel may take to find an old entry wrong.
const CONFIRMED_AFTER: Duration = Duration::from_secs(10);
/// RFC 863.
const DISCARD_PORT: u16 = 9;

/// Probes under way on one interface.
pub(crate) struct Prober {
    interface: String,
    socket: UdpSocket,
    pending: Vec<(Ipv4Addr, Instant)>,
}

/// Who was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) address: Ipv4Addr,
    pub(crate) occupant: Option<MacAddr>,
}

impl Prober {
    /// A prober that sends from this socket, which is bound to the interface.
    pub(crate) fn new(interface: &str, socket: UdpSocket) -> Self {
        Self {
            interface: interface.to_owned(),
            socket,
            pending: Vec::new(),
        }
    }

    /// Starts to probe addresses.
    pub(crate) fn start(&mut self, now: Instant, addresses: Vec<Ipv4Addr>) {
        for address in addresses {
            let target = SocketAddrV4::new(address, DISCARD_PORT);
            match self.socket.try_send_to(&[], target.into()) {
                Ok(_) => self.pending.push((address, now)),
                Err(error) => {
                    tracing::debug!(%error, "cannot probe {address} on {}", self.interface);
                }
            }
        }
    }

    /// True if there is something to look up in the neighbour table.
    pub(crate) fn is_busy(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Results that the kernel's neighbour table (`/proc/net/arp`) tells by now.
    pub(crate) fn findings(&mut self, now: Instant, table: &str) -> Vec<Finding> {
        let mut findings = Vec::new();
        let interface = &self.interface;
        self.pending.retain(|&(address, since)| {
            let age = now.duration_since(since);
            let occupant = neighbour(table, interface, address);
            let due = match occupant {
                None => age >= ANSWER_AFTER,
                Some(_) => age >= CONFIRMED_AFTER,
            };
            if due {
                findings.push(Finding { address, occupant });
            }
            !due
        });
        findings
    }
}

/// The complete entry of an address in `/proc/net/arp`.
pub(crate) fn neighbour(table: &str, interface: &str, address: Ipv4Addr) -> Option<MacAddr> {
    /// `ATF_COM` of `<net/if_arp.h>`: the entry has a hardware address.
    const COMPLETE: u32 = 2;
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_whitespace();
        let ip: Ipv4Addr = columns.next()?.parse().ok()?;
        let flags = columns.nth(1)?.strip_prefix("0x")?;
        let mac: MacAddr = columns.next()?.parse().ok()?;
        let device = columns.nth(1)?;
        let complete = u32::from_str_radix(flags, 16).ok()? & COMPLETE != 0;
        (ip == address && device == interface && complete && mac.is_unicast()).then_some(mac)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
IP address       HW type     Flags       HW address            Mask     Device
10.0.0.5         0x1         0x2         52:54:00:77:00:05     *        eth0
10.0.0.6         0x1         0x0         00:00:00:00:00:00     *        eth0
10.0.0.7         0x1         0x2         52:54:00:77:00:07     *        eth1
";

    #[test]
    fn only_complete_entries_of_the_interface_count() {
        let at = |last| neighbour(TABLE, "eth0", Ipv4Addr::new(10, 0, 0, last));
        assert_eq!(at(5), Some(MacAddr([0x52, 0x54, 0, 0x77, 0, 5])));
        assert_eq!([at(6), at(7), at(8)], [None; 3]);
        assert_eq!(
            neighbour("garbage\nx y\n", "eth0", [10, 0, 0, 5].into()),
            None
        );
    }

    #[tokio::test]
    async fn silence_is_judged_after_a_second_and_an_entry_only_when_it_lasts() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut prober = Prober::new("eth0", socket);
        let start = Instant::now();
        let [used, free] = [5, 6].map(|last| Ipv4Addr::new(10, 0, 0, last));
        prober.pending = vec![(used, start), (free, start)];
        assert_eq!(prober.findings(start, TABLE), []);
        let silent = Finding {
            address: free,
            occupant: None,
        };
        assert_eq!(prober.findings(start + ANSWER_AFTER, TABLE), [silent]);
        let occupied = Finding {
            address: used,
            occupant: Some(MacAddr([0x52, 0x54, 0, 0x77, 0, 5])),
        };
        assert_eq!(prober.findings(start + CONFIRMED_AFTER, TABLE), [occupied]);
        assert!(!prober.is_busy());
    }
}
