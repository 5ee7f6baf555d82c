//! The iSCSI service beside tgt: the same load on the same disk, in turns, as ratios.

mod fairness;
mod load;
mod report;
mod server;
mod session;
mod stock;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use load::{Generator, Load, Operation, Order};
use server::{Kind, Server, make_image};

use crate::program::{build_dess, cargo, run, target_directory};

/// Load before a measurement, which fills caches and warms threads up.
const WARM_UP: Duration = Duration::from_millis(200);
/// Writes that scatter an overlay.
const SCATTERED_WRITES: u64 = 100_000;

#[derive(Args, Clone)]
pub(crate) struct IscsiArguments {
    /// Rounds of each measurement, the servers in turns; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 0.6)]
    seconds: f64,
    /// Every load at 1, 4, 16 and 64 sessions.
    #[arg(long)]
    full: bool,
    /// Only loads whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Only what a greedy client costs 64 others.
    #[arg(long)]
    fairness: bool,
    /// Leave the stock clients and the scattered overlay out.
    #[arg(long)]
    brief: bool,
    /// Size of the disk in MiB.
    #[arg(long, default_value_t = 1024)]
    disk_mib: u64,
    /// Where the disks are [default: target/bench-iscsi].
    #[arg(long)]
    directory: Option<PathBuf>,
    /// A `dess` program that was built before [default: built now].
    #[arg(long)]
    dess: Option<PathBuf>,
    /// Put the result into docs/performance.md.
    #[arg(long)]
    write: bool,
}

/// One row of the tables.
#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    load: Load,
    /// Nothing of the disk is in memory at the start.
    cold: bool,
}

/// What one measurement gave.
#[derive(Clone, Copy)]
struct Sample {
    commands_per_s: f64,
    cpu_us: f64,
    resident_mib: f64,
    p50_us: f64,
    p99_us: f64,
}

/// All measurements of one row on one server.
struct Cell {
    kind: Kind,
    samples: Vec<Sample>,
}

struct Bench {
    servers: Vec<Server>,
    disk_bytes: u64,
    rounds: usize,
    time: Duration,
}

pub(super) fn bench(arguments: &IscsiArguments) -> Result<()> {
    if cfg!(debug_assertions) {
        // An unoptimised load generator would measure itself.
        let mut optimised = cargo(&["run", "--release", "--quiet", "--package", "xtask", "--"]);
        return run(optimised.args(std::env::args_os().skip(1)));
    }
    let dess = match &arguments.dess {
        Some(dess) => dess.clone(),
        None => build_dess(true)?,
    };
    let directory = match &arguments.directory {
        Some(directory) => directory.clone(),
        None => target_directory().join("bench-iscsi"),
    };
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory)?;
    if arguments.fairness {
        return fairness(arguments, &dess, &directory);
    }
    let bench = Bench::start(arguments, &dess, &directory)?;
    let mut report = report::Report::new(&dess)?;
    for row in rows(arguments) {
        report.add(row, &bench.measure(row, &Kind::ALL)?);
    }
    if !arguments.brief {
        bench.scatter()?;
        for row in scattered_rows() {
            report.add_scattered(row, &bench.measure(row, &[Kind::Overlay, Kind::File])?);
        }
        report.add_stock(stock::measure(&bench.servers, arguments.rounds)?);
    }
    drop(bench);
    fs::remove_dir_all(&directory)?;
    report.print();
    if arguments.write {
        report.write()?;
    }
    Ok(())
}

fn fairness(arguments: &IscsiArguments, dess: &Path, directory: &Path) -> Result<()> {
    let disk_bytes = arguments.disk_mib << 20;
    for kind in [Kind::Overlay, Kind::Tgt16] {
        let image = directory.join(format!("{kind:?}.raw"));
        make_image(&image, disk_bytes)?;
        let server = Server::start(kind, dess, &image, directory)?;
        let time = Duration::from_secs_f64(arguments.seconds);
        fairness::measure(&server, disk_bytes, arguments.rounds.max(1), time)?;
    }
    Ok(())
}

