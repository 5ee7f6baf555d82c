//! Faults of single PCs, and what looks like one and is none.

use super::*;

#[test]
fn twenty_clean_boots_raise_no_case() {
    let mut room = Room::new();
    for turn in 0..20 {
        let seat = 1 + u8::try_from(turn % 4).unwrap();
        room.debian(seat);
        // Switched off without a word, for a while or only to start again at once.
        room.wait(if turn % 3 == 0 { 5_000 } else { 400_000 });
    }
    room.wait(600_000);
    assert_eq!(room.cases, []);
}

#[test]
fn a_reboot_that_leaves_its_sessions_behind_is_no_loop() {
    let mut room = Room::new();
    for _ in 0..5 {
        room.debian(1);
        room.wait(3_000);
    }
    assert_eq!(room.cases, []);
}

#[test]
fn a_size_probe_before_the_transfer_is_no_fault() {
    let mut room = Room::new();
    // EDK2: the first request is aborted, which is not reported at all; the second transfers.
    room.dhcp(1, DhcpPhase::Firmware).wait(900);
    room.tftp(1, Some(TftpFailure::Ended)).wait(20);
    room.tftp(1, None).wait(3_000);
    room.dhcp(1, DhcpPhase::Ipxe).script(1);
    room.firmware(1);
    room.wait(30_000);
    room.login(1, LoginKind::Os);
    room.dhcp(1, DhcpPhase::Os).wait(60_000);
    assert_eq!(room.cases, []);
}

#[test]
fn an_empty_disk_is_told_when_ipxe_reports_it_and_is_over_when_the_system_starts() {
    let mut room = Room::new();
    room.power_on(1).wait(200);
    let session = room.login(1, LoginKind::Firmware);
    room.wait(40).end(1, session, 3, SessionEnd::Closed);
    room.sanboot_failed(1, "0x1d852039");
    assert_eq!(room.open(), [(Code::E22, seat_of(1))]);
    let case = room.case(Code::E22).clone();
    assert_eq!(case.cause, Cause::DiskEmpty);
    // A fresh overlay is made at every power-on anyway: nothing to repair.
    assert_eq!(case.action, None);

    // iPXE tries on and fails on: one case, not one per try.
    for _ in 0..5 {
        room.wait(8_000).script(1);
        let session = room.login(1, LoginKind::Firmware);
        room.wait(40).end(1, session, 3, SessionEnd::Closed);
        room.sanboot_failed(1, "0x1d852039");
    }
    assert_eq!(room.cases.len(), 1);

    room.wait(400_000);
    assert_eq!(room.open().len(), 1, "switched off is not mended");
    room.debian(1);
    assert_eq!(room.open(), []);
}

#[test]
fn firmware_that_reports_nothing_is_known_by_few_reads_within_five_seconds() {
    let mut room = Room::new();
    room.assign(version(1), true);
    room.offer(1, DhcpPhase::Firmware).wait(500);
    let session = room.login(1, LoginKind::Firmware);
    room.wait(100).end(1, session, 3, SessionEnd::Closed);
    room.wait(4_000);
    assert_eq!(room.open(), []);
    room.wait(1_000);
    assert_eq!(room.open(), [(Code::E22, seat_of(1))]);
    let action = Action::ResetDisk { client: client(1) };
    assert_eq!(room.case(Code::E22).action, Some(action));
}

#[test]
fn a_missing_disk_and_a_wrong_secret_are_two_faults() {
    for (status, code, cause) in [
        (0x0203, Code::E22, Cause::DiskMissing),
        (0x0201, Code::E28, Cause::LoginRefused { peer: address(1) }),
        (0x0202, Code::E28, Cause::LoginRefused { peer: address(1) }),
    ] {
        let mut room = Room::new();
        room.power_on(1).wait(200).event(EventKind::LoginRefused {
            client: Some(client(1)),
            peer: address(1),
            initiator: "iqn.2026-01.kr.dess:seat-1".into(),
            status,
        });
        room.sanboot_failed(1, "0x2c0d603b");
        assert_eq!(room.open(), [(code, seat_of(1))], "{status:#x}");
        assert_eq!(room.case(code).cause, cause);
        room.debian(1);
        assert_eq!(room.open(), []);
    }
}

