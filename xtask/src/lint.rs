//! What can be said about the source without running it.

use anyhow::Result;

use crate::program::{cargo, run};
use crate::tidy;

/// Crates whose core must build without sockets, files and clocks.
const PURE: [&str; 7] = [
    "dess-model",
    "dess-boot",
    "dess-diagnosis",
    "dess-dhcp",
    "dess-tftp",
    "dess-scsi",
    "dess-iscsi",
];

pub(crate) fn lint() -> Result<()> {
    tidy::tidy()?;
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    run(&mut cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--",
        "-Dwarnings",
    ]))?;
    for package in PURE {
        run(&mut cargo(&[
            "clippy",
            "--quiet",
            "--package",
            package,
            "--",
            "-Dwarnings",
        ]))?;
    }
    let documented = &[
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
        "--quiet",
    ];
    run(cargo(documented).env(
        "RUSTDOCFLAGS",
        "-Dwarnings -Arustdoc::private_intra_doc_links",
    ))
}
