//! Logins, power-on, reset and the end of sessions, over TCP with an initiator of the test's own.

#![expect(
    clippy::unwrap_used,
    reason = "a failure of a test's set-up is a failure of the test"
)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use dess_model::{ControlError, EventKind, LoginKind, SessionEnd, TargetReply, TargetRequest};
use support::initiator::{Initiator, LoginError, cdb_10};
use support::room::{IMAGE_BYTES, Site, client_id};

fn refused(result: Result<Initiator, LoginError>) -> u16 {
    match result {
        Err(LoginError::Refused(status)) => status,
        Err(LoginError::Io(error)) => panic!("{error}"),
        Ok(_) => panic!("the login was accepted"),
    }
}

fn ready(login: &support::initiator::Login) -> Initiator {
    let mut session = Initiator::login(login).unwrap();
    session.become_ready().unwrap();
    session
}

/// How seat `seat` logs in from its firmware (by iPXE's enterprise number).
fn firmware(site: &Site, seat: u32) -> support::initiator::Login {
    let mut login = site.login(seat);
    login.isid = [0x40, 0x00, 0x27, 0x23, 0x12, 0x34];
    login
}

#[test]
fn a_client_reaches_its_own_disk_and_nobody_elses() {
    let site = Site::new();
    let running = site.start();
    running.power_on(&site, 1);
    let mut own = ready(&site.login(1));
    assert_eq!(own.read(8, 8).unwrap().data, site.image[4096..8192]);

    let mut wrong_secret = site.login(1);
    wrong_secret.chap = Some(("pc1".into(), "not-the-secret".into()));
    assert_eq!(refused(Initiator::login(&wrong_secret)), 0x0201);
    let mut no_chap = site.login(1);
    no_chap.chap = None;
    assert_eq!(refused(Initiator::login(&no_chap)), 0x0201);
    let mut foreign = site.login(2);
    foreign.target = site.login(1).target;
    assert_eq!(refused(Initiator::login(&foreign)), 0x0202);
    let mut unknown = site.login(1);
    unknown.target.push('x');
    assert_eq!(refused(Initiator::login(&unknown)), 0x0203);
    assert_eq!(refused(Initiator::login(&site.login(3))), 0x0202);
    assert_eq!(refused(Initiator::login(&site.login(4))), 0x0203);

    // The second one of the same peer, client and status within a minute is only counted.
    let statuses: Vec<u16> = (0..5)
        .map(|_| {
            site.event(|event| match event {
                EventKind::LoginRefused { status, .. } => Some(status),
                _ => None,
            })
        })
        .collect();
    assert_eq!(statuses, [0x201, 0x202, 0x203, 0x202, 0x203]);
    running.stop();
}

#[test]
fn a_client_with_a_reserved_address_must_come_from_it() {
    let mut site = Site::new();
    site.publish(|snapshot| {
        snapshot.clients[0].address = Some([127, 0, 0, 2].into());
        snapshot.clients[1].address = Some([127, 0, 0, 1].into());
    });
    let running = site.start();
    assert_eq!(refused(Initiator::login(&site.login(1))), 0x0202);
    ready(&site.login(2));
    running.stop();
}

#[test]
fn power_on_forgets_what_a_volatile_disk_held_and_keeps_a_persistent_one() {
    let site = Site::new();
    let running = site.start();
    for (seat, kept) in [(1, false), (2, true)] {
        running.power_on(&site, seat);
        let mut left_open = ready(&firmware(&site, seat));
        let mut session = ready(&site.login(seat));
        assert_eq!(session.write(16, &[0x5a; 1024]).unwrap().status, 0);
        drop(session);
        let TargetReply::Disk(disk) = running.power_on(&site, seat) else {
            panic!("no disk");
        };
        assert_eq!((disk.fresh, disk.size_bytes), (!kept, IMAGE_BYTES as u64));
        // The session of the former life is gone.
        assert!(left_open.is_closed());
        let mut session = ready(&site.login(seat));
        let found = session.read(16, 2).unwrap().data;
        let expected = if kept {
            &[0x5a; 1024]
        } else {
            &site.image[8192..9216]
        };
        assert!(found == expected, "seat {seat}");
    }
    for seat in [1, 2] {
        let client = site.event(|event| match event {
            EventKind::SessionEnded {
                client,
                reason: SessionEnd::PowerOn,
                ..
            } => Some(client),
            _ => None,
        });
        assert_eq!(client, client_id(seat));
    }
    running.stop();
}

