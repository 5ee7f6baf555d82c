use dess_model::BootPolicy;

use super::*;
use crate::check::check_overlay;
use crate::testing::{Room, power_on};
use crate::{BlockDevice, MapEnd};

#[test]
fn the_descriptor_survives_its_text_and_nothing_else_does() {
    let room = Room::new();
    room.import(1, &[1; 4096]);
    let disk = power_on(&room.store(), &room.spec(1, BootPolicy::Persistent));
    let text = disk.descriptor().encode();
    assert_eq!(
        OverlayDescriptor::decode(text.as_bytes()).unwrap(),
        *disk.descriptor()
    );
    for cut in 0..text.len() - 1 {
        assert!(
            OverlayDescriptor::decode(&text.as_bytes()[..cut]).is_err(),
            "cut at {cut}"
        );
    }
    for at in 0..text.len() - 1 {
        let mut damaged = text.clone().into_bytes();
        damaged[at] ^= 0x10;
        assert_ne!(
            OverlayDescriptor::decode(&damaged).as_ref(),
            Ok(disk.descriptor())
        );
    }
}

#[test]
fn the_running_boot_has_an_id() {
    assert_eq!(BootId::current().unwrap(), BootId::current().unwrap());
    assert_ne!(BootId::current().unwrap(), BootId([0; 16]));
}

#[test]
fn a_check_tells_whole_torn_and_damaged_overlays_apart() {
    let room = Room::new();
    room.import(1, &[1; 1 << 20]);
    let store = room.store();
    let disk = power_on(&store, &room.spec(1, BootPolicy::Persistent));
    for block in 0..4 {
        disk.write_at(block * 8192, &[2; 4096]).unwrap();
        disk.flush().unwrap();
    }
    let directory = room.overlay_dir(1, "persistent-1");
    let check = check_overlay(&directory);
    assert_eq!((check.mapped_blocks, check.faults.len()), (Some(4), 0));
    assert!(check.allocated_bytes >= 4 * 4096);

    let path = directory.join(MAP_FILE);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let check = check_overlay(&directory);
    assert_eq!((check.mapped_blocks, check.faults.len()), (Some(3), 1));
    assert!(!check.is_damaged());

    let mut damaged = whole.clone();
    damaged[map_file::RECORDS_OFFSET + 33] ^= 1;
    fs::write(&path, &damaged).unwrap();
    assert_eq!(map_file::decode_map(&damaged).unwrap().end, MapEnd::Damaged);
    assert!(check_overlay(&directory).is_damaged());
    // Nor is it opened for use, and a check changes nothing.
    drop((disk, store));
    let mut room = room;
    room.reboot();
    assert!(matches!(
        room.store().power_on(&room.spec(1, BootPolicy::Persistent)),
        Err(DiskError::Damaged { .. })
    ));
    assert_eq!(fs::read(&path).unwrap(), damaged);
}
