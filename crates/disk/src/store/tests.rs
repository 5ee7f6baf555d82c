use std::fs;
use std::time::{Duration, Instant};

use super::*;
use crate::BlockDevice;
use crate::check::check_overlay;
use crate::testing::{Room, disk_id, image_bytes, power_on, read_all, version_ref};

fn room() -> (Room, Vec<u8>) {
    let room = Room::new();
    let base = image_bytes(1 << 20, 11);
    room.import(1, &base);
    (room, base)
}

fn names(room: &Room, disk: u32) -> Vec<String> {
    let Ok(directory) = fs::read_dir(room.path("overlays").join(disk_id(disk).simple())) else {
        return Vec::new();
    };
    let mut names: Vec<String> = directory
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_volatile_disk_forgets_at_power_on_but_not_at_login() {
    let (room, base) = room();
    let store = room.store();
    let spec = room.spec(1, BootPolicy::Volatile);
    let first = store.power_on(&spec).unwrap();
    assert!(first.fresh && first.generation == 1);
    first.disk.write_at(0, &[0xaa; 4096]).unwrap();

    let login = store.attach(spec.disk).unwrap();
    assert!(!login.fresh && Arc::ptr_eq(&login.disk, &first.disk));

    let second = store.power_on(&spec).unwrap();
    assert!(second.fresh && second.generation == 2);
    assert!(read_all(&*second.disk) == base);
    // A session that nobody told is fenced off.
    let stale = first.disk.write_at(0, &[1; 512]).unwrap_err();
    assert_eq!(stale.kind(), io::ErrorKind::NotConnected);
    assert!(first.disk.read_at(0, &mut [0; 512]).is_err());
}

#[test]
fn a_restarted_service_finds_what_was_acknowledged() {
    let (room, mut base) = room();
    for (disk, policy) in [(1, BootPolicy::Volatile), (2, BootPolicy::Persistent)] {
        let spec = room.spec(disk, policy);
        power_on(&room.store(), &spec)
            .write_at(512, &[disk as u8; 9000])
            .unwrap();
        let store = room.store();
        let attached = store.attach(spec.disk).unwrap();
        assert!(!attached.fresh);
        base[512..9512].fill(disk as u8);
        assert!(read_all(&*attached.disk) == base);
    }
}

#[test]
fn a_persistent_disk_keeps_over_power_on_and_power_cut_what_was_flushed() {
    let (mut room, mut base) = room();
    let spec = room.spec(1, BootPolicy::Persistent);
    let store = room.store();
    let disk = power_on(&store, &spec);
    disk.write_at(0, &[7; 4096]).unwrap();
    disk.flush().unwrap();
    let again = store.power_on(&spec).unwrap();
    assert!(!again.fresh && again.generation == 1);
    drop((again, disk, store));
    room.reboot();
    base[..4096].fill(7);
    assert!(read_all(&*power_on(&room.store(), &spec)) == base);
}

#[test]
fn a_volatile_disk_needs_a_power_on_after_the_machine_booted() {
    let (mut room, base) = room();
    let spec = room.spec(1, BootPolicy::Volatile);
    power_on(&room.store(), &spec)
        .write_at(0, &[7; 4096])
        .unwrap();
    room.reboot();
    let store = room.store();
    assert!(matches!(
        store.attach(spec.disk),
        Err(DiskError::NoOverlay { dropped: true, .. })
    ));
    let powered = store.power_on(&spec).unwrap();
    assert!(powered.fresh && powered.generation == 2);
    assert!(read_all(&*powered.disk) == base);
}

#[test]
fn a_lost_live_map_of_a_running_volatile_disk_is_an_error_not_an_old_disk() {
    let (room, _) = room();
    let spec = room.spec(1, BootPolicy::Volatile);
    power_on(&room.store(), &spec)
        .write_at(0, &[7; 4096])
        .unwrap();
    fs::remove_dir_all(room.path("maps")).unwrap();
    let store = room.store();
    assert!(matches!(
        store.attach(spec.disk),
        Err(DiskError::LiveMapLost { .. })
    ));
    assert!(store.power_on(&spec).unwrap().fresh);
}

#[test]
fn a_reset_forgets_and_keeps_the_dropped_overlay_for_a_while() {
    let (room, base) = room();
    let store = room.store();
    let spec = room.spec(1, BootPolicy::Persistent);
    let disk = power_on(&store, &spec);
    disk.write_at(0, &[7; 4096]).unwrap();
    store.reset(spec.disk, 1).unwrap();
    assert!(disk.write_at(0, &[8; 512]).is_err());
    assert_eq!(store.status(spec.disk).unwrap(), None);
    let fresh = store.power_on(&spec).unwrap();
    assert!(fresh.fresh && fresh.generation == 2);
    assert!(read_all(&*fresh.disk) == base);
    store.wait_for_tidying();
    assert_eq!(names(&room, 1), ["epoch-1", "old-1", "persistent-2"]);
    let report = check_overlay(&room.overlay_dir(1, "old-1"));
    assert_eq!(report.mapped_blocks, Some(1));
}

#[test]
fn a_newer_epoch_drops_a_persistent_disk_at_power_on_only() {
    let (room, _) = room();
    let store = room.store();
    let mut spec = room.spec(1, BootPolicy::Persistent);
    power_on(&store, &spec);
    spec.reset_epoch = 3;
    assert!(!store.attach(spec.disk).unwrap().fresh);
    assert!(store.power_on(&spec).unwrap().fresh);
    assert!(!store.power_on(&spec).unwrap().fresh);
    // A snapshot from before the reset does not drop it again.
    spec.reset_epoch = 2;
    assert!(!store.power_on(&spec).unwrap().fresh);
}

#[test]
fn a_persistent_disk_stays_on_its_version_until_reset() {
    let (room, base) = room();
    let newer = image_bytes(1 << 20, 12);
    room.import(2, &newer);
    let mut spec = room.spec(1, BootPolicy::Persistent);
    power_on(&room.store(), &spec);
    spec.version = version_ref(2);
    spec.version_dir = room.version_dir(2);
    let store = room.store();
    let disk = power_on(&store, &spec);
    assert_eq!(disk.base(), version_ref(1));
    assert!(read_all(&*disk) == base);
    store.reset(spec.disk, 1).unwrap();
    let disk = power_on(&store, &spec);
    assert_eq!(disk.base(), version_ref(2));
    assert!(read_all(&*disk) == newer);
}

#[test]
fn a_change_of_policy_takes_effect_at_power_on() {
    let (room, _) = room();
    let store = room.store();
    let (volatile, persistent) = (
        room.spec(1, BootPolicy::Volatile),
        room.spec(1, BootPolicy::Persistent),
    );
    power_on(&store, &volatile);
    assert!(!store.attach(persistent.disk).unwrap().fresh);
    assert!(store.power_on(&persistent).unwrap().fresh);
    assert!(!store.attach(volatile.disk).unwrap().fresh);
    let disk = store.power_on(&volatile).unwrap();
    assert!(disk.fresh && disk.disk.descriptor().kind == OverlayKind::Volatile);
}

#[test]
fn earlier_overlays_are_kept_to_a_number_with_their_maps() {
    let (room, _) = room();
    let store = room.store();
    let spec = room.spec(1, BootPolicy::Volatile);
    for round in 0..5u64 {
        let disk = power_on(&store, &spec);
        disk.write_at(0, &vec![1; (round as usize + 1) * 4096])
            .unwrap();
    }
    store.wait_for_tidying();
    assert_eq!(names(&room, 1), ["old-3", "old-4", "volatile-5"]);
    let report = check_overlay(&room.overlay_dir(1, "old-4"));
    assert_eq!(report.mapped_blocks, Some(4));
    let maps: Vec<_> = fs::read_dir(room.path("maps")).unwrap().collect();
    assert_eq!(maps.len(), 1, "only the current overlay has a live map");
}

#[test]
fn a_removed_disk_leaves_nothing() {
    let (room, _) = room();
    let store = room.store();
    let spec = room.spec(1, BootPolicy::Persistent);
    power_on(&store, &spec).write_at(0, &[1; 4096]).unwrap();
    store.reset(spec.disk, 1).unwrap();
    power_on(&store, &spec);
    store.remove(spec.disk).unwrap();
    store.wait_for_tidying();
    assert!(names(&room, 1).is_empty());
    assert_eq!(fs::read_dir(room.path("maps")).unwrap().count(), 0);
    assert!(store.list().unwrap().is_empty());
    assert_eq!(store.power_on(&spec).unwrap().generation, 1);
}

#[test]
fn what_a_crash_leaves_in_a_rotation_is_put_right() {
    let (room, _) = room();
    let spec = room.spec(1, BootPolicy::Persistent);
    let store = room.store();
    power_on(&store, &spec).write_at(0, &[5; 4096]).unwrap();
    drop(store);
    // Before the rename: the new one is void, the former one in use.
    let unfinished = room.overlay_dir(1, "new-2");
    fs::create_dir(&unfinished).unwrap();
    fs::write(unfinished.join("data"), []).unwrap();
    let store = room.store();
    let kept = store.power_on(&spec).unwrap();
    assert!(!kept.fresh && read_all(&*kept.disk)[0] == 5);
    assert_eq!(names(&room, 1), ["persistent-1"]);
    store.reset(spec.disk, 1).unwrap();
    power_on(&store, &spec).write_at(0, &[6; 4096]).unwrap();
    drop(store);
    // After the rename: both are there, the newer one counts.
    fs::rename(
        room.overlay_dir(1, "old-1"),
        room.overlay_dir(1, "persistent-1"),
    )
    .unwrap();
    let store = room.store();
    let kept = store.power_on(&spec).unwrap();
    assert!(kept.generation == 2 && read_all(&*kept.disk)[0] == 6);
    assert_eq!(names(&room, 1), ["epoch-1", "old-1", "persistent-2"]);
}

#[test]
fn an_unreadable_volatile_overlay_is_replaced_and_a_persistent_one_is_not() {
    let (room, _) = room();
    let volatile = room.spec(1, BootPolicy::Volatile);
    let persistent = room.spec(2, BootPolicy::Persistent);
    let store = room.store();
    power_on(&store, &volatile);
    power_on(&store, &persistent);
    drop(store);
    for path in [
        room.overlay_dir(1, "volatile-1"),
        room.overlay_dir(2, "persistent-1"),
    ] {
        fs::write(path.join("overlay.json"), []).unwrap();
    }
    let store = room.store();
    assert!(store.attach(volatile.disk).is_err());
    assert!(store.power_on(&volatile).unwrap().fresh);
    assert!(matches!(
        store.power_on(&persistent),
        Err(DiskError::Damaged { .. })
    ));
    assert_eq!(names(&room, 2), ["persistent-1"]);
    let list = store.list().unwrap();
    assert!(list.len() == 2 && list[0].1.is_ok() && list[1].1.is_err());
    // Only the operator's reset drops it.
    store.reset(persistent.disk, 1).unwrap();
    assert!(store.power_on(&persistent).unwrap().fresh);
}

#[test]
fn a_replaced_version_is_noticed() {
    let (room, _) = room();
    let spec = room.spec(1, BootPolicy::Persistent);
    power_on(&room.store(), &spec);
    fs::remove_dir_all(room.version_dir(1)).unwrap();
    let store = room.store();
    assert!(matches!(store.power_on(&spec), Err(DiskError::Base { .. })));
    room.import(1, &image_bytes(1 << 20, 99));
    assert!(matches!(
        store.power_on(&spec),
        Err(DiskError::ForeignBase { .. })
    ));
}

#[test]
fn only_one_process_owns_the_overlays() {
    let (room, _) = room();
    let store = room.store();
    let options = StoreOptions {
        keep_old: 2,
        boot_id: room.boot_id,
    };
    assert!(matches!(
        DiskStore::open(room.paths(), options),
        Err(DiskError::InUse { .. })
    ));
    drop(store);
    DiskStore::open(room.paths(), options).unwrap();
}

#[test]
fn all_clients_share_one_open_version() {
    let (room, _) = room();
    let store = room.store();
    let disks: Vec<Arc<Disk>> = (1..=20)
        .map(|disk| power_on(&store, &room.spec(disk, BootPolicy::Volatile)))
        .collect();
    let shared = store.version(version_ref(1), &room.version_dir(1)).unwrap();
    assert_eq!(Arc::strong_count(&shared), disks.len() + 1);
    assert_eq!(store.list().unwrap().len(), 20);
}

#[test]
fn making_and_resetting_a_disk_does_not_depend_on_its_size() {
    let mut slowest = Duration::ZERO;
    for size in [1u64 << 30, 256 << 30, 1 << 40] {
        let room = Room::new();
        let source = room.path("sparse.raw");
        File::create(&source).unwrap().set_len(size).unwrap();
        crate::import(&room.request(1, source), &mut |_| {}, &|| false).unwrap();
        let store = room.store();
        for policy in [BootPolicy::Volatile, BootPolicy::Persistent] {
            let spec = room.spec(1, policy);
            let start = Instant::now();
            let disk = power_on(&store, &spec);
            let made = start.elapsed();
            let start = Instant::now();
            store.reset(spec.disk, 1).unwrap();
            let reset = start.elapsed();
            println!(
                "{} GiB {policy:?}: made in {made:?}, reset in {reset:?}",
                size >> 30
            );
            slowest = slowest.max(made).max(reset);
            // What is written does not grow with the disk: no data, one page of live map.
            assert_eq!(disk.figures().unwrap().allocated_bytes, 0);
            store.wait_for_tidying();
        }
        let spec = room.spec(2, BootPolicy::Volatile);
        let disk = power_on(&store, &spec);
        let generation = disk.descriptor().generation;
        let live = fs::metadata(live_path(&room.path("maps"), spec.disk, generation)).unwrap();
        assert!(std::os::unix::fs::MetadataExt::blocks(&live) * 512 <= 8192);
    }
    println!("slowest: {slowest:?}");
}

#[test]
fn what_was_reset_comes_back_only_by_a_power_on() {
    let (room, _) = room();
    for (disk, policy) in [(1, BootPolicy::Volatile), (2, BootPolicy::Persistent)] {
        let spec = room.spec(disk, policy);
        let store = room.store();
        assert!(matches!(
            store.attach(spec.disk),
            Err(DiskError::NoOverlay { dropped: false, .. })
        ));
        power_on(&store, &spec).write_at(0, &[7; 512]).unwrap();
        store.reset(spec.disk, 1).unwrap();
        drop(store);
        // Also after a restart of the service.
        let store = room.store();
        assert!(matches!(
            store.attach(spec.disk),
            Err(DiskError::NoOverlay { dropped: true, .. })
        ));
        assert!(store.power_on(&spec).unwrap().fresh);
        assert!(!store.attach(spec.disk).unwrap().fresh);
    }
}

#[test]
fn the_epoch_of_a_reset_is_known_before_the_snapshot_tells_it() {
    let (room, _) = room();
    let store = room.store();
    let mut spec = room.spec(1, BootPolicy::Persistent);
    power_on(&store, &spec);
    store.reset(spec.disk, 1).unwrap();
    power_on(&store, &spec).write_at(0, &[7; 512]).unwrap();
    // The snapshot arrives after the power-on: what was written since stays.
    spec.reset_epoch = 1;
    let kept = store.power_on(&spec).unwrap();
    assert!(!kept.fresh && read_all(&*kept.disk)[0] == 7);
    store.reset(spec.disk, 2).unwrap();
    assert!(names(&room, 1).contains(&"epoch-2".to_owned()));
    assert!(!names(&room, 1).contains(&"epoch-1".to_owned()));
}

#[test]
fn an_overlay_without_writes_serves_again() {
    let (room, _) = room();
    let store = room.store();
    let spec = room.spec(1, BootPolicy::Volatile);
    let evidence = power_on(&store, &spec);
    evidence.write_at(0, &[7; 512]).unwrap();
    let first = store.power_on(&spec).unwrap();
    for _ in 0..5 {
        let again = store.power_on(&spec).unwrap();
        assert!(again.fresh && again.generation == 2);
    }
    // Who held it before is fenced off all the same.
    assert!(first.disk.write_at(0, &[1; 512]).is_err());
    store.wait_for_tidying();
    assert_eq!(names(&room, 1), ["old-1", "volatile-2"]);
    let mut newer = spec.clone();
    room.import(2, &image_bytes(1 << 20, 12));
    (newer.version, newer.version_dir) = (version_ref(2), room.version_dir(2));
    assert_eq!(power_on(&store, &newer).base(), version_ref(2));
}

#[test]
fn a_persistent_overlay_outlives_a_change_of_policy_until_it_is_reset() {
    let (room, _) = room();
    let store = room.store();
    let (volatile, persistent) = (
        room.spec(1, BootPolicy::Volatile),
        room.spec(1, BootPolicy::Persistent),
    );
    power_on(&store, &persistent)
        .write_at(0, &[7; 512])
        .unwrap();
    for _ in 0..5 {
        power_on(&store, &volatile).write_at(0, &[1; 512]).unwrap();
    }
    store.wait_for_tidying();
    assert_eq!(names(&room, 1), ["kept-1", "old-4", "old-5", "volatile-6"]);
    let report = check_overlay(&room.overlay_dir(1, "kept-1"));
    assert_eq!(report.mapped_blocks, Some(1));
    store.reset(volatile.disk, 1).unwrap();
    store.wait_for_tidying();
    assert_eq!(names(&room, 1), ["epoch-1", "old-5", "old-6"]);
}

#[test]
fn a_full_store_drops_the_oldest_overlay_that_was_put_away() {
    let (room, _) = room();
    let store = room.store();
    for disk in [1, 2] {
        let spec = room.spec(disk, BootPolicy::Volatile);
        for _ in 0..2 {
            power_on(&store, &spec).write_at(0, &[1; 512]).unwrap();
        }
        store.wait_for_tidying();
    }
    let spec = room.spec(3, BootPolicy::Volatile);
    store.full.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(store.power_on(&spec).unwrap().fresh);
    assert_eq!(names(&room, 1), ["volatile-2"]);
    assert_eq!(names(&room, 2), ["old-1", "volatile-2"]);
}
