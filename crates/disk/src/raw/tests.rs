use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::*;
use crate::testing::image_bytes;

struct Place {
    file: PathBuf,
    directory: PathBuf,
    content: Vec<u8>,
    _room: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let room = tempfile::tempdir().unwrap();
        let content = image_bytes((1 << 20) + 512, 7);
        let file = room.path().join("disk.raw");
        fs::write(&file, &content).unwrap();
        Self {
            file,
            directory: room.path().join("overlay of it"),
            content,
            _room: room,
        }
    }

    fn open(&self) -> Result<RawOverlay, DiskError> {
        RawOverlay::open(&self.file, &self.directory)
    }
}

fn read(disk: &dyn BlockDevice) -> Vec<u8> {
    let mut content = vec![0xa5; disk.size_bytes() as usize];
    disk.read_at(0, &mut content).unwrap();
    content
}

#[test]
fn writes_go_to_the_overlay_and_are_found_again() {
    let place = Place::new();
    let mut expected = place.content.clone();
    let overlay = place.open().unwrap();
    assert!(overlay.fresh);
    assert_eq!(read(overlay.disk.as_ref()), expected);
    let writes = [(512, 512), (8192, 4096), (1 << 20, 512)];
    for (offset, length) in writes {
        expected[offset..offset + length].fill(0x5a);
        let data = vec![0x5a; length];
        overlay.disk.write_at(offset as u64, &data).unwrap();
    }
    overlay.disk.write_zeroes(65536, 8192).unwrap();
    expected[65536..65536 + 8192].fill(0);
    // Nothing is flushed: this is what the death of the process leaves.
    drop(overlay);
    let overlay = place.open().unwrap();
    assert!(!overlay.fresh);
    assert_eq!(read(overlay.disk.as_ref()), expected);
    assert_eq!(fs::read(&place.file).unwrap(), place.content);
}

#[test]
fn flushed_writes_outlive_the_live_map() {
    let place = Place::new();
    let overlay = place.open().unwrap();
    overlay.disk.write_at(4096, &[1; 4096]).unwrap();
    overlay.disk.flush().unwrap();
    drop(overlay);
    fs::remove_file(place.directory.join(LIVE_MAP)).unwrap();
    let overlay = place.open().unwrap();
    assert_eq!(read(overlay.disk.as_ref())[4096..8192], [1; 4096]);
}

#[test]
fn an_overlay_of_another_or_a_changed_file_is_refused() {
    let place = Place::new();
    drop(place.open().unwrap());
    let other = place.file.with_file_name("other.raw");
    fs::write(&other, &place.content).unwrap();
    let refused = RawOverlay::open(&other, &place.directory);
    let said = refused.err().unwrap().to_string();
    assert!(said.contains("other.raw has changed since"), "{said}");

    // The same file at another place is the same file.
    let moved = place.file.with_file_name("moved.raw");
    fs::rename(&place.file, &moved).unwrap();
    drop(RawOverlay::open(&moved, &place.directory).unwrap());

    let file = OpenOptions::new().write(true).open(&moved).unwrap();
    file.write_all_at(&[1], 1 << 19).unwrap();
    file.set_modified(std::time::SystemTime::now()).unwrap();
    let refused = RawOverlay::open(&moved, &place.directory);
    assert!(matches!(refused, Err(DiskError::ForeignFile { .. })));
}

#[test]
fn a_crash_while_an_overlay_is_made_leaves_nothing_in_the_way() {
    let place = Place::new();
    fs::create_dir_all(place.directory.join(UNFINISHED_DIRECTORY)).unwrap();
    fs::write(
        place.directory.join(UNFINISHED_DIRECTORY).join("data"),
        b"half",
    )
    .unwrap();
    assert!(place.open().unwrap().fresh);
    assert!(!place.directory.join(UNFINISHED_DIRECTORY).exists());
}

