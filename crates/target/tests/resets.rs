//! Task management and what other initiators hear of it.

#![expect(
    clippy::unwrap_used,
    reason = "a failure of a test's set-up is a failure of the test"
)]

mod support;

use support::initiator::{CLEAR_TASK_SET, Initiator, LOGICAL_UNIT_RESET};
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
fn other_initiators_hear_of_a_reset_once() {
    let disk = Standalone::serve(|_| {});
    let (mut one, mut other) = (disk.login(1), disk.login(2));
    one.become_ready().unwrap();
    other.become_ready().unwrap();
    assert_eq!(one.manage(LOGICAL_UNIT_RESET).unwrap(), FUNCTION_COMPLETE);
    assert_eq!(next_sense(&mut other), Some((6, 0x29, 0x03)));
    assert_eq!(next_sense(&mut other), None);
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
