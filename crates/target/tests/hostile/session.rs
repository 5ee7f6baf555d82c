//! A client that knows its own secret and keeps to no rule.

use std::net::Ipv4Addr;
use std::time::Instant;

use crate::support::initiator::{Initiator, LoginError, cdb_10};
use crate::support::raw::{Raw, Shot};
use crate::support::victim::{MIB, Victim};

/// Sessions of the attacker that attack at once.
const SESSIONS: u16 = 4;
/// Most memory for one of them.
const GROWTH_MAX_EACH: u64 = 64 * MIB;
/// More sessions, of which each could hold so much alone.
const MANY_SESSIONS: u16 = 24;
/// Most memory for the data of all sessions of one client, and what their buffers and lists take besides.
const GROWTH_MAX: u64 = 64 * MIB + MANY_SESSIONS as u64 * 2 * MIB;
/// The command window.
const WINDOW: u32 = 128;
/// Longest data segment that the target takes.
const SEGMENT: usize = 262_144;
/// The longest write, in blocks.
const LONGEST: u16 = 16_384;

const WRITE: u8 = 0x2a;
const READ: u8 = 0x28;
const R2T: u8 = 0x31;
const SCSI_RESPONSE: u8 = 0x21;
const TASK_SET_FULL: u8 = 0x28;

fn is_task_set_full(answer: &[u8]) -> bool {
    answer[0] == SCSI_RESPONSE && answer[3] == TASK_SET_FULL
}

fn attackers(victim: &Victim) -> Vec<(Raw, u32)> {
    (0..SESSIONS)
        .map(|number| {
            let mut session = victim.attacker(number);
            session.become_ready().unwrap();
            Raw::of(session)
        })
        .collect()
}

/// A write of the greatest length, with `data` in the command.
fn write(number: u32, cmd_sn: u32, data: &[u8]) -> Shot {
    let cdb = cdb_10(WRITE, 0, LONGEST);
    Shot::command(0xa0, u32::from(LONGEST) * 512, &cdb)
        .data(data)
        .word(16, number)
        .word(24, cmd_sn)
}

fn read(number: u32, cmd_sn: u32) -> Shot {
    let cdb = cdb_10(READ, 0, LONGEST);
    Shot::command(0xc0, u32::from(LONGEST) * 512, &cdb)
        .word(16, number)
        .word(24, cmd_sn)
}

fn data_out(itt: u32, ttt: u32, data_sn: u32, offset: u32, data: &[u8], last: bool) -> Shot {
    Shot::new(0x05, if last { 0x80 } else { 0 })
        .data(data)
        .word(16, itt)
        .word(20, ttt)
        .word(36, data_sn)
        .word(40, offset)
}

#[test]
fn ready_to_transfer_is_never_answered() {
    let victim = Victim::start();
    let mut held = Vec::new();
    let data = vec![0x77; SEGMENT];
    for (mut raw, cmd_sn) in attackers(&victim) {
        for number in 0..WINDOW {
            raw.fire(&write(number, cmd_sn + number, &data));
        }
        // Asked for more, or told that there is no memory for what nobody asked for.
        let answer = raw.receive().unwrap();
        assert!(answer[0] == R2T || is_task_set_full(&answer), "{answer:?}");
        held.push(raw);
    }
    drop(held);
    victim.assert_unharmed(GROWTH_MAX);
}

/// Each may hold more than all of them together.
#[test]
fn the_sessions_of_one_client_share_its_memory() {
    let victim = Victim::start();
    let mut held = Vec::new();
    let data = vec![0x77; SEGMENT];
    let mut refused = 0;
    for number in 0..MANY_SESSIONS {
        let mut session = victim.attacker(number);
        session.become_ready().unwrap();
        let (mut raw, cmd_sn) = Raw::of(session);
        for number in 0..WINDOW {
            raw.fire(&write(number, cmd_sn + number, &data));
        }
        refused += usize::from(is_task_set_full(&raw.receive().unwrap()));
        held.push(raw);
    }
    assert!(
        refused > usize::from(MANY_SESSIONS) / 2,
        "{refused} refused"
    );
    drop(held);
    victim.assert_unharmed(GROWTH_MAX);
}

/// Data that is kept, in pieces that are small beside what came with them.
#[test]
fn crumbs_among_rubbish() {
    let victim = Victim::start();
    let rubbish = data_out(0x7777_0000, 5, 0, 0, &vec![0; SEGMENT - 4096], true).bytes();
    let mut held = Vec::new();
    for (mut raw, cmd_sn) in attackers(&victim) {
        raw.fire(&write(1, cmd_sn, &[]));
        let asked = raw.receive().unwrap();
        assert_eq!(asked[0], 0x31);
        let ttt = u32::from_be_bytes(asked[20..24].try_into().unwrap());
        for number in 0..400 {
            raw.fire(&data_out(1, ttt, number, number * 1024, &[7; 1024], false));
            raw.send(&rubbish);
        }
        // The same ahead of a command that never comes.
        for number in 0..100 {
            let mut early = write(2 + number, cmd_sn + 2 + number, &[7; 1024]);
            early.header[1] = 0x20;
            raw.fire(&early);
            raw.send(&rubbish);
        }
        held.push(raw);
    }
    drop(held);
    victim.assert_unharmed(SESSIONS as u64 * 16 * MIB);
}