#[test]
fn nobody_writes_a_file_or_an_overlay_that_is_in_use() {
    let place = Place::new();
    let overlay = place.open().unwrap();
    assert!(matches!(place.open(), Err(DiskError::InUse { .. })));
    let in_place = RawDisk::open(&place.file, false);
    assert!(matches!(in_place, Err(RawError::InUse { .. })));
    assert!(RawDisk::open(&place.file, true).is_ok());
    drop(overlay);
    let _alone = RawDisk::open(&place.file, false).unwrap();
    assert!(matches!(
        place.open(),
        Err(DiskError::File(RawError::InUse { .. }))
    ));
}

#[test]
fn what_is_no_disk_is_refused_with_the_reason() {
    let place = Place::new();
    let missing = place.file.with_file_name("missing.raw");
    assert!(matches!(
        RawDisk::open(&missing, true),
        Err(RawError::Open { .. })
    ));
    let folder = place.file.parent().unwrap();
    assert!(matches!(
        RawDisk::open(folder, true),
        Err(RawError::NoFile { .. })
    ));
    for bytes in [0, 1000] {
        let odd = place.file.with_file_name("odd.raw");
        fs::write(&odd, vec![0; bytes]).unwrap();
        let said = RawDisk::open(&odd, false).err().unwrap().to_string();
        assert!(said.contains("multiple of 512"), "{said}");
        assert!(RawOverlay::open(&odd, &place.directory).is_err());
    }
    // A refused file leaves no overlay behind.
    assert!(!place.directory.exists());
}

#[test]
fn a_file_written_in_place_holds_what_was_written() {
    let place = Place::new();
    let disk = RawDisk::open(&place.file, false).unwrap();
    let mut expected = place.content.clone();
    disk.write_at(512, &[3; 512]).unwrap();
    expected[512..1024].fill(3);
    disk.write_zeroes(4096, 4096).unwrap();
    expected[4096..8192].fill(0);
    disk.flush().unwrap();
    assert_eq!(read(&disk), expected);
    assert!(disk.write_at(disk.size_bytes(), &[0; 512]).is_err());
    drop(disk);
    assert_eq!(fs::read(&place.file).unwrap(), expected);
    let read_only = RawDisk::open(&place.file, true).unwrap();
    assert!(read_only.write_at(0, &[0; 512]).is_err());
}

/// The extents of the whole disk as (starts at, allocated).
fn extents(disk: &dyn BlockDevice) -> Vec<(u64, bool)> {
    let mut found: Vec<(u64, bool)> = Vec::new();
    let mut offset = 0;
    while offset < disk.size_bytes() {
        let (allocated, run) = disk.allocation(offset, disk.size_bytes() - offset).unwrap();
        if found.last().is_none_or(|last| last.1 != allocated) {
            found.push((offset, allocated));
        }
        offset += run;
    }
    found
}

#[test]
fn allocation_follows_writes_and_discards() {
    let place = Place::new();
    let sparse = File::create(&place.file).unwrap();
    sparse.set_len(1 << 20).unwrap();
    sparse.write_all_at(&[1; 65536], 131_072).unwrap();
    let overlay = place.open().unwrap();
    let disk = overlay.disk.as_ref();
    let untouched = [(0, false), (131_072, true), (196_608, false)];
    assert_eq!(extents(disk), untouched);
    disk.write_at(8192, &[2; 4096]).unwrap();
    disk.write_zeroes(135_168, 8192).unwrap();
    let expected = [
        (0, false),
        (8192, true),
        (12_288, false),
        (131_072, true),
        (135_168, false),
        (143_360, true),
        (196_608, false),
    ];
    assert_eq!(extents(disk), expected);
    assert_eq!(disk.allocation(8704, 512).unwrap(), (true, 512));
    drop(overlay);
    let raw = RawDisk::open(&place.file, false).unwrap();
    assert_eq!(extents(&raw), untouched);
    raw.write_zeroes(131_072, 65536).unwrap();
    assert_eq!(extents(&raw), [(0, false)]);
}
