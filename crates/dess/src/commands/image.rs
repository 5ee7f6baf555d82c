//! `dess image`

mod profiles;
mod progress;
mod transfer;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use dess_disk::DiskLint;
use dess_model::JobId;
use dess_node::operations::{
    AssignTo, Follow, ImageImport, JobState, JobView, Operations, PublishOrder,
};

use super::{backup, check, version};
use crate::arguments::ImageCommand;
use crate::control::Control;
use crate::output::{self, ago, bytes, or_dash, say, table};

pub(super) use progress::ProgressLine;

/// Instead of a file: standard input or output.
pub(super) const STANDARD: &str = "-";
/// How often the progress of a job is shown.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// After this long in the queue the person is told why nothing happens.
const QUEUE_PATIENCE_POLLS: u32 = 20;

pub(super) async fn image(
    control: &impl Control,
    command: ImageCommand,
    json: bool,
) -> Result<ExitCode> {
    match command {
        ImageCommand::List => list(control, json).await?,
        ImageCommand::Profiles => profiles::show(control.local()?, json).await?,
        ImageCommand::Import { file, name, detach } => {
            import(control.local()?, &file, name, detach, json).await?;
        }
        ImageCommand::Export {
            image,
            file,
            format,
        } => transfer::export(control.local()?, &image, &file, format).await?,
        ImageCommand::Assign {
            image,
            client,
            latest,
        } => assign(control, &image, client.as_deref(), latest).await?,
        ImageCommand::Maintain {
            image,
            client,
            version,
        } => version::maintain(control, image, &client, version).await?,
        ImageCommand::Publish {
            image,
            comment,
            detach,
        } => {
            let order = PublishOrder { image, comment };
            let job = control.image_publish(order).await?;
            conclude(control, job, "published", detach, json).await?;
        }
        ImageCommand::Discard { image, force, yes } => {
            version::discard(control, &image, force, yes).await?;
        }
        ImageCommand::Rollout(arguments) => version::rollout(control, arguments, json).await?,
        ImageCommand::Rollback { image } => version::rollback(control, &image, json).await?,
        ImageCommand::Diff { one, other } => version::diff(control, &one, &other, json).await?,
        ImageCommand::Flatten { version, detach } => {
            let job = control.version_flatten(&version).await?;
            conclude(control, job, "flattened", detach, json).await?;
        }
        ImageCommand::Check { image, quick } => {
            return check::image(control.local()?, image.as_deref(), quick, json).await;
        }
        ImageCommand::Backup {
            image,
            target,
            since,
            full,
        } => backup::image(control.local()?, &image, &target, since, full).await?,
        ImageCommand::Restore { file, name } => {
            backup::restore_image(control.local()?, &file, name, json).await?;
        }
        ImageCommand::Scrub => return check::scrub(control.local()?, json).await,
        ImageCommand::Repair { image, yes } => {
            check::repair_image(control.local()?, &image, yes, json).await?;
        }
        ImageCommand::Remove { version, yes } => {
            version::remove(control, &version, yes, json).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn import(
    operations: &Operations,
    file: &Path,
    name: Option<String>,
    detach: bool,
    json: bool,
) -> Result<()> {
    let view = if file.as_os_str() == STANDARD {
        let name = name.context("give the image a --name")?;
        transfer::import_standard_input(operations, name).await?
    } else {
        let source = std::fs::canonicalize(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let name = name.unwrap_or_else(|| name_of(&source));
        let job = operations
            .image_import_start(ImageImport { source, name })
            .await?;
        match detach {
            true => operations.job_get(job).await?,
            false => follow(operations, job).await?,
        }
    };
    if json {
        output::json(&view)?;
    } else {
        say!("{}", summary(&view));
        show_findings(operations, &view).await?;
    }
    Ok(())
}

async fn list(control: &impl Control, json: bool) -> Result<()> {
    let images = control.image_list().await?;
    if json {
        return output::json(&images);
    }
    let mut rows = table(&[
        "version",
        "on",
        "written",
        "size",
        "boots with",
        "age",
        "by",
        "groups",
        "clients",
        "comment",
    ]);
    for version in images.iter().flat_map(|image| &image.versions) {
        rows.add_row([
            version.label.clone(),
            or_dash(version.parent.map(|parent| format!("@{}", parent.number))),
            or_dash(version.layer_bytes.map(bytes)),
            bytes(version.size_bytes),
            output::or_dash(version.lint.as_ref().map(firmware)),
            ago(version.created),
            version.author.clone(),
            version.groups.join(", "),
            version.clients.to_string(),
            version.comment.clone(),
        ]);
    }
    say!("{rows}");
    for image in &images {
        if let Some(maintenance) = &image.maintenance {
            say!(
                "{}: seat {} ({}) maintains it on {}@{} for {}",
                image.name,
                maintenance.seat,
                maintenance.name,
                image.name,
                maintenance.version.number,
                ago(maintenance.since)
            );
        }
    }
    Ok(())
}

async fn assign(
    control: &impl Control,
    image: &str,
    client: Option<&str>,
    latest: bool,
) -> Result<()> {
    let to = match client {
        None => AssignTo::DefaultGroup,
        Some(text) => AssignTo::Client(control.client_find(text).await?.id),
    };
    let follow = match latest {
        true => Follow::Latest,
        false => Follow::Pinned,
    };
    control.image_assign(image, to, follow).await?;
    say!("{image} is booted from the next power-on");
    Ok(())
}

fn summary(view: &JobView) -> String {
    match (&view.result, view.state) {
        (Some(result), _) => format!("imported {result}"),
        (None, _) => format!("job {} goes on: dess job list", view.id),
    }
}

/// Waits for a job, unless nobody wants to, and says what it came to.
pub(super) async fn conclude(
    control: &impl Control,
    job: JobId,
    done: &str,
    detach: bool,
    json: bool,
) -> Result<()> {
    let view = match detach {
        true => control.job_get(job).await?,
        false => follow(control, job).await?,
    };
    if json {
        return output::json(&view);
    }
    match (&view.result, view.state) {
        (Some(result), JobState::Done) => say!("{done} {result}"),
        _ => say!("job {} goes on: dess job list", view.id),
    }
    Ok(())
}

/// Shows a job's progress until it ends. Ctrl-C leaves the job running.
async fn follow(control: &impl Control, job: JobId) -> Result<JobView> {
    let mut line = ProgressLine::new();
    let mut polls = 0;
    loop {
        let view = control.job_get(job).await?;
        if view.state.is_final() {
            line.end();
            return finished(view);
        }
        polls += 1;
        if view.state == JobState::Queued && polls == QUEUE_PATIENCE_POLLS {
            eprintln!("the job waits for the management daemon; is it running? (dess up)");
        }
        line.show(view.progress, view.total)?;
        tokio::time::sleep(PROGRESS_EVERY).await;
    }
}

/// Says what was seen of the disk that a job imported.
async fn show_findings(control: &impl Control, view: &JobView) -> Result<()> {
    let images = control.image_list().await?;
    let mut versions = images.iter().flat_map(|image| &image.versions);
    let imported = versions.find(|version| Some(&version.label) == view.result.as_ref());
    let Some(lint) = imported.and_then(|version| version.lint.as_ref()) else {
        return Ok(());
    };
    say!("boots with: {}", firmware(lint));
    if let Some(windows) = &lint.windows {
        say!("system: {windows}");
    }
    for finding in &lint.findings {
        say!("note: {finding}");
    }
    Ok(())
}

/// With which firmware a disk seems to boot.
fn firmware(lint: &DiskLint) -> &'static str {
    match (lint.bios, lint.uefi) {
        (true, true) => "BIOS, UEFI",
        (true, false) => "BIOS",
        (false, true) => "UEFI",
        (false, false) => "nothing",
    }
}

fn finished(view: JobView) -> Result<JobView> {
    match view.state {
        JobState::Done => Ok(view),
        JobState::Cancelled => bail!("it was cancelled"),
        _ => bail!("{}", view.error.unwrap_or_else(|| "it failed".to_owned())),
    }
}

fn name_of(source: &Path) -> String {
    source
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default()
}
