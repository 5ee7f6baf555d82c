//! Space for clients' writes, over TCP: holes, limits, a full pool, and what initiators hear of it.

#![expect(
    clippy::unwrap_used,
    reason = "a failure of a test's set-up is a failure of the test"
)]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use dess_model::{ControlError, OverlayLimits, PoolLevel, PoolStatus, TargetReply, TargetRequest};
use support::initiator::{Ended, Initiator, cdb_10};
use support::room::{Running, Site};

const GOOD: u8 = 0;
const CHECK_CONDITION: u8 = 2;
/// DATA PROTECT, SPACE ALLOCATION FAILED WRITE PROTECT (SBC-3 §4.7.3.6).
const NO_SPACE: (u8, u8, u8) = (0x07, 0x27, 0x07);
/// UNIT ATTENTION, THIN PROVISIONING SOFT THRESHOLD REACHED.
const SOFT_THRESHOLD: (u8, u8, u8) = (0x06, 0x38, 0x07);
const PIECE: usize = 64 * 1024;
const PIECE_BLOCKS: u32 = 128;

fn sense(ended: &Ended) -> (u8, u8, u8) {
    assert_eq!(ended.status, CHECK_CONDITION);
    // Fixed format, behind its length.
    let sense = match ended.sense.as_slice() {
        [_, _, sense @ ..] if sense.first() == Some(&0x70) => sense,
        sense => sense,
    };
    (sense[2] & 0x0f, sense[12], sense[13])
}

fn ready(site: &Site, seat: u32) -> Initiator {
    let mut session = Initiator::login(&site.login(seat)).unwrap();
    session.become_ready().unwrap();
    session
}

fn pool(running: &Running, site: &Site) -> PoolStatus {
    match running.ask(site, &TargetRequest::Pool) {
        TargetReply::Pool(status) => status,
        other => panic!("{other:?}"),
    }
}

/// Writes pieces from the start of the disk until one is refused; the number of the first refused one.
fn write_until_refused(session: &mut Initiator, fill: u8) -> u32 {
    for piece in 0..256 {
        let ended = session.write(piece * PIECE_BLOCKS, &[fill; PIECE]).unwrap();
        if ended.status != GOOD {
            assert_eq!(sense(&ended), NO_SPACE);
            return piece;
        }
    }
    panic!("everything was taken");
}

/// UNMAP (SBC-3 §5.28) of one range.
fn unmap(session: &mut Initiator, lba: u32, blocks: u32) -> Ended {
    let mut list = vec![0, 22, 0, 16, 0, 0, 0, 0];
    list.extend_from_slice(&u64::from(lba).to_be_bytes());
    list.extend_from_slice(&blocks.to_be_bytes());
    list.extend_from_slice(&[0; 4]);
    let cdb = [0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0];
    session.command(&cdb, &list, 24).unwrap()
}

