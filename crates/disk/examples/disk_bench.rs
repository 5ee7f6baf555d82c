//! 4 KiB random reads and writes through a disk beside plain `pread`/`pwrite` on one file, alternating in one run.
//!
//! `cargo run --release -p dess-disk --example disk_bench -- <directory on the file system to measure> [seconds per round]`

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use dess_disk::{
    BlockDevice, BlockRead, DiskSpec, DiskStore, ImageFormat, ImportRequest, ImportSource,
    StoreOptions, StorePaths, import, version_directory,
};
use dess_model::{BootPolicy, DiskId, ImageId, Timestamp, VersionRef};

const SIZE: u64 = 256 << 20;
const BLOCK: usize = 4096;
const ROUNDS: usize = 5;

type Operation<'a> = Box<dyn FnMut(u64, &mut [u8; BLOCK]) -> io::Result<()> + 'a>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("name a directory")?);
    let seconds = arguments
        .next()
        .and_then(|text| text.to_str()?.parse().ok())
        .unwrap_or(1.0);
    let work = directory.join(format!("disk-bench-{}", std::process::id()));
    std::fs::create_dir_all(&work)?;
    let result = measure(&work, Duration::from_secs_f64(seconds));
    std::fs::remove_dir_all(&work)?;
    std::fs::remove_dir_all(live_maps(&work))?;
    result
}

fn measure(work: &Path, round: Duration) -> Result<(), Box<dyn std::error::Error>> {
    let plain_path = work.join("plain.raw");
    let plain = fill(&plain_path)?;
    let (store, spec) = store(work, &plain_path)?;
    let disk = store.power_on(&spec)?.disk;
    let half = store.power_on(&DiskSpec {
        disk: DiskId::from_str(&"3".repeat(32))?,
        ..spec.clone()
    })?;
    // The plain files to compare with, written in the same pieces: the page cache is slower for files written by the block.
    let pieces = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(work.join("pieces.raw"))?;
    for block in 0..SIZE / BLOCK as u64 {
        pieces.write_all_at(&[1; BLOCK], block * BLOCK as u64)?;
        if block % 2 == 0 {
            half.disk.write_at(block * BLOCK as u64, &[1; BLOCK])?;
        }
    }
    read_through(&*disk)?;
    read_through(&*half.disk)?;

    let mut cases: Vec<(&str, Operation<'_>, Operation<'_>)> = vec![
        (
            "read, all from the version",
            Box::new(|at, buffer| plain.read_exact_at(buffer, at)),
            Box::new(|at, buffer| disk.read_at(at, buffer)),
        ),
        (
            "read that never waits, version",
            Box::new(|at, buffer| plain.read_exact_at(buffer, at)),
            Box::new(|at, buffer| disk.try_read_at(at, buffer)),
        ),
        (
            "read, every other block overlaid",
            Box::new(|at, buffer| pieces.read_exact_at(buffer, at)),
            Box::new(|at, buffer| half.disk.read_at(at, buffer)),
        ),
        (
            "write to overlaid blocks",
            Box::new(|at, buffer| pieces.write_all_at(buffer, at / 8192 * 8192)),
            Box::new(|at, buffer| half.disk.write_at(at / 8192 * 8192, buffer)),
        ),
    ];
    for (name, plain, ours) in &mut cases {
        compare(name, round, plain, ours)?;
    }
    drop(cases);
    first_writes(work, &store, &spec)
}

/// Rates of both, alternating, best of the rounds.
fn compare(
    name: &str,
    round: Duration,
    plain: &mut Operation<'_>,
    ours: &mut Operation<'_>,
) -> io::Result<()> {
    let mut best = [0.0f64; 2];
    for _ in 0..ROUNDS {
        best[0] = best[0].max(rate(round, plain)?);
        best[1] = best[1].max(rate(round, ours)?);
    }
    report(name, best[0], best[1]);
    Ok(())
}

