use super::*;
use crate::lease::BindingState;
use proptest::prelude::*;

#[test]
fn a_client_gets_its_reservation_and_a_stranger_an_address_of_the_pool() {
    let mut room = Room::new();
    assert_eq!(room.lease(SEAT, PXE_BIOS).0, ip(10));
    assert_eq!(room.lease(BARE, PXE_BIOS).0, ip(100));
    assert_eq!(room.lease(STRANGER, PXE_BIOS).0, ip(101));
}

#[test]
fn firmware_ipxe_and_system_get_the_same_address_whatever_client_identifier_they_send() {
    let mut room = Room::new();
    let mut marks = DHCLIENT.to_vec();
    marks.push((61, &[0xff, 1, 2, 3, 4]));
    let (address, _) = room.lease(BARE, PXE_X64);
    assert_eq!(room.lease(BARE, IPXE).0, address);
    assert_eq!(room.lease(BARE, &marks).0, address);
    let offer = reply(&room.send(&discover(BARE, &marks))).unwrap();
    assert_eq!(offer.options.value(61), Some(&[0xff, 1, 2, 3, 4][..]));
}

#[test]
fn a_former_address_is_kept_for_its_client_until_the_pool_is_used_up() {
    let mut room = Room::new();
    let (address, _) = room.lease(BARE, DHCLIENT);
    room.wait(100 * 3600);
    for number in 1..4 {
        let other = MacAddr([2, 0, 0, 0, 0, number]);
        assert_ne!(room.lease(other, DHCLIENT).0, address);
    }
    assert_eq!(room.offered(BARE, DHCLIENT), Some(address));
    room.wait(31);
    let last = MacAddr([2, 0, 0, 0, 0, 9]);
    assert_eq!(room.lease(last, DHCLIENT).0, address);
    assert_eq!(room.offered(BARE, DHCLIENT), None);
}

#[test]
fn an_offer_is_held_for_its_client_and_then_goes_back() {
    let mut room = Room::new();
    for number in 0..4 {
        let mac = MacAddr([2, 0, 0, 0, 0, number]);
        assert_eq!(room.offered(mac, DHCLIENT), Some(ip(100 + number)));
        assert_eq!(room.offered(mac, DHCLIENT), Some(ip(100 + number)));
    }
    assert_eq!(room.offered(STRANGER, DHCLIENT), None);
    room.wait(30);
    assert_eq!(room.offered(STRANGER, DHCLIENT), Some(ip(100)));
}

#[test]
fn a_wished_address_is_given_if_it_is_nobodys() {
    let mut room = Room::new();
    let mut wish = discover(STRANGER, DHCLIENT);
    for address in room.exchange.poll_probes(room.now, &[SERVER]) {
        room.exchange.handle_probe(room.now, address, None);
    }
    for (wished, given) in [(102, 102), (10, 102), (200, 102), (0, 102)] {
        wish.options
            .set_address(code::REQUESTED_ADDRESS, ip(wished));
        let offer = reply(&room.send(&wish)).unwrap();
        assert_eq!(offer.yiaddr, ip(given), "wish {wished}");
    }
}

#[test]
fn choosing_another_server_frees_the_offer_and_is_reported() {
    let mut room = Room::new();
    room.offered(STRANGER, DHCLIENT);
    let mut request = select(STRANGER, DHCLIENT, ip(50));
    request.options.set_address(code::SERVER_IDENTIFIER, ip(66));
    let outcome = room.send(&request);
    assert_eq!(outcome.transmit, None);
    assert_eq!(
        outcome.events,
        [EventKind::RogueDhcp {
            server: ip(66),
            mac: None,
            interface: "eth0".into()
        }]
    );
    let held = room.exchange.leases().by_mac(STRANGER).unwrap();
    assert!(!held.is_live(room.now));
}

