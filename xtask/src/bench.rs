//! Services measured beside their peers, in one run on one machine, as ratios.

mod database;
mod dhcp;
mod import;
mod iscsi;
mod room;
mod store;
mod tftp;

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::program::run;

#[derive(Args)]
pub(crate) struct BenchArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Four-way exchanges per second beside dnsmasq, ISC dhcpd and Kea (perfdhcp).
    Dhcp(dhcp::DhcpArguments),
    /// Transfers beside tftpd-hpa and dnsmasq (curl and atftp).
    Tftp {
        /// Rounds; the servers take turns in each, and the median counts.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
    },
    /// Imports of every format beside qemu-img convert.
    Import {
        /// Where to work: on the storage that is to be measured.
        #[arg(long, default_value = "/var/tmp")]
        directory: PathBuf,
        /// Rounds of each measurement; the median counts.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
    },
    /// Disks created, reset and published, by the size of the image; reads through layers; memory of a room.
    Store {
        /// Where to work: on the storage that is to be measured. Takes up to 5 GiB.
        #[arg(long, default_value = "/var/tmp")]
        directory: PathBuf,
        /// Rounds of each measurement; the median counts.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
    /// Pages, status and snapshot of a site with 10,000 clients and 1,000,000 boots, on SQLite and MariaDB.
    Database {
        /// Where to work: on the storage that is to be measured. Takes 4 GiB.
        #[arg(long, default_value = "/var/tmp")]
        directory: PathBuf,
    },
    /// Reads and writes beside tgt (own load generator, iscsi-perf, qemu-img).
    Iscsi(iscsi::IscsiArguments),
}

pub(crate) fn bench(arguments: &BenchArguments) -> Result<()> {
    dess_lab::packages::ensure()?;
    install_peers()?;
    match &arguments.what {
        What::Dhcp(arguments) => dhcp::bench(arguments),
        What::Tftp { rounds } => tftp::bench(*rounds),
        What::Import { directory, rounds } => import::bench(directory, *rounds),
        What::Store { directory, rounds } => store::bench(directory, *rounds),
        What::Database { directory } => database::bench(directory),
        What::Iscsi(arguments) => iscsi::bench(arguments),
    }
}

/// Peers and load generators that only the benchmarks need.
fn install_peers() -> Result<()> {
    let programs = [
        ("/usr/sbin/perfdhcp", "kea-admin"),
        ("/usr/sbin/kea-dhcp4", "kea-dhcp4-server"),
        ("/usr/sbin/dhcpd", "isc-dhcp-server"),
        ("/usr/sbin/in.tftpd", "tftpd-hpa"),
        ("/usr/sbin/dnsmasq", "dnsmasq-base"),
        ("/usr/sbin/mariadbd", "mariadb-server"),
        ("/usr/bin/atftp", "atftp"),
        ("/usr/bin/curl", "curl"),
        ("/usr/sbin/tgtd", "tgt"),
        ("/usr/bin/iscsi-perf", "libiscsi-bin"),
        ("/usr/bin/qemu-img", "qemu-utils"),
        (
            "/usr/lib/x86_64-linux-gnu/qemu/block-iscsi.so",
            "qemu-block-extra",
        ),
    ];
    let missing: Vec<&str> = programs
        .into_iter()
        .filter(|(program, _)| !std::path::Path::new(program).exists())
        .map(|(_, package)| package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut install = Command::new("apt-get");
    install.args([
        "install",
        "--yes",
        "--quiet",
        "-o",
        "DPkg::Lock::Timeout=300",
    ]);
    run(install
        .args(missing)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}