#[test]
fn a_truncated_backing_file_is_a_disk_read_error_and_not_an_empty_disk() {
    let mut room = Room::new();
    room.power_on(1);
    room.firmware(1);
    room.event(EventKind::DiskError {
        client: client(1),
        message: "cannot read block 10240: failed to fill whole buffer".into(),
    });
    assert_eq!(room.open(), [(Code::E21, seat_of(1))]);
    room.sanboot_failed(1, "0x1d852039");
    assert_eq!(room.open(), [(Code::E21, seat_of(1))]);
    room.wait(11 * 60_000);
    assert!(!room.open().contains(&(Code::E21, seat_of(1))));
}

#[test]
fn the_third_boot_without_a_system_is_a_loop_and_a_system_that_is_up_ends_it() {
    let mut room = Room::new();
    room.assign(version(1), true);
    for turn in 0..3 {
        assert_eq!(room.open(), [], "turn {turn}");
        room.power_on(1);
        room.firmware(1);
        if turn < 2 {
            room.wait(20_000);
            room.login(1, LoginKind::Os);
            room.wait(10_000);
        }
    }
    assert_eq!(room.open(), [(Code::E24, seat_of(1))]);
    let case = room.case(Code::E24).clone();
    assert_eq!(case.cause, Cause::RebootLoop { times: 3 });
    let power_ons = case.evidence.iter();
    assert_eq!(power_ons.filter(|one| one.fact == Fact::PowerOn).count(), 3);
    assert_eq!(case.action, Some(Action::ResetDisk { client: client(1) }));
    room.wait(20_000);
    room.login(1, LoginKind::Os);
    assert_eq!(room.open().len(), 1, "it came so far before, too");
    room.dhcp(1, DhcpPhase::Os);
    assert_eq!(room.open(), []);
}

#[test]
fn seats_that_loop_on_one_version_blame_the_version_until_it_is_taken_back() {
    let mut room = Room::new();
    room.assign(version(2), false);
    for _ in 0..3 {
        for seat in [1, 2] {
            room.power_on(seat);
            room.firmware(seat);
        }
        room.wait(30_000);
    }
    let blamed = Subject::Version {
        version: version(2),
    };
    assert!(room.open().contains(&(Code::E24, blamed.clone())));
    let mut cases = room.cases.iter();
    let case = cases.find(|case| case.subject == blamed).unwrap();
    let action = Action::RollBack {
        version: version(2),
    };
    assert_eq!(case.action, Some(action));
    room.assign(version(1), false);
    room.wait(1_000);
    assert!(!room.open().iter().any(|(_, subject)| *subject == blamed));
}

#[test]
fn a_loader_that_loads_itself_is_a_chain_loop() {
    let mut room = Room::new();
    for turn in 0..3 {
        assert_eq!(room.open(), [], "turn {turn}");
        room.dhcp(1, DhcpPhase::Firmware).wait(400).tftp(1, None);
        room.wait(if turn < 2 { 22_000 } else { 0 });
    }
    assert_eq!(room.open(), [(Code::E25, seat_of(1))]);
}

#[test]
fn a_loader_after_which_nothing_comes_was_refused_by_the_firmware() {
    let mut room = Room::new();
    room.dhcp(1, DhcpPhase::Firmware).wait(400).tftp(1, None);
    room.wait(29_000);
    assert_eq!(room.open(), []);
    room.wait(1_000);
    assert_eq!(room.open(), [(Code::E26, seat_of(1))]);
    room.debian(1);
    assert_eq!(room.open(), []);
}

#[test]
fn offers_that_nobody_takes_are_told_and_two_quick_ones_are_not() {
    let mut room = Room::new();
    for pause in [0, 1_000] {
        room.wait(pause).offer(1, DhcpPhase::Firmware);
    }
    assert_eq!(room.open(), []);
    for pause in [2_000, 4_000] {
        room.wait(pause).offer(1, DhcpPhase::Firmware);
    }
    assert_eq!(room.open(), [(Code::E27, seat_of(1))]);
}

