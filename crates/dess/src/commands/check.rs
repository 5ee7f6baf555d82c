//! `dess image check`, `repair` and `scrub`; `dess disk check` and `repair`

use std::process::ExitCode;

use anyhow::Result;
use dess_disk::check::{
    CheckError, Depth, Fault, Repaired, Severity, VersionCheck, check_disk, check_version,
    disks_in_store, is_damaged, repair_overlay, repair_version, versions_in_store,
};
use dess_model::VersionRef;
use dess_node::operations::{NamedDisk, Operations};
use serde::Serialize;

use super::image::ProgressLine;
use super::{ABNORMAL, confirmed};
use crate::output::{self, ago, bytes, say};

/// What was found of one version or overlay.
#[derive(Serialize)]
struct Checked {
    name: String,
    faults: Vec<Fault>,
    /// What was looked at, for people.
    #[serde(skip)]
    extent: String,
}

pub(super) async fn image(
    operations: &Operations,
    image: Option<&str>,
    quick: bool,
    json: bool,
) -> Result<ExitCode> {
    let images = operations.paths().images();
    let versions = match image {
        Some(image) => operations.versions_named(image).await?,
        None => {
            let versions = versions_in_store(&images)?;
            // Also without the database.
            match operations.version_labels(versions.clone()).await {
                Ok(labelled) => labelled,
                Err(_) => versions
                    .into_iter()
                    .map(|version| (version.to_string(), version))
                    .collect(),
            }
        }
    };
    let depth = match quick {
        true => Depth::Structure,
        false => Depth::Content,
    };
    let mut found = Vec::new();
    for (name, version) in versions {
        let check = in_background(operations, version, depth).await?;
        let extent = match depth {
            Depth::Content => format!("{} compared", bytes(check.compared_bytes)),
            Depth::Structure => "maps and checksum files only".to_owned(),
        };
        found.push(Checked {
            name,
            faults: check.faults,
            extent,
        });
    }
    report(&found, "dess image repair", json)
}

async fn in_background(
    operations: &Operations,
    version: VersionRef,
    depth: Depth,
) -> Result<VersionCheck> {
    let images = operations.paths().images();
    let work = move || -> Result<VersionCheck, CheckError> {
        let mut line = ProgressLine::new();
        let shown = &mut line;
        let progress = &mut |progress: dess_disk::Progress| {
            // A terminal that is gone does not stop the check.
            let _ = shown.show(progress.done_bytes, progress.total_bytes);
        };
        let check = check_version(&images, version, depth, progress, &|| false);
        line.end();
        check
    };
    Ok(tokio::task::spawn_blocking(work).await??)
}

pub(super) async fn disk(
    operations: &Operations,
    client: Option<&str>,
    json: bool,
) -> Result<ExitCode> {
    let paths = operations.paths();
    let (overlays, images) = (paths.overlays(), paths.images());
    let disks = match client {
        Some(client) => disks_of(operations, client).await?,
        None => {
            let disks = disks_in_store(&overlays)?;
            // Also without the database.
            match operations.disk_labels(disks.clone()).await {
                Ok(named) => named,
                Err(_) => disks.into_iter().map(unnamed).collect(),
            }
        }
    };
    let mut found = Vec::new();
    for disk in disks {
        for check in check_disk(&overlays, &images, disk.disk)? {
            let extent = match check.mapped_blocks {
                Some(blocks) => format!("{} written", bytes(blocks * dess_disk::BLOCK_BYTES)),
                None => "no map on the storage, as it is volatile".to_owned(),
            };
            found.push(Checked {
                name: format!("{}, {}", disk.label, check.name),
                faults: check.faults,
                extent,
            });
        }
    }
    report(&found, "dess disk repair", json)
}

/// What the store has of a client: its disk and its data disks.
async fn disks_of(operations: &Operations, client: &str) -> Result<Vec<NamedDisk>> {
    let id = operations.client_find(client).await?.id;
    let disks = disks_in_store(&operations.paths().overlays())?;
    let mut disks = operations.disk_labels(disks).await?;
    disks.retain(|disk| disk.client == Some(id));
    Ok(disks)
}

