use std::sync::atomic::AtomicU64;

use dess_model::BootPolicy;
use proptest::prelude::*;
use rustix::io::Errno;

use super::*;
use crate::DiskStore;
use crate::files::Change;
use crate::files::watch::Recording;
use crate::testing::{Room, disk_id, image_bytes, power_on, read_all};

const SECTOR: u64 = 512;
/// The last block is a part only.
const DISK_BYTES: usize = 600 * 1024 + 3 * 512;
const SECTORS: u64 = DISK_BYTES as u64 / SECTOR;

#[derive(Clone, Debug)]
enum Op {
    Write {
        sector: u64,
        count: u64,
        fill: u8,
    },
    Zero {
        sector: u64,
        count: u64,
    },
    Read {
        sector: u64,
        count: u64,
    },
    Flush,
    /// As after `kill -9`: nothing runs but the kernel's closing of files.
    Kill,
    PowerCut,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let range = || {
        (0..SECTORS, prop_oneof![1..20u64, 1..400u64])
            .prop_map(|(sector, count)| (sector, count.min(SECTORS - sector)))
    };
    let op = prop_oneof![
        6 => (range(), any::<u8>()).prop_map(|((sector, count), fill)| Op::Write { sector, count, fill }),
        2 => range().prop_map(|(sector, count)| Op::Zero { sector, count }),
        3 => range().prop_map(|(sector, count)| Op::Read { sector, count }),
        1 => Just(Op::Flush),
        1 => Just(Op::Kill),
        1 => Just(Op::PowerCut),
    ];
    proptest::collection::vec(op, 1..60)
}

/// What the disk must hold.
struct Oracle {
    now: Vec<u8>,
    /// At the last flush.
    flushed: Vec<u8>,
}

impl Oracle {
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.now[offset as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    /// Each block is what it was at the last flush or what it is now, as a whole (the simulated storage loses only what
    /// the map does not name).
    fn power_cut(&mut self, found: Vec<u8>) {
        let size = BLOCK_BYTES as usize;
        for (block, bytes) in found.chunks(size).enumerate() {
            let range = block * size..block * size + bytes.len();
            let known = bytes == &self.now[range.clone()] || bytes == &self.flushed[range];
            assert!(known, "block {block}");
        }
        self.flushed.clone_from(&found);
        self.now = found;
    }
}

fn payload(count: u64, fill: u8) -> Vec<u8> {
    (0..count * SECTOR)
        .map(|at| fill.wrapping_add((at / 7) as u8))
        .collect()
}

/// Runs the operations against a disk and the oracle.
fn run(ops: Vec<Op>, policy: BootPolicy) {
    let base = image_bytes(DISK_BYTES, 42);
    let mut room = Room::new();
    room.import(1, &base);
    let mut store: Option<DiskStore> = Some(room.store());
    let spec = room.spec(1, policy);
    let mut disk = power_on(store.as_ref().unwrap(), &spec);
    let mut oracle = Oracle {
        now: base.clone(),
        flushed: base,
    };
    for op in ops {
        match op {
            Op::Write {
                sector,
                count,
                fill,
            } => {
                let bytes = payload(count, fill);
                disk.write_at(sector * SECTOR, &bytes).unwrap();
                oracle.write(sector * SECTOR, &bytes);
            }
            Op::Zero { sector, count } => {
                disk.write_zeroes(sector * SECTOR, count * SECTOR).unwrap();
                oracle.write(sector * SECTOR, &vec![0; (count * SECTOR) as usize]);
            }
            Op::Read { sector, count } => {
                let mut bytes = vec![1; (count * SECTOR) as usize];
                disk.read_at(sector * SECTOR, &mut bytes).unwrap();
                assert_eq!(
                    bytes,
                    &oracle.now[(sector * SECTOR) as usize..][..bytes.len()]
                );
            }
            Op::Flush => {
                disk.flush().unwrap();
                oracle.flushed.clone_from(&oracle.now);
            }
            Op::Kill => {
                drop((disk, store.take()));
                store = Some(room.store());
                disk = store.as_ref().unwrap().attach(spec.disk).unwrap().disk;
            }
            Op::PowerCut if policy == BootPolicy::Volatile => {}
            Op::PowerCut => {
                drop((disk, store.take()));
                room.reboot();
                store = Some(room.store());
                disk = store.as_ref().unwrap().attach(spec.disk).unwrap().disk;
                oracle.power_cut(read_all(&*disk));
            }
        }
    }
    assert!(
        read_all(&*disk) == oracle.now,
        "the disk differs at the end"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_persistent_disk_agrees_with_an_array_of_bytes(ops in ops()) {
        run(ops, BootPolicy::Persistent);
    }

    #[test]
    fn a_volatile_disk_agrees_with_an_array_of_bytes(ops in ops()) {
        run(ops, BootPolicy::Volatile);
    }
}

fn room_with_disk(policy: BootPolicy, base: &[u8]) -> (Room, DiskStore, Arc<Disk>) {
    let room = Room::new();
    room.import(1, base);
    let store = room.store();
    let disk = power_on(&store, &room.spec(1, policy));
    (room, store, disk)
}

#[test]
fn writers_of_neighbouring_sectors_in_one_block_lose_nothing() {
    let base = image_bytes(4 << 20, 5);
    let (_room, _store, disk) = room_with_disk(BootPolicy::Volatile, &base);
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let disk = &disk;
            scope.spawn(move || {
                for block in 0..1024 {
                    // Each thread has two sectors of every block; one of them is discarded in every third block.
                    let offset = block * BLOCK_BYTES + u64::from(thread) * 2 * SECTOR;
                    disk.write_at(offset, &[thread + 1; SECTOR as usize])
                        .unwrap();
                    match block % 3 {
                        0 => disk.write_zeroes(offset + SECTOR, SECTOR).unwrap(),
                        _ => disk
                            .write_at(offset + SECTOR, &[thread + 11; SECTOR as usize])
                            .unwrap(),
                    }
                }
            });
        }
    });
    let bytes = read_all(&*disk);
    for (sector, content) in (0u64..).zip(bytes.chunks(SECTOR as usize)) {
        let thread = (sector / 2 % 4) as u8;
        let expected = match (sector % 2, sector / 8 % 3) {
            (0, _) => thread + 1,
            (_, 0) => 0,
            _ => thread + 11,
        };
        assert!(
            content.iter().all(|&byte| byte == expected),
            "sector {sector}"
        );
    }
}

