use std::fs;

use dess_model::{BootPolicy, Timestamp};

use super::*;
use crate::files::simulated::{Loss, Tree};
use crate::files::watch::Recording;
use crate::testing::{Room, disk_id, image_bytes, power_on, read_all, version_ref};
use crate::version::Version;
use crate::{BlockDevice, DiskSpec, clean_unfinished, flatten, snapshot_directory};

const SIZE: usize = (5 << 20) + 512;

/// Three versions and what they hold.
fn room() -> (Room, Vec<Vec<u8>>) {
    let room = Room::new();
    let mut content = image_bytes(SIZE, 5);
    content[4 << 20..].fill(0);
    let mut contents = vec![content.clone()];
    room.import(1, &content);
    let store = room.store();
    room.make_version(&store, 1, 2, |disk| {
        disk.write_at(3 << 20, &[7; 4096]).unwrap();
        disk.write_zeroes(1 << 20, 1 << 20).unwrap();
    });
    content[3 << 20..(3 << 20) + 4096].fill(7);
    content[1 << 20..2 << 20].fill(0);
    contents.push(content.clone());
    room.make_version(&store, 2, 3, |disk| {
        disk.write_at((SIZE - 512) as u64, &[9; 512]).unwrap();
    });
    content[SIZE - 512..].fill(9);
    contents.push(content);
    (room, contents)
}

fn request(room: &Room, number: u32, since: Option<u32>) -> BackupRequest {
    BackupRequest {
        images: room.path("images"),
        version: version_ref(number),
        since: since.map(version_ref),
        image_name: "test".to_owned(),
        created: Timestamp(7),
    }
}

fn backup(room: &Room, number: u32, since: Option<u32>) -> Vec<u8> {
    let mut archive = Vec::new();
    let request = request(room, number, since);
    let written = backup_version(&request, &mut archive, &mut |_| {}, &|| false).unwrap();
    assert_eq!(written, archive.len() as u64);
    archive
}

fn restore(room: &Room, mut archive: &[u8]) -> Result<crate::Manifest, BackupError> {
    restore_version(&room.path("images"), &mut archive, &mut |_| {}, &|| false)
}

fn check(room: &Room, number: u32, content: &[u8]) -> Version {
    let version = Version::open(&room.version_dir(number)).unwrap();
    assert!(read_all(&version) == content);
    version.verify(&mut |_| {}, &|| false).unwrap();
    version
}

fn nothing_left(room: &Room) {
    let image = room.version_dir(1).parent().unwrap().to_owned();
    let left = fs::read_dir(image).map_or(0, Iterator::count);
    assert_eq!(left, 0, "something is left");
}

#[test]
fn a_version_is_restored_whole_and_later_ones_on_it() {
    let (room, contents) = room();
    let whole = backup(&room, 1, None);
    let (second, third) = (backup(&room, 2, Some(1)), backup(&room, 3, Some(1)));
    assert!(
        second.len() < whole.len() / 2,
        "{} {}",
        second.len(),
        whole.len()
    );
    let other = Room::new();
    assert!(matches!(
        restore(&other, &second),
        Err(BackupError::NoBase { .. })
    ));
    nothing_left(&other);
    let manifest = restore(&other, &whole).unwrap();
    assert_eq!(manifest, check(&room, 1, &contents[0]).manifest().clone());
    check(&other, 1, &contents[0]);
    let manifest = restore(&other, &third).unwrap();
    assert_eq!(manifest.parent, Some(1));
    check(&other, 3, &contents[2]);
    restore(&other, &second).unwrap();
    assert_eq!(check(&other, 2, &contents[1]).layers(), 2);
    let again = restore(&other, &second);
    assert!(matches!(
        again,
        Err(BackupError::Build(BuildError::Exists { .. }))
    ));
    // Whatever became of the layers: what differs is found by checksum too.
    flatten(&room.path("images"), version_ref(3), &mut |_| {}, &|| false).unwrap();
    let third = backup(&room, 3, Some(2));
    let other = Room::new();
    restore(&other, &whole).unwrap();
    restore(&other, &second).unwrap();
    restore(&other, &third).unwrap();
    check(&other, 3, &contents[2]);
}

#[test]
fn an_archive_that_was_cut_off_makes_nothing_and_one_that_was_changed_nothing_else() {
    let (room, contents) = room();
    let archive = backup(&room, 2, None);
    let other = Room::new();
    let last = archive.len() - 40;
    let places = (0..archive.len()).filter(|at| at % 61 == 0 || *at < 40 || *at > last);
    for at in places {
        assert!(restore(&other, &archive[..at]).is_err(), "cut at {at}");
        let mut changed = archive.clone();
        changed[at] ^= 0x20;
        // zstd ignores a bit or two of its frames; what comes out is checked.
        if restore(&other, &changed).is_ok() {
            check(&other, 2, &contents[1]);
            crate::remove_version(&other.path("images"), version_ref(2)).unwrap();
        }
    }
    let mut longer = archive.clone();
    longer.push(0);
    assert!(restore(&other, &longer).is_err());
    nothing_left(&other);
    restore(&other, &archive).unwrap();
}

