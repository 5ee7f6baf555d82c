//! Clients that others wrote, without booting: DHCP by dhclient and udhcpc, files by curl and tftp.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use dess_lab::{DessServer, Namespace, Room, RoomOptions, ServerOptions, packages};

const LIMIT: Duration = Duration::from_secs(60);
/// Writes what the DHCP client learned to the file named by `LEASE_FILE`.
const LEASE_SCRIPT: &str = "#!/bin/sh\nenv >>\"$LEASE_FILE\"\nexit 0\n";

#[test]
fn dhcp_clients_get_leases_and_file_clients_get_files() -> Result<()> {
    packages::ensure()?;
    let room = Room::create(RoomOptions::default())?;
    let server = DessServer::start(&room, &ServerOptions::default())?;
    let script = room.directory().join("lease-script");
    std::fs::write(&script, LEASE_SCRIPT)?;
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;

    let peer = room.peer("peer", None)?;
    let first = dhclient(&room, &peer, &script)?;
    assert!(is_pool_address(&first), "dhclient got {first}");
    let again = dhclient(&room, &peer, &script)?;
    assert_eq!(again, first, "the same client gets the same address again");

    let other = room.peer("other", None)?;
    let second = udhcpc(&room, &other, &script)?;
    assert!(is_pool_address(&second), "udhcpc got {second}");
    assert_ne!(second, first, "two clients share an address");

    peer.ip(&["addr", "add", &format!("{first}/24"), "dev", "eth0"])?;
    tftp_files_arrive_whole(&room, &peer)?;
    tftp_files_arrive_whole_in_windows(&room, &peer)?;
    http_files_arrive_whole(&room, &peer)?;
    assert!(server.is_ready(), "{}", server.process().log_tail(30));
    Ok(())
}

fn dhclient(room: &Room, peer: &Namespace, script: &Path) -> Result<String> {
    let learned = room.directory().join("dhclient.env");
    let mut dhclient = peer.command("dhclient");
    dhclient
        .args(["-4", "-1", "-v", "-d", "-cf", "/dev/null", "-sf"])
        .arg(script);
    dhclient.args(["-e".to_owned(), format!("LEASE_FILE={}", learned.display())]);
    dhclient
        .arg("-lf")
        .arg(room.directory().join("dhclient.leases"));
    dhclient
        .arg("-pf")
        .arg(room.directory().join("dhclient.pid"))
        .arg("eth0");
    let process = peer.spawn("dhclient", &mut dhclient)?;
    process.wait_for_log("bound to", LIMIT)?;
    process.kill();
    lease_value(&learned, "new_ip_address")
}

fn udhcpc(room: &Room, peer: &Namespace, script: &Path) -> Result<String> {
    let learned = room.directory().join("udhcpc.env");
    let mut udhcpc = peer.command("busybox");
    udhcpc.env("LEASE_FILE", &learned);
    udhcpc
        .args(["udhcpc", "-f", "-q", "-n", "-i", "eth0", "-t", "5", "-s"])
        .arg(script);
    peer.run(&mut udhcpc, LIMIT)?;
    assert_eq!(lease_value(&learned, "subnet")?, "255.255.255.0");
    lease_value(&learned, "ip")
}

/// The last value of `name` that the lease script saw.
fn lease_value(learned: &Path, name: &str) -> Result<String> {
    let text = std::fs::read_to_string(learned).context("the client ran no script")?;
    text.lines()
        .rev()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        .map(str::to_owned)
        .with_context(|| format!("no {name} in:\n{text}"))
}

fn is_pool_address(address: &str) -> bool {
    address
        .strip_prefix("10.77.0.")
        .and_then(|last| last.parse::<u8>().ok())
        .is_some_and(|last| (100..=199).contains(&last))
}

