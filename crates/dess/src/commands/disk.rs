//! `dess disk`

use std::process::ExitCode;

use anyhow::Result;
use dess_model::{SnapshotOrder, SnapshotStatus};
use dess_node::operations::Operations;

use super::{backup, check, confirmed};
use crate::arguments::{DiskCommand, SnapshotCommand};
use crate::output::{self, ago, bytes, say, table};

pub(super) async fn disk(
    operations: &Operations,
    command: DiskCommand,
    json: bool,
) -> Result<ExitCode> {
    match command {
        DiskCommand::Check { client } => {
            return check::disk(operations, client.as_deref(), json).await;
        }
        DiskCommand::Snapshot(command) => snapshot(operations, command, json).await?,
        DiskCommand::Backup {
            client,
            file,
            snapshot,
        } => backup::disk(operations, &client, &file, snapshot).await?,
        DiskCommand::Restore {
            client,
            file,
            snapshot,
        } => backup::restore_disk(operations, &client, &file, &snapshot).await?,
        DiskCommand::Repair { client, yes } => {
            check::repair_disk(operations, &client, yes, json).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn snapshot(operations: &Operations, command: SnapshotCommand, json: bool) -> Result<()> {
    let (client, order, question, yes) = match command {
        SnapshotCommand::List { client } => (client, SnapshotOrder::List, None, true),
        SnapshotCommand::Create { client, name } => {
            (client, SnapshotOrder::Create { name }, None, true)
        }
        SnapshotCommand::Restore { client, name, yes } => {
            let question = format!("Replace what {client} has written by the snapshot {name}?");
            (client, SnapshotOrder::Restore { name }, Some(question), yes)
        }
        SnapshotCommand::Remove { client, name, yes } => {
            let question = format!("Remove the snapshot {name} of {client}?");
            (client, SnapshotOrder::Remove { name }, Some(question), yes)
        }
    };
    if let Some(question) = question
        && !confirmed(&question, yes)?
    {
        return Ok(());
    }
    let disk = operations.disk_named(&client).await?;
    let id = operations.client_find(&client).await?.id;
    let done = match &order {
        SnapshotOrder::List => None,
        SnapshotOrder::Create { name } => Some(format!("{} is kept as {name}", disk.label)),
        SnapshotOrder::Restore { name } => Some(format!("{} is as in {name} again", disk.label)),
        SnapshotOrder::Remove { name } => Some(format!("{name} of {} is removed", disk.label)),
    };
    let snapshots = operations.disk_snapshot(id, order).await?;
    if json {
        return output::json(&snapshots);
    }
    match done {
        Some(done) => say!("{done}"),
        None => show(operations, snapshots).await?,
    }
    Ok(())
}

async fn show(operations: &Operations, snapshots: Vec<SnapshotStatus>) -> Result<()> {
    let versions = snapshots.iter().map(|snapshot| snapshot.version).collect();
    let labels = operations.version_labels(versions).await?;
    let mut rows = table(&["snapshot", "age", "on", "takes"]);
    for (snapshot, (label, _)) in snapshots.iter().zip(labels) {
        rows.add_row([
            snapshot.name.clone(),
            ago(snapshot.created),
            label,
            bytes(snapshot.allocated_bytes),
        ]);
    }
    say!("{rows}");
    Ok(())
}