fn rows(arguments: &IscsiArguments) -> Vec<Row> {
    use Operation::{Read, Write};
    use Order::{Random, Sequential};
    // Reads first: the writes scatter the overlay.
    let loads: [(&str, _, _, u32, u32, &[u16]); 6] = [
        ("4 KiB random read, QD1", Read, Random, 4096, 1, &[1]),
        (
            "4 KiB random read, QD32",
            Read,
            Random,
            4096,
            32,
            &[1, 16, 64],
        ),
        ("64 KiB random read, QD16", Read, Random, 65536, 16, &[1]),
        (
            "1 MiB sequential read, QD8",
            Read,
            Sequential,
            1 << 20,
            8,
            &[1],
        ),
        (
            "4 KiB random write, QD32",
            Write,
            Random,
            4096,
            32,
            &[1, 16],
        ),
        (
            "1 MiB sequential write, QD8",
            Write,
            Sequential,
            1 << 20,
            8,
            &[1],
        ),
    ];
    let mut rows = Vec::new();
    for (name, operation, order, block_bytes, depth, sessions) in loads {
        let sessions = if arguments.full {
            &[1, 4, 16, 64]
        } else {
            sessions
        };
        rows.extend(sessions.iter().map(|&sessions| Row {
            name,
            load: Load {
                operation,
                order,
                block_bytes,
                depth,
                sessions,
            },
            cold: false,
        }));
    }
    rows.splice(0..0, cold_rows());
    if let Some(only) = &arguments.only {
        rows.retain(|row| row.name.contains(only));
    }
    rows
}

/// Loads whose data comes from the storage. They are first, as nothing is scattered yet.
fn cold_rows() -> [Row; 2] {
    let [random, sequential] = scattered_rows();
    [
        Row {
            name: "4 KiB random read, QD32, from storage",
            cold: true,
            ..random
        },
        Row {
            name: "1 MiB sequential read, QD8, from storage",
            cold: true,
            ..sequential
        },
    ]
}

/// Loads that show what a scattered overlay costs.
fn scattered_rows() -> [Row; 2] {
    [
        Row {
            name: "4 KiB random read, QD32",
            load: Load {
                operation: Operation::Read,
                order: Order::Random,
                block_bytes: 4096,
                depth: 32,
                sessions: 1,
            },
            cold: false,
        },
        Row {
            name: "1 MiB sequential read, QD8",
            load: Load {
                operation: Operation::Read,
                order: Order::Sequential,
                block_bytes: 1 << 20,
                depth: 8,
                sessions: 1,
            },
            cold: false,
        },
    ]
}

impl Bench {
    fn start(arguments: &IscsiArguments, dess: &Path, directory: &Path) -> Result<Self> {
        let disk_bytes = arguments.disk_mib << 20;
        let mut servers = Vec::new();
        for kind in Kind::ALL {
            let image = directory.join(format!("{kind:?}.raw"));
            make_image(&image, disk_bytes)?;
            let server = Server::start(kind, dess, &image, directory);
            servers.push(server.with_context(|| format!("cannot start {}", kind.name()))?);
        }
        Ok(Self {
            servers,
            disk_bytes,
            rounds: arguments.rounds.max(1),
            time: Duration::from_secs_f64(arguments.seconds),
        })
    }

    /// Every round measures each server once, and another one first.
    fn measure(&self, row: Row, kinds: &[Kind]) -> Result<Vec<Cell>> {
        let mut cells: Vec<Cell> = kinds
            .iter()
            .map(|&kind| Cell {
                kind,
                samples: Vec::new(),
            })
            .collect();
        for round in 0..self.rounds {
            for turn in 0..cells.len() {
                let index = (turn + round) % cells.len();
                let cell = &mut cells[index];
                let server = self.server(cell.kind)?;
                let sample = self.sample(server, row);
                let context = || format!("{}, {}", server.kind.name(), row.name);
                cell.samples.push(sample.with_context(context)?);
            }
        }
        if row.cold {
            for server in &self.servers {
                server.read_cached()?;
            }
        }
        Ok(cells)
    }

    fn sample(&self, server: &Server, row: Row) -> Result<Sample> {
        let mut generator = Generator::start(&server.portal, row.load, self.disk_bytes)?;
        if row.cold {
            server.forget_cached()?;
        }
        generator.run(u64::MAX, WARM_UP)?;
        let before = server.cpu()?;
        let done = generator.run(u64::MAX, self.time)?;
        let cpu = server.cpu()?.saturating_sub(before);
        Ok(Sample {
            commands_per_s: done.commands as f64 / done.time.as_secs_f64(),
            cpu_us: cpu.as_secs_f64() * 1e6 / done.commands as f64,
            resident_mib: server.resident_mib()?,
            p50_us: done.latency.quantile_us(0.5),
            p99_us: done.latency.quantile_us(0.99),
        })
    }

    /// Many small writes all over the disk.
    fn scatter(&self) -> Result<()> {
        let load = Load {
            operation: Operation::Write,
            order: Order::Random,
            block_bytes: 4096,
            depth: 32,
            sessions: 1,
        };
        for kind in [Kind::Overlay, Kind::File] {
            let portal = &self.server(kind)?.portal;
            let mut generator = Generator::start(portal, load, self.disk_bytes)?;
            generator.run(SCATTERED_WRITES, Duration::from_secs(120))?;
        }
        Ok(())
    }

    fn server(&self, kind: Kind) -> Result<&Server> {
        let mut servers = self.servers.iter();
        servers
            .find(|server| server.kind == kind)
            .context("no such server")
    }
}
