//! `kill -9` of a process that imports, publishes, flattens and removes versions, at many points of its work: no version and
//! nothing that a maintenance client wrote is lost, and whoever asks again gets what was asked for.

#![expect(
    clippy::unwrap_used,
    reason = "this is a test; clippy exempts only functions marked as one"
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use dess_disk::{
    BlockDevice, BlockRead, DiskSpec, DiskStore, ImageFormat, ImportError, ImportRequest,
    ImportSource, LayerError, Manifest, PublishRequest, StoreOptions, StorePaths, Version,
    clean_unfinished, flatten, import, publish, remove_version, sealed_directory,
    version_directory,
};
use dess_model::{BootPolicy, DiskId, ImageId, Timestamp, VersionRef};

/// Tells the test binary that it is the process to be killed, where its store is, and what it has to do.
const STORE_VARIABLE: &str = "DESS_DISK_KILL_VERSIONS_STORE";
const WORK_VARIABLE: &str = "DESS_DISK_KILL_VERSIONS_WORK";
const DISK_BYTES: usize = 24 << 20;
/// The kills are spread over the time that the work takes undisturbed.
const POINTS: u32 = 12;
/// Kills that came in the middle of the work.
const INTERRUPTED: u32 = 10;
const TRIES_MAX: u32 = 150;

fn version(number: u32) -> VersionRef {
    VersionRef {
        image: ImageId::from_str(&"1".repeat(32)).unwrap(),
        number,
    }
}

fn disk() -> DiskId {
    DiskId::from_str(&"2".repeat(32)).unwrap()
}

struct Place {
    directory: PathBuf,
}

impl Place {
    fn images(&self) -> PathBuf {
        self.directory.join("images")
    }

    fn version_dir(&self, number: u32) -> PathBuf {
        version_directory(&self.images(), version(number))
    }

    fn store(&self) -> DiskStore {
        let paths = StorePaths {
            images: self.images(),
            overlays: self.directory.join("overlays"),
            live_maps: self.directory.join("maps"),
        };
        DiskStore::open(paths, StoreOptions::current().unwrap()).unwrap()
    }

    fn import(&self, number: u32) -> Result<Manifest, ImportError> {
        let request = ImportRequest {
            images: self.images(),
            version: version(number),
            source: ImportSource {
                path: self.directory.join("source.raw"),
                format: Some(ImageFormat::Raw),
                end_marker: None,
            },
            comment: String::new(),
            created: Timestamp(0),
        };
        import(&request, &mut |_| {}, &|| false)
    }

    fn publish(&self, generation: u64, number: u32) -> Result<Manifest, LayerError> {
        let request = PublishRequest {
            images: self.images(),
            sealed: sealed_directory(&self.directory.join("overlays"), disk(), generation),
            number,
            comment: String::new(),
            author: String::new(),
            created: Timestamp(0),
        };
        publish(&request, &mut |_| {}, &|| false)
    }

    fn flatten(&self, number: u32) -> Result<Manifest, LayerError> {
        flatten(&self.images(), version(number), &mut |_| {}, &|| false)
    }

    fn remove(&self, number: u32) -> Result<(), LayerError> {
        remove_version(&self.images(), version(number))
    }

