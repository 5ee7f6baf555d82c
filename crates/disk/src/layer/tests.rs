use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use dess_model::BootPolicy;
use proptest::prelude::*;

use super::*;
use crate::building::{BuildError, Building, Purpose};
use crate::files::simulated::{Loss, Tree};
use crate::files::watch::Recording;
use crate::testing::{Room, disk_id, image_bytes, power_on, read_all, version_ref};
use crate::version::{DATA_FILE, Version, version_directory};
use crate::{BlockDevice, BlockRead, DiskStore, clean_unfinished};

const SIZE: usize = (5 << 20) + 512;

fn open(room: &Room, number: u32) -> Version {
    Version::open(&room.version_dir(number)).unwrap()
}

fn verify(version: &Version) {
    version.verify(&mut |_| {}, &|| false).unwrap();
}

fn room() -> (Room, Vec<u8>) {
    let room = Room::new();
    let base = image_bytes(SIZE, 5);
    room.import(1, &base);
    (room, base)
}

#[test]
fn what_a_maintenance_client_wrote_becomes_the_next_version() {
    let (room, base) = room();
    let store = room.store();
    let manifest = room.make_version(&store, 1, 2, |disk| {
        disk.write_at(4000, &[7; 9000]).unwrap();
        disk.write_zeroes(3 << 20, 1 << 20).unwrap();
    });
    let mut expected = base.clone();
    expected[4000..13_000].fill(7);
    expected[3 << 20..4 << 20].fill(0);
    assert_eq!(
        (manifest.version, manifest.parent),
        (version_ref(2), Some(1))
    );
    assert_eq!(
        (&*manifest.comment, &*manifest.author),
        ("version 2", "test")
    );
    assert_eq!(manifest.image_crc32c, crc32c::crc32c(&expected));
    let version = open(&room, 2);
    assert!(read_all(&version) == expected);
    verify(&version);
    assert!(read_all(&open(&room, 1)) == base, "the parent is as it was");
    for entry in fs::read_dir(room.version_dir(2)).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o444);
    }
    // Clients of either version see theirs.
    let old = power_on(&store, &room.spec(1, BootPolicy::Volatile));
    let mut spec = room.spec(2, BootPolicy::Volatile);
    (spec.version, spec.version_dir) = (version_ref(2), room.version_dir(2));
    assert!(read_all(&*old) == base);
    assert!(read_all(&*power_on(&store, &spec)) == expected);
    // The client's overlay is gone, and its file is the version's alone.
    store.wait_for_tidying();
    assert!(store.status(disk_id(77)).unwrap().is_none());
    let data = fs::metadata(room.version_dir(2).join(DATA_FILE)).unwrap();
    assert_eq!(data.nlink(), 1);
}

#[test]
fn a_maintenance_disk_keeps_what_was_written_over_power_on_and_power_cut() {
    let (mut room, base) = room();
    let spec = room.maintenance(1, 1);
    let store = room.store();
    let disk = power_on(&store, &spec);
    disk.write_at(0, &[7; 4096]).unwrap();
    disk.flush().unwrap();
    let again = store.power_on(&spec).unwrap();
    assert!(!again.fresh && again.generation == 1);
    drop((again, disk, store));
    room.reboot();
    let disk = power_on(&room.store(), &spec);
    let mut expected = base;
    expected[..4096].fill(7);
    assert!(read_all(&*disk) == expected);
}

#[test]
fn a_sealed_disk_refuses_its_client_until_it_is_given_back() {
    let (room, _) = room();
    let store = room.store();
    let spec = room.maintenance(1, 1);
    let disk = power_on(&store, &spec);
    disk.write_at(0, &[7; 8192]).unwrap();
    let sealed = store.seal(spec.disk).unwrap();
    assert_eq!(sealed.changed_bytes, 8192);
    assert_eq!(
        store.seal(spec.disk).unwrap(),
        sealed,
        "sealing again changes nothing"
    );
    assert!(disk.write_at(0, &[8; 512]).is_err());
    assert!(matches!(
        store.power_on(&spec),
        Err(DiskError::Sealed { .. })
    ));
    assert!(matches!(
        store.attach(spec.disk),
        Err(DiskError::NoOverlay { .. })
    ));
    assert!(store.status(spec.disk).unwrap().unwrap().sealed);
    drop(store);
    // The same after a crash of the service.
    let store = room.store();
    assert!(matches!(
        store.power_on(&spec),
        Err(DiskError::Sealed { .. })
    ));
    store.unseal(spec.disk).unwrap();
    let mut found = [0; 8192];
    let disk = power_on(&store, &spec);
    disk.read_at(0, &mut found).unwrap();
    assert_eq!(found, [7; 8192]);
    disk.write_at(0, &[9; 512]).unwrap();
}

