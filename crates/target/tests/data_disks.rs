//! Data disks: further logical units of a client, with an initiator of the test's own and with libiscsi's tools.

#![expect(
    clippy::unwrap_used,
    reason = "a failure of a test's set-up is a failure of the test"
)]

mod support;

use std::fs;
use std::process::Command;

use dess_disk::version_directory;
use dess_model::{DataAccess, EventKind, TargetReply, TargetRequest, VersionRef};
use support::initiator::{Initiator, LOGICAL_UNIT_RESET, Login};
use support::room::{Running, Site, client_id};

const GAMES: u32 = 60;
const COURSE: u32 = 61;
const DATA_BYTES: usize = 4 << 20;

const GOOD: u8 = 0;
const CHECK_CONDITION: u8 = 2;
const RESERVATION_CONFLICT: u8 = 0x18;
/// Sense key and code.
const WRITE_PROTECTED: [u8; 2] = [0x07, 0x27];
const POWER_ON: [u8; 2] = [0x06, 0x29];

fn content(seed: u8) -> Vec<u8> {
    let word = |at: usize| (at as u32).wrapping_mul(0x9e37_79b9) ^ (u32::from(seed) * 0x0101_0101);
    (0..DATA_BYTES / 4)
        .flat_map(|at| word(at).to_le_bytes())
        .collect()
}

/// Seat 1 (volatile) and seat 2 (persistent) have the games read-only as LUN 1, and the course with writes of their
/// own as LUN 5.
fn site() -> (Site, VersionRef, VersionRef) {
    let mut site = Site::new();
    let games = site.add_version(GAMES, 1, &content(1));
    let course = site.add_version(COURSE, 1, &content(9));
    for (seat, own) in [(1, DataAccess::Volatile), (2, DataAccess::Persistent)] {
        let disks = vec![
            site.data_disk(seat, 1, games, DataAccess::ReadOnly),
            site.data_disk(seat, 5, course, own),
        ];
        site.publish(|snapshot| snapshot.clients[seat as usize - 1].data_disks = disks);
    }
    (site, games, course)
}

/// A session that has heard of the power-on of each of the logical units.
fn ready(login: &Login, luns: &[u8]) -> Initiator {
    let mut session = Initiator::login(login).unwrap();
    for &lun in luns {
        session.lun = lun;
        let first = session.command(&[0; 6], &[], 0).unwrap();
        assert_eq!(sense(&first.sense), POWER_ON, "LUN {lun}");
        session.become_ready().unwrap();
    }
    session.lun = 0;
    session
}

fn sense(sense: &[u8]) -> [u8; 2] {
    [sense[2] & 0x0f, sense[12]]
}

fn luns(session: &mut Initiator) -> Vec<u8> {
    let data = session
        .command(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], &[], 256)
        .unwrap()
        .data;
    assert_eq!(data[3] as usize, data.len() - 8);
    data[8..].chunks(8).map(|lun| lun[1]).collect()
}

#[test]
fn data_disks_are_further_units_with_identities_and_protection_of_their_own() {
    let (site, ..) = site();
    let running = site.start();
    running.power_on(&site, 1);
    let mut session = ready(&site.login(1), &[0, 1, 5]);
    let mut identities = Vec::new();
    for lun in [0, 1, 5] {
        session.lun = lun;
        assert_eq!(luns(&mut session), [0, 1, 5]);
        identities.push(session.inquiry(Some(0x80)).unwrap());
        identities.push(session.inquiry(Some(0x83)).unwrap()[4..16].to_vec());
    }
    let all = identities.len();
    identities.sort();
    identities.dedup();
    assert_eq!(identities.len(), all, "serial numbers and names differ");

    session.lun = 1;
    assert!(session.read(0, 8).unwrap().data == content(1)[..4096]);
    for _ in 0..2 {
        let refused = session.write(0, &[7; 512]).unwrap();
        assert_eq!(refused.status, CHECK_CONDITION);
        assert_eq!(sense(&refused.sense), WRITE_PROTECTED);
    }
    // MODE SENSE (6): WP; READ CAPACITY (16): no UNMAP on it.
    let mode = session
        .command(&[0x1a, 0, 0x3f, 0, 255, 0], &[], 255)
        .unwrap();
    assert_eq!(mode.data[2] & 0x80, 0x80);
    let mut capacity = [0; 16];
    (capacity[0], capacity[1], capacity[13]) = (0x9e, 0x10, 32);
    let capacity = session.command(&capacity, &[], 32).unwrap().data;
    assert_eq!(capacity[14], 0);
    assert_eq!(capacity[..8], (DATA_BYTES as u64 / 512 - 1).to_be_bytes());

    session.lun = 5;
    let mode = session
        .command(&[0x1a, 0, 0x3f, 0, 255, 0], &[], 255)
        .unwrap();
    assert_eq!(mode.data[2] & 0x80, 0);
    assert_eq!(session.write(3, &[7; 512]).unwrap().status, GOOD);
    assert_eq!(session.read(3, 1).unwrap().data, [7; 512]);
    session.lun = 2;
    assert_eq!(session.inquiry(None).unwrap()[0], 0x7f);
    assert_eq!(session.read(0, 1).unwrap().status, CHECK_CONDITION);
    session.lun = 0;
    assert_eq!(session.read(3, 1).unwrap().data, site.image[1536..2048]);
    running.stop();
}