#[test]
fn a_wished_address_that_was_not_probed_is_given_only_to_the_client_that_held_it() {
    let mut room = Room::new();
    let mut wish = discover(STRANGER, DHCLIENT);
    wish.options.set_address(code::REQUESTED_ADDRESS, ip(102));
    let offer = reply(&room.send(&wish)).unwrap();
    assert_eq!(offer.yiaddr, ip(100), "somebody may use the wished one");
    let wanted = room.exchange.poll_probes(room.now, &[SERVER]);
    assert_eq!(wanted, [ip(101), ip(102), ip(103)]);
    room.exchange.handle_probe(room.now, ip(102), None);
    wish.chaddr = BARE;
    let offer = reply(&room.send(&wish)).unwrap();
    assert_eq!(offer.yiaddr, ip(102));
    room.send(&select(BARE, DHCLIENT, ip(102)));
    room.wait(3600);
    let offer = reply(&room.send(&wish)).unwrap();
    assert_eq!(offer.yiaddr, ip(102), "its own, though its lease is over");
}

#[test]
fn who_asks_for_an_address_of_another_network_and_is_unknown_here_is_not_answered() {
    let elsewhere = Ipv4Addr::new(192, 168, 0, 9);
    let mut room = Room::new();
    let requests = [
        init_reboot(STRANGER, DHCLIENT, elsewhere),
        renew(STRANGER, elsewhere),
    ];
    for request in &requests {
        assert_eq!(room.send(request), Outcome::default(), "it is not ours");
    }
    let ours = init_reboot(STRANGER, DHCLIENT, ip(10));
    assert_eq!(kind(&room.send(&ours)), Some(MessageType::Nak));
    let reserved = init_reboot(SEAT, DHCLIENT, elsewhere);
    assert_eq!(kind(&room.send(&reserved)), Some(MessageType::Nak));
    room.lease(STRANGER, DHCLIENT);
    for request in &requests {
        assert_eq!(kind(&room.send(request)), Some(MessageType::Nak));
    }
}

/// Every state of RFC 2131's table against every claim on the address.
#[test]
fn each_kind_of_request_is_acknowledged_refused_or_ignored() {
    use MessageType::{Ack, Nak};
    let own = ip(100);
    let (free, others, reserved) = (ip(103), ip(101), ip(10));
    let (outside, foreign_net) = (ip(200), Ipv4Addr::new(192, 168, 0, 9));
    for (address, selecting, rebooting, renewing) in [
        (own, Ack, Ack, Ack),
        (free, Ack, Ack, Ack),
        (others, Nak, Nak, Nak),
        (reserved, Nak, Nak, Nak),
        (outside, Nak, Nak, Nak),
        (foreign_net, Nak, Nak, Nak),
        (SERVER, Nak, Nak, Nak),
        (ip(255), Nak, Nak, Nak),
    ] {
        let answer = |request: &Message| {
            let mut room = Room::new();
            room.lease(BARE, DHCLIENT);
            room.lease(STRANGER, DHCLIENT);
            let outcome = room.send(request);
            assert_eq!(
                outcome.records.len(),
                usize::from(kind(&outcome) == Some(Ack))
            );
            outcome
        };
        let select = answer(&select(BARE, DHCLIENT, address));
        assert_eq!(kind(&select), Some(selecting), "SELECTING {address}");
        let reboot = answer(&init_reboot(BARE, DHCLIENT, address));
        assert_eq!(kind(&reboot), Some(rebooting), "INIT-REBOOT {address}");
        let renew = answer(&renew(BARE, address));
        assert_eq!(kind(&renew), Some(renewing), "RENEWING {address}");
        if renewing == Nak {
            assert_eq!(destination(&renew), "255.255.255.255:68");
            let nak = reply(&renew).unwrap();
            assert_eq!((nak.yiaddr, nak.ciaddr), (ANY, ANY));
        } else {
            assert_eq!(destination(&renew), format!("{address}:68"));
        }
    }
    let mut room = Room::new();
    let nothing = message(MessageType::Request, BARE, DHCLIENT);
    assert_eq!(room.send(&nothing), Outcome::default());
    for kind in [MessageType::Offer, MessageType::Ack, MessageType::Nak] {
        assert_eq!(
            room.send(&message(kind, BARE, DHCLIENT)),
            Outcome::default()
        );
    }
}

