//! Four-way exchanges per second.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use dess_lab::Process;

use super::room::{Bench, median};
use crate::program::build_dess;

/// Exchanges offered per second.
const RATES: [u32; 2] = [1000, 3000];

#[derive(Args)]
pub(super) struct DhcpArguments {
    /// Seconds per measurement.
    #[arg(long, default_value_t = 4)]
    seconds: u32,
    /// Rounds; the servers take turns in each, and the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only these servers.
    #[arg(long = "server", value_enum)]
    servers: Vec<Server>,
    /// Only this load.
    #[arg(long = "load", value_enum)]
    loads: Vec<Load>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Server {
    Dess,
    Kea,
    Dhcpd,
    Dnsmasq,
}

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Load {
    /// Clients without a lease so far.
    First,
    /// 500 clients, again and again.
    Again,
}

impl Load {
    /// Of so many network cards perfdhcp takes one by chance for each exchange.
    fn clients(self) -> &'static str {
        match self {
            Self::First => "10000000",
            Self::Again => "500",
        }
    }
}

/// One cell of the table: server, load, exchanges offered per second.
type Setting = (Server, Load, u32);

/// What one run of perfdhcp says.
struct Run {
    offers: Measured,
    acks: Measured,
}

struct Measured {
    exchanges_per_s: f64,
    dropped_percent: f64,
    delay_ms: f64,
}

/// Measures, and prints one table: medians of the rounds, but the worst of the drops.
pub(super) fn bench(arguments: &DhcpArguments) -> Result<()> {
    let dess = build_dess(true)?;
    let settings = settings(arguments);
    let mut runs: Vec<Vec<Run>> = settings.iter().map(|_| Vec::new()).collect();
    for _ in 0..arguments.rounds {
        for (&(server, load, rate), runs) in settings.iter().zip(&mut runs) {
            let bench = Bench::new(&dess)?;
            let process = start(&bench, server)?;
            runs.push(measure(&bench, load, rate, arguments.seconds)?);
            process.kill();
        }
    }
    println!(
        "| clients | server | offered/s | 4-way/s | dropped | DISCOVER-OFFER delay | REQUEST-ACK delay |"
    );
    println!("|---|---|--:|--:|--:|--:|--:|");
    for (setting, runs) in settings.into_iter().zip(&runs) {
        print(setting, runs);
    }
    Ok(())
}

/// The cells of the table; servers take turns.
fn settings(arguments: &DhcpArguments) -> Vec<Setting> {
    let (servers, loads) = (&arguments.servers, &arguments.loads);
    let mut settings = Vec::new();
    for &load in Load::value_variants() {
        for rate in RATES {
            for &server in Server::value_variants() {
                let wanted = (servers.is_empty() || servers.contains(&server))
                    && (loads.is_empty() || loads.contains(&load));
                if wanted {
                    settings.push((server, load, rate));
                }
            }
        }
    }
    settings
}

fn print((server, load, rate): Setting, runs: &[Run]) {
    let middle = |value: fn(&Run) -> f64| median(runs.iter().map(value).collect());
    let name = |value: Option<clap::builder::PossibleValue>| {
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    };
    println!(
        "| {} | {} | {rate} | {:.0} | {:.1} % | {:.2} ms | {:.2} ms |",
        name(load.to_possible_value()),
        name(server.to_possible_value()),
        middle(|run| run.acks.exchanges_per_s),
        runs.iter().map(Run::dropped_percent).fold(0.0, f64::max),
        middle(|run| run.offers.delay_ms),
        middle(|run| run.acks.delay_ms),
    );
}

impl Run {
    /// Exchanges that did not come to their end, of both halves.
    fn dropped_percent(&self) -> f64 {
        let kept = |half: &Measured| 100.0 - half.dropped_percent;
        100.0 - kept(&self.offers) * kept(&self.acks) / 100.0
    }
}

