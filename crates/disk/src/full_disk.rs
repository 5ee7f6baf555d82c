//! Every operation of the store on file systems that are really full: a small tmpfs and a small ext4 image. Needs root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use dess_model::{BootPolicy, OverlayLimits};
use tempfile::TempDir;

use crate::testing::{Room, disk_id, image_bytes, power_on, read_all, version_ref};
use crate::{
    BLOCK_BYTES, BlockDevice, BlockRead, Disk, DiskError, ImportError, LayerError, Version,
    flatten, import, pool_figures, publish, sealed_directory, space_usage,
};
use std::io;

const POOL_MIB: u64 = 24;
const BALLAST: &str = "ballast";

/// A file system of its own, unmounted when dropped.
struct Mount {
    directory: TempDir,
}

impl Mount {
    fn run(program: &str, arguments: &[&str]) -> bool {
        let done = Command::new(program).args(arguments).output();
        done.is_ok_and(|done| done.status.success())
    }

    fn tmpfs() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let size = format!("size={POOL_MIB}m");
        let path = directory.path().to_str().unwrap();
        Self::run("mount", &["-t", "tmpfs", "-o", &size, "none", path])
            .then_some(Self { directory })
    }

    fn ext4(image: &Path) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let file = fs::File::create(image).unwrap();
        file.set_len(POOL_MIB << 20).unwrap();
        let (image, path) = (image.to_str().unwrap(), directory.path().to_str().unwrap());
        // -m 0: root may not write more than others.
        (Self::run("mkfs.ext4", &["-q", "-F", "-m", "0", "-b", "4096", image])
            && Self::run("mount", &["-o", "loop", image, path]))
        .then_some(Self { directory })
    }

    /// The kinds of pool that can be had here.
    fn all(scratch: &Path) -> Vec<(&'static str, Self)> {
        let kinds = [
            ("tmpfs", Self::tmpfs()),
            ("ext4", Self::ext4(&scratch.join("pool.ext4"))),
        ];
        let mut mounts = Vec::new();
        for (kind, mount) in kinds {
            match mount {
                Some(mount) => mounts.push((kind, mount)),
                None => eprintln!("SKIPPED: no {kind} can be mounted here (this needs root)"),
            }
        }
        mounts
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Fills it but for `left` bytes.
    fn fill(&self, left: u64) {
        let ballast = self.path().join(BALLAST);
        let mut step = 1 << 20;
        let mut bytes = Vec::new();
        while step >= 4096 {
            let room = pool_figures(self.path()).unwrap().available_bytes;
            if room >= left + step {
                bytes.resize(bytes.len() + step as usize, 0x5a);
                if fs::write(&ballast, &bytes).is_err() {
                    bytes.truncate(bytes.len() - step as usize);
                    step /= 2;
                }
            } else {
                step /= 2;
            }
        }
        // ext4 counts what waits to be written; then it is settled.
        let _ = fs::File::open(&ballast).and_then(|file| file.sync_all());
    }

    fn clear(&self) {
        fs::remove_file(self.path().join(BALLAST)).unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let path = self.directory.path().to_str().unwrap_or_default();
        if !Self::run("umount", &[path]) {
            Self::run("umount", &["-l", path]);
        }
    }
}

