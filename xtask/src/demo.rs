//! `cargo xtask demo`: virtual PCs without disks boot from DESS, and the page shows it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use dess_lab::forward::Forward;
use dess_lab::{
    Client, ClientOptions, DessServer, Firmware, Image, Room, RoomOptions, ServerOptions, image,
    interrupt, packages,
};
use serde_json::Value;

use crate::program::{build_dess, is_root, run};

/// Slowest boot that is waited for; the processor is emulated.
const BOOT_LIMIT: Duration = Duration::from_secs(600);
/// How long the server may take to notice that a client is up.
const NOTICE_LIMIT: Duration = Duration::from_secs(60);
/// Where the page listens inside the room.
const PAGE: ([u8; 4], u16) = ([10, 77, 0, 1], 8080);
/// Names the built program when the demo starts itself again as root.
const BINARY_VARIABLE: &str = "DESS_BIN";

#[derive(Args)]
pub(crate) struct DemoArguments {
    /// End after the boots; success only if both PCs came up.
    #[arg(long)]
    once: bool,
    /// Boot a whole Debian system instead of the tiny one.
    #[arg(long)]
    debian: bool,
    /// Port of this machine at which the page is served.
    #[arg(long, default_value_t = 8080)]
    port: u16,
}

pub(crate) fn demo(arguments: &DemoArguments) -> Result<()> {
    packages::ensure()?;
    let binary = match std::env::var_os(BINARY_VARIABLE) {
        Some(binary) => binary.into(),
        None => build_dess(false)?,
    };
    if is_root() {
        return boot_the_room(arguments, &binary);
    }
    start_again_as_root(&binary)
}

/// Namespaces and taps need root; the build above does not.
fn start_again_as_root(binary: &Path) -> Result<()> {
    let mut sudo = Command::new("sudo");
    sudo.arg("env")
        .arg(format!("{BINARY_VARIABLE}={}", binary.display()));
    for variable in [
        "CARGO",
        "CARGO_TARGET_DIR",
        "HOME",
        "PATH",
        "XDG_CACHE_HOME",
    ] {
        if let Ok(value) = std::env::var(variable) {
            sudo.arg(format!("{variable}={value}"));
        }
    }
    run(sudo
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1)))
}

fn boot_the_room(arguments: &DemoArguments, binary: &Path) -> Result<()> {
    let image = if arguments.debian {
        image::debian()?
    } else {
        image::tiny()?
    };
    let room = Room::create(RoomOptions::default())?;
    let options = ServerOptions {
        binary: Some(binary.to_owned()),
        ..ServerOptions::default()
    };
    let server = DessServer::start(&room, &options)?;
    say("DESS is in service (dhcp, boot, iscsi, node, web)");
    server.import(&image, if arguments.debian { "debian" } else { "tiny" })?;
    say("the golden image is imported");
    let page = Forward::open(room.server(), arguments.port, SocketAddr::from(PAGE))
        .context("choose another port with --port")?;
    show_page(&server, &page)?;

    let clients = [
        room.client(ClientOptions::new(
            "bios",
            Firmware::Bios,
            "52:54:00:77:00:01",
        ))?,
        room.client(ClientOptions::new(
            "uefi",
            Firmware::UefiPxe,
            "52:54:00:77:00:02",
        ))?,
    ];
    say("two PCs without disks are switched on: one BIOS, one UEFI");
    let started = Instant::now();
    for client in &clients {
        wait_until_up(client, &image, started)?;
    }
    for client in &clients {
        print_timeline(&server, client)?;
    }
    if arguments.once {
        return Ok(());
    }
    show_page(&server, &page)?;
    say("Ctrl-C ends the demo and removes the room");
    interrupt::wait();
    Ok(())
}

fn wait_until_up(client: &Client, image: &Image, started: Instant) -> Result<()> {
    let limit = BOOT_LIMIT.saturating_sub(started.elapsed());
    let seen = client.wait_for(&[image.marker], limit)?;
    say(&format!(
        "{} is up after {:.1} s",
        client.options().name,
        seen.at.as_secs_f64()
    ));
    Ok(())
}

/// The page's address, and the code of the first visit while there is one.
fn show_page(server: &DessServer, page: &Forward) -> Result<()> {
    println!("\n    the page: http://{}", page.address());
    if let Ok(code) = server.cli(&["web", "setup-code"]) {
        println!("    set-up code of the first visit: {}", code.trim());
    }
    println!();
    Ok(())
}

fn print_timeline(server: &DessServer, client: &Client) -> Result<()> {
    let mac = client.options().mac.as_str();
    let boot = server.wait_until("the boot is complete", NOTICE_LIMIT, |server| {
        let boots = server.json(&["client", "boots", mac, "--limit", "1"])?;
        let newest = boots.get(0).cloned().unwrap_or(Value::Null);
        Ok((newest["outcome"] == "up").then_some(newest))
    })?;
    let steps = boot["steps"].as_array().context("the boot has no steps")?;
    ensure!(!steps.is_empty(), "the boot has no steps");
    println!("\n  {} ({mac})", client.options().name);
    for step in steps {
        let (Some(at), Some(stage)) = (step["offset_ms"].as_u64(), step["stage"].as_str()) else {
            bail!("a step without time or stage: {step}");
        };
        println!(
            "  {at:>7} ms  {stage:<15} {}",
            step["detail"].as_str().unwrap_or_default()
        );
    }
    Ok(())
}

fn say(text: &str) {
    println!("==> {text}");
}
