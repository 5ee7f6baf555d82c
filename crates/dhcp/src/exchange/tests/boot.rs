use super::*;
use dess_model::Architecture;

const SCRIPT: &str = "http://10.77.0.1:8069/boot/52-54-00-77-00-01.ipxe";

fn offer(mac: MacAddr, marks: &[(u8, &[u8])]) -> Message {
    reply(&Room::new().send(&discover(mac, marks))).expect("an offer")
}

#[test]
fn pxe_firmware_is_told_file_server_and_to_look_no_further() {
    let offer = offer(SEAT, PXE_BIOS);
    assert_eq!(offer.siaddr, SERVER);
    assert_eq!(offer.file, b"undionly.kpxe");
    assert_eq!(text(&offer, 67).as_deref(), Some("undionly.kpxe"));
    assert_eq!(text(&offer, 66).as_deref(), Some("10.77.0.1"));
    assert_eq!(text(&offer, 60).as_deref(), Some("PXEClient"));
    assert_eq!(offer.options.value(43), Some(&[6, 1, 8, 255][..]));
    let uuid = PXE_BIOS[3].1;
    assert_eq!(offer.options.value(97), Some(uuid));
    assert!(!offer.options.contains(175));
}

#[test]
fn each_architecture_gets_its_loader() {
    let arm: &[(u8, &[u8])] = &[(60, b"PXEClient:Arch:00011:UNDI:003001"), (93, &[0, 11])];
    let old_rom: &[(u8, &[u8])] = &[(60, b"PXEClient")];
    let early: &[(u8, &[u8])] = &[(60, b"PXEClient:Arch:00009"), (93, &[0, 9])];
    let ia32: &[(u8, &[u8])] = &[(60, b"PXEClient:Arch:00006"), (93, &[0, 6])];
    for (marks, file) in [
        (PXE_X64, "snponly.efi"),
        (arm, "snponly-arm64.efi"),
        (old_rom, "undionly.kpxe"),
        (early, "snponly.efi"),
        (ia32, ""),
    ] {
        let told = String::from_utf8(offer(SEAT, marks).file).unwrap();
        assert_eq!(told, file);
    }
}

#[test]
fn http_firmware_gets_a_url_and_its_own_vendor_class() {
    let offer = offer(SEAT, HTTP_X64);
    let url = "http://10.77.0.1:8069/files/snponly.efi";
    assert_eq!(text(&offer, 67).as_deref(), Some(url));
    assert_eq!(offer.file, url.as_bytes());
    assert_eq!(text(&offer, 60).as_deref(), Some("HTTPClient"));
    assert!(!offer.options.contains(43) && !offer.options.contains(66));
}

#[test]
fn ipxe_gets_the_script_and_is_spared_its_waits() {
    let offer = offer(SEAT, IPXE);
    assert_eq!(text(&offer, 67).as_deref(), Some(SCRIPT));
    assert_eq!(offer.options.value(175), Some(&[176, 1, 1][..]));
    // With the PXEClient mark it would wait for a proxy all the same.
    assert!(
        [60, 43, 17]
            .iter()
            .all(|&code| !offer.options.contains(code))
    );
}

#[test]
fn a_chosen_boot_file_replaces_the_loader_but_never_the_script() {
    let mut site = snapshot(DhcpMode::Server);
    site.clients[0].boot_file = Some("memtest.0".into());
    let mut room = Room::with(site);
    let firmware = reply(&room.send(&discover(SEAT, PXE_BIOS))).unwrap();
    assert_eq!(firmware.file, b"memtest.0");
    let ipxe = reply(&room.send(&discover(SEAT, IPXE))).unwrap();
    assert_eq!(ipxe.file, SCRIPT.as_bytes());
}

#[test]
fn a_uefi_initiator_gets_the_root_path_of_its_disk_and_no_file() {
    let seat = offer(SEAT, EDK2_ISCSI);
    assert_eq!(
        text(&seat, code::ROOT_PATH).as_deref(),
        Some("iscsi:10.77.0.1:6:3260:0:iqn.2026-01.test.dess:seat-1")
    );
    assert!(seat.file.is_empty() && !seat.options.contains(67));
    for mac in [BARE, HELD, STRANGER] {
        let other = offer(mac, EDK2_ISCSI);
        assert!(!other.options.contains(code::ROOT_PATH), "{mac}");
    }
}