fn tftp_files_arrive_whole(room: &Room, peer: &Namespace) -> Result<()> {
    let expected = std::fs::read("/usr/lib/ipxe/snponly.efi")?;
    let target = room.directory().join("tftp-file");
    let target_text = target.to_str().context("the room's path is not UTF-8")?;
    let url = "tftp://10.77.0.1/snponly.efi";
    // curl always asks for tsize and timeout unless told not to use options at all.
    for options in [
        &["--tftp-no-options"][..],
        &["--tftp-blksize", "8"],
        &["--tftp-blksize", "1468"],
        &["--tftp-blksize", "65464"],
    ] {
        let mut curl = peer.command("curl");
        curl.args(["-sS", "--max-time", "50", "-o", target_text])
            .args(options)
            .arg(url);
        peer.run(&mut curl, LIMIT)?;
        assert!(
            std::fs::read(&target)? == expected,
            "{options:?}: other bytes"
        );
        std::fs::remove_file(&target)?;
    }
    let mut tftp = peer.command("tftp");
    tftp.args([
        "-m",
        "binary",
        "10.77.0.1",
        "-c",
        "get",
        "snponly.efi",
        target_text,
    ]);
    peer.run(&mut tftp, LIMIT)?;
    assert!(std::fs::read(&target)? == expected, "tftp-hpa: other bytes");
    std::fs::remove_file(&target)?;

    let mut busybox = peer.command("busybox");
    busybox.args([
        "tftp",
        "-g",
        "-b",
        "1428",
        "-r",
        "snponly.efi",
        "-l",
        target_text,
        "10.77.0.1",
    ]);
    peer.run(&mut busybox, LIMIT)?;
    assert!(std::fs::read(&target)? == expected, "busybox: other bytes");

    let mut missing = peer.command("curl");
    missing.args([
        "-sS",
        "-o",
        "/dev/null",
        "tftp://10.77.0.1/../../etc/passwd",
    ]);
    assert!(
        peer.run(missing.arg("--path-as-is"), LIMIT).is_err(),
        "it left its directory"
    );
    Ok(())
}

/// Of the clients only atftp knows windowsize (RFC 7440). Its trace tells what was agreed on.
fn tftp_files_arrive_whole_in_windows(room: &Room, peer: &Namespace) -> Result<()> {
    let expected = std::fs::read("/usr/lib/ipxe/snponly.efi")?;
    let target = room.directory().join("atftp-file");
    for options in [
        &["windowsize 16"][..],
        &["windowsize 16", "blksize 1468", "tsize 0", "timeout 3"],
    ] {
        let mut atftp = peer.command("atftp");
        for option in options {
            atftp.args(["--option", option]);
        }
        atftp.args(["--trace", "--get", "--remote-file", "snponly.efi"]);
        atftp.arg("--local-file").arg(&target).arg("10.77.0.1");
        let trace = peer.run(&mut atftp, LIMIT)?;
        assert!(
            std::fs::read(&target)? == expected,
            "{options:?}: other bytes"
        );
        let agreed = trace
            .lines()
            .find_map(|line| line.strip_prefix("received OACK"))
            .with_context(|| format!("no OACK in:\n{trace}"))?;
        for option in options {
            let wanted = match *option {
                "tsize 0" => format!("tsize: {}", expected.len()),
                other => other.replace(' ', ": "),
            };
            assert!(agreed.contains(&wanted), "{wanted} is not in {agreed}");
        }
        std::fs::remove_file(&target)?;
    }
    Ok(())
}

fn http_files_arrive_whole(room: &Room, peer: &Namespace) -> Result<()> {
    let expected = std::fs::read("/usr/lib/ipxe/snponly.efi")?;
    let target = room.directory().join("http-file");
    for (range, wanted) in [
        (None, &expected[..]),
        (Some("0-0"), &expected[..1]),
        (Some("1000-1999"), &expected[1000..2000]),
        (Some("-100"), &expected[expected.len() - 100..]),
    ] {
        let mut curl = peer.command("curl");
        curl.args(["-sS", "--fail", "-o"]).arg(&target);
        if let Some(range) = range {
            curl.args(["--range", range]);
        }
        peer.run(curl.arg("http://10.77.0.1/files/snponly.efi"), LIMIT)?;
        assert!(
            std::fs::read(&target)? == wanted,
            "range {range:?}: other bytes"
        );
    }
    let mut script = peer.command("curl");
    script.args([
        "-sS",
        "--fail",
        "http://10.77.0.1/boot/52:54:00:77:00:99.ipxe",
    ]);
    let script = peer.run(&mut script, LIMIT)?;
    assert!(script.starts_with("#!ipxe\n"), "{script}");
    Ok(())
}