#[test]
fn the_same_initiator_port_replaces_its_session_and_another_one_does_not() {
    let site = Site::new();
    let running = site.start();
    running.power_on(&site, 1);
    let mut firmware = ready(&site.login(1));
    let mut login = site.login(1);
    login.isid[5] = 77;
    let mut os = ready(&login);
    assert_eq!(firmware.read(0, 1).unwrap().status, 0);
    let mut again = ready(&login);
    assert!(os.is_closed());
    assert_eq!(again.read(0, 1).unwrap().status, 0);
    assert_eq!(firmware.read(0, 1).unwrap().status, 0);
    let reason = site.event(|event| match event {
        EventKind::SessionEnded { reason, .. } => Some(reason),
        _ => None,
    });
    assert_eq!(reason, SessionEnd::Reinstated);
    running.stop();
}

#[test]
fn reset_is_refused_while_the_client_runs_unless_forced() {
    let site = Site::new();
    let running = site.start();
    running.power_on(&site, 2);
    let mut session = ready(&site.login(2));
    session.write(0, &[1; 512]).unwrap();
    let client = client_id(2);
    assert_eq!(
        running.reset(&site, 2, false),
        TargetReply::Error(ControlError::Running {
            client,
            sessions: 1
        })
    );
    assert_eq!(session.read(0, 1).unwrap().data, [1; 512]);
    assert!(matches!(
        running.reset(&site, 2, true),
        TargetReply::Disk(_)
    ));
    assert!(session.is_closed());
    running.power_on(&site, 2);
    let mut session = ready(&site.login(2));
    assert_eq!(session.read(0, 1).unwrap().data, site.image[..512]);
    running.stop();
}

#[test]
fn a_system_that_outlived_a_reset_does_not_write_to_the_fresh_disk() {
    let site = Site::new();
    let mut running = site.start();
    for seat in [1, 2] {
        running.power_on(&site, seat);
        let mut session = ready(&site.login(seat));
        session.write(0, &[1; 512]).unwrap();
        running.reset(&site, seat, true);
        assert!(session.is_closed());
        assert_eq!(refused(Initiator::login(&site.login(seat))), 0x0203);
        let status = site.event(|event| match event {
            EventKind::LoginRefused { status, .. } => Some(status),
            _ => None,
        });
        assert_eq!(status, 0x0203);
        // The knowledge outlives the service: first the session ends, then the login is refused.
        running.stop();
        running = site.start();
        if let Ok(mut session) = Initiator::login(&site.login(seat)) {
            assert!(session.is_closed());
        }
        assert_eq!(refused(Initiator::login(&site.login(seat))), 0x0203);
        // The firmware of UEFI fetches no script: its login is the power-on.
        if seat == 1 {
            ready(&firmware(&site, seat));
        } else {
            running.power_on(&site, seat);
        }
        let mut session = ready(&site.login(seat));
        assert_eq!(session.read(0, 1).unwrap().data, site.image[..512]);
        session.write(0, &[2; 512]).unwrap();
        // It goes on to work with its disk.
        running.stop();
        running = site.start();
        let mut session = ready(&site.login(seat));
        assert_eq!(session.read(0, 1).unwrap().data, [2; 512]);
    }
    running.stop();
}