#[test]
fn a_published_layer_is_not_given_back_and_not_published_twice() {
    let (room, _) = room();
    let store = room.store();
    let spec = room.maintenance(1, 1);
    power_on(&store, &spec).write_at(0, &[7; 512]).unwrap();
    let sealed = store.seal(spec.disk).unwrap();
    let request = room.publish_request(1, sealed.generation, 2);
    let made = publish(&request, &mut |_| {}, &|| false).unwrap();
    assert!(matches!(
        store.unseal(spec.disk),
        Err(DiskError::Published { .. })
    ));
    // Who published died before it could say so, and does it again.
    let again = PublishRequest {
        number: 3,
        ..request
    };
    assert_eq!(publish(&again, &mut |_| {}, &|| false).unwrap(), made);
    assert!(!room.version_dir(3).exists());
    // Nor is it lost if the service is told nothing: its next start finds the version.
    drop(store);
    let store = room.store();
    store.wait_for_tidying();
    assert!(store.status(spec.disk).unwrap().is_none());
    verify(&open(&room, 2));
}

#[test]
fn a_failed_publication_leaves_the_maintenance_as_it_was() {
    let (room, base) = room();
    let store = room.store();
    let spec = room.maintenance(1, 1);
    power_on(&store, &spec).write_at(0, &[7; 512]).unwrap();
    let sealed = store.seal(spec.disk).unwrap();
    let request = room.publish_request(1, sealed.generation, 2);
    let cancelled = publish(&request, &mut |_| {}, &|| true);
    assert!(matches!(cancelled, Err(LayerError::Cancelled)));
    let taken = PublishRequest {
        number: 1,
        ..request
    };
    let taken = publish(&taken, &mut |_| {}, &|| false);
    assert!(matches!(
        taken,
        Err(LayerError::Build(BuildError::Exists { .. }))
    ));
    let image = room.version_dir(1).parent().unwrap().to_owned();
    assert_eq!(
        fs::read_dir(image).unwrap().count(),
        1,
        "only version 1 is there"
    );
    store.unseal(spec.disk).unwrap();
    let disk = power_on(&store, &spec);
    disk.write_at(512, &[8; 512]).unwrap();
    let mut expected = base;
    expected[..512].fill(7);
    expected[512..1024].fill(8);
    assert!(read_all(&*disk) == expected);
}

#[test]
fn a_discarded_layer_leaves_no_trace_in_the_image_and_is_kept_for_a_while() {
    let (room, base) = room();
    let store = room.store();
    let spec = room.maintenance(1, 1);
    let disk = power_on(&store, &spec);
    disk.write_at(0, &[7; 512]).unwrap();
    assert!(store.discard(spec.disk).unwrap());
    assert!(disk.read_at(0, &mut [0; 512]).is_err());
    assert!(room.overlay_dir(1, "old-1").exists());
    assert!(!store.discard(spec.disk).unwrap(), "there is nothing left");
    assert!(read_all(&*power_on(&store, &spec)) == base);
}

