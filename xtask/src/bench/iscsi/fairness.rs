//! What one greedy client costs the others: the same small reads with and without it, in turns.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use super::WARM_UP;
use super::load::{Generator, Load, Operation, Order};
use super::server::Server;
use crate::bench::room::median;

/// The others: 64 PCs that each wait for one 4 KiB read at a time.
const OTHERS: Load = Load {
    operation: Operation::Read,
    order: Order::Random,
    block_bytes: 4096,
    depth: 1,
    sessions: 64,
};
/// The greedy one: 32 reads of 1 MiB at a time.
const GREEDY: Load = Load {
    operation: Operation::Read,
    order: Order::Sequential,
    block_bytes: 1 << 20,
    depth: 32,
    sessions: 1,
};
/// How often the greedy one looks whether it shall go on.
const GREEDY_STEP: Duration = Duration::from_millis(20);

/// The others' read latency in microseconds, and what the greedy one got.
struct Round {
    p50_us: f64,
    p99_us: f64,
    greedy_mib_per_s: f64,
}

/// Prints the medians of so many rounds.
pub(super) fn measure(
    server: &Server,
    disk_bytes: u64,
    rounds: usize,
    time: Duration,
) -> Result<()> {
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        alone.push(round(server, disk_bytes, time, false)?);
        beside.push(round(server, disk_bytes, time, true)?);
    }
    let of =
        |rounds: &[Round], value: fn(&Round) -> f64| median(rounds.iter().map(value).collect());
    println!(
        "{}: 64 sessions, 4 KiB random read, QD1",
        server.kind.name()
    );
    for (name, rounds) in [
        ("without a greedy one", &alone),
        ("beside a greedy one", &beside),
    ] {
        println!(
            "  {name:<21} p50 {:>7.0} us  p99 {:>7.0} us  (the greedy one: {:.0} MiB/s)",
            of(rounds, |round| round.p50_us),
            of(rounds, |round| round.p99_us),
            of(rounds, |round| round.greedy_mib_per_s),
        );
    }
    let ratio = of(&beside, |round| round.p99_us) / of(&alone, |round| round.p99_us);
    println!("  p99 with it is {ratio:.2} times that without it");
    Ok(())
}

fn round(server: &Server, disk_bytes: u64, time: Duration, greedy: bool) -> Result<Round> {
    let mut others = Generator::start(&server.portal, OTHERS, disk_bytes)?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let taken = scope.spawn(|| match greedy {
            true => take_all(server, disk_bytes, &stop),
            false => Ok(0.0),
        });
        let done = others
            .run(u64::MAX, WARM_UP)
            .and_then(|_| others.run(u64::MAX, time));
        stop.store(true, Ordering::Relaxed);
        let taken = taken.join().map_err(|_| anyhow!("the greedy one died"))?;
        let done = done?;
        Ok(Round {
            p50_us: done.latency.quantile_us(0.5),
            p99_us: done.latency.quantile_us(0.99),
            greedy_mib_per_s: taken.context("the greedy one")?,
        })
    })
}

/// Reads until told to stop; MiB per second.
fn take_all(server: &Server, disk_bytes: u64, stop: &AtomicBool) -> Result<f64> {
    let mut generator = Generator::start_from(OTHERS.sessions, &server.portal, GREEDY, disk_bytes)?;
    let (mut commands, mut time) = (0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let done = generator.run(u64::MAX, GREEDY_STEP)?;
        commands += done.commands;
        time += done.time;
    }
    Ok(commands as f64 / time.as_secs_f64().max(1e-9))
}
