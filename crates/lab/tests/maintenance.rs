//! What the maintenance client writes is what the room boots after publish and roll-out, and not after the rollback.

use std::time::Duration;

use anyhow::Result;
use dess_lab::{ClientOptions, DessServer, Firmware, ServerOptions, image, packages};

const WRITER: &str = "52:54:00:77:00:31";
const READER: &str = "52:54:00:77:00:32";
/// Slowest tiny boot on two loaded, emulating cores (alone: 13 s BIOS).
const BOOT_LIMIT: Duration = Duration::from_secs(180);
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_maintained_image_is_published_rolled_out_and_rolled_back() -> Result<()> {
    packages::ensure()?;
    let image = image::tiny()?;
    let (server, room) = DessServer::in_new_room(&ServerOptions::default(), &image, "tiny")?;
    server.cli(&["client", "add", WRITER, "--name", "writer"])?;
    server.cli(&["client", "add", READER, "--name", "reader"])?;
    let golden = server.golden_checksums()?;
    server.cli(&["image", "maintain", "tiny", "--client", "writer"])?;
    let second = refusal(
        &server,
        &["image", "maintain", "tiny", "--client", "reader"],
    )?;
    assert!(
        second.contains("seat 1 (writer) is the maintenance client"),
        "{second}"
    );

    let writer = room.client(ClientOptions::new("writer", Firmware::Bios, WRITER))?;
    writer.wait_for(&["DESS-TINY-UP boots=1 "], BOOT_LIMIT)?;
    writer.run("echo from the writer >note; sync", COMMAND_LIMIT)?;
    let running = refusal(&server, &["image", "publish", "tiny"])?;
    assert!(running.contains("seat 1 (writer), is running"), "{running}");
    // The next power-on finds what the last one wrote, also over a death of the service.
    server.kill_service("iscsi")?;
    writer.reset()?;
    writer.wait_for(&["DESS-TINY-UP boots=2 "], BOOT_LIMIT)?;
    writer.run("sync", COMMAND_LIMIT)?;
    writer.power_off();
    server.cli(&["image", "publish", "tiny", "--comment", "with a note"])?;
    let versions = server.json(&["image", "list"])?;
    assert_eq!(versions[0]["versions"][1]["comment"], "with a note");
    assert_eq!(versions[0]["versions"][1]["parent"]["number"], 1);
    assert_eq!(
        versions[0]["versions"][1]["clients"], 0,
        "published is not rolled out"
    );

    server.cli(&["image", "rollout", "tiny@2", "--clients", "reader"])?;
    let reader = room.client(ClientOptions::new("reader", Firmware::Bios, READER))?;
    reader.wait_for(&["DESS-TINY-UP boots=3 "], BOOT_LIMIT)?;
    assert_eq!(
        reader.run("cat note", COMMAND_LIMIT)?.trim(),
        "from the writer"
    );
    let in_use = refusal(&server, &["image", "remove", "tiny@1", "--yes"])?;
    assert!(in_use.contains("tiny@2 is made on it"), "{in_use}");
    // Its disk stays what it booted; the layers may change their form meanwhile.
    server.cli(&["image", "flatten", "tiny@2"])?;
    server.cli(&["image", "rollback", "tiny"])?;
    assert_eq!(
        reader.run("cat note", COMMAND_LIMIT)?.trim(),
        "from the writer"
    );
    reader.reset()?;
    reader.wait_for(&["DESS-TINY-UP boots=1 "], BOOT_LIMIT)?;
    assert_eq!(reader.run("ls note 2>/dev/null; true", COMMAND_LIMIT)?, "");
    let now = server.golden_checksums()?;
    assert!(now.starts_with(&golden), "the first version was written");
    Ok(())
}

/// What the command says when it refuses.
fn refusal(server: &DessServer, arguments: &[&str]) -> Result<String> {
    let output = server.command(arguments).output()?;
    anyhow::ensure!(!output.status.success(), "{arguments:?} was not refused");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}
