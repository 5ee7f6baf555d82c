//! Boots an image of the lab from dnsmasq and tgt instead of DESS: tells a fault of the room or
//! the image from one of ours.
//!
//! `reference_boot tiny|debian bios|uefi-rom|uefi-pxe|uefi-http [guest command]` (packages tgt, dnsmasq-base).

use std::time::Duration;

use anyhow::{Context as _, bail};
use dess_lab::{ClientOptions, Firmware, Room, RoomOptions, image, packages};

const TARGET: &str = "iqn.2026-11.lab.reference:disk";
const MINUTE: Duration = Duration::from_secs(60);

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let image = match arguments.next().as_deref() {
        Some("tiny") => image::tiny,
        Some("debian") => image::debian,
        _ => bail!("which image? tiny or debian"),
    };
    let firmware = match arguments.next().as_deref() {
        Some("bios") => Firmware::Bios,
        Some("uefi-rom") => Firmware::UefiRom,
        Some("uefi-pxe") => Firmware::UefiPxe,
        Some("uefi-http") => Firmware::UefiHttp,
        _ => bail!("which firmware? bios, uefi-rom, uefi-pxe or uefi-http"),
    };
    packages::ensure()?;
    let image = image()?;
    let room = Room::create(RoomOptions::default())?;
    println!("{}: {}", room.id(), room.directory().display());

    let files = room.directory().join("files");
    std::fs::create_dir(&files)?;
    std::fs::copy("/usr/lib/ipxe/snponly.efi", files.join("snponly.efi"))?;
    let script = format!("#!ipxe\nsanboot iscsi:10.77.0.1:::1:{TARGET}\n");
    std::fs::write(files.join("boot.ipxe"), script)?;
    let mut httpd = room.server().command("busybox");
    httpd.args(["httpd", "-f", "-p", "80", "-h"]).arg(&files);
    let _httpd = room.spawn_server("httpd", &mut httpd)?;
    let mut dnsmasq = room.server().command("dnsmasq");
    dnsmasq
        .args([
            "--no-daemon",
            "--conf-file=/dev/null",
            "--port=0",
            "--no-ping",
        ])
        .args(["--interface=eth0", "--bind-interfaces", "--log-dhcp"])
        .arg("--dhcp-range=10.77.0.100,10.77.0.199,255.255.255.0")
        .args(["--dhcp-range=fd77::,ra-only", "--enable-ra"])
        .arg("--dhcp-leasefile=/dev/null")
        .args([
            "--dhcp-match=set:ipxe,175",
            "--dhcp-option-force=175,b0:01:01",
        ])
        .arg("--dhcp-match=set:efihttp,option:client-arch,16")
        .arg("--dhcp-option-force=tag:efihttp,60,HTTPClient")
        .arg("--dhcp-boot=tag:ipxe,boot.ipxe")
        .arg("--dhcp-boot=tag:!ipxe,tag:efihttp,http://10.77.0.1/snponly.efi")
        .arg("--dhcp-boot=tag:!ipxe,tag:!efihttp,snponly.efi")
        .arg("--enable-tftp")
        .arg(format!("--tftp-root={}", files.display()));
    let dnsmasq = room.spawn_server("dnsmasq", &mut dnsmasq)?;
    dnsmasq.wait_for_log("started", MINUTE)?;

    let disk = room.directory().join("disk.raw");
    std::fs::copy(&image.path, &disk)?;
    let control = (std::process::id() % 30_000).to_string();
    let mut tgtd = room.server().command("tgtd");
    let _tgtd = room.spawn_server("tgtd", tgtd.args(["-f", "-C", &control]))?;
    let admin = |args: &[&str]| {
        let mut command = room.server().command("tgtadm");
        command.args(["-C", &control, "--lld", "iscsi"]).args(args);
        room.server().run(&mut command, MINUTE)
    };
    let mut tries = 0;
    while let Err(error) = admin(&[
        "--op", "new", "--mode", "target", "--tid", "1", "-T", TARGET,
    ]) {
        tries += 1;
        anyhow::ensure!(tries < 50, "tgtd does not answer: {error:#}");
    }
    let path = disk.to_str().context("the room's path is not UTF-8")?;
    admin(&[
        "--op",
        "new",
        "--mode",
        "logicalunit",
        "--tid",
        "1",
        "--lun",
        "1",
        "-b",
        path,
    ])?;
    admin(&[
        "--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL",
    ])?;

    let client = room.client(ClientOptions::new("pc1", firmware, "52:54:00:77:00:10"))?;
    for marker in ["DESS-GRUB", image.marker] {
        match client.wait_for(&[marker], 6 * MINUTE) {
            Ok(seen) => println!("{marker} after {} ms", seen.at.as_millis()),
            Err(error) => {
                eprintln!("{}", dnsmasq.log_tail(30));
                return Err(error);
            }
        }
    }
    println!(
        "screen: {} bytes",
        std::fs::metadata(client.screenshot()?)?.len()
    );
    let commands: Vec<String> = arguments.collect();
    for command in if commands.is_empty() {
        vec!["cat boots; mount; dmesg | tail -n 3".into()]
    } else {
        commands
    } {
        println!("{}", client.run(&command, 3 * MINUTE)?);
    }
    Ok(())
}