#[test]
fn a_damaged_version_is_not_backed_up() {
    let (room, contents) = room();
    let at = contents[0].iter().position(|&byte| byte != 0).unwrap();
    let data = fs::OpenOptions::new()
        .write(true)
        .open(room.version_dir(1).join("data"))
        .unwrap();
    std::os::unix::fs::FileExt::write_all_at(&data, &[!contents[0][at]], at as u64).unwrap();
    let directory = room.path("backups");
    let result = backup_to_directory(
        &directory,
        &request(&room, 1, None),
        false,
        &mut |_| {},
        &|| false,
    );
    assert!(matches!(result, Err(BackupError::Version { .. })));
    assert_eq!(fs::read_dir(directory).unwrap().count(), 0);
}

#[test]
fn a_directory_gets_what_it_does_not_have_yet() {
    let (room, contents) = room();
    let directory = room.path("backups");
    let run = |number, full| {
        let request = request(&room, number, None);
        let (path, _) =
            backup_to_directory(&directory, &request, full, &mut |_| {}, &|| false).unwrap();
        let header = read_header(&mut fs::File::open(&path).unwrap()).unwrap();
        header.base.map(|base| base.version.number)
    };
    assert_eq!(run(1, false), None);
    assert_eq!(run(3, false), Some(1));
    assert_eq!(run(2, false), Some(1));
    assert_eq!(run(3, false), Some(2));
    assert_eq!(run(3, true), None);
    let other = Room::new();
    let archive = fs::read(directory.join(backup_file_name("test", 3))).unwrap();
    restore(&other, &archive).unwrap();
    assert_eq!(check(&other, 3, &contents[2]).layers(), 1);
}

fn room_of(tree: &Tree) -> Room {
    let room = Room::in_memory();
    for (path, content) in tree {
        let path = room.path("").join(path);
        match content {
            None => fs::create_dir(path).unwrap(),
            Some(content) => fs::write(path, content).unwrap(),
        }
    }
    room
}

#[test]
fn a_power_cut_leaves_no_half_archive_and_no_half_version() {
    let (room, contents) = room();
    let recording = Recording::start(&room.path(""));
    let directory = room.path("backups");
    let run = || {
        let request = request(&room, 2, None);
        backup_to_directory(&directory, &request, false, &mut |_| {}, &|| false).unwrap();
    };
    run();
    crate::remove_version(&room.path("images"), version_ref(3)).unwrap();
    crate::remove_version(&room.path("images"), version_ref(2)).unwrap();
    let removed = recording.changes();
    let archive = fs::read(directory.join(backup_file_name("test", 2))).unwrap();
    restore(&room, &archive).unwrap();
    let journal = recording.journal();
    drop(recording);
    let mut storage = journal.storage();
    for step in 0..=journal.ops().len() {
        let losses = [
            Loss::Nothing,
            Loss::Everything,
            Loss::Data,
            Loss::Names,
            Loss::random(step as u64),
        ];
        for mut loss in losses {
            let cut = room_of(&storage.cut(&mut loss));
            clean_unfinished(&cut.path("images")).unwrap();
            let kept = cut.path("backups").join(backup_file_name("test", 2));
            if kept.exists() {
                assert!(fs::read(kept).unwrap() == archive, "step {step}");
            }
            // While it is removed the name may be back with half of its files: it is known no longer.
            if cut.version_dir(2).exists() && step > removed {
                check(&cut, 2, &contents[1]);
            }
        }
        if let Some(op) = journal.ops().get(step) {
            storage.advance(step, op);
        }
    }
}

#[test]
fn a_disk_is_restored_as_a_snapshot_of_itself_or_of_another() {
    let (room, contents) = room();
    let store = room.store();
    let spec = |disk| DiskSpec {
        version: version_ref(3),
        version_dir: room.version_dir(3),
        ..room.spec(disk, BootPolicy::Persistent)
    };
    let disk = power_on(&store, &spec(1));
    disk.write_at(5000, &[1; 2 << 20]).unwrap();
    disk.write_zeroes(3 << 20, 4096).unwrap();
    let mut expected = contents[2].clone();
    expected[5000..5000 + (2 << 20)].fill(1);
    expected[3 << 20..(3 << 20) + 4096].fill(0);
    store
        .snapshot_create(disk_id(1), "one", Timestamp(5))
        .unwrap();
    let overlays = room.path("overlays");
    let mut archive = Vec::new();
    let source = snapshot_directory(&overlays, disk_id(1), "one");
    let backup = backup_snapshot(
        &source,
        "test",
        Timestamp(6),
        &mut archive,
        &mut |_| {},
        &|| false,
    );
    backup.unwrap();
    store.remove(disk_id(1)).unwrap();
    store.wait_for_tidying();
    let restore = |disk, archive: &[u8]| {
        let images = room.path("images");
        restore_snapshot(
            &overlays,
            &images,
            disk_id(disk),
            "two",
            &mut &*archive,
            &|| false,
        )
    };
    for disk in [1, 2] {
        assert!(restore(disk, &archive[..archive.len() - 1]).is_err());
        assert!(store.snapshot_list(disk_id(disk)).unwrap().is_empty());
        restore(disk, &archive).unwrap();
        let again = restore(disk, &archive);
        assert!(matches!(
            again,
            Err(BackupError::Disk(DiskError::SnapshotExists { .. }))
        ));
        store.snapshot_restore(disk_id(disk), "two", 0).unwrap();
        assert!(read_all(&*power_on(&store, &spec(disk))) == expected);
    }
    let mut version = Vec::new();
    backup_version(&request(&room, 1, None), &mut version, &mut |_| {}, &|| {
        false
    })
    .unwrap();
    assert!(matches!(
        restore(3, &version),
        Err(BackupError::Other { .. })
    ));
}
