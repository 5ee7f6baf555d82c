use std::os::unix::fs::{FileExt, PermissionsExt};

use std::fs;

use dess_model::BootPolicy;

use super::*;
use crate::BlockDevice;
use crate::map_file::RECORDS_OFFSET;
use crate::testing::{Room, disk_id, image_bytes, power_on, read_all, version_ref};
use crate::version::Version;

const SIZE: usize = (5 << 20) + 512;

/// Two versions: a base, and one with a block at the start of the fourth MiB.
fn room() -> (Room, Vec<u8>) {
    let room = Room::new();
    let mut content = image_bytes(SIZE, 5);
    room.import(1, &content);
    room.make_version(&room.store(), 1, 2, |disk| {
        disk.write_at(3 << 20, &[7; 4096]).unwrap();
    });
    content[3 << 20..(3 << 20) + 4096].fill(7);
    (room, content)
}

fn check(room: &Room, number: u32) -> Vec<Fault> {
    let images = room.path("images");
    let check = check_version(
        &images,
        version_ref(number),
        Depth::Content,
        &mut |_| {},
        &|| false,
    );
    check.unwrap().faults
}

fn flip(path: &Path, at: u64) {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
}

#[test]
fn whole_versions_have_no_faults() {
    let (room, _) = room();
    assert_eq!(check(&room, 1), []);
    assert_eq!(check(&room, 2), []);
    let all = versions_in_store(&room.path("images")).unwrap();
    assert_eq!(all, [version_ref(1), version_ref(2)]);
    let missing = check_version(
        &room.path("images"),
        version_ref(3),
        Depth::Content,
        &mut |_| {},
        &|| false,
    );
    assert!(matches!(missing, Err(CheckError::Missing { .. })));
}

#[test]
fn damaged_content_is_told_with_its_layer_and_place_in_every_version_that_reads_it() {
    let (room, content) = room();
    let in_use = |at: usize| content[at] != 0;
    let at = (2 << 20..3 << 20).find(|&at| in_use(at)).unwrap();
    let data = room.version_dir(1).join("data");
    flip(&data, at as u64);
    for number in [1, 2] {
        let faults = check(&room, number);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!(faults[0].path, data);
        assert_eq!(faults[0].bytes, Some(2 << 20..3 << 20));
        assert_eq!(faults[0].severity, Severity::Damage);
    }
    flip(&data, at as u64);
    assert_eq!(check(&room, 1), []);
    // The newest layer's own block.
    let own = room.version_dir(2).join("data");
    flip(&own, (3 << 20) + 5);
    assert_eq!(check(&room, 1), []);
    let faults = check(&room, 2);
    assert!(
        faults
            .iter()
            .any(|fault| fault.path == own && fault.bytes == Some(3 << 20..4 << 20))
    );
}

/// Everything that is damaged, repaired if it can be, and what is left of the old file.
fn repaired(room: &Room, number: u32) -> Vec<Repaired> {
    let repaired = repair_version(&room.path("images"), version_ref(number)).unwrap();
    assert_eq!(check(room, number), []);
    repaired
}

#[test]
fn a_damaged_header_map_or_checksum_file_of_a_version_is_made_anew_and_the_old_one_kept() {
    let (room, content) = room();
    let map = room.version_dir(1).join("map");
    let whole = fs::read(&map).unwrap();
    for (at, severity, bytes) in [
        (17, Severity::Warning, Some(0..4096)),
        (4096 + 17, Severity::Warning, Some(4096..8192)),
        (
            RECORDS_OFFSET as u64 + 40,
            Severity::Damage,
            Some(8192..whole.len() as u64),
        ),
    ] {
        flip(&map, at);
        let damaged = fs::read(&map).unwrap();
        let faults = check(&room, 1);
        assert_eq!((faults[0].severity, &faults[0].bytes), (severity, &bytes));
        let copy = repaired(&room, 1)[0].copy.clone().unwrap();
        assert_eq!(fs::read(&map).unwrap(), whole);
        assert_eq!(fs::read(copy).unwrap(), damaged);
    }
    let sums = room.version_dir(2).join("sums");
    let whole = fs::read(&sums).unwrap();
    fs::remove_file(&sums).unwrap();
    assert!(
        check(&room, 2)
            .iter()
            .any(|fault| fault.remedy == Some(Remedy::Sums))
    );
    repaired(&room, 2);
    assert_eq!(fs::read(&sums).unwrap(), whole);
    assert!(read_all(&Version::open(&room.version_dir(2)).unwrap()) == content);
    let mode = fs::metadata(&map).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o444);
}

#[test]
fn nothing_is_made_up_for_a_version_whose_content_is_not_what_was_written() {
    let (room, content) = room();
    let at = content.iter().position(|&byte| byte != 0).unwrap();
    flip(&room.version_dir(1).join("data"), at as u64);
    let sums = room.version_dir(1).join("sums");
    flip(&sums, 50);
    let damaged = fs::read(&sums).unwrap();
    let repair = repair_version(&room.path("images"), version_ref(1));
    assert!(
        matches!(repair, Err(RepairError::Hopeless { .. })),
        "{repair:?}"
    );
    assert_eq!(fs::read(&sums).unwrap(), damaged);
    // The content is known to be wrong even so.
    assert!(
        check(&room, 1)
            .iter()
            .any(|fault| fault.path.ends_with("data"))
    );
}