#[test]
fn boot_files_that_are_missing_or_never_acknowledged_are_told_apart() {
    for (failure, code) in [
        (TftpFailure::Refused, Code::E13),
        (TftpFailure::Silent, Code::E12),
    ] {
        let mut room = Room::new();
        room.dhcp(1, DhcpPhase::Firmware).wait(400);
        room.tftp(1, Some(failure));
        assert_eq!(room.open(), [(code, seat_of(1))]);
        // It tries again and gets it.
        room.wait(2_000).tftp(1, None).wait(2_000);
        room.dhcp(1, DhcpPhase::Ipxe).script(1);
        room.firmware(1);
        room.wait(20_000);
        room.login(1, LoginKind::Os);
        assert_eq!(room.open(), []);
    }
}

#[test]
fn a_cable_pulled_while_the_kernel_loads_is_told_within_15_seconds() {
    let mut room = Room::new();
    room.power_on(1);
    room.firmware(1);
    let pulled = room.now;
    room.look(1, 640, pulled, 0).wait(5_000);
    room.look(1, 640, pulled, 4);
    assert_eq!(room.open(), [(Code::E23, seat_of(1))]);
    assert!(room.now - pulled <= 15_000);
    // TCP tries ever more seldom; the link is still down.
    room.wait(5_000).look(1, 640, pulled, 5);
    assert_eq!(room.cases.len(), 1);
}

#[test]
fn a_firmware_session_that_rests_while_the_kernel_starts_is_no_fault() {
    let mut room = Room::new();
    room.power_on(1);
    room.firmware(1);
    let rest = room.now;
    for _ in 0..6 {
        room.look(1, 640, rest, 1).wait(5_000);
    }
    assert_eq!(room.cases, []);
}

#[test]
fn silence_after_the_script_is_a_lost_link() {
    let mut room = Room::new();
    room.power_on(1).wait(14_000);
    assert_eq!(room.open(), []);
    room.wait(1_000);
    assert_eq!(room.open(), [(Code::E23, seat_of(1))]);
}

#[test]
fn a_foreign_address_is_e31_until_the_pc_starts() {
    let mut room = Room::new();
    room.dhcp(1, DhcpPhase::Firmware).wait(400).tftp(1, None);
    room.wait(2_000).dhcp(1, DhcpPhase::Ipxe);
    room.event(EventKind::Script {
        mac: mac(1),
        bootable: false,
        code: Some("E31".into()),
    });
    assert_eq!(room.open(), [(Code::E31, seat_of(1))]);
    room.debian(1);
    assert_eq!(room.open(), []);
}

#[test]
fn a_seat_twice_as_slow_as_the_others_in_two_boots_is_told() {
    let mut room = Room::new();
    for seat in 1..=5 {
        room.debian(seat);
    }
    let slow = |room: &mut Room| {
        room.power_on(6);
        room.firmware(6);
        room.wait(120_000);
        room.login(6, LoginKind::Os);
        room.wait(30_000).dhcp(6, DhcpPhase::Os);
    };
    slow(&mut room);
    room.wait(400_000);
    assert_eq!(room.open(), [], "once may be chance");
    slow(&mut room);
    assert_eq!(room.open(), [(Code::E62, seat_of(6))]);
    room.wait(400_000).debian(6);
    assert_eq!(room.open(), []);
}

#[test]
fn what_was_found_before_a_restart_of_node_stays_until_it_is_seen_to_be_over() {
    let mut room = Room::new();
    room.power_on(1).wait(200);
    room.sanboot_failed(1, "0x1d852039");
    let mut next = Room::new();
    next.cases = room.cases.clone();
    next.now = room.now;
    next.seen = Observations::new(Timestamp(next.now));
    next.wait(3_600_000);
    assert_eq!(next.open().len(), 1, "nothing was observed");
    next.assign(version(1), false);
    next.debian(1);
    assert_eq!(next.open(), []);
}