#[test]
fn a_running_client_keeps_the_data_disks_that_it_booted_until_its_next_power_on() {
    let (mut site, games, course) = site();
    let running = site.start();
    running.power_on(&site, 1);
    let mut session = ready(&site.login(1), &[0, 1, 5]);
    session.lun = 5;
    assert_eq!(session.write(0, &[7; 512]).unwrap().status, GOOD);
    // The games are updated, and the course is taken away.
    let newer = site.add_version(GAMES, 2, &content(2));
    let disks = vec![site.data_disk(1, 1, newer, DataAccess::Volatile)];
    site.publish(|snapshot| snapshot.clients[0].data_disks = disks);
    drop(session);
    running.stop();

    let running = site.start();
    let mut session = ready(&site.login(1), &[0, 1, 5]);
    session.lun = 1;
    assert!(session.read(0, 8).unwrap().data == content(1)[..4096]);
    assert_eq!(session.write(0, &[7; 512]).unwrap().status, CHECK_CONDITION);
    session.lun = 5;
    assert_eq!(session.read(0, 1).unwrap().data, [7; 512]);
    assert_eq!(
        in_service(&running, &site, 1),
        [(1, games)],
        "who uses what is told"
    );
    drop(session);

    running.power_on(&site, 1);
    let mut session = ready(&site.login(1), &[0, 1]);
    assert_eq!(luns(&mut session), [0, 1]);
    session.lun = 1;
    assert!(session.read(0, 8).unwrap().data == content(2)[..4096]);
    assert_eq!(session.write(0, &[7; 512]).unwrap().status, GOOD);
    // Nobody is to go on with what was written to the course.
    let disk = site.data_disk(1, 5, course, DataAccess::Volatile).disk.id;
    assert!(!site.paths.overlays().join(disk.simple()).exists() || is_emptied(&site, disk));
    running.stop();
}

/// True if what is left of the disk is only what the background work has still to remove.
fn is_emptied(site: &Site, disk: dess_model::DiskId) -> bool {
    let entries = fs::read_dir(site.paths.overlays().join(disk.simple()));
    entries.map_or(true, |mut entries| {
        entries.all(|entry| {
            let name = entry.unwrap().file_name();
            name.to_str().unwrap().starts_with("drop-")
        })
    })
}

/// The data disks without an overlay that the service says are in use.
fn in_service(running: &Running, site: &Site, seat: u32) -> Vec<(u8, VersionRef)> {
    let TargetReply::Status { disks, .. } = running.ask(site, &TargetRequest::Status) else {
        panic!("no status");
    };
    disks
        .into_iter()
        .filter(|disk| disk.client == client_id(seat) && disk.generation == 0)
        .map(|disk| (disk.lun, disk.version.unwrap()))
        .collect()
}

#[test]
fn writes_to_a_data_disk_last_as_long_as_its_policy_says() {
    let (site, ..) = site();
    let running = site.start();
    let found = |session: &mut Initiator| {
        session.lun = 5;
        session.read(0, 1).unwrap().data == [7; 512]
    };
    for (seat, kept) in [(1, false), (2, true)] {
        running.power_on(&site, seat);
        let mut session = ready(&site.login(seat), &[0, 5]);
        session.lun = 5;
        assert_eq!(session.write(0, &[7; 512]).unwrap().status, GOOD);
        drop(session);
        running.power_on(&site, seat);
        let mut session = ready(&site.login(seat), &[0, 5]);
        assert_eq!(found(&mut session), kept, "seat {seat}");
        session.log_out().unwrap();
    }
    // A reset drops what was written to any of the disks.
    assert!(matches!(
        running.reset(&site, 2, true),
        TargetReply::Disk(disk) if disk.fresh
    ));
    running.power_on(&site, 2);
    assert!(!found(&mut ready(&site.login(2), &[0, 5])));
    running.stop();
}

