//! Creating, resetting and publishing by the size of the image, reading through layers, memory of a room.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::program::{cargo, root, run};

/// Prints the tables; the work is done in `directory`, which decides on what storage.
pub(super) fn bench(directory: &Path, rounds: usize) -> Result<()> {
    run(&mut cargo(&[
        "build",
        "--release",
        "-p",
        "dess-disk",
        "--example",
        "store_bench",
    ]))?;
    let program = root().join("target/release/examples/store_bench");
    run(Command::new(program)
        .arg(directory.join("dess-store-bench"))
        .arg(rounds.to_string()))
}
