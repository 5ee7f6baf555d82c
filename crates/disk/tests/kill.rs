//! `kill -9` of a process that writes: what it acknowledged is there afterwards.

#![expect(
    clippy::unwrap_used,
    reason = "this is a test; clippy exempts only functions marked as one"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

use dess_disk::{
    BlockDevice, BlockRead, DiskSpec, DiskStore, ImageFormat, ImportRequest, ImportSource,
    StoreOptions, StorePaths, import, version_directory,
};
use dess_model::{BootPolicy, DiskId, ImageId, Timestamp, VersionRef};

/// Tells the test binary that it is the process to be killed, and where its store is.
const STORE_VARIABLE: &str = "DESS_DISK_KILL_TEST_STORE";
const DISK_BYTES: u64 = 64 << 20;
/// Acknowledged writes before the kill.
const WRITES: u64 = 3000;

fn store(directory: &Path) -> DiskStore {
    let paths = StorePaths {
        images: directory.join("images"),
        overlays: directory.join("overlays"),
        live_maps: directory.join("maps"),
    };
    DiskStore::open(paths, StoreOptions::current().unwrap()).unwrap()
}

fn spec(directory: &Path, policy: BootPolicy) -> DiskSpec {
    let version = VersionRef {
        image: ImageId::from_str(&"1".repeat(32)).unwrap(),
        number: 1,
    };
    DiskSpec {
        disk: DiskId::from_str(&"2".repeat(32)).unwrap(),
        version,
        version_dir: version_directory(&directory.join("images"), version),
        policy,
        reset_epoch: 0,
    }
}

/// Where and what write number `index` writes: 1 to 24 sectors at a pseudo-random sector; every fifth one discards.
fn write(index: u64) -> (u64, Vec<u8>) {
    let mixed = (index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let sectors = 1 + (mixed >> 20) % 24;
    let sector = (mixed >> 32) % (DISK_BYTES / 512 - sectors);
    let fill = if index.is_multiple_of(5) {
        0
    } else {
        (index % 255) as u8 + 1
    };
    (sector * 512, vec![fill; (sectors * 512) as usize])
}

fn policy(directory: &Path) -> BootPolicy {
    match directory.join("persistent").exists() {
        true => BootPolicy::Persistent,
        false => BootPolicy::Volatile,
    }
}

/// Not a test of its own: the process that the other tests kill.
#[test]
fn writer_process() {
    let Some(directory) = std::env::var_os(STORE_VARIABLE).map(PathBuf::from) else {
        return;
    };
    let store = store(&directory);
    let disk = store
        .power_on(&spec(&directory, policy(&directory)))
        .unwrap()
        .disk;
    let mut acknowledged = std::io::stdout();
    for index in 0.. {
        let (offset, bytes) = write(index);
        match bytes[0] {
            0 => disk.write_zeroes(offset, bytes.len() as u64).unwrap(),
            _ => disk.write_at(offset, &bytes).unwrap(),
        }
        if index.is_multiple_of(500) {
            disk.flush().unwrap();
        }
        writeln!(acknowledged, "wrote {index}").unwrap();
        acknowledged.flush().unwrap();
    }
}

fn kill_under_writes(policy: BootPolicy) {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let base = vec![0xba; DISK_BYTES as usize];
    std::fs::write(directory.join("base.raw"), &base).unwrap();
    if policy == BootPolicy::Persistent {
        std::fs::write(directory.join("persistent"), []).unwrap();
    }
    let request = ImportRequest {
        images: directory.join("images"),
        version: spec(directory, policy).version,
        source: ImportSource {
            path: directory.join("base.raw"),
            format: Some(ImageFormat::Raw),
            end_marker: None,
        },
        comment: String::new(),
        created: Timestamp(0),
    };
    import(&request, &mut |_| {}, &|| false).unwrap();

    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args([
            "writer_process",
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(STORE_VARIABLE, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    let mut last = 0;
    let mut read = |last: &mut u64| -> bool {
        let Some(Ok(line)) = lines.next() else {
            return false;
        };
        // The test harness prints around them.
        if let Some((_, number)) = line.split_once("wrote ") {
            *last = number.parse().unwrap_or(*last);
        }
        true
    };
    while last < WRITES {
        assert!(read(&mut last), "the writer ended by itself");
    }
    writer.kill().unwrap();
    // What was acknowledged until the kill took effect is in the pipe.
    while read(&mut last) {}
    writer.wait().unwrap();

    let store = store(directory);
    let attached = store.attach(spec(directory, policy).disk).unwrap();
    assert!(!attached.fresh);
    let mut expected = base;
    for index in 0..=last {
        let (offset, bytes) = write(index);
        expected[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
    }
    let mut found = vec![0; DISK_BYTES as usize];
    attached.disk.read_at(0, &mut found).unwrap();
    // The one write that may have been under way is free to be there or not.
    let (offset, bytes) = write(last + 1);
    expected[offset as usize..][..bytes.len()].fill(0);
    found[offset as usize..][..bytes.len()].fill(0);
    assert!(
        found == expected,
        "an acknowledged write of {last} is missing"
    );
}

#[test]
fn a_volatile_disk_keeps_every_acknowledged_write_over_a_kill() {
    kill_under_writes(BootPolicy::Volatile);
}

#[test]
fn a_persistent_disk_keeps_every_acknowledged_write_over_a_kill() {
    kill_under_writes(BootPolicy::Persistent);
}
