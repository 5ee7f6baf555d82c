//! Data disks in a Debian client: further drives, read-only or with writes of the client's own, updated for all at once.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dess_lab::{Client, ClientOptions, DessServer, Firmware, ServerOptions, image, packages};

use super::{COMMAND_LIMIT, FIRST_BOOT, SHUTDOWN_LIMIT, up};

const PC: &str = "52:54:00:77:00:09";
/// The drive with the games, and that with the course.
const GAMES: &str = "/dev/disk/by-path/*-lun-1";
const COURSE: &str = "/dev/disk/by-path/*-lun-2";
const IMPORT_LIMIT: Duration = Duration::from_secs(120);

#[test]
fn data_disks_are_drives_that_are_updated_once_and_seen_at_the_next_boot() -> Result<()> {
    packages::ensure()?;
    let image = image::debian()?;
    let (server, room) = DessServer::in_new_room(&ServerOptions::default(), &image, "debian")?;
    import(&server, "games", "the first game")?;
    import(&server, "course", "the first lesson")?;
    let golden = server.golden_checksums()?;
    server.cli(&["client", "add", PC, "--name", "pc"])?;
    let disks = ["--data-disk", "1=games", "--data-disk", "2=course:volatile"];
    server.cli(&[&["group", "set", "default"][..], &disks].concat())?;

    let options = ClientOptions::new("pc", Firmware::Bios, PC);
    let client = room.client(options.clone())?;
    up(&client, FIRST_BOOT)?;
    read_only_games(&client)?;
    let course = run(
        &client,
        &format!("mount {COURSE} /mnt && cat /mnt/content && echo mine >/mnt/own && umount /mnt"),
    )?;
    assert_eq!(course, "the first lesson");
    // The system disk and each data disk have a name of their own.
    let serials = run(&client, "lsblk -dno SERIAL | sort -u | grep -c .")?;
    assert_eq!(serials, "3");

    // The PC brings the games up to date; it still runs on what it booted.
    server.cli(&["image", "maintain", "games", "--client", "pc"])?;
    ensure!(run(&client, &format!("blockdev --getro {GAMES}"))? == "1");
    client.reset()?;
    up(&client, FIRST_BOOT)?;
    let own = run(
        &client,
        &format!("mount {COURSE} /mnt && ls /mnt/own 2>/dev/null; umount /mnt"),
    )?;
    assert_eq!(own, "", "what was written to a volatile disk came back");
    run(
        &client,
        &format!("mount {GAMES} /mnt && echo 'the second game' >/mnt/content && umount /mnt"),
    )?;
    client.start("systemctl poweroff")?;
    client.wait_until_off(SHUTDOWN_LIMIT)?;
    server.cli(&["image", "publish", "games", "--comment", "second"])?;
    let refused = server.command(&["image", "remove", "games@2", "--yes"]);
    refused_because(refused, "data disk 1 of the group default")?;

    let client = room.client(options)?;
    up(&client, FIRST_BOOT)?;
    let game = run(
        &client,
        &format!("mount -o ro {GAMES} /mnt && cat /mnt/content && umount /mnt"),
    )?;
    assert_eq!(game, "the second game");
    let shown = server.cli(&["client", "show", "pc"])?;
    assert!(shown.contains("1: games@2 (newest, read-only)"), "{shown}");
    let now = server.golden_checksums()?;
    let kept = golden.lines().all(|line| now.contains(line));
    assert!(kept, "a version was written");
    Ok(())
}

/// They are there, cannot be written, and can be mounted all the same.
fn read_only_games(client: &Client) -> Result<()> {
    ensure!(run(client, &format!("blockdev --getro {GAMES}"))? == "1");
    let content = run(
        client,
        &format!("mount -o ro {GAMES} /mnt && cat /mnt/content && umount /mnt"),
    )?;
    assert_eq!(content, "the first game");
    let written = run(
        client,
        &format!(
            "blockdev --setrw {GAMES}; \
             dd if=/dev/zero of=$(readlink -f {GAMES}) bs=4096 count=1 oflag=direct 2>/dev/null \
             && echo written || echo refused"
        ),
    )?;
    assert_eq!(written, "refused");
    Ok(())
}

fn run(client: &Client, script: &str) -> Result<String> {
    Ok(client.run(script, COMMAND_LIMIT)?.trim().to_owned())
}

/// Imports a small file system with one file as an image.
fn import(server: &DessServer, name: &str, content: &str) -> Result<()> {
    let directory = server.state_directory().with_file_name("data");
    let tree = directory.join(name);
    std::fs::create_dir_all(&tree)?;
    std::fs::write(tree.join("content"), content)?;
    let raw: PathBuf = directory.join(format!("{name}.raw"));
    std::fs::File::create(&raw)?.set_len(32 << 20)?;
    let made = Command::new("mkfs.ext4")
        .args(["-q", "-d"])
        .args([&tree, &raw])
        .status()?;
    ensure!(made.success(), "mkfs.ext4 failed");
    let path = raw.to_str().context("a path that is not UTF-8")?;
    let mut import = server.command(&["image", "import", path, "--name", name]);
    server.namespace().run(&mut import, IMPORT_LIMIT)?;
    Ok(())
}

/// The command fails and says why.
fn refused_because(mut command: Command, reason: &str) -> Result<()> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "it was not refused");
    ensure!(said.contains(reason), "{said}");
    Ok(())
}
