//! A planned restart while clients work: they are asked to come back, nothing acknowledged is
//! lost, and the service is there again soon.

#![expect(
    clippy::unwrap_used,
    reason = "a failure of a test's set-up is a failure of the test"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use support::initiator::{Initiator, Login, LoginError, cdb_10};
use support::room::Site;
use support::service::{self, Service};

/// What a restart may cost the room; the measured time is printed.
const RESTART_MAX: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(30);

/// Not a test: the service itself, in a process that a test starts and stops.
#[test]
fn child_that_serves() {
    service::serve_if_child();
}

/// Logs in again and again until somebody is there.
fn come_back(login: &Login) -> Initiator {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Initiator::login(login) {
            Ok(mut session) => {
                if session.become_ready().is_ok() {
                    return session;
                }
            }
            Err(LoginError::Refused(status)) => panic!("login refused with {status:#06x}"),
            Err(LoginError::Io(_)) => {}
        }
        assert!(Instant::now() < deadline, "nobody is there in time");
        std::thread::yield_now();
    }
}

const SLOTS: u32 = 64;
/// Commands that are sent together.
const BATCH: u32 = 8;

fn content(round: u32, slot: u32) -> Vec<u8> {
    (round << 16 | slot).to_le_bytes().repeat(1024)
}

fn lba(slot: u32) -> u32 {
    slot * 8
}

/// What a writer got done.
struct Written {
    /// The last acknowledged round per slot.
    acknowledged: Vec<u32>,
    /// How often it was asked to log out.
    asked: u32,
}

/// Writes round after round until it shall stop: batches of plain and FUA writes, each followed by a flush. Whoever is
/// too slow to log out is cut off, and sends the batch again, as initiators do.
fn write_until(login: &Login, stop: &AtomicBool, rounds: &AtomicU32) -> Written {
    let mut session = come_back(login);
    let mut acknowledged = vec![0; SLOTS as usize];
    let mut asked = 0;
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        for first in (0..SLOTS).step_by(BATCH as usize) {
            while write_batch(&mut session, round, first).is_err() {
                asked += u32::from(session.logout_requested);
                session = come_back(login);
            }
            for slot in first..first + BATCH {
                acknowledged[slot as usize] = round;
            }
            if session.logout_requested {
                asked += 1;
                // It may have been given up meanwhile.
                let _ = session.log_out();
                session = come_back(login);
            }
        }
        rounds.store(round, Ordering::Relaxed);
    }
    Written {
        acknowledged,
        asked,
    }
}

fn write_batch(session: &mut Initiator, round: u32, first: u32) -> std::io::Result<()> {
    for slot in first..first + BATCH {
        let mut cdb = cdb_10(0x2a, lba(slot), 8);
        cdb[1] = if slot % 4 == 0 { 0x08 } else { 0 };
        session.start(&cdb, &content(round, slot), 4096)?;
    }
    session.start(&cdb_10(0x35, 0, 0), &[], 0)?;
    for _ in 0..=BATCH {
        assert_eq!(session.finish()?.status, 0);
    }
    Ok(())
}

#[test]
fn a_planned_restart_loses_nothing_and_is_short() {
    let site = Site::new();
    let mut service = Service::start(&site);
    service::power_on(&site, 1);
    service::power_on(&site, 2);
    let stop = Arc::new(AtomicBool::new(false));
    let rounds = Arc::new(AtomicU32::new(0));
    let writer = {
        let (login, stop, rounds) = (site.login(1), Arc::clone(&stop), Arc::clone(&rounds));
        std::thread::spawn(move || write_until(&login, &stop, &rounds))
    };
    let wait_for_rounds = |more: u32| {
        let target = rounds.load(Ordering::Relaxed) + more;
        let deadline = Instant::now() + PATIENCE;
        while rounds.load(Ordering::Relaxed) < target && !writer.is_finished() {
            assert!(Instant::now() < deadline, "the writer does not get on");
            std::thread::yield_now();
        }
    };
    for number in 1..=3 {
        wait_for_rounds(2);
        // Firmware closes on any message that it does not know: its connection just ends.
        let mut firmware = site.login(2);
        firmware.isid = [0x40, 0x00, 0x27, 0x23, 0x12, 0x34];
        let mut firmware = come_back(&firmware);
        let (stopped, back) = service.restart(&site);
        println!("restart {number}: stopped after {stopped:?}, accepting again after {back:?}");
        assert!(back < RESTART_MAX, "{back:?}");
        let end = firmware.receive();
        let end = end.err().map(|error| error.kind());
        assert_eq!(end, Some(std::io::ErrorKind::UnexpectedEof));
    }
    wait_for_rounds(2);
    stop.store(true, Ordering::Relaxed);
    let Written {
        acknowledged,
        asked,
    } = writer.join().unwrap();
    assert_eq!(asked, 3);
    let mut session = come_back(&site.login(1));
    for slot in 0..SLOTS {
        let round = acknowledged[slot as usize];
        let found = session.read(lba(slot), 8).unwrap().data;
        assert!(found == content(round, slot), "slot {slot}, round {round}");
    }
}
