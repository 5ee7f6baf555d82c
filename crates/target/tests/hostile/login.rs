//! Logins that never end, that are nonsense, or that guess.

use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::initiator::{Initiator, LoginError};
use crate::support::raw::{Raw, Shot};
use crate::support::victim::{MIB, Victim};

const PEER: Ipv4Addr = Ipv4Addr::new(127, 68, 0, 1);
/// Most memory for peers that have not logged in.
const GROWTH_MAX: u64 = 32 * MIB;
/// A login must be done within 15 s; the rest is for a busy machine.
const LOGIN_ENDS_WITHIN: Duration = Duration::from_secs(30);

const NAMES: &str = "InitiatorName=iqn.2026-01.test:pc2\0TargetName=iqn.2026-01.test:disk2\0\
                     SessionType=Normal\0AuthMethod=CHAP,None\0";
const DISCOVERY: &str = "InitiatorName=iqn.2026-01.test:pc2\0SessionType=Discovery\0";
/// T, operational stage, to full feature phase.
const TO_FULL_FEATURE: u8 = 0x87;
/// C, operational stage.
const TO_BE_CONTINUED: u8 = 0x44;

fn connect(victim: &Victim) -> Raw {
    Raw::connect(PEER, victim.site.portal).unwrap()
}

/// A discovery session: anybody may have one.
fn discovery(victim: &Victim) -> Raw {
    let mut raw = connect(victim);
    raw.fire(&Shot::login(TO_FULL_FEATURE, DISCOVERY));
    let answer = raw.receive().unwrap();
    assert_eq!((answer[0], answer[36]), (0x23, 0));
    raw
}

/// Fires until the target closes; the number of shots. At most `max`.
fn fire_until_closed(raw: &mut Raw, max: usize, mut shot: impl FnMut(usize) -> Shot) -> usize {
    for number in 0..max {
        if !raw.fire(&shot(number)) || raw.receive().is_none() {
            return number;
        }
    }
    max
}

#[test]
fn negotiation_without_end() {
    let victim = Victim::start();
    let mut held = Vec::new();
    for round in 0..50 {
        // Text goes on for ever, with and without content, in one key that has no end.
        let mut raw = connect(&victim);
        let text = "x".repeat([0, 8000, 200][round % 3]);
        let shot = Shot::login(TO_BE_CONTINUED, &text);
        assert!(fire_until_closed(&mut raw, 1000, |_| shot.clone()) < 1000);

        // Ever new keys, all of them answered.
        let mut raw = connect(&victim);
        let many = |number: usize| {
            let mut text = DISCOVERY.to_owned();
            for key in 0..200 {
                text.push_str(&format!("X-{number}-{key}=1\0"));
            }
            Shot::login(0x04, &text)
        };
        assert!(fire_until_closed(&mut raw, 1000, many) < 4);

        // The same question again and again.
        let mut raw = connect(&victim);
        let shot = Shot::login(0x04, DISCOVERY);
        assert!(fire_until_closed(&mut raw, 1000, |_| shot.clone()) < 1000);

        // Text without end in full feature phase; empty text is answered for as long as it comes.
        let mut raw = discovery(&victim);
        let shot = Shot::new(0x44, 0x40)
            .data(&[b'x'; 8000])
            .word(16, 7)
            .word(20, u32::MAX);
        raw.fire(&shot);
        let answer = raw.receive().unwrap();
        let tag = u32::from_be_bytes(answer[20..24].try_into().unwrap());
        let shot = shot.word(20, tag);
        assert!(fire_until_closed(&mut raw, 1000, |_| shot.clone()) < 1000);
        held.push(connect(&victim));
    }
    victim.wait_for_warning("malformed input from 127.68.0.1");
    drop(held);
    victim.assert_unharmed(GROWTH_MAX);
}

#[test]
fn lengths_that_nobody_could_mean() {
    let victim = Victim::start();
    let mut held = Vec::new();
    for round in 0..60 {
        for mut raw in [
            connect(&victim),
            discovery(&victim),
            Raw::of(victim.attacker(round % 8)).0,
        ] {
            // 16 MiB announced, and a part of it sent.
            let mut shot = Shot::login(TO_FULL_FEATURE, &"x".repeat(4096));
            if round % 2 == 0 {
                shot.header[0] = 0x41;
            }
            shot.header[4] = 0xff;
            shot.header[5..8].fill(0xff);
            raw.fire(&shot);
            assert!(raw.is_closed());
            // Additional header segments of the greatest length, never whole.
            let mut raw = connect(&victim);
            let mut shot = Shot::login(TO_FULL_FEATURE, "");
            shot.header[4] = 0xff;
            raw.fire(&shot);
            held.push(raw);
        }
    }
    victim.wait_for_connections(64);
    drop(held);
    victim.assert_unharmed(GROWTH_MAX);
}