    /// Writes as a maintenance client on version `base` and seals that; answers the generation.
    fn maintain(&self, base: u32, oracle: &mut [u8]) -> u64 {
        let store = self.store();
        let spec = DiskSpec {
            disk: disk(),
            version: version(base),
            version_dir: self.version_dir(base),
            policy: BootPolicy::Maintenance,
            reset_epoch: 0,
        };
        let open = store.power_on(&spec).unwrap().disk;
        for piece in 0..12 {
            let at = (base as usize * 7919 + piece * 131) * 4096 % (oracle.len() - 700_000);
            let bytes = vec![(base + piece as u32) as u8 | 1; 700_000 / 512 * 512];
            open.write_at(at as u64, &bytes).unwrap();
            oracle[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        open.write_zeroes(4096 * u64::from(base), 1 << 20).unwrap();
        oracle[4096 * base as usize..][..1 << 20].fill(0);
        store.seal(disk()).unwrap().generation
    }

    /// The version is whole, in one read and by its checksums.
    fn check(&self, number: u32, oracle: &[u8]) -> Version {
        let open = Version::open(&self.version_dir(number)).unwrap();
        let mut found = vec![0xee; oracle.len()];
        open.read_at(0, &mut found).unwrap();
        assert!(found == oracle, "version {number} holds something else");
        open.verify(&mut |_| {}, &|| false).unwrap();
        open
    }

    /// As the services do when they start again.
    fn start_again(&self) {
        clean_unfinished(&self.images()).unwrap();
        drop(self.store());
    }
}

/// Not a test of its own: the process that the other tests kill.
#[test]
fn working_process() {
    let Some(directory) = std::env::var_os(STORE_VARIABLE).map(PathBuf::from) else {
        return;
    };
    let place = Place { directory };
    let work = std::env::var(WORK_VARIABLE).unwrap();
    let words: Vec<&str> = work.split(' ').collect();
    let number = words[1].parse().unwrap();
    println!("begin");
    match words[0] {
        "import" => drop(place.import(number).unwrap()),
        "publish" => drop(place.publish(words[2].parse().unwrap(), number).unwrap()),
        "flatten" => drop(place.flatten(number).unwrap()),
        "remove" => place.remove(number).unwrap(),
        other => panic!("no such work: {other}"),
    }
    println!("done");
}

/// Lets a process do `work` and kills it after `delay`; how long it took if it was done before.
fn kill_during(place: &Place, work: &str, delay: Option<Duration>) -> Option<Duration> {
    let mut worker = Command::new(std::env::current_exe().unwrap())
        .args([
            "working_process",
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(STORE_VARIABLE, &place.directory)
        .env(WORK_VARIABLE, work)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(worker.stdout.take().unwrap()).lines();
    let mut wait_for = |word: &str| {
        lines.any(|line| {
            // The test harness prints around them.
            line.is_ok_and(|line| line.ends_with(word))
        })
    };
    assert!(wait_for("begin"), "the worker ended by itself");
    let begun = Instant::now();
    if let Some(delay) = delay {
        std::thread::sleep(delay);
        worker.kill().unwrap();
    }
    let done = wait_for("done");
    let status = worker.wait().unwrap();
    assert!(done || delay.is_some(), "the worker failed: {status}");
    done.then(|| begun.elapsed())
}

/// Kills the worker again and again. `prepare` answers the work to do, `check` gets what was left.
fn kill_at_many_points(
    place: &Place,
    prepare: &mut dyn FnMut() -> String,
    check: &mut dyn FnMut(),
) {
    let took = kill_during(place, &prepare(), None).unwrap();
    check();
    let mut interrupted = 0;
    for attempt in 0..TRIES_MAX {
        let delay = took * (attempt % POINTS) / POINTS;
        if kill_during(place, &prepare(), Some(delay)).is_none() {
            interrupted += 1;
        }
        place.start_again();
        check();
        if interrupted == INTERRUPTED {
            return;
        }
    }
    panic!("only {interrupted} kills of {TRIES_MAX} came in time");
}

fn place(directory: &Path) -> (Place, Vec<u8>) {
    let place = Place {
        directory: directory.to_owned(),
    };
    let oracle: Vec<u8> = (0..DISK_BYTES)
        .map(|at| {
            if at >> 20 & 3 == 1 {
                0
            } else {
                (at >> 9) as u8 | 1
            }
        })
        .collect();
    fs::write(directory.join("source.raw"), &oracle).unwrap();
    (place, oracle)
}

#[test]
fn a_killed_import_leaves_a_whole_version_or_none() {
    let directory = tempfile::tempdir().unwrap();
    let (place, oracle) = place(directory.path());
    kill_at_many_points(&place, &mut || "import 1".to_owned(), &mut || {
        if !place.version_dir(1).exists() {
            place.import(1).unwrap();
        }
        place.check(1, &oracle);
        place.remove(1).unwrap();
        let image = place.version_dir(1).parent().unwrap().to_owned();
        assert_eq!(fs::read_dir(image).unwrap().count(), 0, "rubbish is left");
    });
}

#[test]
fn a_killed_publication_loses_nothing_that_the_maintenance_client_wrote() {
    let directory = tempfile::tempdir().unwrap();
    let (place, oracle) = place(directory.path());
    place.import(1).unwrap();
    let oracle = std::cell::RefCell::new(oracle);
    let number = std::cell::Cell::new(1);
    let generation = std::cell::Cell::new(0);
    let mut prepare = || {
        let base = number.get();
        generation.set(place.maintain(base, &mut oracle.borrow_mut()));
        number.set(base + 1);
        format!("publish {} {}", number.get(), generation.get())
    };
    let mut check = || {
        let number = number.get();
        if !place.version_dir(number).exists() {
            // The sealed overlay still holds everything.
            place.publish(generation.get(), number).unwrap();
        }
        let open = place.check(number, &oracle.borrow());
        assert!(open.layers() > 1);
        let store = place.store();
        store.release(disk()).unwrap();
        assert!(store.status(disk()).unwrap().is_none());
        place.flatten(number).unwrap();
        place.remove(number - 1).unwrap();
    };
    kill_at_many_points(&place, &mut prepare, &mut check);
}

#[test]
fn a_killed_flattening_leaves_the_layered_version_or_the_whole_one() {
    let directory = tempfile::tempdir().unwrap();
    let (place, oracle) = place(directory.path());
    place.import(1).unwrap();
    let oracle = std::cell::RefCell::new(oracle);
    let number = std::cell::Cell::new(1);
    let mut prepare = || {
        let base = number.get();
        let generation = place.maintain(base, &mut oracle.borrow_mut());
        number.set(base + 1);
        place.publish(generation, number.get()).unwrap();
        format!("flatten {}", number.get())
    };
    let mut check = || {
        let number = number.get();
        place.check(number, &oracle.borrow());
        place.flatten(number).unwrap();
        place.remove(number - 1).unwrap();
        assert_eq!(place.check(number, &oracle.borrow()).layers(), 1);
    };
    kill_at_many_points(&place, &mut prepare, &mut check);
}

#[test]
fn a_killed_removal_leaves_the_version_or_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (place, oracle) = place(directory.path());
    let mut prepare = || {
        place.import(1).unwrap();
        "remove 1".to_owned()
    };
    let mut check = || {
        if place.version_dir(1).exists() {
            place.check(1, &oracle);
            place.remove(1).unwrap();
        }
        let image = place.version_dir(1).parent().unwrap().to_owned();
        assert_eq!(fs::read_dir(image).unwrap().count(), 0, "rubbish is left");
    };
    kill_at_many_points(&place, &mut prepare, &mut check);
}