#[test]
fn only_the_system_is_told_router_name_servers_and_its_name() {
    for marks in [PXE_BIOS, PXE_X64, HTTP_X64, IPXE, EDK2_ISCSI] {
        let booting = offer(SEAT, marks);
        assert_eq!(booting.options.address(1), Some([255, 255, 255, 0].into()));
        assert!(
            [3, 6, 12, 28]
                .iter()
                .all(|&code| !booting.options.contains(code))
        );
    }
    let system = offer(SEAT, DHCLIENT);
    assert_eq!(system.options.address(3), Some(ip(254)));
    assert_eq!(
        system.options.value(6),
        Some(&[10, 77, 0, 53, 10, 77, 0, 54][..])
    );
    assert_eq!(text(&system, 12).as_deref(), Some("seat-1"));
    assert_eq!(system.options.address(28), Some(ip(255)));
    assert!(system.file.is_empty());
    assert!(
        [17, 43, 60, 66, 67, 97, 175]
            .iter()
            .all(|&code| !system.options.contains(code))
    );
}

#[test]
fn a_name_that_is_no_host_name_is_replaced_by_the_seat() {
    let long = "x".repeat(64);
    for (name, told) in [
        ("pc-7", "pc-7"),
        ("3번 좌석", "seat-1"),
        ("-pc", "seat-1"),
        ("pc.example", "seat-1"),
        ("", "seat-1"),
        (&long, "seat-1"),
    ] {
        let mut site = snapshot(DhcpMode::Server);
        site.clients[0].name = name.into();
        let offer = reply(&Room::with(site).send(&discover(SEAT, DHCLIENT))).unwrap();
        assert_eq!(text(&offer, 12).as_deref(), Some(told), "{name}");
    }
}

#[test]
fn held_and_unknown_pcs_boot_to_a_waiting_screen_and_are_announced_now_and_then() {
    for mac in [HELD, STRANGER] {
        let ipxe = offer(mac, IPXE);
        assert!(ipxe.options.contains(67), "{mac}");
        assert!(!ipxe.yiaddr.is_unspecified());
    }
    let mut room = Room::new();
    let mut announced = |secs| {
        room.wait(secs);
        let events = room.send(&discover(STRANGER, PXE_BIOS)).events;
        let unknown = |event: &&EventKind| matches!(event, EventKind::UnknownClient { .. });
        events.iter().find(unknown).cloned()
    };
    assert_eq!(
        announced(0),
        Some(EventKind::UnknownClient {
            mac: STRANGER,
            architecture: Some(Architecture::Bios),
            uuid: Some("0102030405060708090a0b0c0d0e0f10".into()),
            address: Some(ip(100)),
        })
    );
    assert_eq!(announced(4), None);
    assert!(announced(1).is_some());
}

#[test]
fn a_telephone_is_no_pc_to_be_registered() {
    let outcome = Room::new().send(&discover(STRANGER, DHCLIENT));
    let unknown = |event: &EventKind| matches!(event, EventKind::UnknownClient { .. });
    assert!(!outcome.events.iter().any(unknown));
    assert_eq!(outcome.events.len(), 1);
}

#[test]
fn the_offer_is_told_with_phase_and_file() {
    let outcome = Room::new().send(&discover(SEAT, PXE_X64));
    assert_eq!(
        outcome.events,
        [EventKind::DhcpOffer {
            mac: SEAT,
            phase: DhcpPhase::Firmware,
            address: Some(ip(10)),
            architecture: Some(Architecture::UefiX64),
            boot_file: Some("snponly.efi".into()),
        }]
    );
    assert_eq!(destination(&outcome), "255.255.255.255:68");
}

#[test]
fn a_card_counts_as_booting_for_a_minute_after_its_firmware_or_ipxe_spoke() {
    let mut room = Room::new();
    room.send(&discover(BARE, DHCLIENT));
    room.send(&discover(SEAT, IPXE));
    assert!(!room.exchange.is_booting(BARE, room.now));
    room.wait(59);
    assert!(room.exchange.is_booting(SEAT, room.now));
    room.wait(1);
    assert!(!room.exchange.is_booting(SEAT, room.now));
}
