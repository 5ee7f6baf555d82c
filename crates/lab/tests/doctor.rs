//! `dess doctor` names the cause of each breakage, staged for real: processes, links, files, a full file system, a second
//! DHCP server.

use std::fs;
use std::io::Write;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use dess_lab::{DessServer, Room, RoomOptions, ServerOptions, image, packages};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

/// The finding of this kind that the doctor tells now.
fn finding(server: &DessServer, kind: &str) -> Result<Value> {
    let report = server.json(&["doctor"])?;
    let findings = report["findings"].as_array().context("findings")?;
    let found = findings.iter().find(|one| one["finding"] == kind);
    found
        .cloned()
        .with_context(|| format!("no {kind} in {report}"))
}

fn has(server: &DessServer, kind: &str) -> Result<bool> {
    let report = server.json(&["doctor"])?;
    let findings = report["findings"].as_array().context("findings")?;
    Ok(findings.iter().any(|one| one["finding"] == kind))
}

fn started() -> Result<(DessServer, Room)> {
    packages::ensure()?;
    let room = Room::create(RoomOptions::default())?;
    let server = DessServer::start(&room, &ServerOptions::default())?;
    Ok((server, room))
}

/// What the doctor prints, in a language; and its exit code.
fn printed(server: &DessServer, lang: &str) -> Result<(String, Option<i32>)> {
    let output = server.command(&["doctor", "--lang", lang]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok((text, output.status.code()))
}

#[test]
fn a_healthy_server_then_its_link_its_address_and_its_clock() -> Result<()> {
    let (server, room) = started()?;
    let (text, code) = printed(&server, "en")?;
    assert_eq!(code, Some(0), "nothing is wrong: {text}");
    assert!(text.contains("Nothing is wrong."), "{text}");
    assert!(text.contains("not applicable"), "certificates: {text}");

    room.server().ip(&["link", "set", "eth0", "down"])?;
    assert_eq!(finding(&server, "link_down")?["interface"], "eth0");
    let (text, code) = printed(&server, "ko")?;
    assert_eq!(code, Some(3));
    assert!(text.contains("eth0의 연결이 끊겨"), "in Korean: {text}");
    assert!(text.contains("ip link set eth0 up"), "the command: {text}");
    room.server().ip(&["link", "set", "eth0", "up"])?;

    room.server().ip(&["addr", "flush", "dev", "eth0"])?;
    room.server()
        .ip(&["addr", "add", "10.77.0.9/24", "dev", "eth0"])?;
    let changed = finding(&server, "address_changed")?;
    assert_eq!(changed["wanted"], "10.77.0.1");
    assert_eq!(changed["found"], serde_json::json!(["10.77.0.9"]));
    room.server().ip(&["addr", "flush", "dev", "eth0"])?;
    room.server()
        .ip(&["addr", "add", "10.77.0.1/24", "dev", "eth0"])?;
    assert!(!has(&server, "address_changed")?);

    // The clock is as far off as if it had run an hour ahead when the file was written.
    let leases = fs::File::options()
        .write(true)
        .open(server.state_directory().join("leases"))?;
    let ahead = std::time::SystemTime::now() + Duration::from_secs(3600);
    leases.set_modified(ahead)?;
    let behind = finding(&server, "clock_behind")?;
    let secs = behind["by_secs"].as_i64().context("seconds")?;
    assert!((3500..=3600).contains(&secs), "{behind}");
    Ok(())
}

#[test]
fn rights_database_and_snapshot_also_with_everything_dead() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let (server, _room) = started()?;
    let state = server.state_directory().to_owned();
    server.stop()?;
    assert!(has(&server, "nothing_runs")?);

    let database = state.join("dess.db");
    fs::set_permissions(&database, fs::Permissions::from_mode(0o666))?;
    std::os::unix::fs::chown(&database, Some(65_534), None)?;
    let wrong = finding(&server, "wrong_rights")?;
    assert_eq!(wrong["path"], database.display().to_string());
    assert_eq!(wrong["foreign_owner"], 65_534);
    fs::remove_dir_all(state.join("images"))?;
    assert!(has(&server, "directory_missing")?);
    let fixed = server.json(&["doctor", "--fix"])?;
    let mended = fixed["findings"].as_array().context("findings")?;
    for kind in ["wrong_rights", "directory_missing"] {
        let one = mended.iter().find(|one| one["finding"] == kind);
        assert_eq!(one.context("found")?["mended"], true, "{fixed}");
        assert!(!has(&server, kind)?, "{kind} is mended");
    }

    let snapshot = state.join("site.json");
    let text = fs::read_to_string(&snapshot)?;
    let mut site: Value = serde_json::from_str(&text)?;
    site["revision"] = 0.into();
    site["server"]["interfaces"] = serde_json::json!(["eth9"]);
    fs::write(&snapshot, site.to_string())?;
    let stale = finding(&server, "snapshot_stale")?;
    assert_eq!(stale["published"], 0);
    let missing = finding(&server, "interface_missing")?;
    assert_eq!(missing["interface"], "eth9");
    assert!(
        missing["existing"].to_string().contains("eth0"),
        "{missing}"
    );
    fs::write(&snapshot, "{")?;
    assert!(has(&server, "snapshot_unreadable")?);
    fs::write(&snapshot, text)?;

    fs::rename(&database, state.join("gone"))?;
    assert!(has(&server, "database_gone")?);
    fs::write(
        &database,
        "not a database at all, and long enough to be read as one",
    )?;
    assert!(has(&server, "database_gone")?, "damaged");
    Ok(())
}

