//! Four-way exchanges per second.

use std::time::Duration;

use anyhow::{Context, Result};
use dess_lab::Process;

use super::room::Bench;

/// Exchanges offered per second.
const RATES: [u32; 2] = [1000, 3000];
/// Simulated clients.
const CLIENTS: &str = "500";

struct Measured {
    exchanges_per_s: f64,
    dropped_percent: f64,
    delay_ms: f64,
}

pub(super) fn bench(seconds: u32) -> Result<()> {
    println!(
        "| server | offered/s | 4-way/s | dropped | DISCOVER-OFFER delay | REQUEST-ACK delay |"
    );
    println!("|---|--:|--:|--:|--:|--:|");
    for name in ["dess", "kea", "dhcpd", "dnsmasq"] {
        for rate in RATES {
            let bench = Bench::new()?;
            let server = start(&bench, name)?;
            let (offers, acks) = measure(&bench, rate, seconds)?;
            server.kill();
            println!(
                "| {name} | {rate} | {:.0} | {:.1} % | {:.2} ms | {:.2} ms |",
                acks.exchanges_per_s,
                100.0 - (100.0 - offers.dropped_percent) * (100.0 - acks.dropped_percent) / 100.0,
                offers.delay_ms,
                acks.delay_ms
            );
        }
    }
    Ok(())
}

fn start(bench: &Bench, name: &str) -> Result<Process> {
    let leases = bench.write("leases", "")?.display().to_string();
    match name {
        "dess" => bench.start_dess(),
        "kea" => {
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
        "dhcpd" => {
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
        _ => {
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

fn measure(bench: &Bench, rate: u32, seconds: u32) -> Result<(Measured, Measured)> {
    // The server's address is in the pool's network, so that answers to relayed packets find a
    // subnet; perfdhcp plays the relay with its own address.
    let mut command = bench.load.command("perfdhcp");
    command
        .args([
            "-4",
            "-r",
            &rate.to_string(),
            "-R",
            CLIENTS,
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
    Ok((parse(offers, seconds)?, parse(acks, seconds)?))
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