#[test]
fn a_running_client_keeps_its_address_when_its_reservation_changes_and_moves_at_its_next_boot() {
    let mut room = Room::new();
    let (old, _) = room.lease(BARE, IPXE);
    let mut changed = snapshot(DhcpMode::Server);
    changed.revision = 2;
    changed.clients[1].address = Some(ip(20));
    changed.clients[2].address = Some(old);
    room.adopt(changed);
    assert_eq!(kind(&room.send(&renew(BARE, old))), Some(MessageType::Ack));
    // The address now reserved for another goes to it only when it is no longer used.
    assert_eq!(room.offered(HELD, PXE_BIOS), Some(ip(101)));
    assert_eq!(
        kind(&room.send(&init_reboot(BARE, IPXE, old))),
        Some(MessageType::Nak)
    );
    assert_eq!(room.lease(BARE, IPXE).0, ip(20));
    assert_eq!(room.lease(HELD, PXE_BIOS).0, old);
}

#[test]
fn a_machine_that_is_no_client_makes_way_when_its_address_is_reserved_for_one() {
    let mut room = Room::new();
    let (taken, _) = room.lease(STRANGER, DHCLIENT);
    let mut changed = snapshot(DhcpMode::Server);
    changed.revision = 2;
    changed.clients[1].address = Some(taken);
    room.adopt(changed);
    assert_eq!(room.offered(BARE, IPXE), Some(ip(101)), "still in use");
    assert_eq!(
        kind(&room.send(&renew(STRANGER, taken))),
        Some(MessageType::Nak)
    );
    assert_eq!(room.lease(STRANGER, DHCLIENT).0, ip(102));
    assert_eq!(room.lease(BARE, IPXE).0, taken);
}

#[test]
fn an_address_that_is_reserved_no_longer_comes_back_into_the_pool() {
    let mut site = snapshot(DhcpMode::Server);
    site.clients[0].address = Some(ip(100));
    let mut room = Room::with(site);
    for number in 1..4 {
        let mac = MacAddr([2, 0, 0, 0, 0, number]);
        assert_eq!(room.lease(mac, DHCLIENT).0, ip(100 + number));
    }
    assert_eq!(room.offered(STRANGER, DHCLIENT), None);
    let mut changed = snapshot(DhcpMode::Server);
    changed.revision = 2;
    room.adopt(changed);
    assert_eq!(room.offered(STRANGER, DHCLIENT), Some(ip(100)));
}

#[test]
fn leases_outlive_the_process_and_renewals_are_told_from_first_leases() {
    let mut room = Room::new();
    let (seat, first) = room.lease(SEAT, DHCLIENT);
    let (bare, second) = room.lease(BARE, DHCLIENT);
    room.restart(vec![first, second], snapshot(DhcpMode::Server));
    let outcome = room.send(&renew(BARE, bare));
    assert_eq!(kind(&outcome), Some(MessageType::Ack));
    assert_eq!(
        outcome.events,
        [EventKind::DhcpAck {
            mac: BARE,
            phase: DhcpPhase::Os,
            address: Some(bare),
            renewal: true
        }]
    );
    assert_ne!(room.lease(STRANGER, DHCLIENT).0, bare);
    // The journal was lost: a client that works with an address keeps it.
    room.restart(vec![], snapshot(DhcpMode::Server));
    assert_eq!(kind(&room.send(&renew(SEAT, seat))), Some(MessageType::Ack));
    assert_eq!(kind(&room.send(&renew(BARE, bare))), Some(MessageType::Ack));
}

#[test]
fn a_declined_address_goes_to_nobody_for_ten_minutes() {
    let mut room = Room::new();
    let (address, _) = room.lease(STRANGER, DHCLIENT);
    let mut decline = message(MessageType::Decline, STRANGER, &[]);
    decline
        .options
        .set_address(code::REQUESTED_ADDRESS, address);
    decline.options.set_address(code::SERVER_IDENTIFIER, SERVER);
    // Nobody can decline for another.
    let mut forged = decline.clone();
    forged.chaddr = BARE;
    assert_eq!(room.send(&forged), Outcome::default());
    let outcome = room.send(&decline);
    assert_eq!(outcome.transmit, None);
    assert_eq!(outcome.records[0].state, BindingState::Quarantined);
    assert_ne!(room.offered(STRANGER, DHCLIENT), Some(address));
    let others = (0..3).map(|n| room.offered(MacAddr([2, 0, 0, 0, 0, n]), DHCLIENT));
    assert!(
        others
            .collect::<Vec<_>>()
            .iter()
            .all(|&given| given != Some(address))
    );
    room.wait(600);
    room.wait(31);
    let given: Vec<_> = (10..14)
        .filter_map(|n| room.offered(MacAddr([2, 0, 0, 0, 0, n]), DHCLIENT))
        .collect();
    assert!(given.contains(&address));
}

