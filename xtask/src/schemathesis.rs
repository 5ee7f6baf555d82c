//! Schemathesis, which checks the REST API against its OpenAPI document.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::program::{run, target_directory};

/// Pinned, so that a newer one finds new things when somebody looks.
const PACKAGE: &str = "schemathesis==4.32.5";

/// The program, installed below the target directory if it is not there yet; none where Python is not to be had.
pub(crate) fn ensure() -> Option<PathBuf> {
    let environment = target_directory().join("schemathesis");
    let program = environment.join("bin").join("schemathesis");
    if program.exists() {
        return Some(program);
    }
    match install(&environment) {
        Ok(()) => Some(program),
        Err(error) => {
            eprintln!("warning: NO SCHEMATHESIS, the API is not checked with it: {error:#}");
            None
        }
    }
}

fn install(environment: &std::path::Path) -> Result<()> {
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(environment))?;
    let pip = environment.join("bin").join("pip");
    run(Command::new(pip).args(["install", "--quiet", "--disable-pip-version-check", PACKAGE]))
}
