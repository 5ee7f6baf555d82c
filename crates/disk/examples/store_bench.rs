//! What the store does in a time that must not depend on the size of an image, for `cargo xtask bench store`: work directory (removed
//! first and last), rounds. Prints tables.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use dess_disk::{
    BlockDevice, BlockRead, DiskSpec, DiskStore, ImportRequest, ImportSource, PublishRequest,
    StoreOptions, StorePaths, Version, import, publish, sealed_directory, version_directory,
};
use dess_model::{BootPolicy, DiskId, ImageId, Timestamp, VersionRef};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
/// What a fresh image holds, at its beginning.
const CONTENT_BYTES: u64 = 64 * MIB;
/// Changed by a maintenance client.
const FEW_BYTES: u64 = 4 * MIB;
const MANY_BYTES: u64 = 2 * GIB;
const LAYERS: u32 = 8;
/// How many blocks each layer holds in one piece. The kernel reads single pages of its memory at about two thirds of the rate of long pieces,
/// so single blocks tell more of that than of the layers.
const RUN_BLOCKS: [u64; 3] = [256, 16, 1];
/// Size of the disk that is read through its layers.
const LAYERED_BYTES: u64 = 256 * MIB;
const READ_FOR: Duration = Duration::from_millis(700);
const OVERLAYS: u32 = 50;
const BLOCK: u64 = 4096;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let work = PathBuf::from(
        arguments
            .next()
            .ok_or("usage: store_bench DIRECTORY [ROUNDS]")?,
    );
    let rounds = match arguments.next() {
        Some(text) => text.to_str().ok_or("rounds are a number")?.parse()?,
        None => 3,
    };
    let maps = Path::new("/dev/shm").join(format!("dess-store-bench-{}", std::process::id()));
    let measured = measure(&work, &maps, rounds);
    for left in [&work, &maps] {
        if left.exists() {
            fs::remove_dir_all(left)?;
        }
    }
    measured
}

fn measure(work: &Path, maps: &Path, rounds: usize) -> Result<()> {
    println!("| image | create | reset | publish 4 MiB |");
    println!("|---|--:|--:|--:|");
    for (name, size_bytes) in [("1 GiB", GIB), ("1 TiB", TIB)] {
        let site = Site::new(work, maps, size_bytes)?;
        let mut times = [const { Vec::new() }; 3];
        for round in 0..rounds as u32 {
            let spec = site.spec(100 + round, 1, BootPolicy::Volatile)?;
            times[0].push(timed(|| site.store.power_on(&spec))?);
            site.store.power_on(&spec)?.disk.write_at(MIB, &[1; 4096])?;
            times[1].push(timed(|| site.store.reset(spec.disk, 1))?);
            times[2].push(site.publish(1, 2 + round, FEW_BYTES)?);
        }
        let [create, reset, publish] = times.map(median_ms);
        println!("| {name} | {create:.1} ms | {reset:.1} ms | {publish:.1} ms |");
        if size_bytes == TIB {
            memory(&site)?;
        }
    }
    let site = Site::new(work, maps, 4 * GIB)?;
    let seconds = site.publish(1, 2, MANY_BYTES)?.as_secs_f64();
    let per_ten = seconds * 10.0 * GIB as f64 / MANY_BYTES as f64;
    println!("\npublish of 2 GiB changed: {seconds:.2} s ({per_ten:.2} s per 10 GiB)");
    drop(site);
    println!();
    for run_blocks in RUN_BLOCKS {
        layers(work, maps, rounds, run_blocks)?;
    }
    Ok(())
}

/// Memory of this process with the disks of a room open on the image.
fn memory(site: &Site) -> Result<()> {
    for number in 0..OVERLAYS {
        let spec = site.spec(1000 + number, 1, BootPolicy::Volatile)?;
        let disk = site.store.power_on(&spec)?.disk;
        disk.read_at(0, &mut [0; 65536])?;
    }
    let status = fs::read_to_string("/proc/self/status")?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    println!(
        "\n1 TiB with {OVERLAYS} overlays, freshly imported: resident {}",
        resident.unwrap_or("?").trim()
    );
    Ok(())
}