#[test]
fn a_released_address_is_free_at_once_but_stays_its_clients_favourite() {
    let mut room = Room::new();
    let (address, _) = room.lease(BARE, DHCLIENT);
    let mut release = message(MessageType::Release, STRANGER, &[]);
    release.ciaddr = address;
    assert_eq!(room.send(&release), Outcome::default());
    release.chaddr = BARE;
    let outcome = room.send(&release);
    assert_eq!((outcome.transmit, outcome.records.len()), (None, 1));
    assert!(!outcome.records[0].is_live(room.now));
    assert_eq!(room.offered(BARE, DHCLIENT), Some(address));
}

#[test]
fn inform_is_answered_to_its_address_without_a_lease() {
    let mut room = Room::new();
    let mut inform = message(MessageType::Inform, STRANGER, DHCLIENT);
    inform.ciaddr = ip(66);
    let outcome = room.send(&inform);
    assert_eq!(destination(&outcome), "10.77.0.66:68");
    let ack = reply(&outcome).unwrap();
    assert_eq!(ack.message_type, Some(MessageType::Ack));
    assert_eq!((ack.yiaddr, ack.ciaddr), (ANY, ip(66)));
    assert!([51, 58, 59].iter().all(|&code| !ack.options.contains(code)));
    assert_eq!(ack.options.address(code::ROUTER), Some(ip(254)));
    inform.ciaddr = Ipv4Addr::new(8, 8, 8, 8);
    assert_eq!(room.send(&inform), Outcome::default());
}

#[test]
fn lease_times_follow_the_subnet() {
    let mut room = Room::new();
    let offer = reply(&room.send(&discover(BARE, DHCLIENT))).unwrap();
    let secs = |code| offer.options.value(code).unwrap().to_vec();
    assert_eq!(secs(code::LEASE_TIME), 3600_u32.to_be_bytes());
    assert_eq!(secs(code::RENEWAL_TIME), 1800_u32.to_be_bytes());
    assert_eq!(secs(code::REBINDING_TIME), 3150_u32.to_be_bytes());
    let (address, _) = room.lease(BARE, DHCLIENT);
    room.wait(3599);
    assert!(
        room.exchange
            .leases()
            .by_address(address)
            .unwrap()
            .is_live(room.now)
    );
    room.wait(1);
    assert!(
        !room
            .exchange
            .leases()
            .by_address(address)
            .unwrap()
            .is_live(room.now)
    );
}

#[test]
fn an_address_found_in_use_by_a_probe_is_quarantined() {
    let mut room = Room::new();
    let wanted = room.exchange.poll_probes(room.now, &[SERVER]);
    assert_eq!(wanted, [ip(100), ip(101), ip(102), ip(103)]);
    assert_eq!(
        room.exchange.poll_probes(room.now, &[Ipv4Addr::LOCALHOST]),
        [] as [Ipv4Addr; 0]
    );
    for address in [ip(101), ip(102), ip(103)] {
        assert_eq!(room.exchange.handle_probe(room.now, address, None), None);
    }
    let found = room
        .exchange
        .handle_probe(room.now, ip(100), Some(STRANGER));
    assert_eq!(found.map(|b| b.state), Some(BindingState::Quarantined));
    assert_eq!(room.lease(BARE, DHCLIENT).0, ip(101));
    // A result that comes too late harms no lease.
    assert_eq!(
        room.exchange.handle_probe(room.now, ip(101), Some(BARE)),
        None
    );
}

#[test]
fn before_the_first_snapshot_and_on_unknown_networks_it_is_silent() {
    let mut room = Room::new();
    room.exchange = Exchange::new(LeaseTable::default());
    assert_eq!(room.send(&discover(BARE, DHCLIENT)), Outcome::default());
    let mut room = Room::new();
    let mut datagram = Vec::new();
    discover(BARE, DHCLIENT).encode(548, &mut datagram).unwrap();
    let mut arrival = room.arrival(SERVER_PORT);
    let elsewhere = [Ipv4Addr::new(192, 168, 9, 1)];
    arrival.local = &elsewhere;
    assert_eq!(
        room.exchange.handle_datagram(arrival, &datagram),
        Outcome::default()
    );
}