#[test]
fn a_persistent_client_that_maintains_for_a_while_finds_its_own_writes_again() {
    for publishes in [true, false] {
        let (room, base) = room();
        let store = room.store();
        let own = room.spec(77, BootPolicy::Persistent);
        power_on(&store, &own).write_at(0, &[1; 512]).unwrap();
        if publishes {
            room.make_version(&store, 1, 2, |disk| disk.write_at(512, &[2; 512]).unwrap());
        } else {
            power_on(&store, &room.maintenance(77, 1))
                .write_at(512, &[2; 512])
                .unwrap();
            store.discard(own.disk).unwrap();
        }
        let mut expected = base;
        expected[..512].fill(1);
        // No system may go on before a power-on: it ran on something else.
        assert!(matches!(
            store.attach(own.disk),
            Err(DiskError::NoOverlay { .. })
        ));
        assert!(read_all(&*power_on(&store, &own)) == expected);
        // A reset ends it all the same.
        store.reset(own.disk, 1).unwrap();
        let own = crate::DiskSpec {
            reset_epoch: 1,
            ..own
        };
        assert!(store.power_on(&own).unwrap().fresh);
    }
}

#[test]
fn the_size_of_the_disk_does_not_matter() {
    for size in [1u64 << 30, 1 << 40] {
        let room = Room::new();
        let path = room.path("sparse.raw");
        let file = fs::File::create(&path).unwrap();
        file.set_len(size).unwrap();
        let mut request = room.request(1, path);
        request.source.format = Some(crate::ImageFormat::Raw);
        crate::import(&request, &mut |_| {}, &|| false).unwrap();
        let store = room.store();
        let mut read = 0;
        let spec = room.maintenance(1, 1);
        let disk = power_on(&store, &spec);
        disk.write_at(size - 4096, &[3; 4096]).unwrap();
        disk.write_at(123 << 20, &[4; 4096]).unwrap();
        let sealed = store.seal(spec.disk).unwrap();
        let request = room.publish_request(1, sealed.generation, 2);
        publish(
            &request,
            &mut |progress| read = progress.done_bytes,
            &|| false,
        )
        .unwrap();
        assert_eq!(read, 2 << 20, "one MiB is read for each that changed");
        let version = open(&room, 2);
        let data = fs::metadata(room.version_dir(2).join(DATA_FILE)).unwrap();
        assert!(data.blocks() * 512 <= 128 << 10);
        let mut bytes = [0; 4096];
        version.read_at(size - 4096, &mut bytes).unwrap();
        assert_eq!(bytes, [3; 4096]);
        assert!(version.map_bytes() < 1 << 20, "{}", version.map_bytes());
    }
}

#[test]
fn a_flattened_version_needs_no_parents_and_has_the_same_content() {
    let (room, mut expected) = room();
    let store = room.store();
    for number in 2..=4u32 {
        let at = (number as usize) << 19;
        room.make_version(&store, number - 1, number, |disk| {
            disk.write_at(at as u64, &[number as u8; 70_000]).unwrap();
            disk.write_zeroes(0, 8192 * u64::from(number)).unwrap();
        });
        expected[at..at + 70_000].fill(number as u8);
        expected[..8192 * number as usize].fill(0);
    }
    let images = room.path("images");
    let before = open(&room, 4);
    assert_eq!(before.layers(), 4);
    // Cancelled half-way: nothing has changed.
    let cancelled = flatten(&images, version_ref(4), &mut |_| {}, &|| true);
    assert!(matches!(cancelled, Err(LayerError::Cancelled)));
    assert_eq!(open(&room, 4).layers(), 4);
    let running = power_on(&store, &{
        let mut spec = room.spec(1, BootPolicy::Persistent);
        (spec.version, spec.version_dir) = (version_ref(4), room.version_dir(4));
        spec
    });
    let whole = flatten(&images, version_ref(4), &mut |_| {}, &|| false).unwrap();
    assert_eq!(whole.image_crc32c, before.manifest().image_crc32c);
    assert_eq!((whole.parent, whole.version), (None, version_ref(4)));
    for number in 1..=3 {
        remove_version(&images, version_ref(number)).unwrap();
        remove_version(&images, version_ref(number)).unwrap();
    }
    let version = open(&room, 4);
    assert_eq!(version.layers(), 1);
    verify(&version);
    assert!(read_all(&version) == expected);
    // Who had the layers open goes on with them; who comes later gets the whole one.
    assert!(read_all(&before) == expected && read_all(&*running) == expected);
    drop((running, before, store));
    let disk = room.store().attach(disk_id(1)).unwrap().disk;
    assert!(read_all(&*disk) == expected);
    let image = room.version_dir(4).parent().unwrap().to_owned();
    assert_eq!(
        fs::read_dir(image).unwrap().count(),
        1,
        "no rubbish is left"
    );
}

