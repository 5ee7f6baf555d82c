//! What boots read is read ahead for the next one, and nothing else is.

#![expect(
    clippy::unwrap_used,
    reason = "a failure of a test's set-up is a failure of the test"
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use dess_disk::version_directory;
use dess_model::{BootProfileStatus, TargetReply, TargetRequest};
use support::initiator::Initiator;
use support::room::{Running, Site, client_id};

/// Units of 64 KiB that a boot reads, in its order.
const READ: [u32; 4] = [0, 128, 40, 129];
const UNIT_BYTES: u64 = 64 * 1024;
const UNIT_BLOCKS: u32 = 128;
const WINDOW: Duration = Duration::from_millis(400);
const PATIENCE: Duration = Duration::from_secs(20);

/// A system powers on, logs in and reads a little of each unit.
fn boot(running: &Running, site: &Site, seat: u32) {
    running.power_on(site, seat);
    let mut session = Initiator::login(&site.login(seat)).unwrap();
    session.become_ready().unwrap();
    for unit in READ {
        assert_eq!(session.read(unit * UNIT_BLOCKS + 8, 8).unwrap().status, 0);
    }
    session.log_out().unwrap();
}

fn profile(running: &Running, site: &Site) -> Option<BootProfileStatus> {
    match running.ask(site, &TargetRequest::Status) {
        TargetReply::Status { boot_profiles, .. } => boot_profiles.first().copied(),
        other => panic!("{other:?}"),
    }
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not in time");
        std::thread::yield_now();
    }
}

fn after_boots(running: &Running, site: &Site, boots: u32) -> BootProfileStatus {
    let noted = || profile(running, site).filter(|profile| profile.boots == boots);
    wait_for("the boot is noted", noted)
}

fn data_file(site: &Site) -> PathBuf {
    let version = site.snapshot.clients[0].version.unwrap();
    version_directory(&site.paths.images(), version).join("data")
}

/// Bytes of the file that are in the page cache.
fn resident(file: &Path) -> u64 {
    let output = Command::new("fincore")
        .args(["--bytes", "--noheadings", "--output", "RES"])
        .arg(file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

/// Has the kernel forget the file's content (posix_fadvise DONTNEED).
fn forget(file: &Path) {
    let file_argument = format!("if={}", file.display());
    let dropped = Command::new("dd")
        .args([&file_argument, "iflag=nocache", "count=0", "status=none"])
        .status()
        .unwrap();
    assert!(dropped.success());
    wait_for("the page cache is dropped", || {
        (resident(file) == 0).then_some(())
    });
}

#[test]
fn what_boots_read_is_read_ahead_for_the_next_one() {
    // Not in memory, as the temporary directory may be.
    let site = Site::new_in(Path::new("/var/tmp"));
    let start = || site.start_with(|options| options.boot_window = WINDOW);
    let file = data_file(&site);
    let removed = site
        .paths
        .boot_profiles()
        .join(format!("{}-7", "3".repeat(32)));
    std::fs::create_dir_all(site.paths.boot_profiles()).unwrap();
    std::fs::write(&removed, "of a version that is gone").unwrap();
    let running = start();
    wait_for("the profile of a removed version is removed", || {
        (!removed.exists()).then_some(())
    });
    forget(&file);
    boot(&running, &site, 1);
    let first = after_boots(&running, &site, 1);
    assert!(first.reads_from_storage > 0, "{first:?}");
    assert_eq!((first.units_read, first.units_predicted), (4, 0));
    assert_eq!(first.profile_bytes, 4 * UNIT_BYTES);
    running.stop();

    let running = start();
    forget(&file);
    let client = client_id(2);
    let expected = running.ask(&site, &TargetRequest::Expect { client });
    assert_eq!(expected, TargetReply::Done);
    let ahead = wait_for("the profile is read ahead", || {
        let profile = profile(&running, &site)?;
        (profile.ahead_bytes > 0).then_some(profile.ahead_bytes)
    });
    assert_eq!(ahead, 4 * UNIT_BYTES);
    let ahead = resident(&file);
    // The kernel may add its own reading ahead to each of the places; the image has 16 MiB.
    let expected = 4 * UNIT_BYTES..=2 << 20;
    assert!(expected.contains(&ahead), "{ahead} bytes are in memory");
    boot(&running, &site, 2);
    let second = after_boots(&running, &site, 2);
    assert_eq!((second.units_read, second.units_predicted), (4, 4));
    assert_eq!(second.reads_from_storage, 0, "{second:?}");
    running.stop();
}

#[test]
fn a_boot_that_does_not_come_to_its_system_says_nothing() {
    let site = Site::new();
    let running = site.start_with(|options| options.boot_window = WINDOW);
    running.power_on(&site, 1);
    let mut firmware = site.login(1);
    firmware.isid = [0x40, 0x00, 0x27, 0x23, 0x12, 0x34];
    let mut session = Initiator::login(&firmware).unwrap();
    session.become_ready().unwrap();
    session.read(0, 8).unwrap();
    // The other seat's boot is noted after it, so that one would have been.
    boot(&running, &site, 2);
    let noted = wait_for("a boot is noted", || profile(&running, &site));
    assert_eq!((noted.boots, noted.units_read), (1, 4));
    running.stop();
}
