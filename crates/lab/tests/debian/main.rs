//! A Debian system on iSCSI: what it forgets, what it keeps, and what a crash of the iSCSI service
//! costs it, its data disks, how its initiator and DESS agree on everything that a boot does not use,
//! and its image in all formats.

mod data_disks;
mod formats;
mod open_iscsi;
mod planned;

use std::time::Duration;

use anyhow::{Context as _, Result};
use dess_lab::image::{DATA_PARTITION, ROOT_PARTITION};
use dess_lab::{
    Client, ClientOptions, DessServer, Firmware, Image, Room, ServerOptions, image, packages,
};

/// Slowest boot of two Debian clients on two loaded, emulating cores (one, alone: 36 s).
const BOOT_LIMIT: Duration = Duration::from_secs(300);
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// open-iscsi tries again for 120 s; DESS is back within 5.
const OUTAGE_LIMIT: Duration = Duration::from_secs(90);
/// Records of the writer under the outage: more than it writes before it, even on a fast machine.
const RECORDS: u32 = 1000;

/// A system shuts down on two loaded, emulating cores (alone: 4 s).
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(120);
const KEEPER: &str = "52:54:00:77:00:01";
const FORGETTER: &str = "52:54:00:77:00:02";

/// Makes and removes files on the root file system until [`LET_ROOT_REST`].
const KEEP_ROOT_BUSY: &str = "touch /root/busy; echo 0 >/root/rounds; \
    (while [ -e /root/busy ]; do cp -a /etc/systemd /root/copy; sync -f /root; rm -r /root/copy; \
    echo $(($(cat /root/rounds) + 1)) >/root/rounds; done) >/dev/null 2>&1 &";
const LET_ROOT_REST: &str = "rm /root/busy; cat /root/rounds";
/// What `lab-write` writes at once.
const RECORD_BYTES: usize = 512;

const FIRST_BOOT: &str = "DESS-DEBIAN-UP boots=1 ";
const SECOND_BOOT: &str = "DESS-DEBIAN-UP boots=2 ";

#[test]
fn debian_keeps_what_its_policy_says_and_survives_a_killed_iscsi_service() -> Result<()> {
    packages::ensure()?;
    let image = image::debian()?;
    let (server, room) = DessServer::in_new_room(&ServerOptions::default(), &image, "debian")?;
    let golden = server.golden_checksums()?;
    server.cli(&["client", "add", KEEPER, "--policy", "persistent"])?;
    server.cli(&["client", "add", FORGETTER, "--policy", "volatile"])?;
    let keeper = ClientOptions::new("keeper", Firmware::Bios, KEEPER);
    let keeper_pc = room.client(keeper.clone())?;
    let forgetter_pc = room.client(ClientOptions::new(
        "forgetter",
        Firmware::UefiPxe,
        FORGETTER,
    ))?;
    for client in [&keeper_pc, &forgetter_pc] {
        up(client, FIRST_BOOT)?;
        client.run("echo written >/root/note; sync", COMMAND_LIMIT)?;
    }

    no_acknowledged_write_is_lost(&server, &keeper_pc)?;
    planned::a_planned_restart_is_a_short_pause(&server, &keeper_pc)?;

    // The one reboots: its firmware boots from the network again. The other one is switched off.
    forgetter_pc.start("systemctl reboot")?;
    keeper_pc.start("systemctl poweroff")?;
    keeper_pc.wait_until_off(SHUTDOWN_LIMIT)?;
    for partition in [ROOT_PARTITION, DATA_PARTITION] {
        let copy = server.copy_partition(KEEPER, &image, partition)?;
        copy.check_unmounted()
            .with_context(|| format!("partition {partition} after the system shut down"))?;
    }
    let keeper_pc = room.client(keeper)?;
    up(&keeper_pc, SECOND_BOOT)?;
    assert_eq!(keeper_pc.run("cat /root/note", COMMAND_LIMIT)?, "written");
    keeper_pc.run(
        &format!("mount /data && lab-verify /data/records {RECORDS}"),
        COMMAND_LIMIT,
    )?;
    up(&forgetter_pc, FIRST_BOOT)?;
    assert_eq!(note(&forgetter_pc)?, "");
    open_iscsi::agrees_with_dess(&server, &forgetter_pc)?;
    forgetter_pc.power_off();

    a_cut_after_an_outage_leaves_whole_file_systems(&server, &image, &keeper_pc)?;
    a_reset_forgets(&server, &room, keeper_pc)?;
    assert_eq!(
        server.golden_checksums()?,
        golden,
        "a golden image was written"
    );
    Ok(())
}

