//! A planned restart of the iSCSI service under a Debian client that writes and flushes all the time.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use dess_lab::{Client, DessServer};

use super::{COMMAND_LIMIT, OUTAGE_LIMIT};

/// What the room may wait until the service accepts again, on two loaded, emulating cores.
const RESTART_LIMIT: Duration = Duration::from_secs(5);
/// Records between two looks at the writer: it gets on.
const SOME: u32 = 50;

/// Writes numbered records like `lab-write`, each with fsync, until `/run/enough` is there; its log has a line per
/// record, and at last how long the slowest took, in seconds.
const WRITER: &str = r#"rm -f /run/enough; (perl -MIO::Handle -e 'sub now { open(my $u, "<", "/proc/uptime"); (split " ", <$u>)[0] } open(my $f, ">", "/data/planned") or die $!; STDOUT->autoflush(1); my ($n, $worst) = (0, 0); until (-e "/run/enough") { $n++; my $t = now(); syswrite($f, sprintf("%-511d\n", $n)) == 512 or die "write $n: $!"; $f->sync or die "fsync $n: $!"; my $d = now() - $t; $worst = $d if $d > $worst; print "$n\n" } print "worst $worst\n"' >/run/planned.log 2>&1 &) ; true"#;

/// The client comes back by itself, sees no error, and has all that it flushed.
pub(super) fn a_planned_restart_is_a_short_pause(
    server: &DessServer,
    client: &Client,
) -> Result<()> {
    client.run("mount /data", COMMAND_LIMIT)?;
    client.run("dmesg -C", COMMAND_LIMIT)?;
    client.run(WRITER, COMMAND_LIMIT)?;
    records_beyond(client, SOME)?;
    let before = server.service_pid("iscsi")?;

    let begun = Instant::now();
    server.cli(&["service", "restart", "iscsi", "--yes"])?;
    let back = begun.elapsed();
    ensure!(back < RESTART_LIMIT, "the restart took {back:?}");
    ensure!(
        server.service_pid("iscsi")? != before,
        "the service was not restarted"
    );

    let written = last_record(client)?;
    records_beyond(client, written + SOME)?;
    client.run("touch /run/enough", COMMAND_LIMIT)?;
    let worst = wait_for(client, |line| {
        line.strip_prefix("worst ")?.parse::<f64>().ok()
    })?;
    // A slow client is cut off instead, and comes back all the same.
    let logged_out = match server.process().log().contains("Logout") {
        true => "logged out as it was asked to",
        false => "was too slow to log out",
    };
    eprintln!(
        "{}: `dess service restart iscsi` took {:.2} s, the slowest write with fsync {worst:.2} s; it {logged_out}",
        client.options().name,
        back.as_secs_f64()
    );

    // Off the mount, so that the disk is asked and not the guest's memory.
    let records = client.run("grep -c '^[0-9]' /run/planned.log", COMMAND_LIMIT)?;
    client.run(
        "umount /data && echo 3 >/proc/sys/vm/drop_caches",
        COMMAND_LIMIT,
    )?;
    client.run(
        &format!("mount /data && lab-verify /data/planned {records} && umount /data"),
        COMMAND_LIMIT,
    )?;
    let errors = client.run(
        "dmesg | grep -E 'I/O error|EXT4-fs error|rejecting I/O|offline'; true",
        COMMAND_LIMIT,
    )?;
    ensure!(errors.is_empty(), "the restart reached the disk: {errors}");
    Ok(())
}

/// Waits until the writer has written more than so many records.
fn records_beyond(client: &Client, records: u32) -> Result<()> {
    wait_for(client, |line| {
        let written: u32 = line.parse().ok()?;
        (written > records).then_some(())
    })
}

fn last_record(client: &Client) -> Result<u32> {
    wait_for(client, |line| line.parse().ok())
}

/// Waits until the last line of the writer's log is what `pick` takes.
fn wait_for<T>(client: &Client, pick: impl Fn(&str) -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + OUTAGE_LIMIT;
    loop {
        let line = client.run("tail -n 1 /run/planned.log", COMMAND_LIMIT)?;
        if let Some(picked) = pick(line.trim()) {
            return Ok(picked);
        }
        ensure!(
            Instant::now() < deadline,
            "the writer does not get on; its last line is {line:?}"
        );
    }
}