#[test]
fn the_window_and_the_answers_are_ignored() {
    let victim = Victim::start();
    let mut held = Vec::new();
    let data = vec![0x77; SEGMENT];
    for (mut raw, cmd_sn) in attackers(&victim) {
        // Far outside: dropped.
        for number in 0..100 {
            let far = cmd_sn.wrapping_add(number * 40_000_000 + 1_000_000);
            raw.fire(&write(number, far, &data));
        }
        // Thousands of reads and pings whose answers nobody takes.
        for number in 0..5000 {
            let mut ping = Shot::new(0x40, 0x80).data(&[1; 4096]);
            ping = ping.word(16, 0x10_0000 + number).word(20, u32::MAX);
            if !raw.fire(&read(number, cmd_sn + number)) || !raw.fire(&ping) {
                break;
            }
        }
        held.push(raw);
    }
    drop(held);
    victim.assert_unharmed(GROWTH_MAX);
}

#[test]
fn data_that_fits_nothing() {
    let victim = Victim::start();
    for round in 0..40 {
        let mut session = victim.attacker(round % 4);
        session.become_ready().unwrap();
        let (mut raw, cmd_sn) = Raw::of(session);
        // For tasks that are not there, or are no writes.
        raw.fire(&data_out(0x1234_5678, u32::MAX, 0, 0, &[1; 4096], true));
        raw.fire(&data_out(u32::MAX, 1, 9, 512, &[1; 4096], true));
        // A wrong tag, number, offset, length, in each case for a command of its own.
        for (number, wrong) in (0..4).enumerate() {
            let itt = 100 + number as u32;
            raw.fire(&write(itt, cmd_sn + number as u32, &[]));
            let asked = raw.receive().unwrap();
            assert_eq!(asked[0], 0x31);
            let ttt = u32::from_be_bytes(asked[20..24].try_into().unwrap());
            let shot = match wrong {
                0 => data_out(itt, ttt ^ 0x55, 0, 0, &[1; 512], true),
                1 => data_out(itt, ttt, 17, 0, &[1; 512], true),
                2 => data_out(itt, ttt, 0, u32::MAX - 511, &[1; 512], true),
                _ => data_out(itt, ttt, 0, 0, &[1; 512], true),
            };
            raw.fire(&shot);
            // The sequence that was asked for ends, then so does the command.
            raw.fire(&data_out(itt, ttt, 18, 512, &[1; 512], true));
            let answer = raw.receive().unwrap();
            assert_eq!((answer[0], answer[3]), (0x21, 0x02), "fault {wrong}");
        }
        if round % 2 == 0 {
            raw.reset();
        }
    }
    victim.assert_unharmed(GROWTH_MAX_EACH);
}

#[test]
fn everything_is_aborted_all_the_time() {
    let victim = Victim::start();
    let mut held = Vec::new();
    for (mut raw, cmd_sn) in attackers(&victim) {
        for number in 0..2000_u32 {
            // Writes that wait for data, reads in pieces, and each function for all of them.
            if number < 100 {
                let shot = match number % 2 {
                    0 => write(number, cmd_sn + number, &[]),
                    _ => read(number, cmd_sn + number),
                };
                raw.fire(&shot);
            }
            let function = 1 + (number % 9) as u8;
            let mut abort = Shot::new(0x42, 0x80 | function)
                .word(16, 0x20_0000 + number)
                .word(20, number % 100)
                .word(32, cmd_sn + number % 100);
            abort.header[9] = (number % 3) as u8;
            if !raw.fire(&abort) {
                break;
            }
        }
        held.push(raw);
    }
    // Its own disk is as good as before.
    let mut session = victim.attacker(77);
    session.become_ready().unwrap();
    let data = session.read(64, 8).unwrap();
    assert_eq!(data.status, 0);
    drop((session, held));
    victim.assert_unharmed(GROWTH_MAX);
}

#[test]
fn one_client_cannot_have_all_sessions() {
    let victim = Victim::start();
    let mut held = Vec::new();
    let mut refused = 0;
    for number in 0..200 {
        match Initiator::login(&victim.login(number)) {
            Ok(session) => held.push(session),
            Err(LoginError::Refused(status)) => {
                assert_eq!(status, 0x0302);
                refused += 1;
            }
            Err(LoginError::Io(error)) => panic!("{error}"),
        }
    }
    assert!(held.len() <= 32, "{} sessions of one client", held.len());
    assert!(refused >= 168);
    // When some are gone, there is room again.
    held.truncate(8);
    victim.wait_for_connections(8);
    let mut again = victim.attacker(300);
    again.become_ready().unwrap();
    drop((again, held));
    victim.assert_unharmed(GROWTH_MAX_EACH);
}

/// Sessions that come and go as fast as they can.
#[test]
fn logins_without_end() {
    let victim = Victim::start();
    let started = Instant::now();
    for number in 0..400 {
        // The same session again and again, while the old one still has work.
        let (mut raw, cmd_sn) = Raw::of(victim.attacker(number % 2));
        raw.fire(&read(1, cmd_sn));
        raw.fire(&write(2, cmd_sn + 1, &[1; 512]));
        if number % 3 == 0 {
            raw.reset();
        }
    }
    println!("400 logins took {:?}", started.elapsed());
    // And somebody who asks for targets all the time.
    let peer = Ipv4Addr::new(127, 69, 0, 1);
    let names = "InitiatorName=iqn.2026-01.test:pc2\0SessionType=Discovery\0";
    for _ in 0..200 {
        let mut raw = Raw::connect(peer, victim.site.portal).unwrap();
        raw.fire(&Shot::login(0x87, names));
        raw.receive().unwrap();
        for number in 0..20 {
            let ask = Shot::new(0x44, 0x80).data(b"SendTargets=All\0");
            raw.fire(&ask.word(16, number).word(20, u32::MAX));
        }
    }
    victim.assert_unharmed(GROWTH_MAX_EACH);
}