/// Reset, then power on a second machine with the same card: the same client.
fn a_reset_forgets(server: &DessServer, room: &Room, client: Client) -> Result<()> {
    let options = client.options().clone();
    drop(client);
    server.cli(&["client", "reset", &options.mac, "--yes", "--force"])?;
    let client = room.client(options)?;
    up(&client, FIRST_BOOT)?;
    assert_eq!(note(&client)?, "");
    Ok(())
}

fn note(client: &Client) -> Result<String> {
    client.run("cat /root/note 2>/dev/null; true", COMMAND_LIMIT)
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
    client.run(KEEP_ROOT_BUSY, COMMAND_LIMIT)?;
    let writer = client.start(&format!("lab-write /data/records {RECORDS}"))?;
    client.wait_for(&["DESS-ACK 100."], OUTAGE_LIMIT)?;
    kill_under(server, client)?;
    let (output, status) = writer.wait(OUTAGE_LIMIT)?;
    assert_eq!(status, 0, "the writer failed:\n{output}");
    let rounds = client.run(LET_ROOT_REST, COMMAND_LIMIT)?;
    assert_ne!(rounds, "0", "nobody wrote to the root file system");

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

/// Kills the iSCSI service while `lab-write` runs, and waits until the client writes again.
fn kill_under(server: &DessServer, client: &Client) -> Result<()> {
    let before = server.service_pid("iscsi")?;
    server.kill_service("iscsi")?;
    // Some records may still be on their way to the console; these are beyond any of them.
    let beyond = last_acknowledged(client)? + 100;
    client.wait_for(&[&format!("DESS-ACK {beyond}.")], OUTAGE_LIMIT)?;
    assert_ne!(
        server.service_pid("iscsi")?,
        before,
        "the service was not killed"
    );
    eprintln!("{}: writes again", client.options().name);
    Ok(())
}

/// The service is killed and comes back, then the client's power is cut, all with writes going on:
/// a replay of the journals is all that its file systems need, and the records are there.
fn a_cut_after_an_outage_leaves_whole_file_systems(
    server: &DessServer,
    image: &Image,
    client: &Client,
) -> Result<()> {
    client.run(KEEP_ROOT_BUSY, COMMAND_LIMIT)?;
    // More than it ever writes.
    client.start("lab-write /data/cut 1000000")?;
    client.wait_for(&["DESS-ACK 100."], OUTAGE_LIMIT)?;
    kill_under(server, client)?;
    client.power_off();
    let acknowledged = last_acknowledged(client)?;
    for partition in [ROOT_PARTITION, DATA_PARTITION] {
        let copy = server.copy_partition(KEEPER, image, partition)?;
        copy.check_cut_off()
            .with_context(|| format!("partition {partition} after the power was cut"))?;
        if partition == DATA_PARTITION {
            let records = copy.read("/cut")?;
            for number in 1..=acknowledged {
                let at = (number as usize - 1) * RECORD_BYTES;
                let found = records.get(at..at + RECORD_BYTES);
                let wanted = format!("{number:<511}\n");
                assert_eq!(found, Some(wanted.as_str()), "record {number}");
            }
        }
    }
    eprintln!("{acknowledged} records before the cut are there");
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