#[test]
fn readers_beside_writers_see_each_sector_old_or_new_and_nothing_acknowledged_is_missing() {
    const BLOCKS: u64 = 512;
    const BASE: u8 = 0xff;
    let base = vec![BASE; (BLOCKS * BLOCK_BYTES) as usize];
    let (_room, _store, disk) = room_with_disk(BootPolicy::Volatile, &base);
    // Writer number n fills sectors 2n and 2n + 1 of one block after the other; how many it has done.
    let done = [const { AtomicU64::new(0) }; 2];
    std::thread::scope(|scope| {
        for (writer, done) in done.iter().enumerate() {
            let disk = &disk;
            scope.spawn(move || {
                for block in 0..BLOCKS {
                    let offset = block * BLOCK_BYTES + writer as u64 * 2 * SECTOR;
                    disk.write_at(offset, &[writer as u8 + 1; 2 * SECTOR as usize])
                        .unwrap();
                    done.store(block + 1, Ordering::Release);
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                let mut bytes = [0; BLOCK_BYTES as usize];
                loop {
                    let before = done.each_ref().map(|done| done.load(Ordering::Acquire));
                    let block = before[0].saturating_sub(1);
                    disk.read_at(block * BLOCK_BYTES, &mut bytes).unwrap();
                    for (sector, content) in bytes.chunks(SECTOR as usize).enumerate() {
                        let writer = sector / 2;
                        let acknowledged = before.get(writer).is_some_and(|&done| block < done);
                        let new = (writer < 2).then_some(writer as u8 + 1);
                        let fine = content
                            .iter()
                            .all(|&byte| Some(byte) == new || byte == BASE && !acknowledged);
                        assert!(
                            fine,
                            "sector {sector} of block {block}: {:x?}",
                            &content[..16]
                        );
                    }
                    if before == [BLOCKS; 2] {
                        break;
                    }
                }
            });
        }
    });
}

#[test]
fn two_disks_on_one_version_never_see_each_others_writes() {
    let base = image_bytes(1 << 20, 9);
    let (room, store, one) = room_with_disk(BootPolicy::Volatile, &base);
    let two = power_on(&store, &room.spec(2, BootPolicy::Persistent));
    one.write_at(4096, &[1; 10_240]).unwrap();
    two.write_zeroes(8192, 512).unwrap();
    let mut expected = base.clone();
    expected[8192..8704].fill(0);
    assert!(read_all(&*two) == expected);
    let mut expected = base;
    expected[4096..14_336].fill(1);
    assert!(read_all(&*one) == expected);
}

#[test]
fn a_discard_of_base_data_reads_as_zeros_and_gives_written_space_back() {
    let base = vec![7; 8 << 20];
    let (_room, _store, disk) = room_with_disk(BootPolicy::Volatile, &base);
    disk.write_at(0, &vec![1; 4 << 20]).unwrap();
    let written = disk.figures().unwrap().allocated_bytes;
    assert!(written >= 4 << 20);
    disk.write_zeroes(0, 8 << 20).unwrap();
    assert!(read_all(&*disk).iter().all(|&byte| byte == 0));
    assert!(disk.figures().unwrap().allocated_bytes < 1 << 20);
}

#[test]
fn a_discard_of_blocks_that_are_zero_anyway_costs_nothing() {
    let (_room, _store, disk) = room_with_disk(BootPolicy::Volatile, &vec![0; 64 << 20]);
    disk.write_zeroes(0, 64 << 20).unwrap();
    assert_eq!(disk.figures().unwrap().mapped_blocks, 0);
}

#[test]
fn ranges_outside_the_disk_are_refused() {
    let (_room, _store, disk) = room_with_disk(BootPolicy::Volatile, &[1; 8192]);
    let outside =
        |result: io::Result<()>| result.unwrap_err().kind() == io::ErrorKind::InvalidInput;
    assert!(outside(disk.read_at(8192, &mut [0])));
    assert!(outside(disk.write_at(8000, &[0; 512])));
    assert!(outside(disk.write_zeroes(u64::MAX, 2)));
    assert!(disk.write_at(8192, &[]).is_ok());
    assert!(disk.write_zeroes(8192, 0).is_ok());
}

#[test]
fn a_cached_read_never_waits() {
    let base = image_bytes(1 << 20, 3);
    let (_room, _store, disk) = room_with_disk(BootPolicy::Volatile, &base);
    disk.write_at(512, &[5; 70_000]).unwrap();
    let expected = read_all(&*disk);
    let mut bytes = vec![0; expected.len()];
    disk.try_read_at(0, &mut bytes).unwrap();
    assert!(bytes == expected);
}

#[test]
fn a_read_that_is_not_cached_would_block() {
    let base = vec![3; 4 << 20];
    let (room, _store, disk) = room_with_disk(BootPolicy::Volatile, &base);
    let data = std::fs::File::open(room.version_dir(1).join("data")).unwrap();
    rustix::fs::fadvise(&data, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let mut bytes = vec![0; 1 << 20];
    match disk.try_read_at(1 << 20, &mut bytes) {
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        // The file system keeps its pages or is in memory.
        Ok(()) => eprintln!(
            "NOT TESTED: the page cache of {} cannot be dropped",
            room.version_dir(1).display()
        ),
    }
    disk.read_at(1 << 20, &mut bytes).unwrap();
    assert!(bytes.iter().all(|&byte| byte == 3));
    disk.try_read_at(1 << 20, &mut bytes).unwrap();
}

#[test]
fn after_a_failed_flush_writes_are_refused_until_a_power_on_starts_from_the_last_one() {
    let room = Room::new();
    room.import(1, &[1; 16_384]);
    let recording = Recording::start(&room.path(""));
    let store = room.store();
    let disk = power_on(&store, &room.spec(1, BootPolicy::Persistent));
    disk.write_at(0, &[2; 4096]).unwrap();
    recording.fail_if(|change| matches!(change, Change::Sync).then(|| Errno::IO.into()));
    assert!(disk.flush().is_err());
    recording.fail_no_more();
    assert_eq!(disk.state(), DiskState::ReadOnly);
    let refused = disk.write_at(4096, &[3; 512]).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem);
    assert!(disk.flush().is_err() && disk.write_zeroes(0, 512).is_err());
    assert_eq!(read_all(&*disk)[0], 2);

    // Neither a login nor a new process makes it writable: the system that runs on it believes that its writes are there.
    assert_eq!(
        store.attach(disk_id(1)).unwrap().disk.state(),
        DiskState::ReadOnly
    );
    drop((disk, store));
    let store = room.store();
    let disk = store.attach(disk_id(1)).unwrap().disk;
    assert_eq!(disk.state(), DiskState::ReadOnly);
    assert!(disk.flush().is_err());

    // A power-on starts from the last flush.
    let disk = power_on(&store, &room.spec(1, BootPolicy::Persistent));
    assert_eq!(disk.state(), DiskState::Ready);
    assert_eq!(read_all(&*disk)[..4096], [1; 4096]);
    disk.write_at(4096, &[3; 512]).unwrap();
    disk.flush().unwrap();
    drop((disk, store));
    let mut room = room;
    room.reboot();
    let disk = power_on(&room.store(), &room.spec(1, BootPolicy::Persistent));
    assert_eq!(read_all(&*disk)[4095..4608], [&[1][..], &[3; 512]].concat());
}

#[test]
fn a_map_cut_at_every_byte_keeps_every_flush_before_the_cut() {
    let base = vec![9; 64 * 4096];
    let (mut room, store, disk) = room_with_disk(BootPolicy::Persistent, &base);
    let map = room.overlay_dir(1, "persistent-1/map");
    let mut ends = vec![std::fs::metadata(&map).unwrap().len()];
    for block in 0..4u64 {
        disk.write_at(block * 4 * BLOCK_BYTES, &[block as u8 + 1; 4096])
            .unwrap();
        disk.flush().unwrap();
        ends.push(std::fs::metadata(&map).unwrap().len());
    }
    drop((disk, store));
    let whole = std::fs::read(&map).unwrap();
    for cut in ends[0]..=whole.len() as u64 {
        std::fs::write(&map, &whole[..cut as usize]).unwrap();
        room.reboot();
        let store = room.store();
        let disk = power_on(&store, &room.spec(1, BootPolicy::Persistent));
        let bytes = read_all(&*disk);
        for block in 0..4usize {
            let expected = if ends[block + 1] <= cut {
                block as u8 + 1
            } else {
                9
            };
            assert_eq!(
                bytes[block * 4 * 4096],
                expected,
                "cut at {cut}, block {block}"
            );
        }
        // The next flush must follow on what was kept.
        disk.write_at(40 * BLOCK_BYTES, &[0x77; 4096]).unwrap();
        disk.flush().unwrap();
        drop((disk, store));
        room.reboot();
        let disk = power_on(&room.store(), &room.spec(1, BootPolicy::Persistent));
        assert_eq!(read_all(&*disk)[40 * 4096], 0x77, "cut at {cut}");
    }
}

#[test]
fn a_map_that_grew_long_is_compacted_and_says_the_same() {
    let size = 1u64 << 30;
    let room = Room::new();
    let source = room.path("sparse.img");
    std::fs::File::create(&source)
        .unwrap()
        .set_len(size)
        .unwrap();
    crate::import(&room.request(1, source), &mut |_| {}, &|| false).unwrap();
    let mut room = room;
    let store = room.store();
    let disk = power_on(&store, &room.spec(1, BootPolicy::Persistent));
    let map = room.overlay_dir(1, "persistent-1/map");
    // Each round changes every word: 4096 words are 48 KiB of records, so more than 85 rounds pass the limit of 4 MiB.
    // The words are set without data: only the map is of interest here.
    for round in 0..64 {
        for word in 0..size / BLOCK_BYTES / 64 {
            let block = word * 64 + round;
            disk.map_blocks(block..block + 1).unwrap();
        }
        disk.flush().unwrap();
    }
    let long = std::fs::metadata(&map).unwrap().len();
    for round in 0..40 {
        let mut durable = disk.overlay.durable.as_ref().unwrap().lock().unwrap();
        let words = disk.overlay.map.words();
        if durable.wants_compaction(words.len(), words.len()) {
            durable.compact(&words).unwrap();
            assert!(round > 0);
            break;
        }
        durable.append(&words).unwrap();
    }
    let short = std::fs::metadata(&map).unwrap().len();
    assert!(
        short < long,
        "{short} bytes after compaction, {long} before"
    );
    drop((disk, store));
    room.reboot();
    let store = room.store();
    let info = power_on(&store, &room.spec(1, BootPolicy::Persistent))
        .figures()
        .unwrap();
    assert_eq!(info.mapped_blocks, size / BLOCK_BYTES);
    assert_eq!(store.status(disk_id(1)).unwrap().unwrap().open, Some(info));
}

/// A small file system in memory, gone with the value.
struct SmallTmpfs(std::path::PathBuf);

impl SmallTmpfs {
    fn mount(path: std::path::PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir_all(&path).unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "dess-test"])
            .arg(&path)
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then_some(Self(path))
    }
}

