//! The service is killed while a client writes: what was acknowledged is there afterwards.

#![expect(
    clippy::unwrap_used,
    reason = "a failure of a test's set-up is a failure of the test"
)]

mod support;

use support::initiator::{Initiator, cdb_10};
use support::room::Site;
use support::service::{self, Service};

/// Not a test: the service itself, in a process that a test starts and kills.
#[test]
fn child_that_serves() {
    service::serve_if_child();
}

/// What round `round` writes to slot `slot`: 3 KiB that start in the middle of a 4 KiB block.
fn content(round: u32, slot: u32) -> Vec<u8> {
    let word = (round << 16 | slot).to_le_bytes();
    word.repeat(3 * 1024 / 4)
}

fn lba(slot: u32) -> u32 {
    slot * 16 + 3
}

#[test]
fn every_acknowledged_write_survives_kill_9() {
    let site = Site::new();
    let mut child = Service::start(&site);
    service::power_on(&site, 1);

    let slots: u32 = 256;
    let mut acknowledged = vec![None; slots as usize];
    let mut issued = vec![0; slots as usize];
    for round in 1..=4 {
        let mut session = Initiator::login(&site.login(1)).unwrap();
        session.become_ready().unwrap();
        let mut in_flight = Vec::new();
        for slot in 0..slots {
            let data = content(round, slot);
            let cdb = cdb_10(0x2a, lba(slot), 6);
            session.start(&cdb, &data, data.len() as u32).unwrap();
            issued[slot as usize] = round;
            in_flight.push(slot);
            // Answers of equal commands come in order here: all are carried out at once.
            if in_flight.len() == 16 && slot < slots - 16 {
                let done = in_flight.remove(0);
                assert_eq!(session.finish().unwrap().status, 0);
                acknowledged[done as usize] = Some(round);
            }
        }
        child.kill();
        child = Service::start(&site);
        let mut session = Initiator::login(&site.login(1)).unwrap();
        session.become_ready().unwrap();
        for slot in 0..slots {
            let found = session.read(lba(slot), 6).unwrap().data;
            let seen = u32::from_le_bytes(found[..4].try_into().unwrap()) >> 16;
            let oldest = acknowledged[slot as usize].unwrap_or(0);
            if oldest > 0 {
                assert!(
                    (oldest..=issued[slot as usize]).contains(&seen),
                    "slot {slot}: round {oldest} was acknowledged, {seen} is there"
                );
                assert!(found == content(seen, slot), "slot {slot} is a mixture");
            }
            // The rest of the slot is still the image.
            let after = session.read(lba(slot) + 6, 1).unwrap().data;
            let at = (lba(slot) as usize + 6) * 512;
            assert!(after == site.image[at..at + 512], "after slot {slot}");
        }
    }
}