#[test]
fn checksums_that_are_whole_but_not_of_this_content_are_told() {
    let (room, _) = room();
    let path = room.version_dir(1).join("sums");
    let mut sums = crate::Sums::decode(&fs::read(&path).unwrap()).unwrap();
    sums.chunks.swap(0, 1);
    fs::write(&path, sums.encode()).unwrap();
    assert!(
        check(&room, 1)
            .iter()
            .any(|fault| fault.remedy == Some(Remedy::Sums))
    );
    repaired(&room, 1);
}

#[test]
fn a_writable_or_short_file_of_a_version_is_told() {
    let (room, _) = room();
    let data = room.version_dir(1).join("data");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(check(&room, 1)[0].remedy, Some(Remedy::Mode));
    repaired(&room, 1);
    let length = fs::metadata(&data).unwrap().len();
    let file = fs::OpenOptions::new().write(true).open(&data).unwrap();
    file.set_len(length - 4096).unwrap();
    let faults = check(&room, 1);
    assert_eq!(faults[0].bytes, Some(length - 4096..length));
}

#[test]
fn of_a_broken_overlay_map_the_whole_records_are_saved() {
    let (mut room, mut content) = room();
    let store = room.store();
    let mut spec = room.spec(1, BootPolicy::Persistent);
    (spec.version, spec.version_dir) = (version_ref(2), room.version_dir(2));
    let disk = power_on(&store, &spec);
    for block in 0..4 {
        disk.write_at(block << 20, &[9; 4096]).unwrap();
        disk.flush().unwrap();
    }
    drop((disk, store));
    let (overlays, images) = (room.path("overlays"), room.path("images"));
    let all = |room: &Room| check_disk(&room.path("overlays"), &images, disk_id(1)).unwrap();
    let found = all(&room);
    assert_eq!((found.len(), found[0].mapped_blocks), (1, Some(4)));
    assert_eq!(found[0].faults, []);
    let directory = room.overlay_dir(1, "persistent-1");
    let map = directory.join("map");
    // The second record: 32 bytes of header and one entry of 12 each.
    flip(&map, RECORDS_OFFSET as u64 + 44 + 35);
    let found = all(&room);
    assert!(found[0].is_damaged());
    assert_eq!(
        found[0].faults[0].bytes,
        Some(RECORDS_OFFSET as u64 + 44..RECORDS_OFFSET as u64 + 4 * 44)
    );
    let running = room.store();
    let refused = repair_overlay(&overlays, &directory);
    assert!(matches!(refused, Err(RepairError::Running(_))));
    drop(running);
    let repaired = repair_overlay(&overlays, &directory).unwrap();
    assert!(repaired[0].copy.as_ref().unwrap().exists());
    let found = all(&room);
    assert_eq!(
        (found[0].mapped_blocks, &found[0].faults),
        (Some(3), &Vec::new())
    );
    room.reboot();
    // What the broken record named is the version's again, the rest is there.
    for block in [0, 2, 3] {
        content[block << 20..(block << 20) + 4096].fill(9);
    }
    let disk = room.store().attach(disk_id(1)).unwrap().disk;
    assert!(read_all(&*disk) == content);
}

#[test]
fn an_overlay_whose_version_is_gone_or_another_is_told() {
    let (room, _) = room();
    let store = room.store();
    drop(power_on(&store, &room.spec(1, BootPolicy::Persistent)));
    drop(store);
    fs::rename(room.version_dir(1), room.path("elsewhere")).unwrap();
    let check = || check_disk(&room.path("overlays"), &room.path("images"), disk_id(1)).unwrap();
    assert!(check()[0].is_damaged());
    fs::rename(room.path("elsewhere"), room.version_dir(1)).unwrap();
    assert!(!check()[0].is_damaged());
    let text = room.overlay_dir(1, "persistent-1").join("overlay.json");
    flip(&text, 20);
    assert!(check()[0].is_damaged());
}

#[test]
fn a_scrub_compares_every_block_of_all_versions_once_and_goes_on_where_it_was() {
    let (room, _) = room();
    let images = room.path("images");
    let run = |number, from| {
        let mut scrub = LayerScrub::open(&images, version_ref(number), from).unwrap();
        let left = scrub.left_bytes();
        let steps: Vec<Scrubbed> = std::iter::from_fn(|| scrub.step()).collect();
        assert_eq!(
            (scrub.left_bytes(), left),
            (0, steps.len() as u64 * (1 << 20))
        );
        steps
    };
    let all = run(1, 0);
    assert_eq!(all.iter().map(|step| step.bytes).sum::<u64>(), SIZE as u64);
    // The second version holds one block only.
    let own = run(2, 0);
    assert_eq!((own.len(), own[0].next_offset), (1, 4 << 20));
    assert!(all.iter().chain(&own).all(|step| step.fault.is_none()));
    assert_eq!(run(1, all[1].next_offset), all[2..]);
    flip(&room.version_dir(1).join("data"), (1 << 20) + 100);
    let faults: Vec<Fault> = run(1, 0)
        .into_iter()
        .filter_map(|step| step.fault)
        .collect();
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].bytes, Some(1 << 20..2 << 20));
    assert_eq!(run(1, 2 << 20), all[2..]);
}
