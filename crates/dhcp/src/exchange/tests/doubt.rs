//! After a power cut the last leases may be missing.

use super::*;
use crate::lease::BindingState;

/// A room whose server lost its leases with the power, an hour in doubt; with the journal's rest.
fn in_doubt(left: Vec<Binding>) -> Room {
    let mut room = Room::new();
    room.restart(left, snapshot(DhcpMode::Server));
    room.exchange.doubt(Timestamp(room.now.0 + 3_600_000));
    room
}

fn wish(mac: MacAddr, address: Ipv4Addr) -> Message {
    let mut wish = discover(mac, DHCLIENT);
    wish.options.set_address(code::REQUESTED_ADDRESS, address);
    wish
}

#[test]
fn a_client_whose_lease_was_lost_keeps_its_address_however_it_asks() {
    for request in [
        init_reboot(BARE, DHCLIENT, ip(102)),
        renew(BARE, ip(102)),
        select(BARE, DHCLIENT, ip(102)),
    ] {
        let mut room = in_doubt(vec![]);
        assert_eq!(kind(&room.send(&request)), Some(MessageType::Ack));
    }
    let mut room = in_doubt(vec![]);
    let offer = reply(&room.send(&wish(BARE, ip(102)))).unwrap();
    assert_eq!(offer.yiaddr, ip(102));
    // It is the first one's now.
    assert_eq!(reply(&room.send(&wish(STRANGER, ip(102)))), None);
}

#[test]
fn nobody_else_is_offered_an_address_before_a_probe_found_it_unused() {
    let mut room = in_doubt(vec![]);
    assert_eq!(room.offered(STRANGER, DHCLIENT), None, "not probed");
    let wanted = room.exchange.poll_probes(room.now, &[SERVER]);
    assert_eq!(wanted.len(), 4);
    assert_eq!(room.offered(STRANGER, DHCLIENT), None, "being probed");
    room.exchange.handle_probe(room.now, ip(101), None);
    assert_eq!(room.offered(STRANGER, DHCLIENT), Some(ip(101)));
    assert_eq!(room.offered(BARE, DHCLIENT), None);
    // A reservation is nobody else's, doubt or not.
    assert_eq!(room.offered(SEAT, DHCLIENT), Some(ip(10)));
    room.wait(3600);
    assert!(room.offered(BARE, DHCLIENT).is_some(), "the doubt is over");
}

#[test]
fn a_former_address_is_as_doubtful_as_any_unless_its_client_asks_for_it() {
    let mut room = Room::new();
    let (address, lease) = room.lease(BARE, DHCLIENT);
    room.wait(3600);
    let now = room.now;
    room = in_doubt(vec![lease]);
    room.now = now;
    room.exchange.doubt(Timestamp(now.0 + 3_600_000));
    assert_eq!(room.offered(BARE, DHCLIENT), None);
    let offer = reply(&room.send(&wish(BARE, address))).unwrap();
    assert_eq!(offer.yiaddr, address);
}

#[test]
fn who_is_found_on_an_address_in_doubt_keeps_it() {
    let mut room = in_doubt(vec![]);
    room.exchange.poll_probes(room.now, &[SERVER]);
    let found = room.exchange.handle_probe(room.now, ip(100), Some(BARE));
    let found = found.unwrap();
    assert_eq!((found.mac, found.state), (BARE, BindingState::Leased));
    assert_eq!(
        kind(&room.send(&renew(BARE, ip(100)))),
        Some(MessageType::Ack)
    );
    let by_another = room.send(&init_reboot(STRANGER, DHCLIENT, ip(100)));
    assert_eq!(kind(&by_another), Some(MessageType::Nak));
    // Who has a lease did not lose it: the second address is taken without one.
    let found = room.exchange.handle_probe(room.now, ip(101), Some(BARE));
    assert_eq!(found.unwrap().state, BindingState::Quarantined);
}

#[test]
fn behind_a_relay_agent_where_no_probe_reaches_addresses_are_offered_all_the_same() {
    let mut room = in_doubt(vec![]);
    let mut request = discover(STRANGER, PXE_BIOS);
    request.giaddr = Ipv4Addr::new(10, 78, 0, 254);
    let offer = reply(&room.send(&request)).unwrap();
    assert_eq!(offer.yiaddr, Ipv4Addr::new(10, 78, 0, 10));
}

#[test]
fn a_flood_of_discovers_writes_nothing_and_is_bounded_by_the_pool() {
    let mut room = Room::new();
    for number in 0..20_000_u32 {
        let [_, _, c, d] = number.to_be_bytes();
        let outcome = room.send(&discover(MacAddr([2, 0, 0, 0, c, d]), DHCLIENT));
        assert_eq!(outcome.records, []);
        if number % 100 == 0 {
            room.wait(1);
        }
    }
    assert!(room.exchange.leases().iter().count() <= 4);
}
