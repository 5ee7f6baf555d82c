//! PCs of every firmware boot from one golden image and never see each other's writes.

use std::time::Duration;

use anyhow::Result;
use dess_lab::{Client, ClientOptions, DessServer, Firmware, ServerOptions, image, packages};

/// Slowest tiny boot on two loaded, emulating cores (alone: 13 s BIOS, 19 s UEFI).
const BOOT_LIMIT: Duration = Duration::from_secs(180);
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// How long the page and the CLI may lag behind what happened.
const NOTICE_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_bios_and_a_uefi_client_boot_apart_from_one_golden_image() -> Result<()> {
    packages::ensure()?;
    let image = image::tiny()?;
    let (server, room) = DessServer::in_new_room(&ServerOptions::default(), &image, "tiny")?;
    let golden = server.golden_checksums()?;
    assert!(!golden.is_empty(), "the golden image has no files");

    let bios = room.client(ClientOptions::new(
        "bios",
        Firmware::Bios,
        "52:54:00:77:00:01",
    ))?;
    let uefi = room.client(ClientOptions::new(
        "uefi",
        Firmware::UefiPxe,
        "52:54:00:77:00:02",
    ))?;
    for client in [&bios, &uefi] {
        client.wait_for(&["DESS-TINY-UP boots=1 "], BOOT_LIMIT)?;
    }
    each_sees_only_its_own_writes(&bios, &uefi)?;
    for client in [&bios, &uefi] {
        the_server_saw_every_stage(&server, client)?;
    }
    a_volatile_client_forgets(&bios)?;
    assert_eq!(
        server.golden_checksums()?,
        golden,
        "a golden image was written"
    );
    Ok(())
}

#[test]
fn the_other_firmware_paths_boot_too() -> Result<()> {
    packages::ensure()?;
    let image = image::tiny()?;
    let (_server, room) = DessServer::in_new_room(&ServerOptions::default(), &image, "tiny")?;
    let rom = room.client(ClientOptions::new(
        "rom",
        Firmware::UefiRom,
        "52:54:00:77:00:03",
    ))?;
    let http = room.client(ClientOptions::new(
        "http",
        Firmware::UefiHttp,
        "52:54:00:77:00:04",
    ))?;
    for client in [&rom, &http] {
        client.wait_for(&["DESS-TINY-UP boots=1 "], BOOT_LIMIT)?;
    }
    Ok(())
}

fn each_sees_only_its_own_writes(bios: &Client, uefi: &Client) -> Result<()> {
    let blob = "dd if=/dev/urandom of=blob bs=64k count=16 2>/dev/null; sync; md5sum <blob";
    let sums = [
        bios.run(blob, COMMAND_LIMIT)?,
        uefi.run(blob, COMMAND_LIMIT)?,
    ];
    assert_ne!(sums[0], sums[1]);
    bios.run("echo bios >owner; sync", COMMAND_LIMIT)?;
    assert_eq!(uefi.run("ls owner 2>/dev/null; true", COMMAND_LIMIT)?, "");
    uefi.run("echo uefi >owner; sync", COMMAND_LIMIT)?;
    for (client, name, sum) in [(bios, "bios", &sums[0]), (uefi, "uefi", &sums[1])] {
        // Without the guest's own cache: what the disk says.
        let script = "echo 3 >/proc/sys/vm/drop_caches; cat owner; md5sum <blob";
        let text = client.run(script, COMMAND_LIMIT)?.replace('\r', "");
        assert_eq!(text, format!("{name}\n{sum}"));
    }
    Ok(())
}

fn the_server_saw_every_stage(server: &DessServer, client: &Client) -> Result<()> {
    let mac = client.options().mac.as_str();
    server.wait_until("the client is shown as running", NOTICE_LIMIT, |server| {
        Ok((server.client(mac)?["state"]["state"] == "running").then_some(()))
    })?;
    let boots = server.json(&["client", "boots", mac])?;
    assert_eq!(boots[0]["outcome"], "up", "{boots:#}");
    let mut expected = vec![
        "ipxe",
        "disk",
        "script",
        "firmware_login",
        "os_login",
        "os_dhcp",
        "up",
    ];
    if client.options().firmware == Firmware::UefiPxe {
        // The BIOS client's card speaks iPXE from the start.
        expected.splice(0..0, ["dhcp", "loader"]);
    }
    for stage in expected {
        let steps = boots[0]["steps"].as_array().map_or(&[][..], Vec::as_slice);
        assert!(
            steps.iter().any(|step| step["stage"] == stage),
            "stage {stage} is missing: {boots:#}"
        );
    }
    Ok(())
}

fn a_volatile_client_forgets(client: &Client) -> Result<()> {
    // In the middle of its work: answers are on their way to a system that is no more.
    client.start(
        "echo DESS-BUSY; while :; do dd if=/dev/sda of=/dev/null bs=1M count=32 2>/dev/null; \
         echo 3 >/proc/sys/vm/drop_caches; done",
    )?;
    client.wait_for(&["DESS-BUSY"], COMMAND_LIMIT)?;
    client.reset()?;
    client.wait_for(&["DESS-TINY-UP boots=1 "], BOOT_LIMIT)?;
    assert_eq!(
        client.run("ls owner blob 2>/dev/null; true", COMMAND_LIMIT)?,
        ""
    );
    Ok(())
}
