//! `dess iscsi serve` as a person meets it.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

struct Served {
    process: Child,
    address: SocketAddr,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn serve(image: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dess"));
    command.args(["iscsi", "serve", "--listen", "127.0.0.1:0", "--image"]);
    command.arg(image).args(more);
    command
}

fn start(image: &Path, more: &[&str]) -> Served {
    let mut process = serve(image, more)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(process.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("serving on ").unwrap();
    Served {
        address: address.parse().unwrap(),
        process,
    }
}

/// Runs commands of qemu-io on the served disk; true if all went well.
fn qemu_io(served: &Served, commands: &[&str]) -> bool {
    let url = format!("iscsi://{}/iqn.2026-11.io.dess:file/0", served.address);
    let mut command = Command::new("timeout");
    command.args(["-k", "5", "30", "qemu-io", "-f", "raw"]);
    for one in commands {
        command.args(["-c", &one.replace("URL", &url)]);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    output.status.success() && !said.contains("failed") && !said.contains("rror")
}

fn image(directory: &Path) -> PathBuf {
    let image = directory.join("disk.raw");
    fs::write(&image, vec![0x11; 1 << 20]).unwrap();
    image
}

#[test]
fn an_overlay_takes_the_writes_and_outlives_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let image = image(directory.path());
    let overlay = directory.path().join("overlay").display().to_string();
    let served = start(&image, &["--overlay", &overlay, "--thin"]);
    assert!(qemu_io(
        &served,
        &["open URL", "read -P 0x11 0 1M", "write -P 0x22 64k 3k"]
    ));
    drop(served);
    let served = start(&image, &["--overlay", &overlay]);
    let expected = ["open URL", "read -P 0x22 64k 3k", "read -P 0x11 67k 61k"];
    assert!(qemu_io(&served, &expected));
    assert!(!qemu_io(&served, &["open URL", "read -P 0x11 64k 3k"]));
    assert!(fs::read(&image).unwrap().iter().all(|&byte| byte == 0x11));
}

#[test]
fn without_an_overlay_the_file_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let image = image(directory.path());
    let served = start(&image, &[]);
    assert!(qemu_io(&served, &["open URL", "write -P 0x22 64k 3k"]));
    drop(served);
    assert_eq!(
        fs::read(&image).unwrap()[64 << 10..67 << 10],
        [0x22; 3 << 10]
    );
    // QEMU opens a write-protected disk only for reading.
    let read_only = start(&image, &["--read-only"]);
    assert!(qemu_io(&read_only, &["open -r URL", "read -P 0x22 64k 3k"]));
    assert!(!qemu_io(&read_only, &["open URL"]));
}

#[test]
fn what_is_in_the_way_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let image = image(directory.path());
    let fails = |image: &Path, more: &[&str], words: &str| {
        let output: Output = serve(image, more).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{words}");
        assert!(said.contains(words), "{said}");
    };
    let missing = directory.path().join("missing.raw");
    fails(&missing, &[], "missing.raw");
    fails(&missing, &[], "No such file");
    let odd = directory.path().join("odd.raw");
    fs::write(&odd, [0; 700]).unwrap();
    fails(&odd, &[], "700 bytes long");

    let overlay = directory.path().join("overlay").display().to_string();
    let served = start(&image, &["--overlay", &overlay]);
    let taken = served.address.to_string();
    fails(
        &image,
        &["--listen", &taken],
        "another program has the port",
    );
    fails(
        &image,
        &["--overlay", &overlay],
        "in use by another process",
    );
    drop(served);
    let other = directory.path().join("other.raw");
    fs::write(&other, vec![0x33; 1 << 20]).unwrap();
    fails(&other, &["--overlay", &overlay], "over another file");
}
