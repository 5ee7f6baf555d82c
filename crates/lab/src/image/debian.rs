//! The Debian image: debootstrap, systemd, open-iscsi, root on iSCSI.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use super::disk;
use crate::command;

const SETUP: &str = include_str!("debian/setup.sh");
const SUITE: &str = "bookworm";

const COMMAND_LINE: &str = "root=LABEL=debroot ro console=ttyS0,115200 quiet loglevel=3 panic=10 \
    systemd.show_status=0 nokaslr mitigations=off nowatchdog cryptomgr.notests random.trust_cpu=on";

/// Everything the image depends on; apt stands for the mirror's state.
pub(super) fn key() -> anyhow::Result<String> {
    let versions = command::run(
        "apt-cache",
        ["policy", "linux-image-amd64", "open-iscsi", "systemd"],
    )?;
    let candidates: Vec<&str> = versions
        .lines()
        .filter(|line| line.contains("Candidate:"))
        .collect();
    Ok([
        SETUP,
        include_str!("debian.rs"),
        include_str!("disk.rs"),
        &candidates.join("\n"),
    ]
    .join("\n"))
}

/// Fills `directory` with `disk.raw`.
pub(super) fn make(directory: &Path) -> anyhow::Result<()> {
    let scratch = tempfile::tempdir_in(directory)?;
    let root = scratch.path().join("root");
    let script = scratch.path().join("setup.sh");
    std::fs::write(&script, SETUP)?;
    command::output(
        Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh"])
            .arg(&script)
            .arg(&root)
            .args([SUITE, &mirror()?]),
    )?;
    disk::make(
        &directory.join("disk.raw"),
        &disk::Contents {
            root: &root,
            label: "debroot",
            root_mib: 640,
            data_mib: 64,
            command_line: COMMAND_LINE,
        },
    )
}

/// The Debian mirror that this machine's apt uses.
fn mirror() -> anyhow::Result<String> {
    let targets = command::run(
        "apt-get",
        [
            "indextargets",
            "--format",
            "$(CODENAME) $(ORIGIN) $(COMPONENT) $(REPO_URI)",
            "Created-By: Packages",
        ],
    )?;
    let mut debian = targets
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (codename, origin) = (words.next()?, words.next()?);
            let (component, uri) = (words.next()?, words.next()?);
            (origin == "Debian" && component == "main").then_some((codename, uri))
        })
        .peekable();
    let any = debian.peek().map(|(_, uri)| *uri);
    debian
        .find(|(codename, _)| *codename == SUITE)
        .map(|(_, uri)| uri)
        .or(any)
        .map(str::to_owned)
        .context("apt names no Debian mirror here (apt-get indextargets)")
}
