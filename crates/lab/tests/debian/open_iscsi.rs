//! open-iscsi in a Debian client and a second target: discovery, two portals, digests, CHAP.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dess_lab::{Client, DessServer, Process};

const IQN: &str = "iqn.2026-11.lab:second";
/// Two portals of the target, on the server's address.
const PORTALS: [&str; 2] = ["10.77.0.1:3261", "10.77.0.1:3262"];
const DISK_MIB: u64 = 16;
const CHAP: &str = "pc secret-of-the-pc\nsite secret-of-the-site\n";
/// A step on a loaded, emulating core (alone: 1 to 4 s).
const STEP_LIMIT: Duration = Duration::from_secs(90);
const READY_LIMIT: Duration = Duration::from_secs(30);
/// iscsiadm's exit status for a login that was refused (ISCSI_ERR_LOGIN_AUTH_FAILED).
const NOT_AUTHENTICATED: i32 = 24;
/// That for one which the initiator itself gives up for good (ISCSI_ERR_FATAL_LOGIN).
const GIVEN_UP: i32 = 19;

/// Waits for the disk of the first portal and names it.
const FIND_DISK: &str = "udevadm settle; \
    disk=$(readlink -f /dev/disk/by-path/ip-10.77.0.1:3261-iscsi-iqn.2026-11.lab:second-lun-0)";

/// Everything in one boot of `client`.
pub(super) fn agrees_with_dess(server: &DessServer, client: &Client) -> Result<()> {
    let (process, disk) = serve(server)?;
    discovery(client)?;
    chap(client)?;
    for (round, digests) in [
        ("None", "None"),
        ("CRC32C", "None"),
        ("None", "CRC32C"),
        ("CRC32C", "CRC32C"),
    ]
    .into_iter()
    .enumerate()
    {
        data_with_digests(client, &disk, round as u64, digests)?;
    }
    two_portals(client)?;
    process.terminate(READY_LIMIT)?;
    Ok(())
}

/// A target with CHAP both ways over a file with content.
fn serve(server: &DessServer) -> Result<(Process, PathBuf)> {
    let directory = server.state_directory().with_file_name("second");
    std::fs::create_dir_all(&directory)?;
    let disk = directory.join("disk.raw");
    let content: Vec<u8> = (0..DISK_MIB << 18)
        .flat_map(|word| (word as u32).wrapping_mul(0x9e37_79b9).to_le_bytes())
        .collect();
    std::fs::write(&disk, content)?;
    let secrets = directory.join("chap");
    std::fs::write(&secrets, CHAP)?;
    let mut command = server.command(&["iscsi", "serve", "--iqn", IQN, "--thin"]);
    command.arg("--image").arg(&disk);
    command.arg("--chap").arg(&secrets);
    for portal in PORTALS {
        command.args(["--listen", portal]);
    }
    let process = server.namespace().spawn("second-target", &mut command)?;
    process.wait_for_log(&format!("serving on {}", PORTALS[1]), READY_LIMIT)?;
    Ok((process, disk))
}

fn discovery(client: &Client) -> Result<()> {
    let found = client.run(
        &format!("iscsiadm -m discovery -t sendtargets -p {}", PORTALS[0]),
        STEP_LIMIT,
    )?;
    for portal in PORTALS {
        let line = format!("{portal},1 {IQN}");
        ensure!(
            found.contains(&line),
            "discovery does not show {line}:\n{found}"
        );
    }
    Ok(())
}

/// Absent, wrong, right; then the target's own proof wrong and right.
fn chap(client: &Client) -> Result<()> {
    ensure!(
        log_in(client)? == NOT_AUTHENTICATED,
        "a login without CHAP was not refused"
    );
    set(
        client,
        &[
            ("node.session.auth.authmethod", "CHAP"),
            ("node.session.auth.username", "pc"),
            ("node.session.auth.password", "not-the-secret"),
        ],
    )?;
    ensure!(
        log_in(client)? == NOT_AUTHENTICATED,
        "a login with a wrong secret was not refused"
    );
    set(
        client,
        &[("node.session.auth.password", "secret-of-the-pc")],
    )?;
    ensure!(log_in(client)? == 0, "the right secret was refused");
    log_out(client)?;
    // The initiator finds that the target does not know what it should.
    set(
        client,
        &[
            ("node.session.auth.username_in", "site"),
            ("node.session.auth.password_in", "another-secret"),
        ],
    )?;
    ensure!(
        log_in(client)? == GIVEN_UP,
        "the initiator took a wrong target for the right one"
    );
    set(
        client,
        &[("node.session.auth.password_in", "secret-of-the-site")],
    )?;
    ensure!(log_in(client)? == 0, "the target could not prove itself");
    log_out(client)
}

