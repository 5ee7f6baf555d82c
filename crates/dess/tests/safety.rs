//! Check, repair, backup and restoration from the command line, without any service.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dess_disk::backup::{BackupRequest, backup_version};
use dess_disk::{ImageFormat, ImportRequest, ImportSource, import};
use dess_model::{ImageId, Timestamp, VersionRef};

const ABNORMAL: i32 = 3;
const DISK_BYTES: usize = 3 << 20;

struct Site {
    directory: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let site = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        let made = site.run(&[
            "init",
            "--address",
            "127.0.0.1",
            "--interface",
            "lo",
            "--subnet",
            "127.0.0.0/8",
            "--mode",
            "proxy",
        ]);
        assert!(made.status.success(), "{made:?}");
        site
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_dess"))
            .args(["--state".as_ref(), self.path("state").as_os_str()])
            .args(["--runtime".as_ref(), self.path("run").as_os_str()])
            .args(arguments)
            .output()
            .unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn version_file(&self, name: &str) -> PathBuf {
        dess_disk::version_directory(&self.path("state/images"), version()).join(name)
    }
}

fn version() -> VersionRef {
    let image: ImageId = "1".repeat(32).parse().unwrap();
    VersionRef { image, number: 4 }
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A backup of a version that this site never had.
fn foreign_backup(directory: &Path) -> PathBuf {
    let source = directory.join("source.raw");
    let content: Vec<u8> = (0..DISK_BYTES).map(|at| (at / 512 % 251) as u8).collect();
    fs::write(&source, content).unwrap();
    let images = directory.join("elsewhere");
    let request = ImportRequest {
        images: images.clone(),
        version: version(),
        source: ImportSource {
            path: source,
            format: Some(ImageFormat::Raw),
            end_marker: None,
        },
        comment: String::new(),
        created: Timestamp(1),
    };
    import(&request, &mut |_| {}, &|| false).unwrap();
    let request = BackupRequest {
        images,
        version: version(),
        since: None,
        image_name: "windows".to_owned(),
        created: Timestamp(2),
    };
    let path = directory.join("windows-4.dessbak");
    let mut file = fs::File::create(&path).unwrap();
    backup_version(&request, &mut file, &mut |_| {}, &|| false).unwrap();
    path
}

fn flip(path: &Path, at: u64) {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn a_restored_image_is_checked_repaired_and_backed_up_again() {
    let site = Site::new();
    let backup = foreign_backup(site.directory.path());
    let nothing = site.run(&["image", "check"]);
    assert!(nothing.status.success() && text(&nothing).contains("nothing to check"));

    let restored = site.run(&["image", "restore", backup.to_str().unwrap()]);
    assert!(restored.status.success(), "{}", text(&restored));
    assert!(text(&restored).contains("windows@4"), "{}", text(&restored));
    // Once more: it is there and known.
    let again = site.run(&["image", "restore", backup.to_str().unwrap()]);
    assert!(again.status.success(), "{}", text(&again));
    assert!(text(&again).contains("windows@4 is here already"));
    let listed = text(&site.run(&["image", "list"]));
    assert!(listed.contains("windows@4"), "{listed}");
    let whole = site.run(&["image", "check", "windows"]);
    assert!(whole.status.success() && text(&whole).contains("windows@4: whole"));

    flip(&site.version_file("map"), 8192 + 40);
    let damaged = site.run(&["image", "check", "--quick"]);
    assert_eq!(damaged.status.code(), Some(ABNORMAL));
    assert!(
        text(&damaged).contains("bytes 8192 to"),
        "{}",
        text(&damaged)
    );
    let repaired = site.run(&["image", "repair", "windows@4", "--yes"]);
    assert!(repaired.status.success(), "{}", text(&repaired));
    assert!(
        text(&repaired).contains("map.damaged-1"),
        "{}",
        text(&repaired)
    );
    assert!(site.run(&["image", "check"]).status.success());

    let directory = site.path("backups");
    let kept = site.run(&["image", "backup", "windows", directory.to_str().unwrap()]);
    assert!(kept.status.success(), "{}", text(&kept));
    assert!(directory.join("windows-4.dessbak").exists());
    let streamed = site.run(&["image", "backup", "windows@4", "-"]);
    assert!(streamed.status.success());
    assert_eq!(&streamed.stdout[..8], b"DESSBAK1");

    flip(&site.version_file("data"), 4096);
    let damaged = site.run(&["image", "check", "windows@4"]);
    assert_eq!(damaged.status.code(), Some(ABNORMAL));
    assert!(
        text(&damaged).contains("bytes 0 to 1048575"),
        "{}",
        text(&damaged)
    );
    let refused = site.run(&["image", "backup", "windows", directory.to_str().unwrap()]);
    assert!(!refused.status.success(), "damage is not backed up");
}

#[test]
fn a_cut_off_backup_restores_nothing() {
    let site = Site::new();
    let backup = foreign_backup(site.directory.path());
    let length = fs::metadata(&backup).unwrap().len();
    let file = fs::OpenOptions::new().write(true).open(&backup).unwrap();
    file.set_len(length - 1).unwrap();
    let refused = site.run(&["image", "restore", backup.to_str().unwrap()]);
    assert!(!refused.status.success());
    assert!(text(&refused).contains("cut off"), "{}", text(&refused));
    assert!(!text(&site.run(&["image", "list"])).contains("windows"));
}