#[test]
fn a_version_can_be_opened_all_the_time_while_it_is_flattened() {
    let (room, mut expected) = room();
    let store = room.store();
    expected[..512].fill(7);
    let newest = AtomicU32::new(0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let number = newest.load(Ordering::Acquire);
                if number == 0 {
                    continue;
                }
                let version = open(&room, number);
                let mut part = [0; 8192];
                version.read_at(0, &mut part).unwrap();
                assert!(part == expected[..8192]);
            }
        });
        for number in 2..20 {
            room.make_version(&store, 1, number, |disk| {
                disk.write_at(0, &[7; 512]).unwrap();
            });
            newest.store(number, Ordering::Release);
            flatten(
                &room.path("images"),
                version_ref(number),
                &mut |_| {},
                &|| false,
            )
            .unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
}

#[test]
fn a_damaged_layer_is_not_flattened_into_a_good_one() {
    let (room, _) = room();
    let store = room.store();
    room.make_version(&store, 1, 2, |disk| disk.write_at(0, &[7; 4096]).unwrap());
    let data = room.version_dir(2).join(DATA_FILE);
    let file = fs::OpenOptions::new().write(true).open(data).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[8], 17).unwrap();
    let damaged = flatten(&room.path("images"), version_ref(2), &mut |_| {}, &|| false);
    assert!(matches!(damaged, Err(LayerError::Version { .. })));
    assert_eq!(open(&room, 2).layers(), 2);
}

#[test]
fn versions_differ_by_what_was_written_between_them() {
    let (room, _) = room();
    let store = room.store();
    let images = room.path("images");
    room.make_version(&store, 1, 2, |disk| disk.write_at(0, &[1; 8192]).unwrap());
    room.make_version(&store, 2, 3, |disk| {
        disk.write_at(4096, &[2; 8192]).unwrap();
    });
    room.make_version(&store, 1, 4, |disk| {
        disk.write_at(1 << 20, &[3; 4096]).unwrap();
    });
    let changed = |one, other| {
        let found = difference(&images, version_ref(one), version_ref(other)).unwrap();
        (found.changed_bytes, found.unit_bytes)
    };
    assert_eq!(changed(1, 1), (0, 4096));
    assert_eq!(changed(1, 2), (8192, 4096));
    assert_eq!(changed(3, 1), (12_288, 4096));
    // Brothers: what either has beyond their common parent.
    assert_eq!(changed(3, 4), (16_384, 4096));
    flatten(&images, version_ref(3), &mut |_| {}, &|| false).unwrap();
    assert_eq!(changed(2, 3), (1 << 20, 1 << 20));
    assert_eq!(changed(3, 4), (2 << 20, 1 << 20));
}

#[test]
fn what_a_crash_left_of_a_publication_or_a_flattening_is_removed() {
    let (room, _) = room();
    let images = room.path("images");
    let image = room.version_dir(1).parent().unwrap().to_owned();
    for name in [".publish-2", ".flatten-1", ".delete-7"] {
        fs::create_dir(image.join(name)).unwrap();
        fs::write(image.join(name).join(DATA_FILE), "half").unwrap();
    }
    // This one is still worked on.
    let building = Building::begin(&images, version_ref(9), Purpose::Publish).unwrap();
    assert_eq!(clean_unfinished(&images).unwrap(), 3);
    assert!(building.path().exists());
    let second = Building::begin(&images, version_ref(9), Purpose::Publish);
    assert!(matches!(second, Err(BuildError::Exists { .. })));
    drop(building);
    assert_eq!(fs::read_dir(image).unwrap().count(), 1);
}