/// Reads what the server wrote and writes what the server reads, with these digests in use.
fn data_with_digests(
    client: &Client,
    disk: &Path,
    round: u64,
    (header, data): (&str, &str),
) -> Result<()> {
    set(
        client,
        &[
            ("node.conn[0].iscsi.HeaderDigest", header),
            ("node.conn[0].iscsi.DataDigest", data),
        ],
    )?;
    ensure!(
        log_in(client)? == 0,
        "no login with digests {header} {data}"
    );
    let session = client.run("iscsiadm -m session -P 2", STEP_LIMIT)?;
    let ours = session
        .split("Target: ")
        .find(|target| target.starts_with(IQN))
        .with_context(|| format!("no session:\n{session}"))?;
    for (key, value) in [("HeaderDigest", header), ("DataDigest", data)] {
        ensure!(
            ours.contains(&format!("{key}: {value}")),
            "{key} is not {value}:\n{ours}"
        );
    }

    // 2 MiB each way, from and to a place of this round, past the client's cache.
    let (from, to) = (round, 8 + round * 2);
    let said = client.run(
        &format!(
            "{FIND_DISK}; dd if=$disk bs=1M skip={from} count=2 iflag=direct status=none | md5sum; \
             dd if=/dev/urandom of=/run/data bs=1M count=2 status=none; \
             dd if=/run/data of=$disk bs=256k seek={} oflag=direct conv=fsync status=none; \
             md5sum </run/data",
            to * 4
        ),
        STEP_LIMIT,
    )?;
    let sums: Vec<&str> = said
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let expected = [md5_of(disk, from)?, md5_of(disk, to)?];
    ensure!(
        sums == expected,
        "digests {header} {data}: the client has {said}, the server {expected:?}"
    );
    log_out(client)
}

/// Two sessions to one disk: what is written through one is read through the other.
fn two_portals(client: &Client) -> Result<()> {
    let both = client.run(
        &format!(
            "iscsiadm -m node -T {IQN} -o update -n node.session.auth.authmethod -v CHAP && \
             iscsiadm -m node -T {IQN} -o update -n node.session.auth.username -v pc && \
             iscsiadm -m node -T {IQN} -o update -n node.session.auth.password \
             -v secret-of-the-pc && \
             iscsiadm -m node -T {IQN} --login && {FIND_DISK} && \
             other=$(echo $disk:$(readlink -f /dev/disk/by-path/*3262*lun-0)) && \
             [ ${{other%:*}} != ${{other#*:}} ] && \
             dd if=/run/data of=$disk bs=1M seek=1 oflag=direct status=none && \
             dd if=${{other#*:}} bs=1M skip=1 count=2 iflag=direct status=none | \
             cmp - /run/data && echo same"
        ),
        STEP_LIMIT,
    )?;
    ensure!(both.ends_with("same"), "the two portals differ:\n{both}");
    client.run(
        &format!("iscsiadm -m node -T {IQN} --logout && iscsiadm -m node -T {IQN} -o delete"),
        STEP_LIMIT,
    )?;
    // The root file system's own session was never touched.
    let left = client.run("iscsiadm -m session", STEP_LIMIT)?;
    ensure!(
        left.lines().count() == 1 && !left.contains(IQN),
        "sessions that are left:\n{left}"
    );
    Ok(())
}

/// Changes settings of the node record of the first portal.
fn set(client: &Client, settings: &[(&str, &str)]) -> Result<()> {
    let node = format!("iscsiadm -m node -T {IQN} -p {}", PORTALS[0]);
    let updates: Vec<String> = settings
        .iter()
        .map(|(name, value)| format!("{node} -o update -n '{name}' -v '{value}'"))
        .collect();
    client.run(&updates.join(" && "), STEP_LIMIT)?;
    Ok(())
}

/// Logs in to the first portal; iscsiadm's exit status.
fn log_in(client: &Client) -> Result<i32> {
    let login = format!("iscsiadm -m node -T {IQN} -p {} --login", PORTALS[0]);
    let (output, status) = client.start(&login)?.wait(STEP_LIMIT)?;
    eprintln!("{}: {output} ({status})", client.options().name);
    Ok(status)
}

fn log_out(client: &Client) -> Result<()> {
    let logout = format!("iscsiadm -m node -T {IQN} -p {} --logout", PORTALS[0]);
    client.run(&logout, STEP_LIMIT)?;
    Ok(())
}

/// Checksum of 2 MiB of a file, from this MiB on.
fn md5_of(file: &Path, mib: u64) -> Result<String> {
    let mut content = vec![0; 2 << 20];
    std::fs::File::open(file)?.read_exact_at(&mut content, mib << 20)?;
    let copy = tempfile::NamedTempFile::new()?;
    std::fs::write(copy.path(), content)?;
    let output = std::process::Command::new("md5sum")
        .arg(copy.path())
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let sum = text.split_whitespace().next().context("md5sum is silent")?;
    Ok(sum.to_owned())
}