fn report(name: &str, plain: f64, ours: f64) {
    println!(
        "{name:34} plain {plain:9.0}/s   disk {ours:9.0}/s   ratio {:.2}",
        ours / plain
    );
}

fn rate(round: Duration, operation: &mut Operation<'_>) -> io::Result<f64> {
    let mut buffer = [7; BLOCK];
    let mut random = Random(42);
    let start = Instant::now();
    let mut count = 0u32;
    while start.elapsed() < round {
        for _ in 0..256 {
            operation(random.block() * BLOCK as u64, &mut buffer)?;
            black_box(&buffer);
        }
        count += 256;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

/// The dear case: each block is written for the first time, so it is allocated and its bit goes to the live map.
fn first_writes(
    work: &Path,
    store: &DiskStore,
    spec: &DiskSpec,
) -> Result<(), Box<dyn std::error::Error>> {
    const BLOCKS: u64 = 30_000;
    let path = work.join("sparse.raw");
    let mut best = [0.0f64; 2];
    for _ in 0..ROUNDS {
        let sparse = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        sparse.set_len(SIZE)?;
        best[0] = best[0].max(write_each(BLOCKS, |at, data| {
            sparse.write_all_at(data, at)
        })?);
        let disk = store.power_on(spec)?.disk;
        best[1] = best[1].max(write_each(BLOCKS, |at, data| disk.write_at(at, data))?);
    }
    report("first write to a block", best[0], best[1]);
    Ok(())
}

fn write_each(blocks: u64, mut write: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<f64> {
    let start = Instant::now();
    // An odd step visits every block once, in no order that helps.
    for index in 0..blocks {
        let block = index.wrapping_mul(0x9e37_79b1) % (SIZE / BLOCK as u64);
        write(block * BLOCK as u64, &[5; BLOCK])?;
    }
    Ok(blocks as f64 / start.elapsed().as_secs_f64())
}

fn fill(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    let mut random = Random(1);
    let mut chunk = vec![0; 1 << 20];
    for offset in (0..SIZE).step_by(chunk.len()) {
        chunk.fill_with(|| random.block() as u8 | 1);
        file.write_all_at(&chunk, offset)?;
    }
    Ok(file)
}

fn read_through(disk: &dyn BlockRead) -> io::Result<()> {
    let mut chunk = vec![0; 1 << 20];
    for offset in (0..SIZE).step_by(chunk.len()) {
        disk.read_at(offset, &mut chunk)?;
    }
    Ok(())
}

fn store(work: &Path, image: &Path) -> Result<(DiskStore, DiskSpec), Box<dyn std::error::Error>> {
    let version = VersionRef {
        image: ImageId::from_str(&"1".repeat(32))?,
        number: 1,
    };
    let images = work.join("images");
    let request = ImportRequest {
        images: images.clone(),
        version,
        source: ImportSource {
            path: image.to_owned(),
            format: Some(ImageFormat::Raw),
            end_marker: None,
        },
        comment: String::new(),
        created: Timestamp(0),
    };
    let start = Instant::now();
    import(&request, &mut |_| {}, &|| false)?;
    let rate = SIZE as f64 / start.elapsed().as_secs_f64() / 1e6;
    println!("import of 256 MiB raw with sync: {rate:.0} MB/s");
    let paths = StorePaths {
        images: images.clone(),
        overlays: work.join("overlays"),
        live_maps: live_maps(work),
    };
    let spec = DiskSpec {
        disk: DiskId::from_str(&"2".repeat(32))?,
        version,
        version_dir: version_directory(&images, version),
        policy: BootPolicy::Volatile,
        reset_epoch: 0,
    };
    Ok((DiskStore::open(paths, StoreOptions::current()?)?, spec))
}

/// A directory in memory.
fn live_maps(work: &Path) -> PathBuf {
    Path::new("/dev/shm").join(work.file_name().unwrap_or_default())
}

struct Random(u64);

impl Random {
    fn block(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % (SIZE / BLOCK as u64)
    }
}