/// What was on the storage, as a room of its own. `booted`: the machine started anew, so the live maps are gone.
fn room_of(tree: &Tree, booted: bool) -> Room {
    let mut room = Room::new();
    for (path, content) in tree {
        let path = room.path(path.to_str().unwrap());
        match content {
            None => fs::create_dir(path).unwrap(),
            Some(content) => fs::write(path, content).unwrap(),
        }
    }
    if booted {
        room.reboot();
    }
    room
}

/// Publishes, flattens and removes the parent, under watch.
fn publish_flatten_and_remove(room: &Room, store: &DiskStore) {
    let sealed = store.seal(disk_id(77)).unwrap();
    let request = room.publish_request(77, sealed.generation, 2);
    publish(&request, &mut |_| {}, &|| false).unwrap();
    store.release(disk_id(77)).unwrap();
    store.wait_for_tidying();
    let images = room.path("images");
    flatten(&images, version_ref(2), &mut |_| {}, &|| false).unwrap();
    remove_version(&images, version_ref(1)).unwrap();
}

#[test]
fn a_power_cut_or_kill_at_any_step_loses_no_version_and_no_layer() {
    let room = Room::new();
    let base = image_bytes((1 << 20) + 40_960, 5);
    room.import(1, &base);
    fs::remove_file(room.path("source-1.img")).unwrap();
    let mut expected = base.clone();
    let store = room.store();
    let disk = power_on(&store, &room.maintenance(77, 1));
    for (at, fill) in [(1000, 7), (1 << 20, 8)] {
        disk.write_at(at, &[fill; 9000]).unwrap();
        expected[at as usize..][..9000].fill(fill);
    }
    disk.flush().unwrap();
    drop(disk);
    let recording = Recording::start(&room.path(""));
    publish_flatten_and_remove(&room, &store);
    let journal = recording.journal();
    drop((recording, store));

    let (mut sealed, mut published, mut removed) = (0, 0, 0);
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
            let cut = room_of(&storage.cut(&mut loss), kind > 0);
            let place = format!("step {step}, loss {kind}");
            clean_unfinished(&cut.path("images")).unwrap();
            let store = cut.store();
            if cut.version_dir(1).exists() {
                assert!(read_all(&open(&cut, 1)) == base, "{place}");
            } else {
                removed += 1;
            }
            if cut.version_dir(2).exists() {
                published += 1;
            } else {
                sealed += 1;
                let sealed = store.seal(disk_id(77)).expect(&place);
                let request = cut.publish_request(77, sealed.generation, 2);
                publish(&request, &mut |_| {}, &|| false).expect(&place);
            }
            let version = open(&cut, 2);
            assert!(read_all(&version) == expected, "{place}");
            verify(&version);
            store.release(disk_id(77)).unwrap();
            store.wait_for_tidying();
            assert!(store.status(disk_id(77)).unwrap().is_none(), "{place}");
        }
        if let Some(op) = journal.ops().get(step) {
            storage.advance(step, op);
        }
    }
    assert!(
        sealed > 20 && published > 20 && removed > 4,
        "{sealed} {published} {removed}"
    );
}

#[test]
fn an_error_at_any_step_leaves_what_was_there_and_can_be_repeated() {
    let base = image_bytes(512 * 300, 5);
    for failing in 0.. {
        let room = Room::new();
        room.import(1, &base);
        let store = room.store();
        power_on(&store, &room.maintenance(77, 1))
            .write_at(0, &[7; 4096])
            .unwrap();
        let sealed = store.seal(disk_id(77)).unwrap();
        let request = room.publish_request(77, sealed.generation, 2);
        store.wait_for_tidying();
        let recording = Recording::start(&room.path(""));
        let mut left = failing;
        recording.fail_if(move |_| {
            left -= 1;
            (left == -1).then(|| io::ErrorKind::StorageFull.into())
        });
        let published = publish(&request, &mut |_| {}, &|| false);
        let published_all = published.is_ok();
        let flattened = published
            .and_then(|_| flatten(&room.path("images"), version_ref(2), &mut |_| {}, &|| false));
        recording.fail_no_more();
        drop(recording);
        let (published_once, done) = (room.version_dir(2).exists(), flattened.is_ok());
        assert!(published_once || !published_all);
        if !published_once {
            // The client can go on, and it can be published later.
            clean_unfinished(&room.path("images")).unwrap();
            store.unseal(disk_id(77)).unwrap();
            let mut expected = base.clone();
            expected[..4096].fill(7);
            assert!(read_all(&*power_on(&store, &room.maintenance(77, 1))) == expected);
            store.seal(disk_id(77)).unwrap();
        }
        publish(&request, &mut |_| {}, &|| false).unwrap();
        flatten(&room.path("images"), version_ref(2), &mut |_| {}, &|| false).unwrap();
        verify(&open(&room, 2));
        if done {
            assert!(failing > 20, "only {failing} steps were seen");
            return;
        }
    }
}

