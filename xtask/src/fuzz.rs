//! Coverage-guided fuzzing of every decoder, on the stable toolchain and without sanitizers (the
//! code is safe Rust; what is looked for are panics, hangs and allocations by the peer's word).

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::Args;

use crate::program::{cargo, host, root, run};

/// Instrumentation that libFuzzer needs; `cargo fuzz` passes the same on nightly.
const RUSTFLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Clink-dead-code -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks";
/// Most memory that a target may take, in MiB.
const MEMORY_MIB_MAX: u32 = 512;

#[derive(Args)]
pub(crate) struct FuzzArguments {
    /// One target; all of them without it.
    target: Option<String>,
    /// Seconds for each target.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
}

impl Default for FuzzArguments {
    fn default() -> Self {
        Self {
            target: None,
            seconds: 10,
        }
    }
}

pub(crate) fn fuzz(arguments: &FuzzArguments) -> Result<()> {
    let directory = root().join("fuzz");
    let host = host()?;
    let manifest = directory.join("Cargo.toml");
    let mut build = cargo(&["build", "--release", "--bins", "--target", &host]);
    build
        .arg("--manifest-path")
        .arg(manifest)
        .env("RUSTFLAGS", RUSTFLAGS);
    run(build.env("CARGO_TARGET_DIR", directory.join("target")))?;
    for target in targets(&directory)? {
        if arguments.target.as_ref().is_none_or(|only| *only == target) {
            run_target(&directory, &host, &target, arguments.seconds)?;
        }
    }
    Ok(())
}

fn run_target(directory: &Path, host: &str, target: &str, seconds: u32) -> Result<()> {
    let corpus = directory.join("corpus").join(target);
    let found = directory.join("target").join("corpus").join(target);
    let artifacts = directory.join("artifacts").join(target);
    for needed in [&corpus, &found, &artifacts] {
        fs::create_dir_all(needed).with_context(|| format!("cannot make {}", needed.display()))?;
    }
    let program = directory
        .join("target")
        .join(host)
        .join("release")
        .join(target);
    run(std::process::Command::new(program)
        .arg(&found)
        .arg(&corpus)
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
        .args([
            "-timeout=5",
            "-malloc_limit_mb=64",
            "-print_final_stats=0",
            "-verbosity=0",
        ]))
}

fn targets(directory: &Path) -> Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(directory.join("targets"))
        .context("cannot list the fuzz targets")?
        .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}