#[test]
fn a_power_on_does_not_take_the_disk_from_a_system_that_runs() {
    let site = Site::new();
    let running = site.start();
    let client = client_id(1);
    running.power_on(&site, 1);
    let mut session = ready(&site.login(1));
    session.write(0, &[1; 512]).unwrap();
    let refusal = TargetReply::Error(ControlError::Running {
        client,
        sessions: 1,
    });
    let stranger = [127, 0, 0, 9].into();
    assert_eq!(running.power_on_from(&site, client, stranger), refusal);
    // It has nothing to say, but its TCP answers, also where the firmware would be.
    assert_eq!(running.power_on(&site, 1), refusal);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| running.power_on(&site, 1));
        while !asked.is_finished() {
            assert_eq!(session.read(0, 1).unwrap().data, [1; 512]);
        }
        assert_eq!(asked.join().unwrap(), refusal);
    });
    drop(session);
    let powered = running.power_on(&site, 1);
    assert!(matches!(powered, TargetReply::Disk(disk) if disk.fresh));
    running.stop();
}

#[test]
fn after_a_restart_the_system_that_used_a_disk_is_waited_for() {
    let site = Site::new();
    let running = site.start();
    let client = client_id(1);
    running.power_on(&site, 1);
    let mut session = ready(&site.login(1));
    session.write(0, &[1; 512]).unwrap();
    running.stop();
    drop(session);
    let running = site.start();
    let refusal = TargetReply::Error(ControlError::Running {
        client,
        sessions: 1,
    });
    assert_eq!(running.reset(&site, 1, false), refusal);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| running.power_on(&site, 1));
        let mut session = ready(&site.login(1));
        assert_eq!(asked.join().unwrap(), refusal);
        assert_eq!(session.read(0, 1).unwrap().data, [1; 512]);
    });
    // When its session has ended, it runs no more.
    let deadline = Instant::now() + Duration::from_secs(20);
    while running.reset(&site, 1, false) == refusal {
        assert!(Instant::now() < deadline, "the session ends");
    }
    running.power_on(&site, 1);
    let session = ready(&site.login(1));
    running.stop();
    drop(session);
    // Nobody comes back: the firmware that asks is not kept for ever.
    let running = site.start();
    let powered = running.power_on(&site, 1);
    assert!(
        matches!(&powered, TargetReply::Disk(disk) if disk.fresh),
        "{powered:?}"
    );
    running.stop();
}

#[test]
fn a_login_of_firmware_that_fetched_no_script_is_a_power_on() {
    let site = Site::new();
    let running = site.start();
    for round in 0..2 {
        // Firmware may log in several times in one boot.
        ready(&firmware(&site, 1));
        let mut session = ready(&firmware(&site, 1));
        assert_eq!(
            session.read(0, 1).unwrap().data,
            site.image[..512],
            "round {round}"
        );
        session.write(0, &[1; 512]).unwrap();
        drop(session);
        let mut session = ready(&site.login(1));
        assert_eq!(session.read(0, 1).unwrap().data, [1; 512]);
    }
    // After an announced power-on, it is not another one.
    running.power_on(&site, 1);
    ready(&firmware(&site, 1)).write(0, &[2; 512]).unwrap();
    assert_eq!(
        ready(&firmware(&site, 1)).read(0, 1).unwrap().data,
        [2; 512]
    );
    running.stop();
}

#[test]
fn a_system_comes_back_whatever_was_reassigned_meanwhile() {
    let mut site = Site::new();
    let versions = site.snapshot.versions.clone();
    let running = site.start();
    running.power_on(&site, 2);
    ready(&site.login(2)).write(0, &[1; 512]).unwrap();
    site.publish(|snapshot| {
        snapshot.clients[1].address = Some([127, 0, 0, 2].into());
        snapshot.versions.clear();
    });
    let mut session = ready(&site.login(2));
    assert_eq!(session.read(0, 1).unwrap().data, [1; 512]);
    running.stop();
    let running = site.start();
    let mut session = ready(&site.login(2));
    assert_eq!(session.read(0, 1).unwrap().data, [1; 512]);
    site.publish(|snapshot| snapshot.versions = versions);
    drop(session);
    running.power_on(&site, 2);
    assert_eq!(refused(Initiator::login(&site.login(2))), 0x0202);
    running.stop();
}

