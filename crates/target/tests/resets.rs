//! Task management and what other initiators hear of it.

#![expect(
    clippy::unwrap_used,
    reason = "a failure of a test's set-up is a failure of the test"
)]

mod support;

use support::initiator::{
    CLEAR_TASK_SET, Initiator, LOGICAL_UNIT_RESET, TARGET_COLD_RESET, TARGET_WARM_RESET,
};
use support::standalone::Standalone;

const GOOD: u8 = 0;
const CHECK_CONDITION: u8 = 2;
const FUNCTION_COMPLETE: u8 = 0;

/// Key, code and qualifier of the sense that the next command gets.
fn next_sense(session: &mut Initiator) -> Option<(u8, u8, u8)> {
    let ended = session.command(&[0; 6], &[], 0).unwrap();
    (ended.status == CHECK_CONDITION)
        .then(|| (ended.sense[2] & 0x0f, ended.sense[12], ended.sense[13]))
}

#[test]
fn a_lun_reset_behind_a_write_is_answered_and_the_write_at_most_once() {
    let disk = Standalone::serve(|_| {});
    let mut session = disk.login(1);
    session.become_ready().unwrap();
    for round in 0..32 {
        let (write, reset) = session.write_and_reset(0, &[round; 4096]).unwrap();
        let mut written = 0;
        loop {
            let pdu = session.receive().unwrap();
            let tag = u32::from_be_bytes(pdu.bhs[16..20].try_into().unwrap());
            match pdu.bhs[0] & 0x3f {
                0x21 => {
                    assert_eq!((tag, pdu.bhs[3]), (write, GOOD));
                    written += 1;
                }
                0x22 => {
                    assert_eq!((tag, pdu.bhs[2]), (reset, FUNCTION_COMPLETE));
                    break;
                }
                opcode => panic!("unexpected PDU {opcode:#04x}"),
            }
        }
        assert!(written <= 1);
        // Nothing of the write comes after the reset: the next answer is the next command's.
        assert_eq!(next_sense(&mut session), Some((6, 0x29, 0x03)));
        assert_eq!(next_sense(&mut session), None);
    }
}

#[test]
fn all_initiators_hear_of_a_reset_once() {
    let disk = Standalone::serve(|_| {});
    for function in [LOGICAL_UNIT_RESET, TARGET_WARM_RESET] {
        let (mut one, mut other) = (disk.login(1), disk.login(2));
        one.become_ready().unwrap();
        other.become_ready().unwrap();
        assert_eq!(one.manage(function).unwrap(), FUNCTION_COMPLETE);
        for session in [&mut one, &mut other] {
            assert_eq!(next_sense(session), Some((6, 0x29, 0x03)));
            assert_eq!(next_sense(session), None);
        }
    }
}

/// The event of an asynchronous message, and the seconds after which the initiator may be back.
fn next_event(session: &mut Initiator) -> (u8, u16) {
    let pdu = session.receive().unwrap();
    assert_eq!(pdu.bhs[0] & 0x3f, 0x32, "an asynchronous message");
    (pdu.bhs[36], u16::from_be_bytes([pdu.bhs[40], pdu.bhs[41]]))
}

#[test]
fn a_cold_reset_is_answered_and_ends_all_sessions_of_the_target() {
    let disk = Standalone::serve(|_| {});
    let (mut one, mut other) = (disk.login(1), disk.login(2));
    one.become_ready().unwrap();
    other.become_ready().unwrap();
    assert_eq!(one.write(0, &[7; 512]).unwrap().status, GOOD);
    assert_eq!(one.manage(TARGET_COLD_RESET).unwrap(), FUNCTION_COMPLETE);
    for session in [&mut one, &mut other] {
        assert_eq!(next_event(session), (3, 1));
        assert!(session.is_closed());
    }
    // As after a power-on, with what was written.
    let mut again = disk.login(1);
    assert_eq!(next_sense(&mut again), Some((6, 0x29, 0x00)));
    assert_eq!(again.read(0, 1).unwrap().data, [7; 512]);
}