fn start(bench: &Bench, server: Server) -> Result<Process> {
    let leases = bench.write("leases", "")?.display().to_string();
    match server {
        Server::Dess => bench.start_dess(),
        Server::Kea => {
            let config = bench
                .write("kea.json", &kea_config(&leases))?
                .display()
                .to_string();
            let own = bench.room.directory().display().to_string();
            let (pid, lock) = (
                format!("KEA_PIDFILE_DIR={own}"),
                format!("KEA_LOCKFILE_DIR={own}"),
            );
            let arguments = ["env", &pid, &lock, "kea-dhcp4", "-c", &config];
            bench.start("kea", &arguments, Some("DHCP4_STARTED"))
        }
        Server::Dhcpd => {
            let config = bench
                .write("dhcpd.conf", DHCPD_CONFIG)?
                .display()
                .to_string();
            let pid = bench.file("dhcpd.pid").display().to_string();
            let arguments = [
                "dhcpd", "-4", "-f", "-cf", &config, "-lf", &leases, "-pf", &pid, "eth0",
            ];
            bench.start("dhcpd", &arguments, Some("Listening on"))
        }
        Server::Dnsmasq => {
            let leases = format!("--dhcp-leasefile={leases}");
            let arguments = [
                "dnsmasq",
                "--keep-in-foreground",
                "--port=0",
                "--no-ping",
                "--conf-file=/dev/null",
                "--log-facility=-",
                "--interface=eth0",
                "--dhcp-range=10.78.0.0,10.79.255.255,255.192.0.0,3600",
                "--dhcp-lease-max=100000",
                &leases,
            ];
            bench.start("dnsmasq", &arguments, Some("DHCP, IP range"))
        }
    }
}

fn measure(bench: &Bench, load: Load, rate: u32, seconds: u32) -> Result<Run> {
    // The server's address is in the pool's network, so that answers to relayed packets find a
    // subnet; perfdhcp plays the relay with its own address.
    let mut command = bench.load.command("perfdhcp");
    command
        .args([
            "-4",
            "-r",
            &rate.to_string(),
            "-R",
            load.clients(),
            "-p",
            &seconds.to_string(),
        ])
        // Answers that are under way at the end are waited for (microseconds).
        .args(["-W", "500000", "-l", "eth0", "10.77.0.1"]);
    let limit = Duration::from_secs(u64::from(seconds) + 60);
    // perfdhcp ends with code 3 when packets were dropped, which is a result and not an error.
    let process = bench.load.spawn("perfdhcp", &mut command)?;
    process.wait(limit)?;
    let report = process.log();
    let mut sections = report.split("***Statistics for: ").skip(1);
    let offers = sections.next().context("perfdhcp gave no statistics")?;
    let acks = sections
        .next()
        .context("perfdhcp gave no statistics of REQUEST-ACK")?;
    Ok(Run {
        offers: parse(offers, seconds)?,
        acks: parse(acks, seconds)?,
    })
}

fn parse(section: &str, seconds: u32) -> Result<Measured> {
    let field = |name: &str| {
        let line = section
            .lines()
            .find_map(|line| line.trim().strip_prefix(name));
        let number = line?.trim().split(' ').next()?.parse::<f64>().ok();
        number.filter(|number| number.is_finite())
    };
    let sent = field("sent packets:").context("no count of sent packets")?;
    let received = field("received packets:").context("no count of received packets")?;
    Ok(Measured {
        exchanges_per_s: received / f64::from(seconds),
        dropped_percent: if sent > 0.0 {
            (sent - received).max(0.0) * 100.0 / sent
        } else {
            0.0
        },
        delay_ms: field("avg delay:").unwrap_or(f64::NAN),
    })
}

fn kea_config(leases: &str) -> String {
    format!(
        r#"{{ "Dhcp4": {{
  "interfaces-config": {{ "interfaces": ["eth0"] }},
  "lease-database": {{ "type": "memfile", "persist": true, "name": "{leases}" }},
  "valid-lifetime": 3600,
  "subnet4": [ {{ "subnet": "10.64.0.0/10",
                 "pools": [ {{ "pool": "10.78.0.0 - 10.79.255.255" }} ] }} ],
  "loggers": [ {{ "name": "kea-dhcp4", "severity": "INFO",
                 "output_options": [ {{ "output": "stdout" }} ] }} ] }} }}"#
    )
}

const DHCPD_CONFIG: &str = "authoritative;
ping-check false;
default-lease-time 3600;
subnet 10.64.0.0 netmask 255.192.0.0 { range 10.78.0.0 10.79.255.255; }
";
