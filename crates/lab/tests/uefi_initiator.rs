//! A PC whose UEFI firmware is an iSCSI initiator itself boots without PXE and without iPXE.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use dess_lab::{Client, ClientOptions, DessServer, Firmware, ServerOptions, image, packages};
use serde_json::Value;

const MAC: &str = "52:54:00:77:00:14";
const ADDRESS: &str = "10.77.0.50";
/// Firmware start with all its drivers on two loaded, emulating cores (alone: 9 s).
const SETUP_LIMIT: Duration = Duration::from_secs(120);
/// From the choice of the disk to the running system (alone: 17 s).
const BOOT_LIMIT: Duration = Duration::from_secs(180);
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// How long the page and the CLI may lag behind what happened.
const NOTICE_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_uefi_initiator_boots_with_chap_and_no_ipxe() -> Result<()> {
    packages::ensure()?;
    let image = image::tiny()?;
    let (server, room) = DessServer::in_new_room(&ServerOptions::default(), &image, "tiny")?;
    server.cli(&["client", "add", MAC, "--address", ADDRESS])?;
    let iscsi = iscsi_settings(server.state_directory())?;

    let client = room.client(ClientOptions::new("edk2", Firmware::UefiIscsi, MAC))?;
    type_settings(&client, &iscsi)?;
    boot_from_disk(&client)?;
    assert_eq!(
        client.run("cat /sys/firmware/ibft/target0/chap-name", COMMAND_LIMIT)?,
        value(&iscsi, "chap_user")?
    );
    the_server_saw_every_stage(&server)?;

    // The firmware keeps its settings; the disk is fresh again.
    client.run("echo written >note; sync", COMMAND_LIMIT)?;
    boot_from_disk(&client)?;
    assert_eq!(client.run("ls note 2>/dev/null; true", COMMAND_LIMIT)?, "");
    the_server_saw_every_stage(&server)
}

/// What an operator copies from the client's record into the firmware.
fn iscsi_settings(state: &Path) -> Result<Value> {
    let site: Value = serde_json::from_slice(&std::fs::read(state.join("site.json"))?)?;
    let clients = site["clients"].as_array().context("no clients")?;
    let client = clients.iter().find(|client| client["mac"] == MAC);
    Ok(client.context("not in the snapshot")?["iscsi"].clone())
}

fn value<'a>(iscsi: &'a Value, key: &str) -> Result<&'a str> {
    iscsi[key].as_str().with_context(|| format!("no {key}"))
}

/// The target is not typed: the firmware asks DHCP for it.
fn type_settings(client: &Client, iscsi: &Value) -> Result<()> {
    let mut setup = client.enter_setup(SETUP_LIMIT)?;
    setup.open("Device Manager")?;
    setup.open("iSCSI Configuration")?;
    setup.fill("iSCSI Initiator Name", value(iscsi, "initiator_iqn")?)?;
    setup.open("Add an Attempt")?;
    setup.open("MAC")?;
    setup.choose("iSCSI Mode", "Enabled")?;
    setup.tick("Enable DHCP")?;
    setup.tick("Get target info")?;
    setup.choose("Authentication Type", "CHAP")?;
    setup.choose("CHAP Type", "One way")?;
    setup.fill("CHAP Name", value(iscsi, "chap_user")?)?;
    setup.fill("CHAP Secret", value(iscsi, "chap_secret")?)?;
    setup.open("Save Changes")
}

/// The firmware attaches the disk at its start and then offers it.
fn boot_from_disk(client: &Client) -> Result<()> {
    client.reset()?;
    let mut setup = client.enter_setup(SETUP_LIMIT)?;
    setup.open("Boot Manager")?;
    setup.open("UEFI DESS DISK")?;
    client.wait_for(&["DESS-TINY-UP boots=1 "], BOOT_LIMIT)?;
    Ok(())
}

fn the_server_saw_every_stage(server: &DessServer) -> Result<()> {
    server.wait_until("the client is shown as running", NOTICE_LIMIT, |server| {
        Ok((server.client(MAC)?["state"]["state"] == "running").then_some(()))
    })?;
    let boots = server.json(&["client", "boots", MAC])?;
    assert_eq!(boots[0]["outcome"], "up", "{boots:#}");
    let steps = boots[0]["steps"].as_array().context("no steps")?;
    let mut stages: Vec<&str> = steps
        .iter()
        .filter_map(|step| step["stage"].as_str())
        .collect();
    stages.dedup();
    // No loader, no iPXE, no script.
    let expected = [
        "dhcp",
        "disk",
        "firmware_login",
        "os_login",
        "os_dhcp",
        "up",
    ];
    assert_eq!(stages, expected, "{boots:#}");
    Ok(())
}
