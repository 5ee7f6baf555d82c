use super::*;

const SITES_OWN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

fn room() -> Room {
    Room::with(snapshot(DhcpMode::Proxy))
}

#[test]
fn a_booting_client_is_offered_boot_information_and_no_address() {
    for (marks, file, class) in [
        (PXE_BIOS, "undionly.kpxe", "PXEClient"),
        (PXE_X64, "snponly.efi", "PXEClient"),
        (
            HTTP_X64,
            "http://10.77.0.1:8069/files/snponly.efi",
            "HTTPClient",
        ),
        (
            IPXE,
            "http://10.77.0.1:8069/boot/52-54-00-77-00-01.ipxe",
            "PXEClient",
        ),
    ] {
        let outcome = room().send(&discover(SEAT, marks));
        assert_eq!(outcome.records, []);
        let offer = reply(&outcome).unwrap();
        assert_eq!(offer.message_type, Some(MessageType::Offer));
        assert_eq!((offer.yiaddr, offer.siaddr), (ANY, SERVER));
        assert_eq!(text(&offer, 60).as_deref(), Some(class));
        assert_eq!(offer.file, file.as_bytes());
        assert_eq!(offer.options.address(54), Some(SERVER));
        let of_leases = [1, 3, 6, 51, 58, 59];
        assert!(of_leases.iter().all(|&code| !offer.options.contains(code)));
    }
}

#[test]
fn who_does_not_netboot_gets_no_answer() {
    for kind in [
        MessageType::Discover,
        MessageType::Request,
        MessageType::Inform,
        MessageType::Decline,
        MessageType::Release,
    ] {
        for mac in [STRANGER, SEAT] {
            let outcome = room().send(&message(kind, mac, DHCLIENT));
            assert_eq!(outcome.transmit, None, "{kind:?}");
        }
    }
    assert_eq!(room().send(&discover(SEAT, EDK2_ISCSI)).transmit, None);
}

#[test]
fn port_4011_answers_the_sender_itself_in_either_mode() {
    for mode in [DhcpMode::Proxy, DhcpMode::Server] {
        let mut request = message(MessageType::Request, SEAT, PXE_BIOS);
        request.ciaddr = ip(66);
        let outcome = Room::with(snapshot(mode)).send_to(PROXY_PORT, &request);
        assert_eq!(destination(&outcome), "10.77.0.66:68");
        let ack = reply(&outcome).unwrap();
        assert_eq!(ack.message_type, Some(MessageType::Ack));
        assert_eq!((ack.yiaddr, ack.ciaddr), (ANY, ip(66)));
        assert_eq!(ack.file, b"undionly.kpxe");
        assert_eq!(outcome.records, []);
        let system = message(MessageType::Request, SEAT, DHCLIENT);
        let outcome = Room::with(snapshot(mode)).send_to(PROXY_PORT, &system);
        assert_eq!(outcome, Outcome::default());
    }
}

#[test]
fn a_request_on_port_67_is_answered_only_if_it_names_us() {
    let mut request = select(SEAT, PXE_BIOS, ip(66));
    let outcome = room().send(&request);
    assert_eq!(kind(&outcome), Some(MessageType::Ack));
    request
        .options
        .set_address(code::SERVER_IDENTIFIER, SITES_OWN);
    assert_eq!(room().send(&request), Outcome::default());
}

#[test]
fn a_known_clients_system_taking_its_address_elsewhere_is_noticed() {
    let mut request = select(SEAT, DHCLIENT, ip(66));
    request
        .options
        .set_address(code::SERVER_IDENTIFIER, SITES_OWN);
    let outcome = room().send(&request);
    assert_eq!(outcome.transmit, None);
    assert_eq!(
        outcome.events,
        [EventKind::DhcpAck {
            mac: SEAT,
            phase: DhcpPhase::Os,
            address: None,
            renewal: false
        }]
    );
}

fn overhear(room: &mut Room, server: Ipv4Addr) -> Option<EventKind> {
    let mut offer = discover(STRANGER, &[]);
    offer.op = Operation::Reply;
    offer.message_type = Some(MessageType::Offer);
    offer.options.set_address(code::SERVER_IDENTIFIER, server);
    let mut datagram = Vec::new();
    offer.encode(548, &mut datagram).unwrap();
    let mut arrival = room.arrival(CLIENT_PORT);
    arrival.source = SocketAddrV4::new(server, SERVER_PORT);
    room.exchange
        .handle_overheard(arrival, &datagram, Some(HELD))
}

#[test]
fn a_foreign_server_is_reported_and_our_own_answers_are_not() {
    let mut server = Room::new();
    assert_eq!(overhear(&mut server, SERVER), None);
    assert_eq!(
        overhear(&mut server, SITES_OWN),
        Some(EventKind::RogueDhcp {
            server: SITES_OWN,
            mac: Some(HELD),
            interface: "eth0".into()
        })
    );
    assert_eq!(overhear(&mut server, SITES_OWN), None);
    let mut proxy = room();
    assert_eq!(overhear(&mut proxy, SITES_OWN), None);
    assert!(overhear(&mut proxy, ip(3)).is_some());
    assert_eq!(overhear(&mut proxy, SITES_OWN), None);
}
