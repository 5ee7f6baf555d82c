use std::os::unix::fs::{FileExt, PermissionsExt};

use super::*;
use crate::testing::{Room, image_bytes, read_all, version_ref};

fn open(room: &Room, number: u32) -> Result<Version, VersionError> {
    Version::open(&room.version_dir(number))
}

fn verify(version: &Version) -> Result<(), VersionError> {
    version.verify(&mut |_| {}, &|| false)
}

#[test]
fn a_version_reads_what_was_imported() {
    let room = Room::new();
    let bytes = image_bytes((3 << 20) + 512, 1);
    let manifest = room.import(1, &bytes);
    let version = open(&room, 1).unwrap();
    assert_eq!(version.manifest(), &manifest);
    assert_eq!(manifest.image_crc32c, crc32c::crc32c(&bytes));
    assert!(read_all(&version) == bytes);
    for (offset, length) in [(0, 1), (4095, 2), (512 * 77, 70_000), ((3 << 20) - 5, 517)] {
        let mut part = vec![0xee; length];
        version.read_at(offset, &mut part).unwrap();
        assert!(part == bytes[offset as usize..][..length]);
        version.try_read_at(offset, &mut part).unwrap();
        assert!(part == bytes[offset as usize..][..length]);
    }
    assert!(version.read_at((3 << 20) + 512, &mut [0]).is_err());
    verify(&version).unwrap();
}

#[test]
fn the_files_of_a_version_cannot_be_written() {
    let room = Room::new();
    room.import(1, &[1; 8192]);
    for entry in fs::read_dir(room.version_dir(1)).unwrap() {
        let metadata = entry.unwrap().metadata().unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o444);
    }
    // Root passes every mode, so look at the open file too.
    let version = open(&room, 1).unwrap();
    let written = version.layers[0].write_at(0, &[0]);
    assert_eq!(
        written.unwrap_err().raw_os_error(),
        Some(rustix::io::Errno::BADF.raw_os_error())
    );
}

#[test]
fn zero_blocks_take_no_space_and_no_reads() {
    let room = Room::new();
    let mut bytes = vec![0; 32 << 20];
    bytes[20 << 20] = 1;
    let manifest = room.import(1, &bytes);
    assert_eq!(manifest.data_blocks, 1);
    let version = open(&room, 1).unwrap();
    assert!(version.layers[0].allocated_bytes().unwrap() <= 64 << 10);
    // Bytes put into a hole behind the map's back are not seen: the map alone decides.
    let data = room.version_dir(1).join(DATA_FILE);
    let file = fs::OpenOptions::new().write(true).open(data).unwrap();
    file.write_all_at(&[9; 100], 0).unwrap();
    assert!(read_all(&version) == bytes);
}

#[test]
fn verify_finds_a_changed_byte_and_says_where() {
    let room = Room::new();
    room.import(
        1,
        &image_bytes(5 << 20, 4)
            .iter()
            .map(|byte| byte | 1)
            .collect::<Vec<_>>(),
    );
    let version = open(&room, 1).unwrap();
    let data = room.version_dir(1).join(DATA_FILE);
    let file = fs::OpenOptions::new().write(true).open(data).unwrap();
    file.write_all_at(&[0], (3 << 20) + 17).unwrap();
    match verify(&version) {
        Err(VersionError::Checksum { offset, .. }) => assert_eq!(offset, 3 << 20),
        other => panic!("{other:?}"),
    }
}

#[test]
fn verify_can_be_cancelled() {
    let room = Room::new();
    room.import(1, &[1; 4096]);
    let version = open(&room, 1).unwrap();
    let cancelled = version.verify(&mut |_| {}, &|| true);
    assert!(matches!(cancelled, Err(VersionError::Cancelled)));
}

