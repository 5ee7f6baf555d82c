//! `dess space` and `dess gc`

use std::process::ExitCode;

use anyhow::Result;
use dess_model::{PoolLevel, PoolStatus};
use dess_node::operations::{GarbageView, Operations, OrphanKind, SpaceView};

use super::confirmed;
use crate::arguments::GarbageArguments;
use crate::limits::describe_overlay;
use crate::output::{self, bytes, duration, or_dash, say, table};

/// Disks and versions that are listed; the JSON has all.
const LISTED_MAX: usize = 20;

pub(super) async fn space(operations: &Operations, json: bool) -> Result<ExitCode> {
    let space = operations.space().await?;
    if json {
        output::json(&space)?;
    } else {
        print(&space);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(space: &SpaceView) {
    let figures = &space.pool.figures;
    let percent = figures.used_permille() / 10;
    say!(
        "in use        {} of {} ({percent} %), {} can be written",
        bytes(figures.used_bytes),
        bytes(figures.total_bytes),
        bytes(figures.available_bytes)
    );
    say!("level         {}", level(&space.pool));
    say!("forecast      {}", forecast(&space.pool));
    if let Some(images) = &space.images_pool {
        say!(
            "images        lie elsewhere: {} of {} in use",
            bytes(images.used_bytes),
            bytes(images.total_bytes)
        );
    }
    say!(
        "besides       {} unfinished imports, {} being removed, {} other files",
        bytes(space.unfinished_bytes),
        bytes(space.leaving_bytes),
        bytes(space.other_bytes)
    );
    let mut rows = table(&["seat", "client", "overlay", "set aside", "kept", "limits"]);
    for disk in space.disks.iter().take(LISTED_MAX) {
        let name = disk.name.clone();
        rows.add_row([
            or_dash(disk.seat),
            name.unwrap_or_else(|| format!("no client (disk {})", disk.usage.disk)),
            bytes(disk.usage.overlay_bytes),
            bytes(disk.usage.aside_bytes),
            format!("{} ({})", bytes(disk.usage.kept_bytes), disk.usage.kept),
            describe_overlay(&disk.limits),
        ]);
    }
    say!("\n{rows}");
    let mut rows = table(&["version", "size"]);
    for version in space.versions.iter().take(LISTED_MAX) {
        rows.add_row([version.label.clone(), bytes(version.bytes)]);
    }
    say!("\n{rows}");
}

fn level(pool: &PoolStatus) -> String {
    let rate = pool.client_write_bytes_per_sec.map(bytes);
    let rate = rate.map_or(String::new(), |rate| {
        format!("; each client writes at most {rate}/s")
    });
    match pool.level {
        PoolLevel::Normal => "normal".to_owned(),
        PoolLevel::Warn => "running short".to_owned(),
        PoolLevel::Throttle => format!("nearly full{rate}"),
        PoolLevel::Stop => format!("full but for a rest: no client gets a new overlay{rate}"),
    }
}

fn forecast(pool: &PoolStatus) -> String {
    match (pool.full_in_secs, pool.growth_bytes_per_sec) {
        (Some(secs), Some(growth)) => {
            let growth = bytes(growth.unsigned_abs());
            let when = duration(secs.saturating_mul(1000));
            format!("full in {when} at this rate ({growth}/s)")
        }
        (None, Some(growth)) if growth > 0 => {
            format!("not within a month ({}/s)", bytes(growth.unsigned_abs()))
        }
        (None, Some(_)) => "does not grow".to_owned(),
        (_, None) => "not known yet (needs a minute of the iSCSI service)".to_owned(),
    }
}

pub(super) async fn gc(
    operations: &Operations,
    arguments: &GarbageArguments,
    json: bool,
) -> Result<ExitCode> {
    let found = operations.garbage().await?;
    let nothing = found.orphans.is_empty() && found.unfinished_bytes == 0;
    if arguments.dry_run || nothing {
        return shown(&found, json);
    }
    if !json {
        list(&found);
    }
    if !confirmed("Remove all of it?", arguments.yes)? {
        return Ok(ExitCode::SUCCESS);
    }
    let removed = operations.garbage_collect().await?;
    match json {
        true => output::json(&removed)?,
        false => say!("removed"),
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(found: &GarbageView, json: bool) -> Result<ExitCode> {
    match json {
        true => output::json(found)?,
        false => list(found),
    }
    Ok(ExitCode::SUCCESS)
}

fn list(found: &GarbageView) {
    for orphan in &found.orphans {
        let what = match orphan.what {
            OrphanKind::Disk { disk } => format!("disk {disk} of no client"),
            OrphanKind::Version { version } => {
                format!("files of version {version}, which nobody knows")
            }
        };
        say!("{}  {what}", bytes(orphan.bytes));
    }
    if found.unfinished_bytes > 0 {
        say!(
            "{}  interrupted imports and the like (those that could go on stay for a week)",
            bytes(found.unfinished_bytes)
        );
    }
    if let Some(job) = &found.busy {
        say!("files of versions were not looked at while a job works: {job}");
    }
    if found.orphans.is_empty() && found.unfinished_bytes == 0 {
        say!("nothing is left over");
    }
}