#[test]
fn a_removed_disk_leaves_nothing() {
    let site = Site::new();
    let running = site.start();
    running.power_on(&site, 2);
    let mut session = ready(&site.login(2));
    session.write(0, &[1; 512]).unwrap();
    let client = client_id(2);
    let remove = |force| running.ask(&site, &TargetRequest::Remove { client, force });
    assert!(matches!(
        remove(false),
        TargetReply::Error(ControlError::Running { .. })
    ));
    assert_eq!(remove(true), TargetReply::Done);
    assert!(session.is_closed());
    let deadline = Instant::now() + Duration::from_secs(20);
    let left = || std::fs::read_dir(site.paths.overlays()).unwrap().count();
    // The lock file of the store stays.
    while left() > 1 {
        assert!(Instant::now() < deadline, "the overlay goes");
        std::thread::yield_now();
    }
    running.stop();
}

#[test]
fn a_long_read_that_nobody_takes_does_not_block_the_seat() {
    let site = Site::new();
    let running = site.start();
    running.power_on(&site, 1);
    let mut session = ready(&site.login(1));
    // More than the output takes, then a write that must wait for its range.
    let read = cdb_10(0x28, 0, 24 << 10);
    let write = cdb_10(0x2a, 8, 1);
    session
        .start_together(&[(&read, &[], (24 << 10) * 512), (&write, &[1; 512], 512)])
        .unwrap();
    let arrived = || match running.ask(&site, &TargetRequest::Status) {
        TargetReply::Status { sessions, .. } => sessions[0].written_bytes == 512,
        _ => panic!("no status"),
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while !arrived() {
        assert!(Instant::now() < deadline, "the write arrives");
    }
    drop(session);
    let powered = running.power_on(&site, 1);
    assert!(matches!(powered, TargetReply::Disk(_)), "{powered:?}");
    ready(&site.login(1));
    running.stop();
}

#[test]
fn the_control_socket_tells_who_is_there_and_refuses_whom_it_does_not_know() {
    let site = Site::new();
    let running = site.start();
    running.power_on(&site, 1);
    let mut session = ready(&site.login(1));
    session.read(0, 8).unwrap();
    let TargetReply::Status {
        sessions, disks, ..
    } = running.ask(&site, &TargetRequest::Status)
    else {
        panic!("no status");
    };
    assert_eq!(disks.len(), 1);
    assert_eq!(sessions.len(), 1);
    assert_eq!(
        (sessions[0].client, sessions[0].kind),
        (client_id(1), LoginKind::Os)
    );
    assert_eq!(sessions[0].read_bytes, 4096);
    let client = client_id(9);
    assert_eq!(
        running.power_on_from(&site, client, [127, 0, 0, 1].into()),
        TargetReply::Error(ControlError::UnknownClient { client })
    );
    assert!(matches!(
        running.power_on(&site, 3),
        TargetReply::Error(ControlError::NotApproved { .. })
    ));
    assert!(matches!(
        running.power_on(&site, 4),
        TargetReply::Error(ControlError::NoImage { .. })
    ));
    let client = client_id(1);
    running.ask(&site, &TargetRequest::Disconnect { client });
    assert!(session.is_closed());
    running.stop();
}

#[test]
fn a_client_that_is_removed_loses_its_session() {
    let mut site = Site::new();
    let running = site.start();
    running.power_on(&site, 1);
    let mut session = ready(&site.login(1));
    site.publish(|snapshot| {
        snapshot.clients.remove(0);
    });
    assert!(session.is_closed());
    running.stop();
}

#[test]
fn garbage_ends_its_own_connection_and_is_reported_once() {
    let site = Site::new();
    let running = site.start();
    running.power_on(&site, 1);
    let mut session = ready(&site.login(1));
    for _ in 0..20 {
        let mut garbage = TcpStream::connect(site.portal).unwrap();
        // The target may close while this is still being written.
        let _ = garbage.write_all(&[0xee; 4096]);
    }
    let mut late = Initiator::login(&site.login(2)).unwrap();
    // A command with an impossible length in full feature phase.
    let mut cdb = cdb_10(0x28, 0, 1);
    cdb[0] = 0xff;
    assert_eq!(late.command(&cdb, &[], 512).unwrap().status, 2);
    assert_eq!(session.read(0, 1).unwrap().data, site.image[..512]);
    let (protocol, count) = site.event(|event| match event {
        EventKind::Malformed {
            protocol, count, ..
        } => Some((protocol, count)),
        _ => None,
    });
    assert_eq!((protocol.as_str(), count), ("iscsi", 1));
    running.stop();
}

#[test]
fn node_hears_who_logs_in_what_it_reads_and_how_it_ends() {
    let site = Site::new();
    let running = site.start();
    running.power_on(&site, 1);
    let mut login = site.login(1);
    // iPXE's own enterprise number.
    login.isid = [0x40, 0x00, 0x27, 0x23, 0x12, 0x34];
    let mut session = ready(&login);
    for _ in 0..12 {
        session.read(0, 8).unwrap();
    }
    let client = client_id(1);
    let (kind, opened) = site.event(|event| match event {
        EventKind::Login {
            client: of,
            kind,
            session,
            ..
        } if of == client => Some((kind, session)),
        _ => None,
    });
    assert_eq!(kind, LoginKind::Firmware);
    let reads = site.event(|event| match event {
        EventKind::SessionProgress { session, reads, .. } if session == opened => Some(reads),
        _ => None,
    });
    assert_eq!(reads, 10);
    drop(session);
    let end = site.event(|event| match event {
        EventKind::SessionEnded {
            session,
            reason,
            read_bytes,
            reads,
            ..
        } if session == opened => Some((reason, read_bytes, reads)),
        _ => None,
    });
    assert_eq!(end, (SessionEnd::Closed, 12 * 4096, 12));
    running.stop();
}

#[test]
fn a_peer_that_opens_connections_without_logging_in_does_not_keep_sessions_from_working() {
    let site = Site::new();
    let running = site.start();
    running.power_on(&site, 1);
    let mut session = ready(&site.login(1));
    let idle: Vec<_> = (0..100)
        .map(|_| TcpStream::connect(site.portal).unwrap())
        .collect();
    // Those beyond the limit of one address are closed at once.
    let mut last = idle.last().unwrap();
    assert_eq!(last.read(&mut [0; 1]).unwrap_or(0), 0);
    assert_eq!(session.read(0, 1).unwrap().status, 0);
    drop(idle);
    let deadline = Instant::now() + Duration::from_secs(20);
    while Initiator::login(&site.login(2)).is_err() {
        assert!(Instant::now() < deadline, "places are given back");
    }
    running.stop();
}

#[test]
fn a_batch_of_overlapping_commands_keeps_its_order() {
    let site = Site::new();
    let running = site.start();
    running.power_on(&site, 1);
    let mut session = ready(&site.login(1));
    // Slow ones (FUA writes go to a disk thread) and quick ones on the same blocks.
    for round in 0..40_u8 {
        for (step, flags) in [(0, 0x08), (1, 0x00), (2, 0x08), (3, 0x00)] {
            let mut cdb = cdb_10(0x2a, 3, 2);
            cdb[1] = flags;
            session
                .start(&cdb, &[round.wrapping_mul(4) + step; 1024], 1024)
                .unwrap();
        }
        session.start(&cdb_10(0x28, 3, 2), &[], 1024).unwrap();
        let mut ended: Vec<_> = (0..5).map(|_| session.finish().unwrap()).collect();
        assert!(ended.iter().all(|one| one.status == 0));
        ended.retain(|one| !one.data.is_empty());
        assert_eq!(ended[0].data, [round.wrapping_mul(4) + 3; 1024]);
    }
    running.stop();
}

#[test]
fn a_stopped_service_closes_its_sessions_and_serves_the_same_data_when_it_is_back() {
    let site = Site::new();
    let running = site.start();
    running.power_on(&site, 1);
    let mut session = ready(&site.login(1));
    session.write(100, &[7; 512]).unwrap();
    running.stop();
    assert!(session.is_closed());
    let running = site.start();
    let mut session = ready(&site.login(1));
    assert_eq!(session.read(100, 1).unwrap().data, [7; 512]);
    running.stop();
}
