//! Invariant 1: the data path needs nobody. Clients boot with the management daemon, the page and
//! the database gone.

use std::time::Duration;

use anyhow::Result;
use dess_lab::{ClientOptions, DessServer, Firmware, ServerOptions, image, packages};

const BOOT_LIMIT: Duration = Duration::from_secs(180);
const RECOVERY_LIMIT: Duration = Duration::from_secs(120);
const MAC: &str = "52:54:00:77:00:01";

#[test]
fn a_client_boots_with_node_web_and_the_database_gone() -> Result<()> {
    packages::ensure()?;
    let image = image::tiny()?;
    let (server, room) = DessServer::in_new_room(&ServerOptions::default(), &image, "tiny")?;
    server.cli(&["client", "add", MAC])?;

    let client = room.client(ClientOptions::new("pc", Firmware::Bios, MAC))?;
    client.wait_for(&["iPXE"], BOOT_LIMIT)?;
    // Root reads every file whatever its mode: a directory in the file's place nobody can read.
    let database = server.state_directory().join("dess.db");
    let away = server.state_directory().join("away");
    std::fs::create_dir(&away)?;
    for suffix in ["", "-wal", "-shm"] {
        let file = server.state_directory().join(format!("dess.db{suffix}"));
        if file.exists() {
            std::fs::rename(&file, away.join(format!("dess.db{suffix}")))?;
        }
    }
    std::fs::create_dir(&database)?;
    server.kill_service("node")?;
    server.kill_service("web")?;
    client.wait_for(&[image.marker], BOOT_LIMIT)?;
    assert!(
        !server.json(&["status"])?["database_error"].is_null(),
        "the database was meant to be unreadable"
    );

    // It boots again from power-on, with node knowing nothing.
    server.kill_service("node")?;
    client.reset()?;
    client.wait_for(&[image.marker], BOOT_LIMIT)?;

    std::fs::remove_dir(&database)?;
    for entry in std::fs::read_dir(&away)? {
        let entry = entry?;
        std::fs::rename(
            entry.path(),
            server.state_directory().join(entry.file_name()),
        )?;
    }
    server.wait_until_ready(RECOVERY_LIMIT)?;
    server.wait_until("the client is known again", RECOVERY_LIMIT, |server| {
        Ok((server.client(MAC).is_ok()).then_some(()))
    })?;
    Ok(())
}
