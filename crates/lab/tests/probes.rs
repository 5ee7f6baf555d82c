//! A service is up when it works: each is asked what its clients ask, and one that is stopped, or cannot read its files, is
//! abnormal though its process lives.

use std::time::Duration;

use anyhow::{Context as _, Result};
use dess_lab::{DessServer, Room, RoomOptions, ServerOptions, packages};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
const SERVICES: [&str; 5] = ["dhcp", "boot", "iscsi", "web", "node"];

/// What a probe made now finds.
fn probe(server: &DessServer, service: &str) -> Result<Value> {
    let reports = server.json(&["service", "probe", service])?;
    let report = reports.get(0).context("a report")?;
    anyhow::ensure!(report["service"] == service, "{reports}");
    Ok(report.clone())
}

#[test]
fn a_stopped_service_fails_its_probe_and_works_again_when_it_goes_on() -> Result<()> {
    packages::ensure()?;
    let room = Room::create(RoomOptions::default())?;
    let server = DessServer::start(&room, &ServerOptions::default())?;
    let leases = std::fs::read(server.state_directory().join("leases"))?;
    for service in SERVICES {
        let report = probe(&server, service)?;
        assert!(report["failure"].is_null(), "{report}");
    }
    for service in SERVICES {
        let pid = Pid::from_raw(server.service_pid(service)?);
        kill(pid, Signal::SIGSTOP)?;
        let report = probe(&server, service)?;
        let status = server.json(&["status"])?;
        kill(pid, Signal::SIGCONT)?;
        assert_eq!(report["failure"]["reason"], "silent", "{report}");
        let shown = status["services"].as_array().context("services")?;
        let shown = shown.iter().find(|one| one["name"] == service);
        let shown = shown.context("the service")?;
        assert_eq!(shown["state"], "ready", "its process lives: {shown}");
        assert!(shown["probe"]["failure"].is_object(), "{shown}");
        server.wait_until(&format!("{service} works again"), LIMIT, |server| {
            Ok(probe(server, service)?["failure"].is_null().then_some(()))
        })?;
    }
    assert_eq!(server.json(&["client", "list"])?, serde_json::json!([]));
    let after = std::fs::read(server.state_directory().join("leases"))?;
    assert!(after == leases, "no lease was written");
    Ok(())
}

#[test]
fn a_boot_file_that_cannot_be_read_makes_the_service_abnormal_by_itself() -> Result<()> {
    packages::ensure()?;
    let room = Room::create(RoomOptions::default())?;
    let options = ServerOptions {
        mode: "proxy",
        ..ServerOptions::default()
    };
    let server = DessServer::start(&room, &options)?;
    let dhcp = probe(&server, "dhcp")?;
    assert!(dhcp["failure"].is_null(), "as proxy, too: {dhcp}");
    // Root reads every file whatever its mode; a directory in its place nobody can.
    let file = server.state_directory().join("boot/undionly.kpxe");
    std::fs::create_dir(&file)?;
    let failure = server.wait_until("node finds it by itself", 2 * LIMIT, |server| {
        let boot = server.service("boot")?;
        let failure = &boot["probe"]["failure"];
        Ok(failure.is_object().then(|| failure.clone()))
    })?;
    assert_eq!(failure["reason"], "boot_file");
    assert_eq!(failure["file"], "undionly.kpxe");
    let status = server.command(&["status"]).output()?;
    assert_eq!(status.status.code(), Some(3), "the server is abnormal");
    let shown = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(shown.contains("undionly.kpxe"), "with its cause: {shown}");

    std::fs::remove_dir(&file)?;
    server.wait_until("node finds it mended", LIMIT, |server| {
        let boot = server.service("boot")?;
        let report = &boot["probe"];
        Ok((report.is_object() && report["failure"].is_null()).then_some(()))
    })
}

#[test]
fn a_page_that_does_not_answer_any_more_is_restarted_by_the_management_daemon() -> Result<()> {
    packages::ensure()?;
    let room = Room::create(RoomOptions::default())?;
    let server = DessServer::start(&room, &ServerOptions::default())?;
    let stopped = server.service_pid("web")?;
    kill(Pid::from_raw(stopped), Signal::SIGSTOP)?;
    // The first round of probes, two more tries, the supervisor's wait for its end.
    server.wait_until("another page answers", 4 * LIMIT, |server| {
        let web = server.service("web")?;
        let another = web["state"] == "ready" && web["pid"] != stopped;
        Ok(another.then_some(()))
    })?;
    let report = probe(&server, "web")?;
    assert!(report["failure"].is_null(), "{report}");
    server.wait_until("there is a notice", LIMIT, |server| {
        let status = server.json(&["status"])?;
        let notices = status["notices"].as_array().context("notices")?;
        let noted = notices
            .iter()
            .any(|one| one["kind"] == "service_restarted" && one["subject"] == "web");
        Ok(noted.then_some(()))
    })
}
