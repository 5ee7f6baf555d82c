use super::*;
use crate::command::OpcodeQuery;
use crate::{BlockRange, Command, decode};

fn unit() -> LogicalUnit {
    LogicalUnit {
        serial: "0123456789abcdef".into(),
        naa: 0x3001_0203_0405_0607,
        target_name: "iqn.2026-01.test:seat1".into(),
        capacity_blocks: 1 << 21,
        physical_block_exponent: 3,
        read_only: false,
        thin: true,
    }
}

fn page(code: u8) -> Vec<u8> {
    let query = Query::Inquiry {
        page: Some(code),
        allocation: 512,
    };
    unit().answer(&query, &ModeState::default()).unwrap()
}

#[test]
fn standard_inquiry_names_vendor_and_product() {
    let query = Query::Inquiry {
        page: None,
        allocation: 36,
    };
    let data = unit().answer(&query, &ModeState::default()).unwrap();
    assert_eq!(data.len(), 36);
    assert_eq!(data[..8], [0, 0, 6, 0x12, 69, 8, 0, 2]);
    assert_eq!(&data[8..], b"DESS    DISK            1   ");
}

#[test]
fn vpd_pages_have_the_expected_bytes() {
    let pages = [0, 0, 0, 7, 0x00, 0x80, 0x83, 0x8f, 0xb0, 0xb1, 0xb2];
    assert_eq!(page(0x00), pages);
    assert_eq!(page(0x80), b"\0\x80\0\x100123456789abcdef");
    let mut identification = vec![0, 0x83, 0, 92];
    identification.extend_from_slice(b"\x01\x03\0\x08\x30\x01\x02\x03\x04\x05\x06\x07");
    identification.extend_from_slice(b"\x02\x01\0\x18DESS    0123456789abcdef");
    identification.extend_from_slice(b"\x51\x94\0\x04\0\0\0\x01\x51\x95\0\x04\0\0\0\x01");
    identification.extend_from_slice(b"\x53\x98\0\x20iqn.2026-01.test:seat1,t,0x0001\0");
    assert_eq!(page(0x83), identification);
    let limits = page(0xb0);
    assert_eq!(limits.len(), 64);
    assert_eq!(limits[4..16], [1, 128, 0, 8, 0, 0, 0x40, 0, 0, 0, 8, 0]);
    assert_eq!(
        limits[20..33],
        [0, 0x10, 0, 0, 0, 0, 1, 0, 0, 0, 0, 8, 0x80]
    );
    assert_eq!(limits[36..44], [0, 0, 0, 0, 0, 0, 0xff, 0xff]);
    assert_eq!(page(0xb1)[..6], [0, 0xb1, 0, 60, 0, 1]);
    assert_eq!(page(0xb2), [0, 0xb2, 0, 4, 0, 0xe4, 2, 0]);
}

#[test]
fn capacity_says_thin_and_512e() {
    let data = unit()
        .answer(
            &Query::ReadCapacity16 { allocation: 32 },
            &ModeState::default(),
        )
        .unwrap();
    assert_eq!(
        data[..16],
        [0, 0, 0, 0, 0, 0x1f, 0xff, 0xff, 0, 0, 2, 0, 0, 3, 0xc0, 0]
    );
}

#[test]
fn lba_status_lists_extents_up_to_the_allocation_length() {
    let extents = [(8, true), (1 << 33, false), (8, true)];
    let extents = extents.map(|(blocks, mapped)| LbaExtent { blocks, mapped });
    let data = lba_status(16, &extents, 64);
    let mut expected = vec![0, 0, 0, 36, 0, 0, 0, 0];
    expected.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 8, 0, 0, 0, 0]);
    // The second has more blocks than the field holds, so it is the last.
    expected.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 24]);
    expected.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
    assert_eq!(data, expected);
    assert_eq!(lba_status(16, &extents, 24), expected[..24]);
}

#[test]
fn capacity_10_of_a_disk_above_2_tib_asks_for_capacity_16() {
    let mut unit = unit();
    unit.capacity_blocks = 1 << 33;
    let data = unit
        .answer(&Query::ReadCapacity10, &ModeState::default())
        .unwrap();
    assert_eq!(data, [0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0]);
}

#[test]
fn a_lun_field_is_read_in_peripheral_and_flat_form() {
    assert_eq!(lun_number([0; 8]), Some(0));
    assert_eq!(lun_number([0, 1, 0, 0, 0, 0, 0, 0]), Some(1));
    assert_eq!(lun_number([0x40, 1, 0, 0, 0, 0, 0, 0]), Some(1));
    assert_eq!(lun_number([1, 1, 0, 0, 0, 0, 0, 0]), None);
    assert_eq!(lun_number([0, 0, 0, 1, 0, 0, 0, 0]), None);
    assert_eq!(lun_number([0xc1, 1, 0, 0, 0, 0, 0, 0]), None);
}

