use std::fs;
use std::path::Path;

use super::*;
use crate::format::tests::qemu;
use crate::testing::{Room, image_bytes, read_all};

/// Odd in every unit of every format: clusters, blocks, grains and tables.
const SIZE: usize = (37 << 20) + 5 * 4096 + 512;

const QEMU_NAMES: [&str; 6] = ["raw", "qcow2", "qcow2", "vpc", "vhdx", "vmdk"];

/// A version with data at its beginning and end, and its bytes.
fn version(room: &Room) -> (Version, Vec<u8>) {
    let mut bytes = image_bytes(SIZE, 99);
    bytes[5 << 20..33 << 20].fill(0);
    bytes[17 << 20..][..4096].fill(0xdd);
    // What cannot be compressed.
    let mut state = 1u64;
    for byte in &mut bytes[1 << 20..2 << 20] {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        *byte = (state >> 56) as u8;
    }
    room.import(1, &bytes);
    (Version::open(&room.version_dir(1)).unwrap(), bytes)
}

fn run(version: &Version, format: ExportFormat, path: &Path) -> Result<u64, ExportError> {
    export(
        version,
        format,
        ExportTarget::File(path),
        &mut |_| {},
        &|| false,
    )
}

/// qemu-img finds the same content and the same size.
fn same(room: &Room, format: &str, path: &Path) {
    let source = room.path("source-1.img");
    let bytes = fs::metadata(&source).unwrap().len();
    let (source, path) = (source.to_str().unwrap(), path.to_str().unwrap());
    qemu(
        "qemu-img",
        &["compare", "-f", "raw", "-F", format, source, path],
    );
    let info = qemu("qemu-img", &["info", "-f", format, "--output=json", path]);
    let expected = format!("\"virtual-size\": {bytes},");
    assert!(info.contains(&expected), "{info}");
}

#[test]
fn qemu_img_finds_every_export_identical_and_sound() {
    let room = Room::new();
    let (version, _) = version(&room);
    for ((format, name), qemu_name) in ExportFormat::ALL.into_iter().zip(QEMU_NAMES) {
        let path = room.path(name);
        let written =
            run(&version, format, &path).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(fs::metadata(&path).unwrap().len(), written, "{name}");
        same(&room, qemu_name, &path);
        if let "qcow2" | "vhdx" | "vmdk" = qemu_name {
            qemu(
                "qemu-img",
                &["check", "-f", qemu_name, path.to_str().unwrap()],
            );
        }
        // Thin everywhere: 28 of 37 MiB are zero.
        let taken = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(&path).unwrap()) * 512;
        assert!(taken < 13 << 20, "{name} takes {taken}");
    }
}

#[test]
fn every_export_imports_as_the_same_disk() {
    let room = Room::new();
    let (version, bytes) = version(&room);
    for ((format, name), number) in ExportFormat::ALL.into_iter().zip(2..) {
        let path = room.path(name);
        run(&version, format, &path).unwrap();
        let request = room.request(number, path);
        let manifest = crate::import(&request, &mut |_| {}, &|| false)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(
            manifest.image_crc32c,
            version.manifest().image_crc32c,
            "{name}"
        );
        let again = Version::open(&room.version_dir(number)).unwrap();
        assert!(read_all(&again) == bytes, "{name}");
    }
}

#[test]
fn a_stream_gets_the_same_bytes_as_a_file() {
    let room = Room::new();
    let (version, _) = version(&room);
    for (format, name) in ExportFormat::ALL {
        let mut stream = Vec::new();
        let target = ExportTarget::Stream(&mut stream);
        let streamed = export(&version, format, target, &mut |_| {}, &|| false);
        if format == ExportFormat::Qcow2Compressed {
            assert!(
                matches!(streamed, Err(ExportError::Refused { .. })),
                "{streamed:?}"
            );
            continue;
        }
        assert_eq!(streamed.unwrap(), stream.len() as u64, "{name}");
        run(&version, format, &room.path(name)).unwrap();
        assert!(fs::read(room.path(name)).unwrap() == stream, "{name}");
    }
}

#[test]
fn a_large_sparse_disk_exports_to_little() {
    let room = Room::new();
    let source = room.path("source-1.img");
    let file = fs::File::create(&source).unwrap();
    file.set_len(96 << 30).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[1; 512], (96 << 30) - 512).unwrap();
    crate::import(&room.request(1, source), &mut |_| {}, &|| false).unwrap();
    let version = Version::open(&room.version_dir(1)).unwrap();
    for ((format, name), qemu_name) in ExportFormat::ALL.into_iter().zip(QEMU_NAMES) {
        let path = room.path(name);
        run(&version, format, &path).unwrap();
        // QEMU does not know where a VHDX has nothing and reads all of it; we do.
        if format == ExportFormat::Vhdx {
            let again = crate::import(&room.request(2, path.clone()), &mut |_| {}, &|| false);
            let sum = again.unwrap().image_crc32c;
            assert_eq!(sum, version.manifest().image_crc32c);
        } else {
            same(&room, qemu_name, &path);
        }
        let taken = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(&path).unwrap()) * 512;
        assert!(taken < 5 << 20, "{name} takes {taken}");
    }
}

#[test]
fn nothing_is_replaced_and_a_cancelled_export_leaves_nothing() {
    let room = Room::new();
    let (version, _) = version(&room);
    let path = room.path("disk.raw");
    let asked = std::cell::Cell::new(0);
    let target = ExportTarget::File(&path);
    let result = export(&version, ExportFormat::Raw, target, &mut |_| {}, &|| {
        asked.set(asked.get() + 1);
        asked.get() > 3
    });
    assert!(matches!(result, Err(ExportError::Cancelled)), "{result:?}");
    assert!(!path.exists() && !unfinished_name(&path).exists());
    fs::write(&path, b"precious").unwrap();
    let result = run(&version, ExportFormat::Raw, &path);
    assert!(
        matches!(result, Err(ExportError::Write { .. })),
        "{result:?}"
    );
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_disk_too_large_for_a_vhd_is_refused() {
    let room = Room::new();
    let source = room.path("source.raw");
    fs::File::create(&source)
        .unwrap()
        .set_len(2041 << 30)
        .unwrap();
    crate::import(&room.request(1, source), &mut |_| {}, &|| false).unwrap();
    let version = Version::open(&room.version_dir(1)).unwrap();
    let result = run(&version, ExportFormat::Vhd, &room.path("disk.vhd"));
    assert!(
        matches!(result, Err(ExportError::Refused { .. })),
        "{result:?}"
    );
    assert!(!room.path("disk.vhd").exists());
}
