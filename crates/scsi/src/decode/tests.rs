use proptest::prelude::*;

use super::*;

fn cdb(bytes: &[u8]) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[..bytes.len()].copy_from_slice(bytes);
    cdb
}

fn read(lba: u64, blocks: u64) -> Result<Command, Sense> {
    Ok(Command::Medium(Medium::Read(BlockRange { lba, blocks })))
}

#[test]
fn every_form_of_read_finds_its_range() {
    assert_eq!(
        decode(&cdb(&[0x08, 0x1f, 0xff, 0xff, 1])),
        read(0x1f_ffff, 1)
    );
    assert_eq!(decode(&cdb(&[0x08, 0, 0, 0, 0])), read(0, 256));
    assert_eq!(
        decode(&cdb(&[0x28, 0, 0xff, 1, 2, 3, 0, 4, 5])),
        read(0xff01_0203, 0x0405)
    );
    assert_eq!(
        decode(&cdb(&[0xa8, 0, 0, 1, 2, 3, 0, 0, 4, 5])),
        read(0x0001_0203, 0x0405)
    );
    assert_eq!(
        decode(&cdb(&[0x88, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 9])),
        read(0x0102_0304_0506_0708, 9)
    );
}

#[test]
fn protection_information_is_refused_naming_the_field() {
    assert_eq!(
        decode(&cdb(&[0x28, 0x20, 0, 0, 0, 0, 0, 0, 1])),
        Err(Sense::cdb_field(1, Some(7)))
    );
}

#[test]
fn a_transfer_beyond_the_stated_limit_is_refused() {
    assert!(decode(&cdb(&[0x28, 0, 0, 0, 0, 0, 0, 0xff, 0xff])).is_ok());
    assert_eq!(
        decode(&cdb(&[0xa8, 0, 0, 0, 0, 0, 0, 1, 0, 0])),
        Err(Sense::cdb_field(6, None))
    );
}

#[test]
fn a_parameter_list_without_measure_is_refused() {
    let preempt = [0x5f, 4, 1, 0, 0, 0x40, 0, 0, 0];
    assert_eq!(decode(&cdb(&preempt)), Err(Sense::PARAMETER_LENGTH));
    let copy = [0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
    assert_eq!(decode(&cdb(&copy)), Err(Sense::PARAMETER_LENGTH));
}

#[test]
fn fua_is_told_from_dpo() {
    let write = |flags| match decode(&cdb(&[0x2a, flags, 0, 0, 0, 0, 0, 0, 1])) {
        Ok(Command::Medium(Medium::Write { fua, .. })) => fua,
        other => panic!("{other:?}"),
    };
    assert!(!write(0x00));
    assert!(!write(0x10));
    assert!(write(0x08));
}

#[test]
fn unknown_commands_are_refused_by_code_and_by_service_action() {
    assert_eq!(decode(&cdb(&[0xee])), Err(Sense::INVALID_OPCODE));
    assert_eq!(decode(&cdb(&[0x85])), Err(Sense::INVALID_OPCODE));
    assert_eq!(
        decode(&cdb(&[0x9e, 0x1f])),
        Err(Sense::cdb_field(1, Some(4)))
    );
}

proptest! {
    #[test]
    fn any_cdb_is_decoded_or_refused(bytes in prop::array::uniform16(any::<u8>())) {
        if let Ok(command) = decode(&bytes) {
            // Whatever a command asks to be sent, it is bounded by a limit of ours.
            prop_assert!(command.data_out_bytes() <= 65_535 * 512);
        }
    }
}