#[test]
fn reservations_and_resets_are_of_one_unit() {
    let (site, ..) = site();
    let running = site.start();
    running.power_on(&site, 2);
    let mut one = ready(&site.login(2), &[0, 1, 5]);
    let mut other = site.login(2);
    other.isid[5] = 99;
    let mut other = ready(&other, &[0, 1, 5]);
    one.lun = 5;
    assert_eq!(
        one.command(&[0x16, 0, 0, 0, 0, 0], &[], 0).unwrap().status,
        GOOD
    );
    for (lun, status) in [(0, GOOD), (1, GOOD), (5, RESERVATION_CONFLICT)] {
        other.lun = lun;
        assert_eq!(other.read(0, 1).unwrap().status, status, "LUN {lun}");
    }
    // The reset of a unit ends its reservation, and is told to those who use it.
    assert_eq!(one.manage(LOGICAL_UNIT_RESET).unwrap(), 0);
    for (lun, status) in [(0, GOOD), (1, GOOD), (5, CHECK_CONDITION), (5, GOOD)] {
        other.lun = lun;
        assert_eq!(other.read(0, 1).unwrap().status, status, "LUN {lun}");
    }
    other.lun = 7;
    assert_eq!(
        other.manage(LOGICAL_UNIT_RESET).unwrap(),
        2,
        "LUN does not exist"
    );
    running.stop();
}

#[test]
fn a_data_disk_that_cannot_be_used_is_left_out_and_told_of() {
    let (site, games, _) = site();
    fs::remove_file(version_directory(&site.paths.images(), games).join("map")).unwrap();
    let running = site.start();
    assert!(matches!(running.power_on(&site, 1), TargetReply::Disk(_)));
    let message = site.event(|event| match event {
        EventKind::DiskError { message, .. } => Some(message),
        _ => None,
    });
    assert!(message.contains("data disk 1 is missing"), "{message}");
    let mut session = ready(&site.login(1), &[0, 5]);
    assert_eq!(luns(&mut session), [0, 5]);
    running.stop();
}

#[test]
fn a_data_disk_is_maintained_beside_the_system_disk() {
    let (mut site, games, _) = site();
    let disks = vec![site.data_disk(1, 1, games, DataAccess::Maintenance)];
    site.publish(|snapshot| snapshot.clients[0].data_disks = disks.clone());
    let running = site.start();
    running.power_on(&site, 1);
    let mut session = ready(&site.login(1), &[0, 1]);
    session.lun = 1;
    assert_eq!(session.write(0, &[7; 8192]).unwrap().status, GOOD);
    session.log_out().unwrap();
    // What was written there outlives a power-on, unlike what was written to the system disk.
    running.power_on(&site, 1);
    let mut session = ready(&site.login(1), &[0, 1]);
    session.lun = 1;
    assert_eq!(session.read(0, 1).unwrap().data, [7; 512]);
    session.log_out().unwrap();
    let client = client_id(1);
    let TargetReply::Sealed(sealed) = running.ask(&site, &TargetRequest::Seal { client }) else {
        panic!("not sealed");
    };
    assert_eq!((sealed.disk, sealed.base), (disks[0].disk.id, games));
    assert_eq!(sealed.changed_bytes, 8192);
    // Nobody powers on while a version is being made of it; nor is it lost if none was.
    assert!(matches!(running.power_on(&site, 1), TargetReply::Error(_)));
    let unsealed = running.ask(&site, &TargetRequest::Unseal { client });
    assert_eq!(unsealed, TargetReply::Done);
    running.power_on(&site, 1);
    let mut session = ready(&site.login(1), &[0, 1]);
    session.lun = 1;
    assert_eq!(session.read(0, 1).unwrap().data, [7; 512]);
    let discard = TargetRequest::Discard {
        client,
        force: true,
    };
    assert_eq!(running.ask(&site, &discard), TargetReply::Done);
    running.power_on(&site, 1);
    let mut session = ready(&site.login(1), &[0, 1]);
    session.lun = 1;
    assert!(session.read(0, 1).unwrap().data == content(1)[..512]);
    running.stop();
}

#[test]
fn libiscsi_finds_all_disks_of_a_client() {
    let (site, ..) = site();
    let running = site.start();
    running.power_on(&site, 1);
    let login = site.login(1);
    let (user, secret) = login.chap.clone().unwrap();
    let host = format!("iscsi://{user}%{secret}@{}", site.portal);
    let list = tool("iscsi-ls", &["-i", &login.initiator, "-s", &host]);
    for found in ["Lun:0 ", "Lun:1 ", "Lun:5 "] {
        assert!(list.contains(found), "{found} in {list}");
    }
    let mut serials = Vec::new();
    for lun in [0, 1, 5] {
        let url = format!("{host}/{}/{lun}", login.target);
        let page = tool(
            "iscsi-inq",
            &["-i", &login.initiator, "-e", "1", "-c", "128", &url],
        );
        let at = page.find("Unit Serial Number:[").expect("a serial number");
        serials.push(page[at..].to_owned());
    }
    serials.dedup();
    assert_eq!(serials.len(), 3, "{serials:?}");
    running.stop();
}

/// What a tool prints, within a time limit; it is a dependency of these tests, so its absence is a failure.
fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new("timeout")
        .args(["-k", "5", "30", program])
        .args(arguments)
        .output()
        .unwrap();
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}
