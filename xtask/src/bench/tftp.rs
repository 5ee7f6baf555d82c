//! TFTP transfers: one large file, and many at once.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use dess_lab::Process;

use super::room::{Bench, median};
use crate::program::build_dess;

const LARGE_BYTES: usize = 64 << 20;
const SMALL_BYTES: usize = 1 << 20;
const PARALLEL: usize = 64;
const TRANSFER_LIMIT: Duration = Duration::from_secs(120);

/// What one server did: bytes per second of the single transfers, and seconds for the parallel ones.
#[derive(Default)]
struct Measured {
    plain: Vec<f64>,
    big: Vec<f64>,
    window: Vec<f64>,
    parallel: Vec<f64>,
}

impl Measured {
    /// The newest values, to be seen while the rounds go on.
    fn last(&self) -> String {
        let value = |values: &[f64]| values.last().copied().unwrap_or(f64::NAN);
        format!(
            "{:.0} MB/s, {:.0} MB/s, {:.0} MB/s, {:.2} s",
            value(&self.plain) / 1e6,
            value(&self.big) / 1e6,
            value(&self.window) / 1e6,
            value(&self.parallel)
        )
    }
}

/// Measures, the servers taking turns in each round, and prints one table of medians.
pub(super) fn bench(rounds: usize) -> Result<()> {
    let dess = build_dess(true)?;
    let mut servers = ["dess", "tftpd-hpa", "dnsmasq"].map(|name| (name, Measured::default()));
    for _ in 0..rounds {
        for (name, measured) in &mut servers {
            let bench = Bench::new(&dess)?;
            let server = start(&bench, name)?;
            measured.plain.push(large(&bench, &["curl", "1468"])?);
            measured.big.push(large(&bench, &["curl", "8192"])?);
            measured.window.push(large(&bench, &["atftp", "1468"])?);
            measured.parallel.push(parallel(&bench)?);
            server.kill();
            eprintln!("{name}: {}", measured.last());
        }
    }
    println!("| server | 64 MiB, blksize 1468 | 8192 | 1468 x window 16 | 64 x 1 MiB |");
    println!("|---|--:|--:|--:|--:|");
    for (name, measured) in servers {
        println!(
            "| {name} | {:.0} MB/s | {:.0} MB/s | {:.0} MB/s | {:.2} s |",
            median(measured.plain) / 1e6,
            median(measured.big) / 1e6,
            median(measured.window) / 1e6,
            median(measured.parallel)
        );
    }
    Ok(())
}

fn start(bench: &Bench, name: &str) -> Result<Process> {
    let directory = match name {
        "dess" => bench.file("dess-state").join("boot"),
        _ => bench.file("tftp"),
    };
    let process = if name == "dess" {
        Some(bench.start_dess()?)
    } else {
        None
    };
    std::fs::create_dir_all(&directory)?;
    for (file, size) in [("large", LARGE_BYTES), ("small", SMALL_BYTES)] {
        let content: Vec<u8> = (0..size).map(|at| ((at * 31) >> 3) as u8).collect();
        std::fs::write(directory.join(file), content)?;
    }
    if let Some(process) = process {
        return Ok(process);
    }
    let shown = directory.display().to_string();
    if name == "tftpd-hpa" {
        run_chmod(&shown)?;
        let arguments = [
            "in.tftpd",
            "-L",
            "-a",
            "10.77.0.1:69",
            "-s",
            &shown,
            "-u",
            "nobody",
        ];
        return bench.start(name, &arguments, None);
    }
    let root = format!("--tftp-root={shown}");
    let arguments = [
        "dnsmasq",
        "--keep-in-foreground",
        "--port=0",
        "--conf-file=/dev/null",
        "--log-facility=-",
        "--enable-tftp",
        "--tftp-max=1000",
        "--user=root",
        &root,
    ];
    bench.start(name, &arguments, Some("TFTP root is"))
}

/// tftpd-hpa serves as `nobody`: every directory above must let it through.
fn run_chmod(directory: &str) -> Result<()> {
    let script = format!("chmod -R a+rX '{directory}'; chmod a+x '{directory}/..'");
    let status = Command::new("sh").args(["-c", &script]).status()?;
    ensure!(status.success(), "chmod failed");
    Ok(())
}

/// Bytes per second of one transfer of the large file.
fn large(bench: &Bench, arguments: &[&str]) -> Result<f64> {
    let size = arguments[1];
    let mut command = if arguments[0] == "curl" {
        let mut curl = bench.load.command("curl");
        curl.args([
            "--silent",
            "--fail",
            "--tftp-blksize",
            size,
            "--output",
            "/dev/null",
        ])
        .arg("tftp://10.77.0.1/large");
        curl
    } else {
        let mut atftp = bench.load.command("atftp");
        atftp.args([
            "--option",
            &format!("blksize {size}"),
            "--option",
            "windowsize 16",
        ]);
        atftp.args([
            "--get",
            "--remote-file",
            "large",
            "--local-file",
            "/dev/null",
            "10.77.0.1",
        ]);
        atftp
    };
    let started = Instant::now();
    bench.load.run(&mut command, TRANSFER_LIMIT)?;
    let bytes = f64::from(u32::try_from(LARGE_BYTES)?);
    Ok(bytes / started.elapsed().as_secs_f64())
}

/// Seconds for many transfers at once, the start of their processes included.
fn parallel(bench: &Bench) -> Result<f64> {
    let started = Instant::now();
    let transfers = (0..PARALLEL)
        .map(|number| {
            let mut curl = bench.load.command("curl");
            curl.args([
                "--silent",
                "--fail",
                "--output",
                "/dev/null",
                "tftp://10.77.0.1/small",
            ]);
            bench.load.spawn(&format!("curl-{number}"), &mut curl)
        })
        .collect::<Result<Vec<_>>>()?;
    for transfer in transfers {
        ensure!(
            transfer.wait(TRANSFER_LIMIT)?.success(),
            "a transfer failed"
        );
    }
    Ok(started.elapsed().as_secs_f64())
}