#[test]
fn a_relayed_request_gets_an_address_of_the_relays_subnet_and_goes_back_to_the_relay() {
    let mut room = Room::new();
    let relay = Ipv4Addr::new(10, 78, 0, 254);
    let mut request = discover(STRANGER, PXE_BIOS);
    request.giaddr = relay;
    request
        .options
        .set(code::RELAY_AGENT, [1, 4, b'e', b't', b'h', b'1']);
    let outcome = room.send(&request);
    assert_eq!(destination(&outcome), "10.78.0.254:67");
    let offer = reply(&outcome).unwrap();
    assert_eq!(
        (offer.yiaddr, offer.giaddr),
        (Ipv4Addr::new(10, 78, 0, 10), relay)
    );
    let last = offer.options.iter().last();
    assert_eq!(last, Some((82, &[1, 4, b'e', b't', b'h', b'1'][..])));
    // The boot server is beyond the router here, so even firmware needs it.
    assert_eq!(
        offer.options.address(code::ROUTER),
        Some(Ipv4Addr::new(10, 78, 0, 254))
    );
    let mut wrong = init_reboot(STRANGER, DHCLIENT, ip(100));
    wrong.giaddr = relay;
    let outcome = room.send(&wrong);
    assert_eq!(destination(&outcome), "10.78.0.254:67");
    let nak = reply(&outcome).unwrap();
    assert_eq!(
        (nak.message_type, nak.broadcast),
        (Some(MessageType::Nak), true)
    );
    request.giaddr = Ipv4Addr::new(172, 16, 0, 1);
    assert_eq!(room.send(&request), Outcome::default());
}

#[test]
fn garbage_is_counted_and_reported_once_per_peer_and_minute() {
    let mut room = Room::new();
    let arrival = room.arrival(SERVER_PORT);
    let mut events = 0;
    for length in 0..240 {
        let outcome = room.exchange.handle_datagram(arrival, &vec![1; length]);
        assert_eq!(outcome.transmit, None);
        events += outcome.events.len();
    }
    // One for datagrams without a MAC address, one for those with 01:01:...
    assert_eq!(events, 2);
    room.wait(60);
    assert_eq!(room.exchange.handle_timeout(room.now).len(), 2);
}

proptest! {
    #[test]
    fn arbitrary_requests_never_panic_and_never_give_one_address_to_two(
        calls in prop::collection::vec(
            (0_u8..8, 1_u8..9, prop::option::of(95_u8..110), prop::option::of(95_u8..110),
             any::<bool>(), 0_i64..2000),
            1..120,
        ),
    ) {
        let mut room = Room::new();
        for (number, kind, requested, ciaddr, ours, secs) in calls {
            use MessageType::{Decline, Discover, Inform, Release, Request};
            let kind = [Discover, Request, Request, Decline, Release, Inform, Request, Discover]
                [usize::from(kind) - 1];
            let mac = MacAddr([0x52, 0x54, 0, 0x77, 0, number + 1]);
            let mut request = message(kind, mac, DHCLIENT);
            if let Some(last) = requested {
                request.options.set_address(code::REQUESTED_ADDRESS, ip(last));
            }
            request.ciaddr = ciaddr.map_or(ANY, ip);
            if ours {
                request.options.set_address(code::SERVER_IDENTIFIER, SERVER);
            }
            let before = room.exchange.leases().clone();
            let now = room.now;
            let outcome = room.send(&request);
            if let Some(answer) = reply(&outcome)
                && !answer.yiaddr.is_unspecified()
            {
                let holder = before.by_address(answer.yiaddr);
                prop_assert!(holder.is_none_or(|b| b.mac == mac || !b.is_live(now)));
                let now_held = room.exchange.leases().by_mac(mac).map(|b| b.address);
                prop_assert_eq!(now_held, Some(answer.yiaddr));
            }
            room.wait(secs);
        }
    }
}
