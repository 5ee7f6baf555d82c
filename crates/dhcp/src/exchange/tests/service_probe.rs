use dess_model::PROBE_MAC;

use super::*;

/// The probe's DISCOVER, from this address.
fn probed_from(room: &mut Room, source: Ipv4Addr) -> Outcome {
    let mut datagram = Vec::new();
    let message = discover(PROBE_MAC, PXE_BIOS);
    message.encode(1472, &mut datagram).unwrap();
    let arrival = Arrival {
        source: SocketAddrV4::new(source, 40_000),
        ..room.arrival(SERVER_PORT)
    };
    room.exchange.handle_datagram(arrival, &datagram)
}

#[test]
fn the_servers_own_probe_gets_the_offer_of_new_firmware_and_leaves_nothing_behind() {
    let mut room = Room::new();
    for _ in 0..10 {
        let outcome = probed_from(&mut room, SERVER);
        let offer = reply(&outcome).expect("an offer");
        assert_eq!(offer.message_type, Some(MessageType::Offer));
        assert_eq!(offer.yiaddr, ip(100), "always the same: it is not held");
        assert_eq!(text(&offer, 67).as_deref(), Some("undionly.kpxe"));
        assert_eq!(destination(&outcome), "10.77.0.1:40000");
        assert_eq!((outcome.records, outcome.events), (vec![], vec![]));
    }
    assert_eq!(room.exchange.leases().iter().count(), 0);
    assert!(!room.exchange.is_booting(PROBE_MAC, room.now));
    for number in 0..4 {
        let mac = MacAddr([0x52, 0x54, 0, 0x99, 1, number]);
        assert!(room.offered(mac, PXE_BIOS).is_some(), "four addresses");
    }
}

#[test]
fn with_all_addresses_given_the_probe_is_answered_without_one() {
    let mut room = Room::new();
    for number in 0..4 {
        room.lease(MacAddr([0x52, 0x54, 0, 0x99, 1, number]), PXE_BIOS);
    }
    let offer = reply(&probed_from(&mut room, SERVER)).expect("an offer");
    assert_eq!(offer.yiaddr, ANY);
}

#[test]
fn beside_another_dhcp_server_the_probe_gets_boot_information_alone() {
    let mut room = Room::with(snapshot(DhcpMode::Proxy));
    let outcome = probed_from(&mut room, SERVER);
    let offer = reply(&outcome).expect("an offer");
    assert_eq!((offer.yiaddr, offer.siaddr), (ANY, SERVER));
    assert_eq!(text(&offer, 67).as_deref(), Some("undionly.kpxe"));
    assert_eq!(outcome.events, []);
}

#[test]
fn a_stranger_with_the_probes_mac_is_an_ordinary_client() {
    let mut room = Room::new();
    let outcome = probed_from(&mut room, ip(66));
    assert_eq!(destination(&outcome), "255.255.255.255:68");
    assert_eq!(outcome.events.len(), 2, "announced and offered");
    assert_eq!(room.exchange.leases().iter().count(), 1);
}
