//! Imports beside `qemu-img convert`, which writes the same disk to a raw file; both sync it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::room::median;
use crate::program::{cargo, root, run};

const DISK_BYTES: u64 = 1 << 30;
const PIECE_BYTES: usize = 1 << 20;
/// Names of the sources and what qemu-img makes them with.
const SOURCES: [(&str, &[&str]); 7] = [
    ("raw", &["-O", "raw"]),
    ("qcow2", &["-O", "qcow2"]),
    ("qcow2, deflate", &["-c", "-O", "qcow2"]),
    (
        "qcow2, zstd",
        &["-c", "-O", "qcow2", "-o", "compression_type=zstd"],
    ),
    ("VHD", &["-O", "vpc", "-o", "force_size=on"]),
    ("VHDX", &["-O", "vhdx"]),
    (
        "VMDK, stream-optimised",
        &["-O", "vmdk", "-o", "subformat=streamOptimized"],
    ),
];

/// Prints seconds of both and their ratio for every source; the work is done in `directory`, which decides on what storage.
pub(super) fn bench(directory: &Path, rounds: usize) -> Result<()> {
    let build = [
        "build",
        "--release",
        "-p",
        "dess-disk",
        "--example",
        "import_bench",
    ];
    run(&mut cargo(&build))?;
    let program = root().join("target/release/examples/import_bench");
    let work = directory.join("dess-import-bench");
    fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    let plain = work.join("plain.raw");
    make_disk(&plain)?;
    println!("| 1 GiB, half of it zeros | qemu-img convert | dess | ratio of the speeds |");
    println!("|---|--:|--:|--:|");
    for (name, arguments) in SOURCES {
        let source = work.join("source");
        let mut convert = Command::new("qemu-img");
        run(convert
            .args(["convert", "-f", "raw"])
            .args(arguments)
            .args([&plain, &source]))?;
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        // In turns, so that both meet the same machine.
        for _ in 0..rounds {
            theirs.push(qemu_img(arguments, &source, &work.join("theirs"))?);
            ours.push(dess(&program, &source, &work.join("ours"))?);
        }
        let (theirs, ours) = (median(theirs), median(ours));
        let ratio = theirs / ours;
        println!("| {name} | {theirs:.2} s | {ours:.2} s | {ratio:.2} |");
        fs::remove_file(source)?;
    }
    fs::remove_dir_all(&work)?;
    Ok(())
}

fn qemu_img(made_with: &[&str], source: &Path, target: &Path) -> Result<f64> {
    let _ = fs::remove_file(target);
    let format = made_with.iter().skip_while(|&&word| word != "-O").nth(1);
    let mut convert = Command::new("qemu-img");
    // Without -t it would not sync.
    convert.args([
        "convert",
        "-t",
        "writeback",
        "-f",
        format.unwrap_or(&"raw"),
        "-O",
        "raw",
    ]);
    let start = Instant::now();
    run(convert.args([source, target]))?;
    Ok(start.elapsed().as_secs_f64())
}

fn dess(program: &Path, source: &Path, target: &Path) -> Result<f64> {
    let output = Command::new(program).args([source, target]).output()?;
    ensure!(
        output.status.success(),
        "import_bench: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
}

/// Pieces that are zero and pieces that compress to about half.
fn make_disk(path: &Path) -> Result<()> {
    let file = File::create(path)?;
    file.set_len(DISK_BYTES)?;
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut piece = vec![0; PIECE_BYTES];
    for offset in (0..DISK_BYTES).step_by(PIECE_BYTES * 2) {
        for words in piece.chunks_mut(16) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            words[..8].copy_from_slice(&state.to_le_bytes());
        }
        file.write_all_at(&piece, offset)?;
    }
    file.sync_all()?;
    Ok(())
}
