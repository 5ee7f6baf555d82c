//! The result as Markdown, for people and for `docs/performance.md`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::server::Kind;
use super::stock::StockRow;
use super::{Cell, Row, Sample};
use crate::bench::room::median;
use crate::program::root;

const BEGIN: &str = "<!-- cargo xtask bench iscsi -->\n";
const END: &str = "<!-- end of cargo xtask bench iscsi -->\n";

/// Tables, row by row.
pub(super) struct Report {
    machine: String,
    ratios: String,
    figures: String,
    scattered: String,
    stock: String,
}

impl Report {
    pub(super) fn new(dess: &Path) -> Result<Self> {
        Ok(Self {
            machine: machine(dess)?,
            ratios: String::new(),
            figures: String::new(),
            scattered: String::new(),
            stock: String::new(),
        })
    }

    pub(super) fn add(&mut self, row: Row, cells: &[Cell]) {
        self.add_ratio(row, cells);
        for cell in cells {
            let table = &mut self.figures;
            add_figures(table, row, cell);
        }
        eprintln!("{} x {}: done", row.load.sessions, row.name);
    }

    /// The stricter of both tgt for each ratio: the faster one, and the one with less CPU.
    fn add_ratio(&mut self, row: Row, cells: &[Cell]) {
        let of = |kind: Kind| cells.iter().find(|cell| cell.kind == kind);
        let (Some(overlay), Some(file)) = (of(Kind::Overlay), of(Kind::File)) else {
            return;
        };
        let tgt = || cells.iter().filter(|cell| cell.kind.is_tgt());
        let fastest = tgt().map(Cell::rate).fold(0.0, f64::max);
        let thriftiest = tgt().map(Cell::cpu).fold(f64::INFINITY, f64::min);
        let _ = writeln!(
            self.ratios,
            "| {} | {} | {} | {} | **{:.2}** | {:.1} | {:.1} | **{:.2}** | {:.2} | {:.1} |",
            row.name,
            row.load.sessions,
            rate(row, fastest),
            rate(row, overlay.rate()),
            overlay.rate() / fastest,
            thriftiest,
            overlay.cpu(),
            overlay.cpu() / thriftiest,
            overlay.rate() / file.rate(),
            overlay.resident(),
        );
    }

    pub(super) fn add_scattered(&mut self, row: Row, cells: &[Cell]) {
        for cell in cells {
            add_figures(&mut self.scattered, row, cell);
        }
    }

    pub(super) fn add_stock(&mut self, rows: Vec<StockRow>) {
        for row in rows {
            let _ = writeln!(
                self.stock,
                "| {} | {} | {:.0} | {:.0} | {:.2} |",
                row.client,
                row.load,
                row.tgt,
                row.dess,
                row.dess / row.tgt
            );
        }
    }

    pub(super) fn print(&self) {
        println!("{}", self.text());
    }

    /// Replaces the last result in `docs/performance.md`.
    pub(super) fn write(&self) -> Result<()> {
        let path = root().join("docs/performance.md");
        let old = fs::read_to_string(&path)?;
        let (before, rest) = old.split_once(BEGIN).context("no place for the result")?;
        let (_, after) = rest.split_once(END).context("the place has no end")?;
        fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", self.text()))?;
        Ok(())
    }

    fn text(&self) -> String {
        let mut text = format!(
            "{}\n\nDESS with image and overlay beside the better tgt (the faster one for the rate, \
             the one with less CPU for the CPU):\n\n\
             | load | sessions | tgt | DESS | ratio | tgt CPU us/command | DESS CPU | ratio \
             | overlay / plain file | DESS RSS MiB |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n{}",
            self.machine, self.ratios
        );
        let _ = write!(text, "\nEach server:\n\n{FIGURES_HEAD}{}", self.figures);
        if !self.scattered.is_empty() {
            let _ = write!(
                text,
                "\nAfter {} random writes of 4 KiB:\n\n{FIGURES_HEAD}{}",
                super::SCATTERED_WRITES,
                self.scattered
            );
        }
        if !self.stock.is_empty() {
            let _ = write!(
                text,
                "\nThe same servers under stock clients, commands per second (the faster tgt; these \
                 clients cost more CPU than the servers, so they tell less):\n\n\
                 | client | load | tgt | DESS, image + overlay | ratio |\n|---|---|--:|--:|--:|\n{}",
                self.stock
            );
        }
        text
    }
}

const FIGURES_HEAD: &str = "| load | sessions | server | rate | CPU us/command | p50 us | p99 us | RSS MiB |\n\
     |---|--:|---|--:|--:|--:|--:|--:|\n";

fn add_figures(table: &mut String, row: Row, cell: &Cell) {
    let _ = writeln!(
        table,
        "| {} | {} | {} | {} | {:.1} | {:.0} | {:.0} | {:.1} |",
        row.name,
        row.load.sessions,
        cell.kind.name(),
        rate(row, cell.rate()),
        cell.cpu(),
        cell.median(|sample| sample.p50_us),
        cell.median(|sample| sample.p99_us),
        cell.resident(),
    );
}

/// Large commands are told in MB/s.
fn rate(row: Row, commands_per_s: f64) -> String {
    match row.load.block_bytes {
        0..65536 => format!("{commands_per_s:.0}/s"),
        bytes => format!("{:.0} MB/s", commands_per_s * f64::from(bytes) / 1e6),
    }
}

impl Cell {
    fn median(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().map(of).collect())
    }

    fn rate(&self) -> f64 {
        self.median(|sample| sample.commands_per_s)
    }

    fn cpu(&self) -> f64 {
        self.median(|sample| sample.cpu_us)
    }

    fn resident(&self) -> f64 {
        let samples = self.samples.iter().map(|sample| sample.resident_mib);
        samples.fold(0.0, f64::max)
    }
}

/// What was measured, where and with what.
fn machine(dess: &Path) -> Result<String> {
    let line = |program: &str, arguments: &[&str]| -> Result<String> {
        let output = Command::new(program).args(arguments).output();
        let output = output.with_context(|| format!("cannot run {program}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.lines().next().unwrap_or_default().trim().to_owned())
    };
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kib: u64 = memory
        .split_whitespace()
        .nth(1)
        .and_then(|word| word.parse().ok())
        .context("no MemTotal")?;
    Ok(format!(
        "{}: {} cores, {} GiB, Linux {}; {}, tgt {}.",
        line("date", &["-u", "+%Y-%m-%d"])?,
        std::thread::available_parallelism()?,
        (kib + (1 << 19)) >> 20,
        line("uname", &["-r"])?,
        line(&dess.display().to_string(), &["--version"])?,
        line("dpkg-query", &["-W", "-f", "${Version}", "tgt"])?,
    ))
}