#[test]
fn a_cancelled_or_crashed_flattening_goes_on_where_it_was() {
    let room = Room::new();
    let mut expected = image_bytes(30 << 20, 5);
    room.import(1, &expected);
    let store = room.store();
    expected[20 << 20..21 << 20].fill(9);
    room.make_version(&store, 1, 2, |disk| {
        disk.write_at(20 << 20, &[9; 1 << 20]).unwrap();
    });
    let images = room.path("images");
    let unfinished = room.version_dir(2).with_file_name(".flatten-2");
    // MiB that are copied until it is done, or until it is cancelled after `limit`.
    let run = |limit: usize| {
        let asked = std::cell::Cell::new(0);
        let cancelled = || asked.replace(asked.get() + 1) == limit;
        let done = flatten(&images, version_ref(2), &mut |_| {}, &cancelled);
        assert!(matches!(done, Ok(_) | Err(LayerError::Cancelled)));
        asked.get() - usize::from(done.is_err())
    };
    assert_eq!(run(5), 5);
    assert!(!unfinished.exists(), "there was nothing to go on from");
    assert_eq!(run(19), 19);
    assert!(unfinished.join("resume").exists());
    verify(&open(&room, 2));
    // As after a crash: something was written behind the checkpoint.
    let data = fs::OpenOptions::new()
        .append(true)
        .open(unfinished.join(DATA_FILE));
    io::Write::write_all(&mut data.unwrap(), &[0xee; 4096]).unwrap();
    assert_eq!(clean_unfinished(&images).unwrap(), 0);
    assert_eq!(run(usize::MAX), 30 - 16);
    let whole = open(&room, 2);
    assert_eq!(whole.layers(), 1);
    assert!(read_all(&whole) == expected);
    verify(&whole);
    assert!(!unfinished.exists());
}

#[test]
fn what_was_copied_of_another_version_is_not_gone_on_with() {
    let room = Room::new();
    let mut expected = image_bytes(20 << 20, 5);
    room.import(1, &expected);
    let store = room.store();
    let images = room.path("images");
    let publish = |fill| {
        room.make_version(&store, 1, 2, |disk| {
            disk.write_at(0, &[fill; 4096]).unwrap();
        });
    };
    publish(1);
    let asked = std::cell::Cell::new(0);
    let cancelled = || asked.replace(asked.get() + 1) == 12;
    assert!(flatten(&images, version_ref(2), &mut |_| {}, &cancelled).is_err());
    remove_version(&images, version_ref(2)).unwrap();
    publish(2);
    flatten(&images, version_ref(2), &mut |_| {}, &|| false).unwrap();
    expected[..4096].fill(2);
    assert!(read_all(&open(&room, 2)) == expected);
    verify(&open(&room, 2));
}