/// WRITE SAME (16) of zeros with the UNMAP bit.
fn write_same_unmap(session: &mut Initiator, lba: u32, blocks: u32) -> Ended {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (0x93, 0x08);
    cdb[6..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    session.command(&cdb, &[0; 512], 512).unwrap()
}

/// The data file of the only overlay of a disk.
fn data_of(site: &Site, seat: usize) -> PathBuf {
    let disk = site.snapshot.clients[seat - 1].disk.id;
    let directory = site.paths.overlays().join(disk.simple());
    let overlays = fs::read_dir(directory).unwrap();
    let data = overlays.map(|entry| entry.unwrap().path().join("data"));
    let mut found: Vec<PathBuf> = data.filter(|path| path.exists()).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn allocated(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

fn limit(site: &mut Site, seat: usize, soft_bytes: Option<u64>, hard_bytes: Option<u64>) {
    site.publish(|snapshot| {
        snapshot.clients[seat - 1].overlay_limits = OverlayLimits {
            soft_bytes,
            hard_bytes,
        };
    });
}

#[test]
fn unmap_and_write_same_punch_holes_into_the_overlay() {
    let site = Site::new();
    let running = site.start();
    running.power_on(&site, 1);
    let mut session = ready(&site, 1);
    for piece in 0..16 {
        let written = session.write(piece * PIECE_BLOCKS, &[7; PIECE]).unwrap();
        assert_eq!(written.status, GOOD);
    }
    let data = data_of(&site, 1);
    let mib = 1 << 20;
    assert!(allocated(&data) >= mib);
    assert_eq!(unmap(&mut session, 0, 1024).status, GOOD);
    assert!(allocated(&data) <= mib / 2 + 8192, "{}", allocated(&data));
    assert_eq!(write_same_unmap(&mut session, 1024, 512).status, GOOD);
    assert!(allocated(&data) <= mib / 4 + 8192, "{}", allocated(&data));
    let holes = session.read(0, 128).unwrap();
    assert!(holes.status == GOOD && holes.data.iter().all(|&byte| byte == 0));
    let kept = session.read(1536, 128).unwrap();
    assert!(kept.data.iter().all(|&byte| byte == 7));
    running.stop();
}

#[test]
fn a_hard_limit_refuses_new_blocks_and_nothing_else() {
    let mut site = Site::new();
    let limit_bytes = 8 * PIECE as u64;
    limit(&mut site, 1, None, Some(limit_bytes));
    let running = site.start();
    running.power_on(&site, 1);
    // The snapshot is followed by the time somebody asks.
    let mut session = ready(&site, 1);
    let full = write_until_refused(&mut session, 7);
    assert_eq!(full, 8);
    assert!(allocated(&data_of(&site, 1)) <= limit_bytes);
    // Reads, overwriting and flushing go on.
    let read = session.read(full * PIECE_BLOCKS, 128).unwrap();
    assert_eq!(read.data, site.image[full as usize * PIECE..][..PIECE]);
    assert_eq!(session.write(0, &[8; PIECE]).unwrap().status, GOOD);
    let flushed = session.command(&cdb_10(0x35, 0, 0), &[], 0).unwrap();
    assert_eq!(flushed.status, GOOD);
    // What is given back can be used elsewhere.
    assert_eq!(unmap(&mut session, PIECE_BLOCKS, PIECE_BLOCKS).status, GOOD);
    let again = session.write(full * PIECE_BLOCKS, &[9; PIECE]).unwrap();
    assert_eq!(again.status, GOOD);
    let refused = session.write(PIECE_BLOCKS, &[9; PIECE]).unwrap();
    assert_eq!(sense(&refused), NO_SPACE);
    // A raised limit holds for the running client.
    limit(&mut site, 1, None, Some(2 * limit_bytes));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while session.write(PIECE_BLOCKS, &[9; PIECE]).unwrap().status != GOOD {
        assert!(std::time::Instant::now() < deadline, "the limit stays");
        std::thread::yield_now();
    }
    running.stop();
}

#[test]
fn an_initiator_hears_once_that_the_soft_limit_is_passed() {
    let mut site = Site::new();
    limit(&mut site, 1, Some(4 * PIECE as u64), None);
    let running = site.start();
    running.power_on(&site, 1);
    let mut session = ready(&site, 1);
    let look = || {
        pool(&running, &site);
    };
    let write = |first: u32, session: &mut Initiator| {
        for piece in first..first + 3 {
            let written = session.write(piece * PIECE_BLOCKS, &[7; PIECE]).unwrap();
            assert_eq!(written.status, GOOD);
        }
        look();
    };
    let test_unit_ready = |session: &mut Initiator| session.command(&[0; 6], &[], 0).unwrap();
    write(0, &mut session);
    assert_eq!(test_unit_ready(&mut session).status, GOOD);
    write(3, &mut session);
    assert_eq!(sense(&test_unit_ready(&mut session)), SOFT_THRESHOLD);
    assert_eq!(test_unit_ready(&mut session).status, GOOD);
    write(6, &mut session);
    assert_eq!(test_unit_ready(&mut session).status, GOOD);
    // Back below it, and above it once more.
    assert_eq!(unmap(&mut session, 0, 9 * PIECE_BLOCKS).status, GOOD);
    look();
    write(0, &mut session);
    assert_eq!(test_unit_ready(&mut session).status, GOOD);
    write(3, &mut session);
    assert_eq!(sense(&test_unit_ready(&mut session)), SOFT_THRESHOLD);
    running.stop();
}

/// The overlays on a small file system in memory; unmounted when dropped.
struct SmallPool(PathBuf);

impl SmallPool {
    fn mount(site: &Site, mib: u32) -> Option<Self> {
        let path = site.paths.overlays();
        fs::create_dir_all(&path).unwrap();
        let size = format!("size={mib}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "none"])
            .arg(&path)
            .output();
        if mounted.is_ok_and(|mounted| mounted.status.success()) {
            return Some(Self(path));
        }
        eprintln!("SKIPPED: no tmpfs can be mounted here (this needs root)");
        None
    }
}

impl Drop for SmallPool {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_full_pool_slows_stops_and_recovers() {
    let site = Site::new();
    let Some(_pool) = SmallPool::mount(&site, 8) else {
        return;
    };
    let running = site.start();
    running.power_on(&site, 1);
    let mut session = ready(&site, 1);
    assert_eq!(pool(&running, &site).level, PoolLevel::Normal);
    let full = write_until_refused(&mut session, 7);
    let status = pool(&running, &site);
    assert_eq!(status.level, PoolLevel::Stop);
    assert!(status.figures.available_bytes > 0, "{status:?}");
    assert_eq!(status.client_write_bytes_per_sec, Some(32 << 20));
    // A client that powers on is refused, the running one goes on.
    let refused = running.power_on(&site, 2);
    assert!(
        matches!(
            refused,
            TargetReply::Error(ControlError::NoRoom {
                used_percent: 95..,
                ..
            })
        ),
        "{refused:?}"
    );
    assert_eq!(session.write(0, &[8; PIECE]).unwrap().status, GOOD);
    let read = session.read(full * PIECE_BLOCKS, 128).unwrap();
    assert_eq!(read.data, site.image[full as usize * PIECE..][..PIECE]);
    // Room is made by the client itself.
    assert_eq!(unmap(&mut session, 0, 64 * PIECE_BLOCKS).status, GOOD);
    let status = pool(&running, &site);
    assert_eq!(status.level, PoolLevel::Normal);
    assert_eq!(status.client_write_bytes_per_sec, None);
    let again = session.write(full * PIECE_BLOCKS, &[9; PIECE]).unwrap();
    assert_eq!(again.status, GOOD);
    assert!(matches!(running.power_on(&site, 2), TargetReply::Disk(_)));
    running.stop();
}

#[test]
fn overlays_kept_for_forensics_give_way_before_anybody_is_slowed_down() {
    let site = Site::new();
    let Some(_pool) = SmallPool::mount(&site, 8) else {
        return;
    };
    let running = site.start();
    running.power_on(&site, 1);
    let mut session = ready(&site, 1);
    // 5 of 8 MiB, then as much by the next boot.
    for round in 0..2 {
        for piece in 0..80 {
            let written = session.write(piece * PIECE_BLOCKS, &[7; PIECE]).unwrap();
            let kept_is_in_the_way = round == 1 && piece > 40;
            if kept_is_in_the_way && written.status != GOOD {
                // The next look makes room.
                assert_eq!(sense(&written), NO_SPACE);
                pool(&running, &site);
            }
        }
        if round == 0 {
            session.log_out().unwrap();
            let powered = running.power_on(&site, 1);
            assert!(matches!(powered, TargetReply::Disk(_)), "{powered:?}");
            session = ready(&site, 1);
        }
    }
    let status = pool(&running, &site);
    assert!(status.level < PoolLevel::Throttle, "{status:?}");
    data_of(&site, 1);
    running.stop();
}

#[test]
fn qemu_takes_a_hard_limit_for_a_full_disk() {
    let mut site = Site::new();
    limit(&mut site, 1, None, Some(1 << 20));
    let running = site.start();
    running.power_on(&site, 1);
    let login = site.login(1);
    let (user, secret) = login.chap.clone().unwrap();
    let image = format!(
        "driver=iscsi,transport=tcp,portal={},target={},lun=0,initiator-name={},user={user},password-secret=chap",
        login.portal, login.target, login.initiator
    );
    let output = Command::new("timeout")
        .args(["-k", "5", "60", "qemu-io", "--object"])
        .arg(format!("secret,id=chap,data={secret}"))
        .args(["-c", "write -P 7 0 512k", "-c", "write -P 7 512k 1M"])
        .args(["-c", "read -P 7 0 512k", "-c", "discard 0 512k"])
        .args(["-c", "write -P 9 4M 512k", "-c", "read -P 9 4M 512k"])
        .args(["--image-opts", &image])
        .output()
        .unwrap();
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.matches("No space left on device").count(), 1, "{text}");
    assert_eq!(text.matches("wrote 524288/524288").count(), 2, "{text}");
    assert!(!text.contains("verification failed"), "{text}");
    running.stop();
}