#[test]
fn a_service_that_does_not_answer_and_a_taken_port() -> Result<()> {
    let (server, room) = started()?;
    let stopped = server.service_pid("boot")?;
    kill(Pid::from_raw(stopped), Signal::SIGSTOP)?;
    let fails = finding(&server, "service_fails");
    kill(Pid::from_raw(stopped), Signal::SIGCONT)?;
    let fails = fails?;
    assert_eq!(fails["service"], "boot");
    assert_eq!(fails["command"], "dess service restart boot");

    // Another program comes first after the service has ended.
    server.stop()?;
    let mut other = room.server().command("busybox");
    other.args(["httpd", "-f", "-p", "10.77.0.1:3260", "-h", "/"]);
    let other = room.spawn_server("other-target", &mut other)?;
    let taken = server.wait_until("the doctor sees who has the port", LIMIT, |server| {
        Ok(finding(server, "port_taken").ok())
    })?;
    assert_eq!(
        (&taken["protocol"], &taken["port"]),
        (&"tcp".into(), &3260.into())
    );
    let holder = taken["holder"].as_str().context("holder")?;
    assert!(holder.starts_with("busybox (pid "), "{taken}");
    other.kill();

    Ok(())
}

#[test]
fn a_service_that_cannot_start_is_named_with_its_last_words() -> Result<()> {
    let (server, _room) = started()?;
    // A directory in the place of its file: nobody can use that, not even root.
    let leases = server.state_directory().join("leases");
    fs::remove_file(&leases)?;
    fs::create_dir(&leases)?;
    server.kill_service("dhcp")?;
    let down = server.wait_until("dhcp cannot start", LIMIT, |server| {
        let down = finding(server, "service_down").ok();
        Ok(down.filter(|down| down["last_line"].to_string().contains("leases")))
    })?;
    assert_eq!(down["service"], "dhcp");
    Ok(())
}

#[test]
fn a_full_file_system_a_missing_package_and_an_unreadable_image() -> Result<()> {
    let (server, _room) = started()?;
    server.import(&image::tiny()?, "tiny")?;
    let report = server.json(&["doctor"])?;
    assert_eq!(report["findings"], serde_json::json!([]), "{report}");

    // Only for the doctor's own eyes, in a mount namespace of its own.
    let alone = |script: &str| -> Result<Value> {
        let state = server.state_directory().display().to_string();
        let doctor = server.command(&["doctor", "--json"]);
        let mut words = vec![doctor.get_program().to_owned()];
        words.extend(doctor.get_args().map(ToOwned::to_owned));
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c"]);
        command.arg(format!("{script} && exec \"$@\""));
        command.arg(state).args(words);
        let output = command.output()?;
        serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let kinds = |report: &Value| report["findings"].to_string();
    let missing = alone("mount -t tmpfs none /usr/lib/ipxe")?;
    assert!(kinds(&missing).contains("apt install ipxe"), "{missing}");
    assert!(kinds(&missing).contains("undionly.kpxe"), "{missing}");
    let full = alone(
        "mount -t tmpfs -o size=1m none \"$0/overlays\" && \
         { cat /dev/zero > \"$0/overlays/fill\" 2>/dev/null || true; }",
    )?;
    let low = full["findings"].as_array().context("findings")?;
    let low = low.iter().find(|one| one["finding"] == "space_low");
    assert_eq!(low.context("no space")?["free_percent"], 0);

    let snapshot = fs::read(server.state_directory().join("site.json"))?;
    let snapshot: Value = serde_json::from_slice(&snapshot)?;
    let directory = snapshot["versions"][0]["directory"].as_str();
    let directory = directory.context("a version")?;
    let version = server.state_directory().join("images").join(directory);
    let manifest = version.join("manifest.json");
    fs::remove_file(&manifest)?;
    fs::File::create(&manifest)?.write_all(b"{}")?;
    let broken = finding(&server, "image_unreadable")?;
    assert_eq!(broken["image"], "tiny@1");
    Ok(())
}

#[test]
fn a_second_dhcp_server_and_no_address_left() -> Result<()> {
    let (server, room) = started()?;
    let peer = room.peer("rogue", Some("10.77.0.66/24"))?;
    let mut rogue = peer.command("dnsmasq");
    rogue.args([
        "--no-daemon",
        "--port=0",
        "--conf-file=/dev/null",
        "--leasefile-ro",
    ]);
    rogue.args([
        "--dhcp-range=10.77.0.200,10.77.0.210",
        "--dhcp-authoritative",
    ]);
    let rogue = peer.spawn("rogue", &mut rogue)?;
    let found = server.wait_until("the doctor hears it", LIMIT, |server| {
        Ok(finding(server, "rogue_dhcp").ok())
    })?;
    assert_eq!(found["server"], "10.77.0.66");
    rogue.kill();
    assert!(!has(&server, "rogue_dhcp")?);

    assert!(!has(&server, "no_free_leases")?);
    let pc = room.peer("pc", None)?;
    let mut udhcpc = pc.command("busybox");
    udhcpc.args(["udhcpc", "-i", "eth0", "-f", "-q", "-n", "-s", "/bin/true"]);
    let said = pc.run(&mut udhcpc, LIMIT)?;
    let lease = said.split("lease of ").nth(1).context("a lease")?;
    let lease = lease.split([' ', ',']).next().context("its address")?;
    // The pool shrinks to the one address that this PC has.
    server.stop()?;
    let snapshot = server.state_directory().join("site.json");
    let mut site: Value = serde_json::from_slice(&fs::read(&snapshot)?)?;
    site["subnets"][0]["pool"] = serde_json::json!({ "first": lease, "last": lease });
    fs::write(&snapshot, site.to_string())?;
    assert_eq!(finding(&server, "no_free_leases")?["total"], 1);
    Ok(())
}