#[test]
fn a_flood_of_wrong_secrets() {
    let victim = Victim::start();
    thread::scope(|scope| {
        for guesser in 0..4u16 {
            let victim = &victim;
            scope.spawn(move || {
                for guess in 0..250 {
                    let mut login = victim.login(guesser);
                    login.chap = Some(("pc2".to_owned(), format!("guess-{guess}")));
                    let refused = Initiator::login(&login);
                    assert!(matches!(refused, Err(LoginError::Refused(0x0201))));
                }
            });
        }
    });
    victim.wait_for_warning("login from 127.0.0.1 was refused");
    let told = victim.warnings().len();
    assert!(told <= 4, "{told} lines for one peer within a minute");
    // The right one is still right.
    victim.attacker(1).become_ready().unwrap();
    victim.assert_unharmed(GROWTH_MAX);
}

/// The four states in which a connection can be.
fn in_state(victim: &Victim, state: usize, number: u16) -> Raw {
    match state {
        0 => connect(victim),
        1 => {
            let mut raw = connect(victim);
            raw.fire(&Shot::login(0x00, NAMES));
            raw.receive().unwrap();
            raw
        }
        2 => discovery(victim),
        _ => Raw::of(victim.attacker(number)).0,
    }
}

#[test]
fn every_opcode_in_every_state() {
    let victim = Victim::start();
    let mut held = Vec::new();
    for opcode in 0..=0x3f_u8 {
        for state in 0..4 {
            for variant in 0..2_u8 {
                let mut raw = in_state(&victim, state, u16::from(opcode) % 16);
                let mut shot = Shot::new(
                    opcode | (variant << 6),
                    0x80 | (opcode.wrapping_mul(5) & 0x7f),
                );
                if variant == 1 {
                    shot = shot.data(&[0x41; 600]).ahs(3);
                }
                shot = shot.word(16, 77).word(20, u32::MAX).word(24, 1);
                raw.fire(&shot);
                raw.fire(&shot);
                // Goes away in order, goes away by RST, or stays.
                match (opcode, variant) {
                    (_, 0) if opcode % 2 == 0 => drop(raw),
                    (_, 0) => raw.reset(),
                    _ => held.push(raw),
                }
            }
        }
        if held.len() > 100 {
            held.clear();
        }
    }
    drop(held);
    victim.assert_unharmed(GROWTH_MAX);
}

#[test]
fn connections_that_are_reset_at_any_point() {
    let victim = Victim::start();
    let whole = Shot::login(TO_FULL_FEATURE, DISCOVERY).bytes();
    for round in 0..400_u16 {
        let mut raw = in_state(&victim, usize::from(round) % 4, round % 16);
        // With a part of a PDU on its way, or an answer that nobody took.
        raw.send(&whole[..usize::from(round) % whole.len()]);
        raw.reset();
    }
    victim.assert_unharmed(GROWTH_MAX);
}

#[test]
fn one_byte_a_second() {
    let victim = Victim::start();
    let header = Shot::login(0x00, NAMES).bytes();
    let with_ahs = Shot::login(0x00, NAMES).ahs(200).bytes();
    let started = Instant::now();
    let mut half_open = Vec::new();
    let mut sessions = Vec::new();
    for number in 0..10 {
        // Within the header, the additional header, and the data.
        for (bytes, sent) in [(&header, 5), (&with_ahs, 50), (&header, 60)] {
            let mut raw = connect(&victim);
            raw.send(&bytes[..sent]);
            half_open.push((raw, bytes, sent));
        }
        // The same after the login: nobody has to hurry there.
        let (mut raw, cmd_sn) = Raw::of(victim.attacker(number));
        let write = Shot::command(0xa0, 65536, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 128])
            .data(&[1; 65536])
            .word(16, 9)
            .word(24, cmd_sn);
        let bytes = write.bytes();
        raw.send(&bytes[..40_000]);
        sessions.push((raw, bytes, 40_000));
    }
    // All of them go on until the target has enough of those that do not log in.
    loop {
        half_open.retain_mut(|(raw, bytes, sent)| {
            *sent += 1;
            raw.send(&bytes[*sent - 1..*sent])
        });
        for (raw, bytes, sent) in &mut sessions {
            assert!(raw.send(&bytes[*sent..*sent + 1]), "a slow session ended");
            *sent += 1;
        }
        if half_open.is_empty() {
            break;
        }
        assert!(
            started.elapsed() < LOGIN_ENDS_WITHIN,
            "a slow login goes on"
        );
        thread::sleep(Duration::from_secs(1));
    }
    victim.wait_for_warning("did not log in");
    // A slow session is a session: what it began is done when it is whole.
    for (mut raw, bytes, sent) in sessions {
        assert!(raw.send(&bytes[sent..]));
        let answer = raw.receive().unwrap();
        assert_eq!(answer[0], 0x21);
    }
    victim.assert_unharmed(GROWTH_MAX);
}
