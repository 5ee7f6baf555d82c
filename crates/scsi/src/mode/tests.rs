use super::*;

fn unit() -> LogicalUnit {
    LogicalUnit {
        serial: "1".into(),
        naa: 3 << 60,
        target_name: "iqn.2026-01.test:a".into(),
        capacity_blocks: 4096,
        physical_block_exponent: 3,
        read_only: false,
        thin: true,
    }
}

fn query(page: u8, control: u8) -> ModeSense {
    ModeSense {
        form: ModeForm::Six,
        no_block_descriptor: false,
        long_lba: false,
        control,
        page,
        subpage: 0,
        allocation: 255,
    }
}

#[test]
fn the_caching_page_says_write_back() {
    let data = sense(&unit(), &ModeState::default(), &query(CACHING, CURRENT)).unwrap();
    assert_eq!(data[..4], [31, 0, 0x10, 8]);
    assert_eq!(data[4..12], [0, 0, 0x10, 0, 0, 0, 2, 0]);
    assert_eq!(data[12..15], [8, 18, 4]);
}

#[test]
fn all_pages_come_in_order_with_a_ten_byte_header() {
    let query = ModeSense {
        form: ModeForm::Ten,
        long_lba: true,
        ..query(ALL_PAGES, CURRENT)
    };
    let data = sense(&unit(), &ModeState::default(), &query).unwrap();
    assert_eq!(usize::from(data[1]) + 2, data.len());
    assert_eq!(data[4..8], [1, 0, 0, 16]);
    let codes = [data[24], data[24 + 12], data[24 + 32], data[24 + 44]];
    assert_eq!(codes, PAGES);
}

#[test]
fn a_read_only_disk_is_write_protected() {
    let mut unit = unit();
    unit.read_only = true;
    let data = sense(&unit, &ModeState::default(), &query(CACHING, CURRENT)).unwrap();
    assert_eq!(data[2], 0x90);
}

#[test]
fn select_changes_what_sense_calls_changeable_and_nothing_else() {
    let state = ModeState::default();
    let data = sense(&unit(), &state, &query(CONTROL, CURRENT)).unwrap();
    let select = ModeSelect {
        form: ModeForm::Six,
        length: data.len() as u32,
    };
    let mut list = data.clone();
    list[..4].fill(0);
    list[3] = 8;
    list[12 + 4] |= 0x08;
    let after = state.select(&select, &list).unwrap();
    assert!(after.software_write_protect && !after.descriptor_sense);
    let changed = sense(&unit(), &after, &query(CONTROL, CURRENT)).unwrap();
    assert_eq!(changed[2], 0x90);
    list[12 + 3] ^= 0x10;
    assert_eq!(
        state.select(&select, &list),
        Err(Sense::parameter_field(15))
    );
}

#[test]
fn a_cut_list_is_refused() {
    let select = ModeSelect {
        form: ModeForm::Six,
        length: 0,
    };
    let state = ModeState::default();
    assert_eq!(state.select(&select, &[]), Ok(state));
    for list in [
        &[0_u8, 0, 0][..],
        &[0, 0, 0, 8, 1],
        &[0, 0, 0, 0, 0x0a],
        &[0, 0, 0, 0, 0x0a, 10, 0],
    ] {
        assert_eq!(state.select(&select, list), Err(Sense::PARAMETER_LENGTH));
    }
}
