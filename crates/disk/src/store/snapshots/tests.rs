use dess_model::BootPolicy;

use super::*;
use crate::check::check_disk;
use crate::files::simulated::{Loss, Tree};
use crate::files::watch::Recording;
use crate::overlays_in_use;
use crate::testing::{Room, disk_id, image_bytes, power_on, read_all};

const SIZE: usize = (2 << 20) + 512;

fn room() -> (Room, Vec<u8>) {
    let room = Room::new();
    let base = image_bytes(SIZE, 11);
    room.import(1, &base);
    (room, base)
}

fn names(store: &DiskStore) -> Vec<String> {
    let list = store.snapshot_list(disk_id(1)).unwrap();
    list.into_iter().map(|info| info.name).collect()
}

#[test]
fn a_disk_is_again_what_it_was_when_its_snapshot_was_made() {
    let (mut room, base) = room();
    let store = room.store();
    let spec = room.spec(1, BootPolicy::Persistent);
    let disk = power_on(&store, &spec);
    disk.write_at(5000, &[7; 10_000]).unwrap();
    disk.write_zeroes(1 << 20, 8192).unwrap();
    let mut expected = base;
    expected[5000..15_000].fill(7);
    expected[1 << 20..(1 << 20) + 8192].fill(0);
    let made = store
        .snapshot_create(spec.disk, "before", Timestamp(5))
        .unwrap();
    assert_eq!((&*made.name, made.created), ("before", Timestamp(5)));
    assert!(disk.write_at(0, &[8; 512]).is_err(), "no writer is left");

    let disk = power_on(&store, &spec);
    assert!(read_all(&*disk) == expected, "the disk goes on");
    disk.write_at(0, &[9; 20_000]).unwrap();
    let mut later = expected.clone();
    later[..20_000].fill(9);
    store
        .snapshot_create(spec.disk, "after", Timestamp(6))
        .unwrap();
    assert_eq!(names(&store), ["before", "after"]);

    store.snapshot_restore(spec.disk, "before", 0).unwrap();
    let disk = power_on(&store, &spec);
    assert!(read_all(&*disk) == expected);
    disk.write_at(4096, &[1; 4096]).unwrap();
    // Restoring takes nothing from a snapshot; and a reset does not either.
    store.reset(spec.disk, 3).unwrap();
    store.snapshot_restore(spec.disk, "before", 3).unwrap();
    drop((disk, store));
    room.reboot();
    let store = room.store();
    let spec = crate::DiskSpec {
        reset_epoch: 3,
        ..spec
    };
    assert!(read_all(&*power_on(&store, &spec)) == expected);
    store.snapshot_restore(spec.disk, "after", 3).unwrap();
    assert!(read_all(&*power_on(&store, &spec)) == later);
    store.snapshot_remove(spec.disk, "before").unwrap();
    assert_eq!(names(&store), ["after"]);
    store.remove(spec.disk).unwrap();
    store.wait_for_tidying();
    assert!(!room.path("overlays").join(spec.disk.simple()).exists());
}

#[test]
fn what_cannot_be_kept_or_restored_is_refused() {
    let (room, _) = room();
    let store = room.store();
    let disk = disk_id(1);
    let create = |name: &str| store.snapshot_create(disk, name, Timestamp(1));
    assert!(matches!(
        create("one"),
        Err(DiskError::NotPersistent { .. })
    ));
    power_on(&store, &room.spec(1, BootPolicy::Volatile));
    assert!(matches!(
        create("one"),
        Err(DiskError::NotPersistent { .. })
    ));
    power_on(&store, &room.spec(1, BootPolicy::Persistent));
    for name in ["", ".", "..", ".new-x", "a/b", "a b", &"x".repeat(64)] {
        assert!(
            matches!(create(name), Err(DiskError::SnapshotName { .. })),
            "{name}"
        );
    }
    create("월요일-1.0").unwrap();
    assert!(matches!(
        create("월요일-1.0"),
        Err(DiskError::SnapshotExists { .. })
    ));
    let missing = store.snapshot_restore(disk, "two", 0);
    assert!(matches!(missing, Err(DiskError::NoSnapshot { .. })));
    let missing = store.snapshot_remove(disk, "two");
    assert!(matches!(missing, Err(DiskError::NoSnapshot { .. })));
    power_on(&store, &room.maintenance(1, 1));
    let maintained = store.snapshot_restore(disk, "월요일-1.0", 0);
    assert!(matches!(maintained, Err(DiskError::NotPersistent { .. })));
}

