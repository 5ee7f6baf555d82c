//! What keeps a service from starting is said in words, and the services that can run do.

use std::time::Duration;

use anyhow::Result;
use dess_lab::{DessServer, Room, RoomOptions, ServerOptions, packages};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_taken_port_and_a_wrong_interface_are_named_and_the_rest_runs() -> Result<()> {
    packages::ensure()?;
    let room = Room::create(RoomOptions::default())?;
    let mut other = room.server().command("busybox");
    other
        .args(["httpd", "-f", "-p", "10.77.0.1:3260", "-h"])
        .arg(room.directory());
    let other = room.spawn_server("other-target", &mut other)?;
    let mut curl = room.server().command("curl");
    curl.args(["-sS", "--retry", "20", "--retry-connrefused"]);
    curl.args(["-o", "/dev/null", "http://10.77.0.1:3260/"]);
    room.server().run(&mut curl, LIMIT)?;
    let options = ServerOptions {
        interface: "eth9",
        ..ServerOptions::default()
    };
    let server = DessServer::launch(&room, &options)?;

    let taken = trouble(&server, "iscsi")?;
    assert!(taken.contains("10.77.0.1:3260"), "which address: {taken}");
    let wrong = trouble(&server, "dhcp")?;
    assert!(wrong.contains("eth9") && wrong.contains("eth0"), "{wrong}");
    for able in ["boot", "node", "web"] {
        let ready =
            |server: &DessServer| Ok((server.service(able)?["state"] == "ready").then_some(()));
        server.wait_until(&format!("{able} is ready"), LIMIT, ready)?;
    }
    let status = server.command(&["status"]).output()?;
    assert_eq!(status.status.code(), Some(3), "the server is abnormal");

    // What stood in the way is gone: the supervisor tries again by itself.
    other.kill();
    server.wait_until("iscsi is ready", LIMIT, |server| {
        Ok((server.service("iscsi")?["state"] == "ready").then_some(()))
    })
}

/// The last words of a service that does not run, as `dess status` shows them.
fn trouble(server: &DessServer, service: &str) -> Result<String> {
    server.wait_until(&format!("{service} tells its trouble"), LIMIT, |server| {
        let Ok(status) = server.service(service) else {
            return Ok(None);
        };
        let ended = status["state"] == "backoff" && status["last_exit"].is_object();
        Ok(ended.then(|| status["log_tail"].to_string()))
    })
}
