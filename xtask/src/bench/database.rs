//! Pages, status and snapshot of a large site, on SQLite and on MariaDB.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::program::{cargo, root, run};

/// Prints the table; the databases are made in `directory`, which decides on what storage.
pub(super) fn bench(directory: &Path) -> Result<()> {
    let build = [
        "build",
        "--release",
        "-p",
        "dess-node",
        "--example",
        "database_bench",
    ];
    run(&mut cargo(&build))?;
    let program = root().join("target/release/examples/database_bench");
    let work = directory.join("dess-database-bench");
    if work.exists() {
        std::fs::remove_dir_all(&work)
            .with_context(|| format!("cannot empty {}", work.display()))?;
    }
    std::fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    for task in ["fill", "measure"] {
        run(Command::new(&program).arg(task).arg(&work))?;
    }
    std::fs::remove_dir_all(&work)?;
    Ok(())
}