#[test]
fn a_damaged_or_foreign_file_is_refused() {
    let room = Room::new();
    room.import(1, &image_bytes(2 << 20, 1));
    room.import(2, &image_bytes(2 << 20, 2));
    for name in [MAP_FILE, MANIFEST_FILE] {
        let path = room.version_dir(1).join(name);
        let whole = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(open(&room, 1).is_err(), "{name} cut off");
        fs::copy(room.version_dir(2).join(name), &path).unwrap();
        assert!(open(&room, 1).is_err(), "{name} of another version");
        fs::remove_file(&path).unwrap();
        fs::write(&path, &whole).unwrap();
        open(&room, 1).unwrap();
    }
    let path = room.version_dir(1).join(DATA_FILE);
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    assert!(matches!(open(&room, 1), Err(VersionError::Damaged { .. })));
}

#[test]
fn a_manifest_of_another_release_is_named_as_such() {
    let room = Room::new();
    room.import(1, &[1; 512]);
    let path = room.version_dir(1).join(MANIFEST_FILE);
    fs::remove_file(&path).unwrap();
    fs::write(&path, br#"{"format": 2, "new_field": true}"#).unwrap();
    let error = open(&room, 1).err().map(|error| error.to_string()).unwrap();
    assert!(error.contains("format 2"), "{error}");
}

/// Makes version `number` a layer over `parent` that holds the given blocks of the disk.
fn stack(room: &Room, number: u32, parent: u32, bytes: &[u8], blocks: &[u64]) {
    let mut layer = vec![0; bytes.len()];
    for &block in blocks {
        let range = (block * BLOCK_BYTES) as usize..((block + 1) * BLOCK_BYTES) as usize;
        layer[range.clone()].copy_from_slice(&bytes[range]);
    }
    let mut manifest = room.import(number, &layer);
    let map = BlockMap::new(bytes.len() as u64);
    for &block in blocks {
        map.add(block..block + 1, &mut |_, _| Ok(())).unwrap();
    }
    let header = manifest.map_header();
    let mut file = header.encode_file();
    header.encode_flush(&map.words(), 1, 0, &mut file);
    manifest.parent = Some(parent);
    manifest.map_crc32c = crc32c::crc32c(&file);
    for (name, content) in [
        (MAP_FILE, file),
        (MANIFEST_FILE, serde_json::to_vec(&manifest).unwrap()),
    ] {
        let path = room.version_dir(number).join(name);
        fs::remove_file(&path).unwrap();
        fs::write(path, content).unwrap();
    }
}

#[test]
fn later_layers_hide_earlier_ones_also_with_zeros() {
    let room = Room::new();
    let mut bytes = image_bytes(1 << 20, 7);
    bytes[..40 * 4096].fill(0x55);
    room.import(1, &bytes);
    let mut second = bytes.clone();
    second[4096..3 * 4096].fill(2);
    stack(&room, 2, 1, &second, &[1, 2]);
    let mut third = second.clone();
    third[2 * 4096..3 * 4096].fill(3);
    third[8 * 4096..10 * 4096].fill(0);
    stack(&room, 3, 2, &third, &[2, 8, 9]);
    for (number, expected) in [(1, bytes), (2, second), (3, third)] {
        assert!(
            read_all(&open(&room, number).unwrap()) == expected,
            "version {number}"
        );
    }
    assert_eq!(open(&room, 3).unwrap().manifest().version, version_ref(3));
}

#[test]
fn a_layer_cannot_be_its_own_ancestor() {
    let room = Room::new();
    let bytes = image_bytes(1 << 20, 7);
    stack(&room, 1, 1, &bytes, &[0]);
    assert!(matches!(open(&room, 1), Err(VersionError::Damaged { .. })));
}

#[test]
fn sums_survive_their_bytes_and_nothing_else_does() {
    let sums = Sums {
        image: [1; 16],
        number: 9,
        size_bytes: (3 << 20) + 512,
        chunks: vec![1, 2, 3, 4],
    };
    let bytes = sums.encode();
    assert_eq!(Sums::decode(&bytes), Ok(sums.clone()));
    for cut in 0..bytes.len() {
        assert!(Sums::decode(&bytes[..cut]).is_err());
    }
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 4;
        assert!(Sums::decode(&damaged).is_err());
    }
}
