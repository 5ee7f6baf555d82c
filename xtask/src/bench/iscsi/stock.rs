//! The same servers under clients that are not ours: libiscsi's iscsi-perf and qemu-img.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::server::{Kind, Server};
use crate::bench::room::median;

/// Commands per second of one client and load.
pub(super) struct StockRow {
    pub(super) client: &'static str,
    pub(super) load: &'static str,
    pub(super) dess: f64,
    pub(super) tgt: f64,
}

/// A client with its load.
type Client = (&'static str, &'static str, fn(&str) -> Result<f64>);

const CLIENTS: [Client; 3] = [
    ("iscsi-perf", "4 KiB random read, QD1", |url| perf(url, "1")),
    ("iscsi-perf", "4 KiB random read, QD32", |url| {
        perf(url, "32")
    }),
    ("qemu-img bench", "4 KiB sequential write, QD32", qemu),
];
const PERF_SECONDS: &str = "2";
const QEMU_COMMANDS: u32 = 30_000;

/// Runs each client against the overlay and both tgt, in turns.
pub(super) fn measure(servers: &[Server], rounds: usize) -> Result<Vec<StockRow>> {
    let mut rows = Vec::new();
    for (client, load, run) in CLIENTS {
        let wanted = servers.iter().filter(|server| server.kind != Kind::File);
        let mut rates: Vec<(Kind, Vec<f64>)> = wanted.map(|s| (s.kind, Vec::new())).collect();
        for _ in 0..rounds.min(3) {
            for (kind, samples) in &mut rates {
                let server = servers.iter().find(|server| server.kind == *kind);
                let url = server.context("no such server")?.portal.url();
                samples.push(run(&url).with_context(|| format!("{client} on {url}"))?);
            }
        }
        let mut row = StockRow {
            client,
            load,
            dess: f64::NAN,
            tgt: 0.0,
        };
        for (kind, samples) in rates {
            match kind {
                Kind::Tgt1 | Kind::Tgt16 => row.tgt = row.tgt.max(median(samples)),
                Kind::Overlay | Kind::File => row.dess = median(samples),
            }
        }
        rows.push(row);
    }
    Ok(rows)
}

fn perf(url: &str, in_flight: &str) -> Result<f64> {
    let mut command = Command::new("iscsi-perf");
    command.args(["-r", "-b", "8", "-m", in_flight, "-t", PERF_SECONDS, url]);
    let output = command.output().context("cannot run iscsi-perf")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // It overwrites one line of text: "iops average 12345 (48 MB/s) ...".
    let averages = text.split("iops average ").skip(1);
    let number = averages.filter_map(|rest| rest.split(' ').next()?.parse().ok());
    number
        .last()
        .with_context(|| format!("no figure in {text:?}"))
}

fn qemu(url: &str) -> Result<f64> {
    let mut command = Command::new("qemu-img");
    command.args(["bench", "-f", "raw", "-t", "none", "-w", "-d", "32"]);
    command.args(["-s", "4096", "-S", "4096", "-c", &QEMU_COMMANDS.to_string()]);
    let started = Instant::now();
    let output = command.arg(url).output().context("cannot run qemu-img")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = text.split("completed in ").nth(1);
    let told = told.and_then(|rest| rest.split(' ').next()?.parse::<f64>().ok());
    let seconds = told.unwrap_or_else(|| started.elapsed().as_secs_f64());
    Ok(f64::from(QEMU_COMMANDS) / seconds)
}
