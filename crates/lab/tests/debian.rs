//! A Debian system on iSCSI: what it forgets, what it keeps, and what a crash of the iSCSI service
//! costs it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use dess_lab::{Client, ClientOptions, DessServer, Firmware, ServerOptions, image, packages};

/// Slowest boot of two Debian clients on two loaded, emulating cores (one, alone: 36 s).
const BOOT_LIMIT: Duration = Duration::from_secs(300);
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// open-iscsi tries again for 120 s; DESS is back within 5.
const OUTAGE_LIMIT: Duration = Duration::from_secs(90);
/// Records of the writer under the outage: more than it writes before it, even on a fast machine.
const RECORDS: u32 = 1000;

const FIRST_BOOT: &str = "DESS-DEBIAN-UP boots=1 ";
const SECOND_BOOT: &str = "DESS-DEBIAN-UP boots=2 ";

#[test]
fn debian_keeps_what_its_policy_says_and_survives_a_killed_iscsi_service() -> Result<()> {
    packages::ensure()?;
    let image = image::debian()?;
    let (server, room) = DessServer::in_new_room(&ServerOptions::default(), &image, "debian")?;
    let golden = server.golden_checksums()?;
    server.cli(&[
        "client",
        "add",
        "52:54:00:77:00:01",
        "--policy",
        "persistent",
    ])?;
    server.cli(&["client", "add", "52:54:00:77:00:02", "--policy", "volatile"])?;

    let keeper = ClientOptions::new("keeper", Firmware::Bios, "52:54:00:77:00:01");
    let keeper_pc = room.client(keeper.clone())?;
    let forgetter = ClientOptions::new("forgetter", Firmware::UefiPxe, "52:54:00:77:00:02");
    let forgetter_pc = room.client(forgetter)?;
    for client in [&keeper_pc, &forgetter_pc] {
        up(client, FIRST_BOOT)?;
        client.run("echo written >/root/note; sync", COMMAND_LIMIT)?;
    }

    no_acknowledged_write_is_lost(&server, &keeper_pc)?;

    // A clean reboot from inside: the firmware boots from the network again.
    for client in [&keeper_pc, &forgetter_pc] {
        client.start("systemctl reboot")?;
    }
    up(&keeper_pc, SECOND_BOOT)?;
    assert_eq!(keeper_pc.run("cat /root/note", COMMAND_LIMIT)?, "written");
    keeper_pc.run(
        &format!("mount /data && lab-verify /data/records {RECORDS}"),
        COMMAND_LIMIT,
    )?;
    up(&forgetter_pc, FIRST_BOOT)?;
    assert_eq!(
        forgetter_pc.run("cat /root/note 2>/dev/null; true", COMMAND_LIMIT)?,
        ""
    );
    forgetter_pc.power_off();

    // Reset, then power on a second machine with the same card: the same client.
    keeper_pc.power_off();
    server.cli(&["client", "reset", "52:54:00:77:00:01", "--yes", "--force"])?;
    let keeper_pc = room.client(keeper)?;
    up(&keeper_pc, FIRST_BOOT)?;
    assert_eq!(
        keeper_pc.run("cat /root/note 2>/dev/null; true", COMMAND_LIMIT)?,
        ""
    );
    assert_eq!(
        server.golden_checksums()?,
        golden,
        "a golden image was written"
    );
    Ok(())
}

fn up(client: &Client, marker: &str) -> Result<()> {
    let seen = client.wait_for(&[marker], BOOT_LIMIT)?;
    let (name, seconds) = (&client.options().name, seen.at.as_secs());
    eprintln!("{name}: {marker}{seconds} s after it was switched on");
    Ok(())
}

/// `kill -9` of the iSCSI service between acknowledged writes: the client goes on, its file
/// systems are clean, and every record whose fsync returned is on the disk.
fn no_acknowledged_write_is_lost(server: &DessServer, client: &Client) -> Result<()> {
    client.run("mount /data", COMMAND_LIMIT)?;
    let outages = outages_seen(client)?;
    let writer = client.start(&format!("lab-write /data/records {RECORDS}"))?;
    client.wait_for(&["DESS-ACK 100."], OUTAGE_LIMIT)?;
    let before = server.service_pid("iscsi")?;
    server.kill_service("iscsi")?;
    // Some records may still be on their way to the console; these are beyond any of them.
    let acknowledged = last_acknowledged(client)?;
    client.wait_for(
        &[&format!("DESS-ACK {}.", acknowledged + 100)],
        OUTAGE_LIMIT,
    )?;
    assert_ne!(
        server.service_pid("iscsi")?,
        before,
        "the service was not killed"
    );
    eprintln!("{}: writes again", client.options().name);
    let (output, status) = writer.wait(OUTAGE_LIMIT)?;
    assert_eq!(status, 0, "the writer failed:\n{output}");

    // Off the mount, so that the disk is asked and not the guest's memory.
    client.run(
        "umount /data && echo 3 >/proc/sys/vm/drop_caches",
        COMMAND_LIMIT,
    )?;
    client.run("e2fsck -f -n /dev/disk/by-label/data", COMMAND_LIMIT)?;
    client.run(
        &format!("mount /data && lab-verify /data/records {RECORDS} && umount /data"),
        COMMAND_LIMIT,
    )?;
    let errors = client.run(
        "dmesg | grep -E 'I/O error|EXT4-fs error'; true",
        COMMAND_LIMIT,
    )?;
    assert_eq!(errors, "", "the outage reached the file systems");
    assert!(
        outages_seen(client)? > outages,
        "the client never noticed that its target was gone"
    );
    Ok(())
}

/// How often the kernel lost its connection to the target.
fn outages_seen(client: &Client) -> Result<u32> {
    Ok(client
        .run("dmesg | grep -c 'detected conn error'; true", COMMAND_LIMIT)?
        .parse()?)
}

/// The newest record whose line on the console is whole.
fn last_acknowledged(client: &Client) -> Result<u32> {
    let text = client.console_text();
    text.rsplit("DESS-ACK ")
        .find_map(|line| line.split_once('.')?.0.parse().ok())
        .context("no record was acknowledged")
}
