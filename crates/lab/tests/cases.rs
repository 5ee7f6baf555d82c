//! Faults staged with real programs are named by their codes, in time, and are over by themselves.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use dess_lab::{
    ClientOptions, DessServer, Firmware, Process, Room, RoomOptions, ServerOptions, packages,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
/// Slowest start of a client on two loaded, emulating cores.
const BOOT_LIMIT: Duration = Duration::from_secs(180);
/// A service that is down is told within 3 s on a machine of its own; this one is shared.
const DOWN_TOLD_MS: i64 = 10_000;
/// An empty disk is told within 5 s after the login.
const EMPTY_TOLD_MS: i64 = 10_000;

#[test]
fn a_service_that_cannot_come_back_and_a_foreign_dhcp_server_are_named() -> Result<()> {
    packages::ensure()?;
    let room = Room::create(RoomOptions::default())?;
    let server = DessServer::start(&room, &ServerOptions::default())?;

    let thief = port_taken(&room, &server)?;
    let down = now_ms()?;
    let case = open_case(&server, "E11", LIMIT)?;
    assert_eq!(case["cause"], "service_down", "{case:#}");
    assert_eq!(case["service"], "iscsi", "{case:#}");
    let told_ms = ms(&case["opened"])? - down;
    assert!(told_ms <= DOWN_TOLD_MS, "told after {told_ms} ms");
    let words = server.cli(&["case", "list"])?;
    assert!(words.contains("E11"), "{words}");
    thief.kill();
    case_over(&server, "E11")?;

    foreign_dhcp(&room, &server)
}

/// Another program takes the port of iSCSI after its process died. The supervisor looks away until
/// then, so that there is no race for the port.
fn port_taken(room: &Room, server: &DessServer) -> Result<Process> {
    const PORT: &str = "10.77.0.1:3260";
    let supervisor = Pid::from_raw(server.supervisor_pid()?);
    let iscsi = Pid::from_raw(server.service_pid("iscsi")?);
    kill(supervisor, Signal::SIGSTOP)?;
    kill(iscsi, Signal::SIGKILL)?;
    let listener = || -> Result<String> {
        let mut ss = room.server().command("ss");
        let output = ss.args(["-Hltnp", "src", PORT]).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    server.wait_until("the port is free", LIMIT, |_| {
        Ok(listener()?.is_empty().then_some(()))
    })?;
    let mut httpd = room.server().command("busybox");
    let thief = room.spawn_server("thief", httpd.args(["httpd", "-f", "-p", PORT, "-h", "/"]))?;
    server.wait_until("the port is taken", LIMIT, |_| {
        Ok(listener()?.contains("busybox").then_some(()))
    })?;
    kill(supervisor, Signal::SIGCONT)?;
    Ok(thief)
}

fn foreign_dhcp(room: &Room, server: &DessServer) -> Result<()> {
    let foreign = room.peer("foreign", Some("10.77.0.66/24"))?;
    let mut dnsmasq = foreign.command("dnsmasq");
    dnsmasq
        .args(["--no-daemon", "--conf-file=/dev/null", "--port=0"])
        .args(["--no-ping", "--interface=eth0", "--bind-interfaces"])
        .arg("--dhcp-range=10.77.0.50,10.77.0.60,255.255.255.0,1h")
        .arg("--dhcp-leasefile=/dev/null");
    let dnsmasq = foreign.spawn("dnsmasq", &mut dnsmasq)?;
    dnsmasq.wait_for_log("started", LIMIT)?;

    // A PC that asks for a broadcast answer, as firmware does.
    let asking = room.peer("asking", None)?;
    let mut udhcpc = asking.command("busybox");
    udhcpc.args(["udhcpc", "-f", "-q", "-n", "-B", "-i", "eth0", "-t", "5"]);
    udhcpc.args(["-s", "/bin/true"]);
    asking.run(&mut udhcpc, LIMIT)?;
    let case = open_case(server, "E52", LIMIT)?;
    assert_eq!(case["server"], "10.77.0.66", "{case:#}");
    let id = case["id"].as_str().context("an id")?;
    server.cli(&["case", "ack", id])?;
    let shown = server.json(&["case", "show", id])?;
    assert!(shown["acknowledged_by"].is_string(), "{shown:#}");
    Ok(())
}

#[test]
fn an_empty_disk_is_named_after_the_login() -> Result<()> {
    packages::ensure()?;
    let room = Room::create(RoomOptions::default())?;
    let server = DessServer::start(&room, &ServerOptions::default())?;
    let empty = room.directory().join("empty.raw");
    std::fs::File::create(&empty)?.set_len(64 << 20)?;
    let path = empty.to_str().context("the room's path is UTF-8")?;
    server.cli(&["image", "import", path, "--name", "empty"])?;

    let mac = "52:54:00:77:00:01";
    let _client = room.client(ClientOptions::new("empty", Firmware::Bios, mac))?;
    let case = open_case(&server, "E22", BOOT_LIMIT)?;
    assert_eq!(
        (&case["cause"], &case["seat"]),
        (&"disk_empty".into(), &1.into())
    );
    let boots = server.json(&["client", "boots", mac])?;
    let steps = boots[0]["steps"].as_array().context("steps")?;
    let login = steps.iter().find(|step| step["stage"] == "firmware_login");
    let login = ms(&login.context("it logged in")?["at"])?;
    let told_ms = ms(&case["opened"])? - login;
    assert!(
        told_ms <= EMPTY_TOLD_MS,
        "told {told_ms} ms after the login"
    );
    Ok(())
}

/// Waits for an open case with this code.
fn open_case(server: &DessServer, code: &str, limit: Duration) -> Result<Value> {
    let started = Instant::now();
    let found = server.wait_until(&format!("a case {code} is open"), limit, |server| {
        let cases = server.json(&["case", "list"])?;
        let cases = cases.as_array().context("a list")?;
        Ok(cases.iter().find(|case| case["code"] == code).cloned())
    })?;
    println!("{code} seen after {:?}: {found}", started.elapsed());
    Ok(found)
}

fn case_over(server: &DessServer, code: &str) -> Result<()> {
    server.wait_until(&format!("the case {code} is over"), LIMIT, |server| {
        let cases = server.json(&["case", "list"])?;
        let cases = cases.as_array().context("a list")?;
        let gone = !cases.iter().any(|case| case["code"] == code);
        Ok(gone.then_some(()))
    })
}

fn now_ms() -> Result<i64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(i64::try_from(now.as_millis())?)
}

fn ms(time: &Value) -> Result<i64> {
    time.as_i64()
        .with_context(|| format!("{time} is a time in milliseconds"))
}