#[test]
fn a_task_set_that_is_cleared_without_commands_of_others_tells_them_nothing() {
    let disk = Standalone::serve(|_| {});
    let (mut one, mut other) = (disk.login(1), disk.login(2));
    one.become_ready().unwrap();
    other.become_ready().unwrap();
    assert_eq!(one.manage(CLEAR_TASK_SET).unwrap(), FUNCTION_COMPLETE);
    assert_eq!(next_sense(&mut other), None);
    assert_eq!(next_sense(&mut one), None);
}

/// PERSISTENT RESERVE OUT with a parameter list of two keys and the flags of byte 20.
fn persistent_out(
    session: &mut Initiator,
    action: u8,
    kind: u8,
    keys: (u64, u64),
    flags: u8,
) -> u8 {
    let mut list = keys.0.to_be_bytes().to_vec();
    list.extend_from_slice(&keys.1.to_be_bytes());
    list.resize(24, 0);
    list[20] = flags;
    let cdb = [0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0];
    session.command(&cdb, &list, 24).unwrap().status
}

const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const PREEMPT_AND_ABORT: u8 = 5;
const WRITE_EXCLUSIVE: u8 = 1;
const APTPL: u8 = 1;
const RESERVATION_CONFLICT: u8 = 0x18;

#[test]
fn preempt_and_abort_takes_the_reservation_over_and_tells_its_holder() {
    let disk = Standalone::serve(|_| {});
    let (mut one, mut other) = (disk.login(1), disk.login(2));
    one.become_ready().unwrap();
    other.become_ready().unwrap();
    assert_eq!(persistent_out(&mut one, REGISTER, 0, (0, 7), 0), GOOD);
    assert_eq!(persistent_out(&mut other, REGISTER, 0, (0, 8), 0), GOOD);
    let reserved = persistent_out(&mut one, RESERVE, WRITE_EXCLUSIVE, (7, 0), 0);
    assert_eq!(reserved, GOOD);
    let refused = other.write(0, &[1; 512]).unwrap();
    assert_eq!(refused.status, RESERVATION_CONFLICT);
    let kind = WRITE_EXCLUSIVE;
    let taken = persistent_out(&mut other, PREEMPT_AND_ABORT, kind, (8, 7), 0);
    assert_eq!(taken, GOOD);
    assert_eq!(other.write(0, &[1; 512]).unwrap().status, GOOD);
    // REGISTRATIONS PREEMPTED.
    assert_eq!(next_sense(&mut one), Some((6, 0x2a, 0x05)));
    let refused = one.write(0, &[2; 512]).unwrap();
    assert_eq!(refused.status, RESERVATION_CONFLICT);
}

#[test]
fn a_reservation_that_shall_be_kept_outlives_the_service_and_another_does_not() {
    for overlay in [false, true] {
        for (flags, kept) in [(APTPL, true), (0, false)] {
            let mut disk = Standalone::serve(|options| {
                let beside = options.image.with_file_name("overlay");
                options.overlay = overlay.then_some(beside);
            });
            let mut one = disk.login(1);
            one.become_ready().unwrap();
            let registered = persistent_out(&mut one, REGISTER, 0, (0, 7), flags);
            let reserved = persistent_out(&mut one, RESERVE, WRITE_EXCLUSIVE, (7, 0), 0);
            assert_eq!((registered, reserved), (GOOD, GOOD));
            disk.restart();
            let (mut one, mut other) = (disk.login(1), disk.login(2));
            one.become_ready().unwrap();
            other.become_ready().unwrap();
            assert_eq!(one.write(0, &[1; 512]).unwrap().status, GOOD);
            let expected = if kept { RESERVATION_CONFLICT } else { GOOD };
            let status = other.write(0, &[1; 512]).unwrap().status;
            assert_eq!(status, expected, "overlay: {overlay}, kept: {kept}");
        }
    }
}