/// Random reads of the same blocks through one layer and through eight, in turns.
fn layers(work: &Path, maps: &Path, rounds: usize, run_blocks: u64) -> Result<()> {
    let site = Site::sized(work, maps, LAYERED_BYTES, LAYERED_BYTES)?;
    for number in 1..LAYERS {
        let spec = site.spec(number, number, BootPolicy::Maintenance)?;
        let disk = site.store.power_on(&spec)?.disk;
        // Every layer holds another eighth of the blocks.
        let run = vec![number as u8; (run_blocks * BLOCK) as usize];
        let step = run.len() * LAYERS as usize;
        for offset in (u64::from(number) * run.len() as u64..LAYERED_BYTES).step_by(step) {
            disk.write_at(offset, &run)?;
        }
        drop(disk);
        site.publish_sealed(spec.disk, number + 1)?;
    }
    let one = Version::open(&site.directory(1)?)?;
    let many = Version::open(&site.directory(LAYERS)?)?;
    assert_eq!((one.layers(), many.layers()), (1, LAYERS as usize));
    for version in [&one, &many] {
        let mut chunk = vec![0; MIB as usize];
        for offset in (0..LAYERED_BYTES).step_by(MIB as usize) {
            version.read_at(offset, &mut chunk)?;
        }
    }
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        rates[0].push(read_rate(&one)?);
        rates[1].push(read_rate(&many)?);
    }
    let [one, many] = rates.map(|mut rates: Vec<f64>| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    println!(
        "4 KiB random reads from the page cache, layers of {} KiB pieces: one layer {one:.0}/s, {LAYERS} layers {many:.0}/s, ratio {:.2}",
        run_blocks * BLOCK / 1024,
        many / one
    );
    Ok(())
}

fn read_rate(version: &Version) -> Result<f64> {
    let mut state = 42u64;
    let mut buffer = [0; BLOCK as usize];
    let (start, mut count) = (Instant::now(), 0u32);
    while start.elapsed() < READ_FOR {
        for _ in 0..256 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let block = (state >> 16) % (LAYERED_BYTES / BLOCK);
            version.read_at(block * BLOCK, &mut buffer)?;
        }
        count += 256;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

/// A store with one imported image.
struct Site {
    store: DiskStore,
    paths: StorePaths,
}

impl Site {
    fn new(work: &Path, maps: &Path, size_bytes: u64) -> Result<Self> {
        Self::sized(work, maps, size_bytes, CONTENT_BYTES)
    }

    fn sized(work: &Path, maps: &Path, size_bytes: u64, content_bytes: u64) -> Result<Self> {
        for left in [work, maps] {
            if left.exists() {
                fs::remove_dir_all(left)?;
            }
            fs::create_dir_all(left)?;
        }
        let path = work.join("source.raw");
        let file = File::create(&path)?;
        file.set_len(size_bytes)?;
        for offset in (0..content_bytes).step_by(MIB as usize) {
            file.write_all_at(&vec![offset as u8 ^ 0x5a | 1; MIB as usize], offset)?;
        }
        let paths = StorePaths {
            images: work.join("images"),
            overlays: work.join("overlays"),
            live_maps: maps.to_owned(),
        };
        let request = ImportRequest {
            images: paths.images.clone(),
            version: version(1)?,
            source: ImportSource {
                path: path.clone(),
                format: None,
                end_marker: None,
            },
            comment: String::new(),
            created: Timestamp(0),
        };
        import(&request, &mut |_| {}, &|| false)?;
        fs::remove_file(path)?;
        let store = DiskStore::open(paths.clone(), StoreOptions::current()?)?;
        Ok(Self { store, paths })
    }

    fn directory(&self, number: u32) -> Result<PathBuf> {
        Ok(version_directory(&self.paths.images, version(number)?))
    }

    fn spec(&self, disk: u32, on: u32, policy: BootPolicy) -> Result<DiskSpec> {
        Ok(DiskSpec {
            disk: DiskId::from_str(&format!("{disk:032x}"))?,
            version: version(on)?,
            version_dir: self.directory(on)?,
            policy,
            reset_epoch: 0,
        })
    }

    /// Writes `bytes` on a version and publishes that; how long the publication took.
    fn publish(&self, on: u32, number: u32, bytes: u64) -> Result<Duration> {
        let spec = self.spec(number, on, BootPolicy::Maintenance)?;
        let disk = self.store.power_on(&spec)?.disk;
        for offset in (0..bytes).step_by(MIB as usize) {
            disk.write_at(offset, &vec![number as u8 | 1; MIB as usize])?;
        }
        disk.flush()?;
        drop(disk);
        self.publish_sealed(spec.disk, number)
    }

    fn publish_sealed(&self, disk: DiskId, number: u32) -> Result<Duration> {
        timed(|| -> Result<()> {
            let sealed = self.store.seal(disk)?;
            let request = PublishRequest {
                images: self.paths.images.clone(),
                sealed: sealed_directory(&self.paths.overlays, disk, sealed.generation),
                number,
                comment: String::new(),
                author: "bench".to_owned(),
                created: Timestamp(0),
            };
            publish(&request, &mut |_| {}, &|| false)?;
            self.store.release(disk)?;
            Ok(())
        })
    }
}

fn version(number: u32) -> Result<VersionRef> {
    let image = ImageId::from_str(&"1".repeat(32))?;
    Ok(VersionRef { image, number })
}

fn timed<T, E: Into<Box<dyn std::error::Error>>>(
    work: impl FnOnce() -> std::result::Result<T, E>,
) -> Result<Duration> {
    let start = Instant::now();
    work().map_err(Into::into)?;
    Ok(start.elapsed())
}

fn median_ms(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e3
}