fn unnamed(disk: dess_model::DiskId) -> NamedDisk {
    NamedDisk {
        label: format!("disk {disk}"),
        disk,
        client: None,
    }
}

fn report(found: &[Checked], repair: &str, json: bool) -> Result<ExitCode> {
    let damaged = found.iter().any(|checked| is_damaged(&checked.faults));
    if json {
        output::json(&found)?;
    } else {
        for checked in found {
            let verdict = match checked.faults.iter().map(|fault| fault.severity).max() {
                None | Some(Severity::Note) => "whole",
                Some(Severity::Warning) => "usable, but not as it should be",
                Some(Severity::Damage) => "DAMAGED",
            };
            say!("{}: {verdict} ({})", checked.name, checked.extent);
            for fault in &checked.faults {
                say!("  {fault}");
            }
        }
        let mut faults = found.iter().flat_map(|checked| &checked.faults);
        if found.is_empty() {
            say!("there is nothing to check");
        } else if faults.any(|fault| fault.remedy.is_some()) {
            say!("some of this can be repaired: {repair}");
        }
    }
    Ok(match damaged {
        true => ExitCode::from(ABNORMAL),
        false => ExitCode::SUCCESS,
    })
}

pub(super) async fn repair_image(
    operations: &Operations,
    image: &str,
    yes: bool,
    json: bool,
) -> Result<()> {
    let (label, version) = operations.version_named(image).await?;
    if !confirmed(&format!("Repair {label}?"), yes)? {
        return Ok(());
    }
    let images = operations.paths().images();
    let work = move || repair_version(&images, version);
    let repaired = tokio::task::spawn_blocking(work).await??;
    tell(&label, &repaired, json)
}

pub(super) async fn repair_disk(
    operations: &Operations,
    client: &str,
    yes: bool,
    json: bool,
) -> Result<()> {
    let label = operations.disk_named(client).await?.label;
    if !confirmed(&format!("Repair the disks of {label}?"), yes)? {
        return Ok(());
    }
    let paths = operations.paths();
    let (overlays, images) = (paths.overlays(), paths.images());
    let mut repaired = Vec::new();
    for disk in disks_of(operations, client).await? {
        for check in check_disk(&overlays, &images, disk.disk)? {
            let directory = overlays.join(disk.disk.simple()).join(&check.name);
            if check.faults.iter().any(|fault| fault.remedy.is_some()) {
                repaired.extend(repair_overlay(&overlays, &directory)?);
            }
        }
    }
    tell(&label, &repaired, json)
}

fn tell(name: &str, repaired: &[Repaired], json: bool) -> Result<()> {
    if json {
        return output::json(&repaired);
    }
    for repair in repaired {
        match &repair.copy {
            Some(copy) => say!("{name}: {}; the old one is {}", repair.what, copy.display()),
            None => say!("{name}: {}", repair.what),
        }
    }
    if repaired.is_empty() {
        say!("{name}: there is nothing that can be repaired");
    }
    Ok(())
}

/// What the scrub in the background has done.
pub(super) async fn scrub(operations: &Operations, json: bool) -> Result<ExitCode> {
    let state = operations.scrub_state();
    let code = match state.faults.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(ABNORMAL),
    };
    if json {
        output::json(&state)?;
        return Ok(code);
    }
    let compared = bytes(state.compared_bytes);
    match (state.at, state.begun, state.ended) {
        (Some((version, offset)), Some(begun), _) => {
            let label = match operations.version_labels(vec![version]).await {
                Ok(labels) => labels[0].0.clone(),
                Err(_) => version.to_string(),
            };
            say!(
                "a pass began {} ago; {compared} compared, now {label} at {}",
                ago(begun),
                bytes(offset)
            );
        }
        (_, _, Some(ended)) => say!(
            "the last pass ended {} ago; {compared} compared",
            ago(ended)
        ),
        _ => say!("nothing was compared yet"),
    }
    for (version, fault) in &state.faults {
        let used = operations.version_dependents(*version).await;
        let (label, users) = used.unwrap_or_else(|_| (version.to_string(), Vec::new()));
        say!("{label} is DAMAGED: {fault}");
        for user in users {
            say!("  in use: {user}");
        }
    }
    Ok(code)
}
