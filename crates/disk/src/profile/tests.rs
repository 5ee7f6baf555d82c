use super::*;

fn version(number: u32) -> VersionRef {
    VersionRef {
        image: "01940000-1111-7000-9000-0000000000aa".parse().unwrap(),
        number,
    }
}

#[test]
fn what_the_last_boots_read_is_wanted_in_their_order_and_what_none_reads_any_more_is_forgotten() {
    let mut profile = BootProfile::new(version(1));
    profile.add_boot(&[7, 8, 3, 100]);
    let unit = PROFILE_UNIT_BYTES;
    let ranges = [
        7 * unit..9 * unit,
        3 * unit..4 * unit,
        100 * unit..101 * unit,
    ];
    assert_eq!(profile.wanted(), ranges);
    assert_eq!(profile.predicted(&[3, 8, 9]), 2);
    // Read by one boot only: two more without it, and it is not read ahead; in the end it is gone.
    for _ in 0..3 {
        profile.add_boot(&[8, 3]);
    }
    assert_eq!(profile.wanted(), [8 * unit..9 * unit, 3 * unit..4 * unit]);
    assert_eq!(profile.units.len(), 4);
    for _ in 0..10 {
        profile.add_boot(&[8, 3]);
    }
    assert_eq!(profile.units.len(), 2);
    assert_eq!((profile.boots(), profile.wanted_bytes()), (14, 2 * unit));
}

#[test]
fn a_profile_has_an_upper_bound() {
    let mut profile = BootProfile::new(version(1));
    let most = PROFILE_UNITS_MAX as u32;
    profile.add_boot(&(0..most * 2).collect::<Vec<_>>());
    profile.add_boot(&(most..most * 3).collect::<Vec<_>>());
    assert_eq!(profile.units.len(), PROFILE_UNITS_MAX);
    assert!(profile.encode().len() < 512 * 1024);
}

#[test]
fn a_file_is_read_as_written_and_damage_is_found() {
    let mut profile = BootProfile::new(version(1));
    profile.add_boot(&[7, 8, u32::MAX]);
    let bytes = profile.encode();
    assert_eq!(BootProfile::decode(&bytes, version(1)), Ok(profile));
    assert_eq!(
        BootProfile::decode(&bytes, version(2)),
        Err(ProfileDecodeError::Foreign)
    );
    for length in 0..bytes.len() {
        assert!(BootProfile::decode(&bytes[..length], version(1)).is_err());
    }
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x40;
        assert!(BootProfile::decode(&damaged, version(1)).is_err(), "{at}");
    }
}