#[test]
fn a_version_is_in_use_as_long_as_a_snapshot_needs_it() {
    let (room, _) = room();
    let store = room.store();
    power_on(&store, &room.spec(1, BootPolicy::Persistent));
    store
        .snapshot_create(disk_id(1), "one", Timestamp(1))
        .unwrap();
    store.reset(disk_id(1), 1).unwrap();
    store.wait_for_tidying();
    let overlays = room.path("overlays");
    assert_eq!(overlays_in_use(&overlays).unwrap().len(), 1);
    let checked = check_disk(&overlays, &room.path("images"), disk_id(1)).unwrap();
    assert!(checked.iter().any(|check| check.name == "snapshots/one"));
    assert!(
        checked.iter().all(|check| check.faults.is_empty()),
        "{checked:?}"
    );
    store.snapshot_remove(disk_id(1), "one").unwrap();
    assert!(overlays_in_use(&overlays).unwrap().is_empty());
}

fn room_of(tree: &Tree) -> Room {
    let mut room = Room::in_memory();
    for (path, content) in tree {
        let path = room.path("").join(path);
        match content {
            None => fs::create_dir(path).unwrap(),
            Some(content) => fs::write(path, content).unwrap(),
        }
    }
    room.reboot();
    room
}

#[test]
fn a_power_cut_at_any_step_leaves_the_disk_and_whole_snapshots() {
    let room = Room::new();
    let base = image_bytes(300 * 512, 11);
    room.import(1, &base);
    fs::remove_file(room.path("source-1.img")).unwrap();
    let store = room.store();
    let spec = room.spec(1, BootPolicy::Persistent);
    let fill = |contents: u8| {
        let disk = power_on(&store, &spec);
        disk.write_at(4096, &[contents; 9000]).unwrap();
        disk.flush().unwrap();
    };
    let with = |contents: u8| {
        let mut bytes = base.clone();
        bytes[4096..13_096].fill(contents);
        bytes
    };
    let (first, second) = (with(1), with(2));
    fill(1);
    let recording = Recording::start(&room.path(""));
    store
        .snapshot_create(spec.disk, "one", Timestamp(1))
        .unwrap();
    let made = recording.changes();
    fill(2);
    let filled = recording.changes();
    store.snapshot_restore(spec.disk, "one", 0).unwrap();
    store.wait_for_tidying();
    let restored = recording.changes();
    store.snapshot_remove(spec.disk, "one").unwrap();
    let journal = recording.journal();
    drop((recording, store));

    let mut storage = journal.storage();
    for step in 0..=journal.ops().len() {
        let losses = [
            Loss::Nothing,
            Loss::Everything,
            Loss::Data,
            Loss::Names,
            Loss::random(step as u64),
        ];
        for (kind, mut loss) in losses.into_iter().enumerate() {
            let place = format!("step {step}, loss {kind}");
            let mut tree = storage.cut(&mut loss);
            tree.retain(|path, _| !path.starts_with("maps"));
            let cut = room_of(&tree);
            let store = cut.store();
            let disk = store.attach(spec.disk).expect(&place).disk;
            let found = read_all(&*disk);
            let allowed: &[&Vec<u8>] = match step {
                _ if step <= made => &[&first],
                _ if step < filled => &[&first, &second],
                _ if step == filled => &[&second],
                _ if step < restored => &[&second, &first],
                _ => &[&first],
            };
            // Between two flushes each sector is of either.
            let flushing = step > made && step < filled;
            assert!(flushing || allowed.contains(&&found), "{place}: the disk");
            drop(disk);
            let kept = names(&store);
            if step >= made && step <= restored {
                assert_eq!(kept, ["one"], "{place}");
            }
            if !kept.is_empty() {
                store.snapshot_restore(spec.disk, "one", 0).expect(&place);
                let disk = store.attach(spec.disk).unwrap().disk;
                assert!(read_all(&*disk) == first, "{place}: the snapshot");
            }
        }
        if let Some(op) = journal.ops().get(step) {
            storage.advance(step, op);
        }
    }
}