/// Runs a story on each kind of pool, in a room that lies on it.
fn on_full_pools(story: impl Fn(&Room, &Mount, &[u8])) {
    let scratch = tempfile::tempdir().unwrap();
    for (kind, mount) in Mount::all(scratch.path()) {
        eprintln!("on {kind}");
        let room = Room::at(mount.path().join("room"));
        let base = image_bytes(2 << 20, 11);
        room.import(1, &base);
        fs::remove_file(room.path("source-1.img")).unwrap();
        story(&room, &mount, &base);
        drop(room);
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn full_cause(error: &dyn std::error::Error) -> bool {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if inner.downcast_ref::<io::Error>().is_some_and(is_full) {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// Writes blocks until one is refused; how many were taken.
fn write_until_full(disk: &Disk, fill: u8) -> u64 {
    for block in 0..disk.size_bytes() / BLOCK_BYTES {
        match disk.write_at(block * BLOCK_BYTES, &[fill; BLOCK_BYTES as usize]) {
            Ok(()) => {}
            Err(error) => {
                assert!(is_full(&error), "{error}");
                return block;
            }
        }
    }
    panic!("the pool takes all of the disk");
}

#[test]
fn a_full_pool_refuses_new_blocks_and_nothing_else() {
    on_full_pools(|room, mount, base| {
        for policy in [BootPolicy::Volatile, BootPolicy::Persistent] {
            let store = room.store();
            let disk = power_on(&store, &room.spec(1, policy));
            mount.fill(1 << 20);
            let taken = write_until_full(&disk, 0xaa);
            assert!(taken > 16, "{taken} blocks");
            let mut expected = base.to_vec();
            expected[..(taken * BLOCK_BYTES) as usize].fill(0xaa);
            assert!(read_all(&*disk) == expected);
            // Something is left to the server itself.
            assert!(pool_figures(mount.path()).unwrap().available_bytes > 0);
            // What is allocated can be overwritten, and flushed.
            disk.write_at(0, &[0xbb; 8192]).unwrap();
            disk.flush().unwrap();
            expected[..8192].fill(0xbb);
            // Room that is given back can be used.
            disk.write_zeroes(16384, 8192).unwrap();
            disk.flush().unwrap();
            expected[16384..24576].fill(0);
            let end = taken * BLOCK_BYTES;
            disk.write_at(end, &[0xcc; 4096]).unwrap();
            expected[end as usize..][..4096].fill(0xcc);
            assert!(read_all(&*disk) == expected);
            mount.clear();
            disk.write_at(end + 4096, &[0xdd; 4096]).unwrap();
            disk.flush().unwrap();
            expected[end as usize + 4096..][..4096].fill(0xdd);
            drop((disk, store));
            let store = room.store();
            let disk = store.attach(disk_id(1)).unwrap().disk;
            assert!(read_all(&*disk) == expected);
            drop(disk);
            store.remove(disk_id(1)).unwrap();
            store.wait_for_tidying();
        }
    });
}

#[test]
fn a_flush_that_finds_no_room_for_its_map_is_made_up_for() {
    on_full_pools(|room, mount, base| {
        let store = room.store();
        let spec = room.spec(1, BootPolicy::Persistent);
        let disk = power_on(&store, &spec);
        let mut expected = base.to_vec();
        // Every other block, so that the map has many words; flushed once, so that the data is allocated.
        for block in (0..512).step_by(2) {
            disk.write_at(block * BLOCK_BYTES, &[7; 4096]).unwrap();
            expected[(block * BLOCK_BYTES) as usize..][..4096].fill(7);
        }
        // The reserve is bypassed: somebody else has taken all of it.
        mount.fill(0);
        let mut refused = 0;
        for _ in 0..200 {
            // A map that gets longer with every flush finds the end of the file system at some time.
            match disk.flush() {
                Ok(()) => {}
                Err(error) => {
                    assert!(is_full(&error), "{error}");
                    refused += 1;
                    break;
                }
            }
            disk.write_zeroes(expected.len() as u64 - 4096, 4096)
                .unwrap();
            disk.write_zeroes(0, 4096).unwrap();
            expected[..4096].fill(0);
            let end = expected.len();
            expected[end - 4096..].fill(0);
        }
        mount.clear();
        assert_eq!(refused, 1, "no flush found the end of the file system");
        disk.write_at(8192, &[9; 4096]).unwrap();
        disk.flush()
            .unwrap_or_else(|error| panic!("after {refused} refusals: {error}"));
        expected[8192..12288].fill(9);
        assert!(read_all(&*disk) == expected);
        drop((disk, store));
        fs::remove_dir_all(room.path("maps")).unwrap();
        assert!(read_all(&*power_on(&room.store(), &spec)) == expected);
    });
}

#[test]
fn a_power_on_and_a_reset_on_a_full_pool_leave_the_former_disk_whole() {
    on_full_pools(|room, mount, base| {
        let store = room.store();
        let spec = room.spec(1, BootPolicy::Persistent);
        let disk = power_on(&store, &spec);
        disk.write_at(0, &[7; 4096]).unwrap();
        disk.flush().unwrap();
        let mut expected = base.to_vec();
        expected[..4096].fill(7);
        mount.fill(0);
        let other = store.power_on(&room.spec(2, BootPolicy::Volatile));
        if let Err(error) = other {
            assert!(
                error.is_full(&room.path("overlays")) || full_cause(&error),
                "{error}"
            );
        }
        let again = power_on(&store, &spec);
        assert!(read_all(&*again) == expected);
        // Either it is carried out, or all is as it was.
        match store.reset(spec.disk, 1) {
            Ok(_) => {}
            Err(error) => {
                assert!(full_cause(&error), "{error}");
                assert!(read_all(&*store.attach(spec.disk).unwrap().disk) == expected);
                mount.clear();
                store.reset(spec.disk, 1).unwrap();
                mount.fill(0);
            }
        }
        mount.clear();
        let fresh = store.power_on(&spec).unwrap();
        assert!(fresh.fresh && read_all(&*fresh.disk) == base);
        assert!(store.power_on(&room.spec(2, BootPolicy::Volatile)).is_ok());
    });
}

#[test]
fn an_import_into_a_full_pool_leaves_nothing_and_works_later() {
    on_full_pools(|room, mount, base| {
        let outside = tempfile::tempdir().unwrap();
        let source = outside.path().join("source.img");
        let bytes = image_bytes(8 << 20, 5);
        fs::write(&source, &bytes).unwrap();
        mount.fill(2 << 20);
        let before = pool_figures(mount.path()).unwrap().available_bytes;
        let mut request = room.request(2, source);
        request.source.format = Some(crate::ImageFormat::Raw);
        let error = import(&request, &mut |_| {}, &|| false).unwrap_err();
        assert!(
            matches!(error, ImportError::Build(_)) && full_cause(&error),
            "{error}"
        );
        assert!(!room.version_dir(2).exists());
        let usage = space_usage(&room.path("images"), &room.path("overlays")).unwrap();
        assert_eq!(usage.unfinished_bytes, 0);
        let after = pool_figures(mount.path()).unwrap().available_bytes;
        assert!(
            after + 65536 >= before,
            "{before} bytes were free, then {after}"
        );
        assert!(read_all(&Version::open(&room.version_dir(1)).unwrap()) == base);
        mount.clear();
        import(&request, &mut |_| {}, &|| false).unwrap();
        assert!(read_all(&Version::open(&room.version_dir(2)).unwrap()) == bytes);
    });
}

#[test]
fn a_publication_and_a_flattening_in_a_full_pool_leave_what_was_there() {
    on_full_pools(|room, mount, base| {
        let store = room.store();
        let spec = room.maintenance(7, 1);
        let disk = power_on(&store, &spec);
        let change: Vec<u8> = image_bytes(1 << 20, 99);
        disk.write_at(0, &change).unwrap();
        let mut expected = base.to_vec();
        expected[..change.len()].copy_from_slice(&change);
        drop(disk);
        let sealed = store.seal(spec.disk).unwrap();
        let request = room.publish_request(7, sealed.generation, 2);
        mount.fill(0);
        match publish(&request, &mut |_| {}, &|| false) {
            // tmpfs counts no names: the data changes hands, and the rest found room.
            Ok(_) => {}
            Err(error) => {
                assert!(full_cause(&error), "{error}");
                assert!(!room.version_dir(2).exists());
                assert!(sealed_directory(&room.path("overlays"), spec.disk, 1).exists());
                mount.clear();
                publish(&request, &mut |_| {}, &|| false).unwrap();
                mount.fill(0);
            }
        }
        let version = Version::open(&room.version_dir(2)).unwrap();
        assert!(read_all(&version) == expected);
        drop(version);
        let error = flatten(&room.path("images"), version_ref(2), &mut |_| {}, &|| false);
        let error = error.unwrap_err();
        assert!(
            matches!(error, LayerError::Build(_)) && full_cause(&error),
            "{error}"
        );
        let version = Version::open(&room.version_dir(2)).unwrap();
        assert_eq!(version.manifest().parent, Some(1));
        assert!(read_all(&version) == expected);
        drop(version);
        mount.clear();
        flatten(&room.path("images"), version_ref(2), &mut |_| {}, &|| false).unwrap();
        let version = Version::open(&room.version_dir(2)).unwrap();
        assert_eq!(version.manifest().parent, None);
        assert!(read_all(&version) == expected);
    });
}

/// Blocks of the data file of a disk's current overlay, in bytes.
fn allocated(room: &Room, disk: u32, name: &str) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let data: PathBuf = room.overlay_dir(disk, name).join("data");
    fs::metadata(data).unwrap().blocks() * 512
}

#[test]
fn a_hard_limit_holds_for_new_blocks_only_and_can_be_raised() {
    let room = Room::new();
    let base = image_bytes(2 << 20, 3);
    room.import(1, &base);
    let store = room.store();
    let spec = room.spec(1, BootPolicy::Volatile);
    let disk = power_on(&store, &spec);
    let limit = |hard_bytes| {
        store.limit(
            spec.disk,
            OverlayLimits {
                soft_bytes: None,
                hard_bytes,
            },
        );
    };
    limit(Some(256 * 1024));
    let taken = write_until_full(&disk, 1);
    assert_eq!(taken, 64);
    assert_eq!(allocated(&room, 1, "volatile-1"), 256 * 1024);
    disk.write_at(100, &[2; 70_000]).unwrap();
    let error = disk.write_at(1 << 20, &[3; 512]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
    assert!(error.to_string().contains("262144"), "{error}");
    // A block that was given back makes room for another, and for itself.
    disk.write_zeroes(0, 8192).unwrap();
    assert_eq!(allocated(&room, 1, "volatile-1"), 248 * 1024);
    disk.write_at(1 << 20, &[3; 4096]).unwrap();
    disk.write_at(0, &[4; 4096]).unwrap();
    assert!(disk.write_at(4096, &[4; 4096]).is_err());
    // Blocks of the version can be discarded: that takes no room.
    disk.write_zeroes(1536 * 1024, 64 * 1024).unwrap();
    limit(Some(260 * 1024));
    disk.write_at(4096, &[4; 4096]).unwrap();
    assert!(disk.write_at(1200 * 1024, &[4; 4096]).is_err());
    limit(None);
    disk.write_at(1200 * 1024, &[5; 65536]).unwrap();
    let fill = store.fill(spec.disk);
    assert_eq!(fill, None);
    limit(Some(1 << 30));
    assert!(
        store
            .fill(spec.disk)
            .is_some_and(|fill| fill.allocated_bytes > 256 * 1024)
    );
    // The limit is the disk's, not the overlay's: a fresh one has all of it.
    limit(Some(256 * 1024));
    let disk = power_on(&store, &spec);
    assert_eq!(write_until_full(&disk, 1), 64);
}

#[test]
fn a_closed_pool_gives_fresh_overlays_only_for_what_comes_back() {
    let room = Room::new();
    room.import(1, &image_bytes(1 << 20, 3));
    let store = room.store();
    let (volatile, persistent) = (
        room.spec(1, BootPolicy::Volatile),
        room.spec(2, BootPolicy::Persistent),
    );
    let written = power_on(&store, &volatile);
    written.write_at(0, &[1; 4096]).unwrap();
    power_on(&store, &persistent)
        .write_at(0, &[2; 4096])
        .unwrap();
    store.close_pool(true);
    let refused = |disk: u32| {
        let refused = store.power_on(&room.spec(disk, BootPolicy::Volatile));
        matches!(refused, Err(DiskError::NoRoom { .. }))
    };
    assert!(refused(3));
    // Running clients go on.
    written.write_at(4096, &[1; 4096]).unwrap();
    assert!(Arc::ptr_eq(
        &store.attach(volatile.disk).unwrap().disk,
        &written
    ));
    assert!(!store.power_on(&persistent).unwrap().fresh);
    // One that brings an overlay back gets a fresh one; nobody wrote to that, so it has nothing to bring back.
    assert!(store.power_on(&volatile).unwrap().fresh);
    assert!(refused(1));
    // What was put away for forensics gives way.
    let kept = || {
        let usage = space_usage(&room.path("images"), &room.path("overlays")).unwrap();
        usage.disks.iter().map(|disk| disk.kept).sum::<u32>()
    };
    assert_eq!(kept(), 1);
    assert!(store.drop_kept().unwrap());
    assert_eq!(kept(), 0);
    assert!(!store.drop_kept().unwrap());
    store.close_pool(false);
    assert!(!refused(3) && !refused(1));
}

#[test]
fn it_is_told_who_takes_the_space() {
    let room = Room::new();
    room.import(1, &image_bytes(1 << 20, 3));
    let store = room.store();
    let spec = room.spec(1, BootPolicy::Volatile);
    power_on(&store, &spec).write_at(0, &[1; 65536]).unwrap();
    power_on(&store, &spec).write_at(0, &[1; 4096]).unwrap();
    store.wait_for_tidying();
    room.make_version(&store, 1, 2, |disk| disk.write_at(0, &[9; 65536]).unwrap());
    store.wait_for_tidying();
    fs::create_dir(room.version_dir(1).with_file_name("import-9")).unwrap();
    fs::write(
        room.version_dir(1).with_file_name("import-9/data"),
        [1; 8192],
    )
    .unwrap();
    let usage = space_usage(&room.path("images"), &room.path("overlays")).unwrap();
    let disk = usage
        .disks
        .iter()
        .find(|one| one.disk == spec.disk)
        .unwrap();
    assert_eq!(disk.kept, 1);
    assert!(
        disk.kept_bytes >= 65536 && disk.overlay_bytes < 65536,
        "{disk:?}"
    );
    assert_eq!(usage.versions.len(), 2);
    assert!(usage.versions[1].bytes >= 65536 && usage.versions[1].bytes < 256 * 1024);
    assert_eq!(usage.unfinished_bytes, 8192);
}