impl Drop for SmallTmpfs {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .status();
    }
}

#[test]
fn a_full_store_refuses_writes_and_keeps_what_it_has() {
    let room = Room::new();
    let base = image_bytes(8 << 20, 8);
    room.import(1, &base);
    let Some(_full) = SmallTmpfs::mount(room.path("overlays"), "2m") else {
        eprintln!("NOT TESTED: this test may not mount a tmpfs");
        return;
    };
    let store = room.store();
    let disk = power_on(&store, &room.spec(1, BootPolicy::Volatile));
    let mut expected = base;
    let mut full = false;
    for block in (0..1024).map(|block| block * 8192u64) {
        match disk.write_at(block + 512, &[0xaa; 4096]) {
            Ok(()) => expected[block as usize + 512..][..4096].fill(0xaa),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::StorageFull);
                full = true;
                // The first block may have been written before the second one failed; a failed write promises nothing.
                let mut now = [0; 8192];
                disk.read_at(block, &mut now).unwrap();
                expected[block as usize..][..8192].copy_from_slice(&now);
                break;
            }
        }
    }
    assert!(full, "2 MiB of storage took 8 MiB");
    assert!(read_all(&*disk) == expected);
    // Space given back can be used again.
    disk.write_zeroes(0, 1 << 20).unwrap();
    disk.write_at(4 << 20, &[0xbb; 4096]).unwrap();
}
