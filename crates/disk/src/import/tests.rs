use std::cell::Cell;
use std::fs::{self, File};
use std::io;
use std::process::Command;

use super::*;
use crate::Version;
use crate::building::{clean_unfinished, discard_unfinished, entries};
use crate::testing::{Room, image_bytes, read_all, version_ref};

const SIZE: usize = 24 << 20;

fn qemu_img(args: &[&str], paths: &[&Path]) {
    if let Err(error) = try_qemu_img(args, paths) {
        panic!("{args:?}: {error}");
    }
}

fn try_qemu_img(args: &[&str], paths: &[&Path]) -> Result<(), String> {
    let output = Command::new("qemu-img")
        .args(args)
        .args(paths)
        .output()
        .expect("qemu-img (package qemu-utils) is needed as the oracle of this test");
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

fn run(room: &Room, number: u32, source: &Path) -> Result<Manifest, ImportError> {
    import(
        &room.request(number, source.to_owned()),
        &mut |_| {},
        &|| false,
    )
}

/// A raw image and its content.
fn raw(room: &Room) -> (PathBuf, Vec<u8>) {
    let bytes = image_bytes(SIZE, 77);
    let path = room.path("disk.raw");
    fs::write(&path, &bytes).unwrap();
    (path, bytes)
}

fn converted(room: &Room, name: &str, args: &[&str]) -> (PathBuf, Vec<u8>) {
    let (source, bytes) = raw(room);
    let path = room.path(name);
    let args = [&["convert", "-f", "raw", "-O", "qcow2"], args].concat();
    qemu_img(&args, &[&source, &path]);
    (path, bytes)
}

fn assert_nothing_visible(room: &Room) {
    let image = room.path("images").join(version_ref(1).image.simple());
    let left: Vec<PathBuf> = entries(&image).unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn qcow2_of_every_supported_kind_imports_byte_for_byte() {
    let kinds: [&[&str]; 6] = [
        &["-o", "compat=0.10"],
        &["-o", "compat=1.1"],
        &["-c"],
        &["-c", "-o", "compat=0.10,cluster_size=4k"],
        &["-o", "cluster_size=2M"],
        &["-o", "preallocation=metadata,lazy_refcounts=on"],
    ];
    for (number, kind) in (1..).zip(kinds) {
        let room = Room::new();
        let (path, bytes) = converted(&room, "disk.qcow2", kind);
        let manifest =
            run(&room, number, &path).unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        assert_eq!(manifest.source.unwrap().format, ImageFormat::Qcow2);
        assert_eq!(manifest.image_crc32c, crc32c::crc32c(&bytes), "{kind:?}");
        let version = Version::open(&room.version_dir(number)).unwrap();
        assert!(read_all(&version) == bytes, "{kind:?}");
        version.verify(&mut |_| {}, &|| false).unwrap();
    }
}

#[test]
fn a_chain_of_backing_files_imports_as_one_disk() {
    let room = Room::new();
    let (base, mut bytes) = raw(&room);
    let (middle, top) = (room.path("middle.qcow2"), room.path("top.qcow2"));
    qemu_img(
        &["create", "-f", "qcow2", "-F", "raw", "-b", "disk.raw"],
        &[&middle],
    );
    qemu_io(&middle, &["write -P 0x11 1M 300k", "write -z 5M 1M"]);
    // The backing file may be smaller than the disk.
    qemu_img(
        &[
            "create",
            "-q",
            "-f",
            "qcow2",
            "-F",
            "qcow2",
            "-b",
            "middle.qcow2",
        ],
        &[&top, Path::new("26M")],
    );
    qemu_io(&top, &["write -P 0x22 1100k 64k", "write -P 0x33 25M 512"]);
    bytes[1 << 20..][..300 << 10].fill(0x11);
    bytes[5 << 20..][..1 << 20].fill(0);
    bytes[1100 << 10..][..64 << 10].fill(0x22);
    bytes.resize(26 << 20, 0);
    bytes[25 << 20..][..512].fill(0x33);
    run(&room, 1, &top).unwrap();
    assert!(read_all(&Version::open(&room.version_dir(1)).unwrap()) == bytes);
    assert!(base.exists());
}

fn qemu_io(image: &Path, commands: &[&str]) {
    let mut qemu_io = Command::new("qemu-io");
    for command in commands {
        qemu_io.args(["-c", command]);
    }
    let output = qemu_io.arg(image).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_backing_file_elsewhere_on_the_server_is_refused() {
    let room = Room::new();
    let (base, _) = raw(&room);
    let inner = room.path("upload");
    fs::create_dir(&inner).unwrap();
    let absolute = inner.join("absolute.qcow2");
    let base = base.to_str().unwrap();
    qemu_img(
        &["create", "-f", "qcow2", "-F", "raw", "-b", base],
        &[&absolute],
    );
    let climbing = inner.join("climbing.qcow2");
    qemu_img(
        &["create", "-f", "qcow2", "-F", "raw", "-b", "../disk.raw"],
        &[&climbing],
    );
    let linked = inner.join("linked.qcow2");
    std::os::unix::fs::symlink(base, inner.join("link.raw")).unwrap();
    qemu_img(
        &["create", "-f", "qcow2", "-F", "raw", "-b", "link.raw"],
        &[&linked],
    );
    for path in [absolute, climbing, linked] {
        let error = run(&room, 1, &path).unwrap_err();
        assert!(
            error.to_string().contains("outside its own directory"),
            "{error}"
        );
    }
    assert_nothing_visible(&room);
}

#[test]
fn an_encrypted_image_is_refused() {
    let room = Room::new();
    let (source, _) = raw(&room);
    let secret = "secret,id=s,data=abcdefgh";
    let options = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10";
    let path = room.path("refused.qcow2");
    let args = ["convert", "-f", "raw", "-O", "qcow2"];
    let encrypted = ["--object", secret, "-o", options];
    // qemu-img times its key derivation by the CPU clock of a thread, and gives up when another process
    // got the core just then.
    let made = (0..20).find_map(|_| {
        let result = try_qemu_img(&[&args[..], &encrypted].concat(), &[&source, &path]);
        match result {
            Err(error) if error.contains("accurate CPU usage") => None,
            result => Some(result),
        }
    });
    assert_eq!(made, Some(Ok(())));
    let error = run(&room, 1, &path).unwrap_err();
    assert!(matches!(error, ImportError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("LUKS"), "{error}");
    assert_nothing_visible(&room);
}

#[test]
fn a_truncated_qcow2_is_refused_wherever_it_is_cut() {
    for kind in [&["-o", "compat=1.1"][..], &["-c"], &["-o", "compat=0.10"]] {
        let room = Room::new();
        let (path, _) = converted(&room, "disk.qcow2", kind);
        let whole = fs::read(&path).unwrap();
        // Whatever the last bytes are, the file does not read as something else without them.
        let cuts = [
            0,
            3,
            71,
            103,
            4096,
            65_536,
            200_000,
            whole.len() / 2,
            whole.len() - 70_000,
            whole.len() - 513,
        ];
        for cut in cuts {
            fs::write(&path, &whole[..cut]).unwrap();
            let mut request = room.request(1, path.clone());
            request.source.format = Some(ImageFormat::Qcow2);
            let error = import(&request, &mut |_| {}, &|| false).unwrap_err();
            assert!(
                matches!(error, ImportError::Refused { .. }),
                "{kind:?} cut at {cut}: {error}"
            );
        }
        assert_nothing_visible(&room);
    }
}

#[test]
fn other_formats_are_not_taken_for_raw_disks() {
    let room = Room::new();
    let (source, _) = raw(&room);
    let path = room.path("vdi");
    qemu_img(&["convert", "-f", "raw", "-O", "vdi"], &[&source, &path]);
    let error = run(&room, 1, &path).unwrap_err();
    assert!(error.to_string().contains("VDI"), "{error}");
    assert_nothing_visible(&room);
}

#[test]
fn the_formats_of_other_hypervisors_import_byte_for_byte() {
    let kinds = [
        (ImageFormat::Vhd, ["vpc", "force_size=on"]),
        (ImageFormat::Vhd, ["vpc", "subformat=fixed,force_size=on"]),
        (ImageFormat::Vhdx, ["vhdx", "subformat=dynamic"]),
        (ImageFormat::Vmdk, ["vmdk", "subformat=monolithicSparse"]),
        (ImageFormat::Vmdk, ["vmdk", "subformat=twoGbMaxExtentFlat"]),
        (ImageFormat::Vmdk, ["vmdk", "subformat=streamOptimized"]),
    ];
    for (expected, [format, options]) in kinds {
        let room = Room::new();
        let (source, bytes) = raw(&room);
        let path = room.path("disk");
        let args = ["convert", "-f", "raw", "-O", format, "-o", options];
        qemu_img(&args, &[&source, &path]);
        let manifest = run(&room, 1, &path).unwrap_or_else(|error| panic!("{options}: {error}"));
        assert_eq!(manifest.source.unwrap().format, expected);
        assert_eq!(manifest.image_crc32c, crc32c::crc32c(&bytes), "{options}");
        let version = Version::open(&room.version_dir(1)).unwrap();
        assert!(read_all(&version) == bytes, "{options}");
    }
}

#[test]
fn an_empty_file_is_refused_and_an_odd_size_rounded_up_with_zeros() {
    let room = Room::new();
    fs::write(room.path("empty"), []).unwrap();
    assert!(matches!(
        run(&room, 1, &room.path("empty")),
        Err(ImportError::Refused { .. })
    ));
    assert_nothing_visible(&room);
    fs::write(room.path("odd"), [1; 700]).unwrap();
    let manifest = run(&room, 1, &room.path("odd")).unwrap();
    assert_eq!(manifest.size_bytes, 1024);
    let bytes = read_all(&Version::open(&room.version_dir(1)).unwrap());
    assert_eq!(bytes, [&[1; 700][..], &[0; 324]].concat());
}

#[test]
fn a_sparse_terabyte_imports_at_once() {
    let room = Room::new();
    let path = room.path("sparse.raw");
    let file = File::create(&path).unwrap();
    file.set_len(1 << 40).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[1; 512], (1 << 40) - 512).unwrap();
    let manifest = run(&room, 1, &path).unwrap();
    assert_eq!((manifest.size_bytes, manifest.data_blocks), (1 << 40, 1));
    let version = Version::open(&room.version_dir(1)).unwrap();
    version.verify(&mut |_| {}, &|| false).unwrap();
}

#[test]
fn progress_runs_from_nothing_to_everything_and_not_too_often() {
    let room = Room::new();
    let (path, _) = raw(&room);
    let mut seen = Vec::new();
    import(
        &room.request(1, path),
        &mut |progress| seen.push(progress),
        &|| false,
    )
    .unwrap();
    assert_eq!(seen.first().map(|progress| progress.done_bytes), Some(0));
    assert_eq!(
        seen.last().map(|progress| progress.done_bytes),
        Some(SIZE as u64)
    );
    assert!(seen.is_sorted_by_key(|progress| progress.done_bytes));
    assert!(
        seen.iter()
            .all(|progress| progress.total_bytes == SIZE as u64)
    );
}

#[test]
fn a_cancelled_import_leaves_nothing_and_can_be_repeated() {
    let room = Room::new();
    let (path, bytes) = raw(&room);
    let asked = Cell::new(0);
    let cancelled = import(&room.request(1, path.clone()), &mut |_| {}, &|| {
        asked.set(asked.get() + 1);
        asked.get() > 5
    });
    assert!(matches!(cancelled, Err(ImportError::Cancelled)));
    assert_nothing_visible(&room);
    run(&room, 1, &path).unwrap();
    assert!(read_all(&Version::open(&room.version_dir(1)).unwrap()) == bytes);
}

#[test]
fn a_crashed_import_is_invisible_and_cleaned_but_a_running_one_is_not() {
    let room = Room::new();
    let (path, _) = raw(&room);
    let image = room.version_dir(1).parent().unwrap().to_owned();
    let unfinished = image.join(".import-1");
    let cleaned = Cell::new(None);
    import(&room.request(1, path.clone()), &mut |_| {}, &|| {
        assert!(!room.version_dir(1).exists());
        cleaned.set(Some(clean_unfinished(&room.path("images")).unwrap()));
        let second = run(&room, 1, &path);
        assert!(matches!(
            second,
            Err(ImportError::Build(BuildError::Exists { .. }))
        ));
        false
    })
    .unwrap();
    assert_eq!(cleaned.get(), Some(0));
    // What a killed import leaves.
    fs::create_dir(&unfinished).unwrap();
    fs::write(unfinished.join("data"), [1; 100]).unwrap();
    assert_eq!(clean_unfinished(&room.path("images")).unwrap(), 1);
    assert!(!unfinished.exists() && room.version_dir(1).exists());
    assert_eq!(clean_unfinished(&room.path("nowhere")).unwrap(), 0);
}

#[test]
fn a_version_is_never_replaced() {
    let room = Room::new();
    let (path, bytes) = raw(&room);
    run(&room, 1, &path).unwrap();
    fs::write(room.path("other"), [1; 4096]).unwrap();
    assert!(matches!(
        run(&room, 1, &room.path("other")),
        Err(ImportError::Build(BuildError::Exists { .. }))
    ));
    assert!(read_all(&Version::open(&room.version_dir(1)).unwrap()) == bytes);
}

#[test]
fn a_full_disk_is_reported_as_such() {
    let room = Room::new();
    let (path, _) = raw(&room);
    let images = room.path("images");
    fs::create_dir_all(&images).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=2m", "dess-test"])
        .arg(&images)
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("NOT TESTED: this test may not mount a tmpfs");
        return;
    }
    let result = run(&room, 1, &path);
    let left = entries(&images.join(version_ref(1).image.simple())).unwrap();
    let unmounted = Command::new("umount")
        .arg("-l")
        .arg(&images)
        .status()
        .unwrap();
    assert!(unmounted.success());
    match result {
        Err(ImportError::Build(BuildError::Store { source, .. })) => {
            assert_eq!(source.kind(), io::ErrorKind::StorageFull);
        }
        other => panic!("{other:?}"),
    }
    assert!(left.is_empty(), "{left:?}");
}

fn packed(packing: &str, path: &Path) -> PathBuf {
    use std::io::Write;
    let bytes = fs::read(path).unwrap();
    let packed = match packing {
        "gz" => {
            let level = flate2::Compression::fast();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(&bytes).unwrap();
            encoder.finish().unwrap()
        }
        _ => zstd::encode_all(&bytes[..], 1).unwrap(),
    };
    let path = path.with_extension(packing);
    fs::write(&path, packed).unwrap();
    path
}

#[test]
fn packed_files_of_any_format_import_as_what_is_in_them() {
    for program in ["gz", "zst"] {
        for format in ["raw", "qcow2", "vpc", "vmdk"] {
            let room = Room::new();
            let (source, bytes) = raw(&room);
            let path = room.path("disk");
            let args = ["convert", "-f", "raw", "-O", format];
            let args = match format {
                "vpc" => [&args[..], &["-o", "force_size=on"]].concat(),
                _ => args.to_vec(),
            };
            qemu_img(&args, &[&source, &path]);
            let path = packed(program, &path);
            let manifest =
                run(&room, 1, &path).unwrap_or_else(|error| panic!("{program} {format}: {error}"));
            assert_eq!(manifest.image_crc32c, crc32c::crc32c(&bytes));
            let left = fs::read_dir(room.version_dir(1)).unwrap().count();
            assert_eq!(left, 4, "nothing but the version's files is left");
        }
    }
}

#[test]
fn a_packed_file_cut_off_or_damaged_is_refused_with_the_place() {
    let room = Room::new();
    let (source, _) = raw(&room);
    for program in ["gz", "zst"] {
        let path = packed(program, &source);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let error = run(&room, 1, &path).unwrap_err();
        assert!(
            matches!(error, ImportError::Refused { offset, .. } if offset > 0),
            "{error}"
        );
        let mut damaged = whole.clone();
        damaged[whole.len() / 2..][..64].fill(0xff);
        fs::write(&path, damaged).unwrap();
        let error = run(&room, 1, &path).unwrap_err();
        assert!(matches!(error, ImportError::Refused { .. }), "{error}");
    }
    assert_nothing_visible(&room);
}

fn pipe(room: &Room) -> PathBuf {
    let path = room.path("pipe");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    path
}

#[test]
fn a_pipe_imports_when_its_end_is_marked_and_not_when_it_is_cut_off() {
    for marked in [true, false] {
        let room = Room::new();
        let (_, bytes) = raw(&room);
        let path = pipe(&room);
        let marker = room.path("end");
        let mut request = room.request(1, path.clone());
        request.source.end_marker = Some(marker.clone());
        let sent = bytes.clone();
        let sender = std::thread::spawn(move || {
            use std::io::Write;
            let mut pipe = fs::OpenOptions::new().write(true).open(path).unwrap();
            pipe.write_all(&sent).unwrap();
            if marked {
                fs::write(marker, sent.len().to_string()).unwrap();
            }
        });
        let imported = import(&request, &mut |_| {}, &|| false);
        sender.join().unwrap();
        match (marked, imported) {
            (true, Ok(manifest)) => assert_eq!(manifest.image_crc32c, crc32c::crc32c(&bytes)),
            (false, Err(ImportError::Refused { reason, .. })) => {
                assert!(reason.contains("cut off"));
            }
            (_, other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_import_from_a_silent_pipe_can_be_cancelled() {
    let room = Room::new();
    let path = pipe(&room);
    let sender = std::thread::spawn({
        let path = path.clone();
        move || {
            use std::io::Write;
            let mut pipe = fs::OpenOptions::new().write(true).open(path).unwrap();
            pipe.write_all(&[1; 100_000]).unwrap();
            pipe
        }
    });
    let asked = Cell::new(0);
    let result = import(&room.request(1, path), &mut |_| {}, &|| {
        asked.set(asked.get() + 1);
        asked.get() > 3
    });
    assert!(matches!(result, Err(ImportError::Cancelled)), "{result:?}");
    drop(sender.join().unwrap());
    assert_nothing_visible(&room);
}

/// A disk large enough for several checkpoints.
fn large(room: &Room) -> (PathBuf, Vec<u8>) {
    let bytes = image_bytes(64 << 20, 5);
    let path = room.path("large.raw");
    fs::write(&path, &bytes).unwrap();
    (path, bytes)
}

/// Imports until there is a checkpoint, as if the process died then; answers the directory that is left.
fn interrupted(room: &Room, path: &Path) -> PathBuf {
    let unfinished = room.version_dir(1).with_file_name(".import-1");
    let resume = unfinished.join("resume");
    let result = import(&room.request(1, path.to_owned()), &mut |_| {}, &|| {
        resume.exists()
    });
    assert!(matches!(result, Err(ImportError::Cancelled)), "{result:?}");
    assert!(resume.exists());
    unfinished
}

#[test]
fn an_interrupted_import_goes_on_where_it_was() {
    let room = Room::new();
    let (path, bytes) = large(&room);
    let unfinished = interrupted(&room, &path);
    assert_eq!(clean_unfinished(&room.path("images")).unwrap(), 0);
    // A mark in what is done already shows that it is not done again.
    let data = File::options()
        .write(true)
        .open(unfinished.join("data"))
        .unwrap();
    let marked = bytes.iter().position(|&byte| byte != 0).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&data, &[!bytes[marked]], marked as u64).unwrap();
    let manifest = run(&room, 1, &path).unwrap();
    assert_eq!(manifest.image_crc32c, crc32c::crc32c(&bytes));
    let version = Version::open(&room.version_dir(1)).unwrap();
    let mut read = read_all(&version);
    assert_eq!(read[marked], !bytes[marked]);
    read[marked] = bytes[marked];
    assert!(read == bytes);
    assert_eq!(fs::read_dir(room.version_dir(1)).unwrap().count(), 4);
}

#[test]
fn an_interrupted_import_of_a_source_that_was_changed_starts_again() {
    for damage_checkpoint in [false, true] {
        let room = Room::new();
        let (path, mut bytes) = large(&room);
        let unfinished = interrupted(&room, &path);
        if damage_checkpoint {
            let mut resume = fs::read(unfinished.join("resume")).unwrap();
            let middle = resume.len() / 2;
            resume[middle] ^= 1;
            fs::write(unfinished.join("resume"), resume).unwrap();
        } else {
            bytes[1 << 20..2 << 20].fill(0x31);
            fs::write(&path, &bytes).unwrap();
        }
        run(&room, 1, &path).unwrap();
        let version = Version::open(&room.version_dir(1)).unwrap();
        version.verify(&mut |_| {}, &|| false).unwrap();
        assert!(read_all(&version) == bytes);
    }
}

#[test]
fn what_a_cancelled_import_keeps_can_be_dropped() {
    let room = Room::new();
    let (path, _) = large(&room);
    let unfinished = interrupted(&room, &path);
    discard_unfinished(&room.path("images"), version_ref(1)).unwrap();
    assert!(!unfinished.exists());
    discard_unfinished(&room.path("images"), version_ref(1)).unwrap();
}