#[test]
fn an_absent_unit_answers_inquiry_and_little_else() {
    let inquiry = Query::Inquiry {
        page: None,
        allocation: 96,
    };
    assert_eq!(LogicalUnit::answer_absent(&inquiry).unwrap()[0], 0x7f);
    assert_eq!(
        LogicalUnit::answer_absent(&Query::ReadCapacity10),
        Err(Sense::LUN_NOT_SUPPORTED)
    );
}

#[test]
fn report_luns_lists_the_disks_and_no_well_known_units() {
    let all = report_luns(0, &[0, 1, 31], 64).unwrap();
    assert_eq!(all[..8], [0, 0, 0, 24, 0, 0, 0, 0]);
    assert_eq!(all[8..16], [0; 8]);
    assert_eq!(all[16..24], [0, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(all[24..], [0, 31, 0, 0, 0, 0, 0, 0]);
    assert_eq!(report_luns(2, &[0, 1, 31], 10).unwrap(), all[..10]);
    assert_eq!(report_luns(1, &[0, 1, 31], 64).unwrap(), [0; 8]);
    assert!(report_luns(3, &[0], 64).is_err());
}

/// Every command in the table is decoded, and its usage data has no bits beyond what a real CDB
/// of that length can hold.
#[test]
fn reported_opcodes_are_those_that_are_decoded() {
    let query = OpcodeQuery {
        timeouts: false,
        options: 0,
        opcode: 0,
        service_action: 0,
        allocation: 4096,
    };
    let all = unit()
        .answer(&Query::SupportedOpcodes(query), &ModeState::default())
        .unwrap();
    let mut reported = Vec::new();
    for descriptor in all[4..].chunks_exact(8) {
        let mut cdb = [0; 16];
        cdb[0] = descriptor[0];
        if descriptor[5] & 1 != 0 {
            cdb[1] = descriptor[3];
        }
        if cdb[0] == 0x5f {
            // A type of reservation.
            cdb[2] = 1;
        }
        if matches!(cdb[0], 0x41 | 0x93) {
            // WRITE SAME of nothing is refused.
            cdb[8] = 1;
            cdb[13] = 1;
        }
        assert!(decode(&cdb).is_ok(), "{cdb:02x?}");
        reported.push(cdb[0]);
    }
    for opcode in 0..=255 {
        let mut cdb = [0; 16];
        cdb[0] = opcode;
        let known = decode(&cdb) != Err(Sense::INVALID_OPCODE);
        assert_eq!(known, reported.contains(&opcode), "{opcode:02x}");
    }
}

#[test]
fn ranges_are_checked_without_overflow() {
    let range = |lba, blocks| BlockRange { lba, blocks };
    assert_eq!(range(10, 0).check(10), Ok(()));
    assert_eq!(range(9, 1).check(10), Ok(()));
    assert_eq!(range(10, 1).check(10), Err(Sense::LBA_OUT_OF_RANGE));
    assert_eq!(range(11, 0).check(10), Err(Sense::LBA_OUT_OF_RANGE));
    assert_eq!(
        range(u64::MAX, 2).check(u64::MAX),
        Err(Sense::LBA_OUT_OF_RANGE)
    );
    let read = Command::Medium(Medium::Read(range(0, 1)));
    assert_eq!(read.data_out_bytes(), 0);
}

#[test]
fn a_disk_that_is_not_thin_takes_no_unmap_and_a_read_only_one_no_writes() {
    let state = ModeState::default();
    let range = BlockRange { lba: 0, blocks: 8 };
    let unmap = Medium::Unmap { length: 24 };
    let same = |unmap| Medium::WriteSame {
        range,
        unmap,
        no_data: false,
    };
    let mut unit = unit();
    assert_eq!(unit.admit(&unmap, &state), Ok(()));
    unit.thin = false;
    assert_eq!(unit.admit(&unmap, &state), Err(Sense::INVALID_OPCODE));
    assert_eq!(unit.admit(&same(false), &state), Ok(()));
    assert!(unit.admit(&same(true), &state).is_err());
    unit.read_only = true;
    assert_eq!(
        unit.admit(&same(false), &state),
        Err(Sense::WRITE_PROTECTED)
    );
    assert_eq!(unit.admit(&Medium::Read(range), &state), Ok(()));
}
