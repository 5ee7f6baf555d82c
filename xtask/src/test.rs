//! All tests, with everything that they need.

use std::process::{Command, Stdio};

use anyhow::Result;
use clap::Args;

use crate::fuzz::{self, FuzzArguments};
use crate::program::{cargo, host, is_root, run, target_directory};
use crate::schemathesis;

#[derive(Args, Default)]
pub(crate) struct TestArguments {
    /// Only tests whose name contains this; leaves fuzzing out.
    filter: Option<String>,
}

/// Installs packages, builds, runs every test and fuzzes for a short while.
pub(crate) fn test(arguments: &TestArguments) -> Result<()> {
    dess_lab::packages::ensure()?;
    ensure_nextest()?;
    let mut tests = cargo(&["nextest", "run", "--workspace", "--all-features"]);
    // Built with the tests, since the command line has tests of its own.
    tests.env("DESS_BIN", target_directory().join("debug").join("dess"));
    if let Some(program) = schemathesis::ensure() {
        tests.env("DESS_SCHEMATHESIS", program);
    }
    if !is_root() {
        // Rooms are made of network namespaces, which need root; the build does not.
        tests.env(runner_variable()?, "sudo --preserve-env");
    }
    match &arguments.filter {
        Some(filter) => run(tests.arg(filter)),
        None => {
            run(&mut tests)?;
            fuzz::fuzz(&FuzzArguments::default())
        }
    }
}

/// Cargo's variable for the program that starts tests.
fn runner_variable() -> Result<String> {
    let host = host()?.replace('-', "_").to_uppercase();
    Ok(format!("CARGO_TARGET_{host}_RUNNER"))
}

/// The test runner: room tests need its groups and time limits.
fn ensure_nextest() -> Result<()> {
    let present = Command::new("cargo-nextest")
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if present {
        return Ok(());
    }
    run(&mut cargo(&["install", "--locked", "cargo-nextest"]))
}