/// Overlays in memory, images on a disk: nothing can be linked from one to the other.
#[test]
fn a_layer_is_copied_where_images_and_overlays_lie_on_different_file_systems() {
    let (room, mut expected) = room();
    let memory = Room::in_memory();
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    if device(&memory.path("")) == device(&room.path("")) {
        eprintln!("NOT TESTED: there is no second file system here");
        return;
    }
    let paths = crate::StorePaths {
        overlays: memory.path("overlays"),
        ..room.paths()
    };
    let store = DiskStore::open(paths, room.options()).unwrap();
    let spec = room.maintenance(77, 1);
    let disk = power_on(&store, &spec);
    disk.write_at(4000, &[7; 9000]).unwrap();
    disk.write_zeroes(2 << 20, 2 << 20).unwrap();
    disk.write_at((SIZE - 1024) as u64, &[8; 1024]).unwrap();
    drop(disk);
    expected[4000..13_000].fill(7);
    expected[2 << 20..4 << 20].fill(0);
    expected[SIZE - 1024..].fill(8);
    let sealed = store.seal(spec.disk).unwrap();
    let request = PublishRequest {
        sealed: crate::sealed_directory(&memory.path("overlays"), spec.disk, sealed.generation),
        ..room.publish_request(77, sealed.generation, 2)
    };
    let cancelled = publish(&request, &mut |_| {}, &|| true);
    assert!(matches!(cancelled, Err(LayerError::Cancelled)));
    publish(&request, &mut |_| {}, &|| false).unwrap();
    assert!(store.release(spec.disk).unwrap());
    store.wait_for_tidying();
    verify(&open(&room, 2));
    assert!(read_all(&open(&room, 2)) == expected);
    let held = open(&room, 2).manifest().data_blocks;
    let allocated = fs::metadata(room.version_dir(2).join(DATA_FILE))
        .unwrap()
        .blocks()
        * 512;
    assert!(allocated < held * 4096, "zeros take space: {allocated}");
}

#[derive(Clone, Debug)]
enum Op {
    Write { sector: u64, count: u64, fill: u8 },
    Zero { sector: u64, count: u64 },
    Publish,
    Discard,
    Restart,
    Flatten,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let range = (0..(SIZE as u64 / 512 - 300), 1..300u64);
    let op = prop_oneof![
        6 => (range.clone(), any::<u8>())
            .prop_map(|((sector, count), fill)| Op::Write { sector, count, fill }),
        3 => range.prop_map(|(sector, count)| Op::Zero { sector, count }),
        3 => Just(Op::Publish),
        1 => Just(Op::Discard),
        1 => Just(Op::Restart),
        1 => Just(Op::Flatten),
    ];
    prop::collection::vec(op, 1..30)
}

/// Every version that was ever published keeps its content, whatever comes after it.
fn run(ops: Vec<Op>) {
    let (room, base) = room();
    let images = room.path("images");
    let mut store: DiskStore = room.store();
    let mut versions = vec![base.clone()];
    let mut now = base;
    for op in ops {
        let newest = versions.len() as u32;
        let spec = room.maintenance(77, newest);
        let disk = power_on(&store, &spec);
        match op {
            Op::Write {
                sector,
                count,
                fill,
            } => {
                let (at, bytes) = (sector * 512, vec![fill; count as usize * 512]);
                disk.write_at(at, &bytes).unwrap();
                now[at as usize..][..bytes.len()].copy_from_slice(&bytes);
            }
            Op::Zero { sector, count } => {
                disk.write_zeroes(sector * 512, count * 512).unwrap();
                now[sector as usize * 512..][..count as usize * 512].fill(0);
            }
            Op::Publish => {
                let manifest = room.make_version(&store, newest, newest + 1, |_| {});
                assert_eq!(manifest.image_crc32c, crc32c::crc32c(&now));
                versions.push(now.clone());
            }
            Op::Discard => {
                store.discard(spec.disk).unwrap();
                now.clone_from(&versions[newest as usize - 1]);
            }
            Op::Restart => {
                drop((disk, store));
                store = room.store();
            }
            Op::Flatten => {
                // While the maintenance client has it open.
                flatten(&images, version_ref(newest), &mut |_| {}, &|| false).unwrap();
                assert!(read_all(&*disk) == now);
            }
        }
    }
    let disk = power_on(&store, &room.maintenance(77, versions.len() as u32));
    assert!(read_all(&*disk) == now, "the maintenance client's disk");
    for (index, expected) in versions.iter().enumerate() {
        let directory = version_directory(&images, version_ref(index as u32 + 1));
        let version = Version::open(&directory).unwrap();
        assert!(read_all(&version) == *expected, "version {}", index + 1);
        verify(&version);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn chains_of_versions_agree_with_arrays_of_bytes(ops in ops()) {
        run(ops);
    }
}
