//! The lab's Debian image through every format and back, compared by qemu-img.
//!
//! The image is made by the lab (`cargo nextest run -p dess-lab`) and lies in its cache; without it nothing is tested, and that is said.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use dess_disk::{
    ExportFormat, ExportTarget, ImportRequest, ImportSource, Version, export, import,
    version_directory,
};
use dess_model::{ImageId, Timestamp, VersionRef};

/// The cached image: raw or qcow2.
fn debian() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/lab-cache");
    let cache = match std::env::var_os("XDG_CACHE_HOME") {
        Some(cache) => PathBuf::from(cache).join("dess-lab"),
        None => target,
    };
    let made = std::fs::read_dir(cache).ok()?.flatten();
    let mut made = made.filter(|entry| entry.file_name().to_string_lossy().starts_with("debian-"));
    let files = std::fs::read_dir(made.next()?.path()).ok()?.flatten();
    files.map(|file| file.path()).find(|path| {
        path.extension()
            .is_some_and(|kind| kind == "raw" || kind == "qcow2")
    })
}

fn qemu_img(arguments: &[&str]) {
    let output = Command::new("qemu-img").args(arguments).output();
    let output = output.expect("qemu-img (package qemu-utils) is needed");
    assert!(
        output.status.success(),
        "{arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "takes minutes and 3 GiB; run it with --run-ignored all"]
fn the_debian_image_survives_every_format() {
    let Some(source) = debian() else {
        eprintln!("NOT TESTED: the lab has made no Debian image yet");
        return;
    };
    let work = tempfile::tempdir_in("/var/tmp").unwrap();
    let images = work.path().join("images");
    let run = |number: u32, path: &Path| {
        let version = VersionRef {
            image: ImageId::from_str(&"1".repeat(32)).unwrap(),
            number,
        };
        let request = ImportRequest {
            images: images.clone(),
            version,
            source: ImportSource {
                path: path.to_owned(),
                format: None,
                end_marker: None,
            },
            comment: String::new(),
            created: Timestamp(0),
        };
        let manifest = import(&request, &mut |_| {}, &|| false).unwrap();
        (manifest, version_directory(&images, version))
    };
    let (first, directory) = run(1, &source);
    let lint = first.lint.as_ref().unwrap();
    assert!(lint.bios, "{lint:?}");
    let version = Version::open(&directory).unwrap();
    for (number, (format, name)) in (2..).zip(ExportFormat::ALL) {
        let path = work.path().join(name);
        export(
            &version,
            format,
            ExportTarget::File(&path),
            &mut |_| {},
            &|| false,
        )
        .unwrap();
        qemu_img(&["compare", source.to_str().unwrap(), path.to_str().unwrap()]);
        let (again, directory) = run(number, &path);
        assert_eq!(again.image_crc32c, first.image_crc32c, "{name}");
        std::fs::remove_dir_all(directory).unwrap();
        std::fs::remove_file(path).unwrap();
    }
}
