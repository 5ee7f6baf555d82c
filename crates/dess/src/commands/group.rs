//! `dess group`

use std::process::ExitCode;

use anyhow::Result;
use dess_node::operations::{GroupView, Operations};

use crate::arguments::GroupCommand;
use crate::data_disks;
use crate::limits;
use crate::output::{self, or_dash, say, table};

pub(super) async fn group(
    operations: &Operations,
    command: GroupCommand,
    json: bool,
) -> Result<ExitCode> {
    let groups = match command {
        GroupCommand::List => operations.group_list().await?,
        GroupCommand::Set {
            group,
            data_disks,
            limits,
        } => {
            let (limits, disks) = (limits.change()?, data_disks.changes);
            let mut changed = None;
            if !disks.is_empty() {
                changed = Some(operations.group_data_disks(&group, &disks).await?);
            }
            if changed.is_none() || !limits.is_empty() {
                changed = Some(operations.group_limit(&group, limits).await?);
            }
            changed.into_iter().collect()
        }
    };
    if json {
        output::json(&groups)?;
    } else {
        print(&groups);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(groups: &[GroupView]) {
    let mut rows = table(&[
        "group",
        "image",
        "policy",
        "data disks",
        "limits of all together",
        "overlay of each",
    ]);
    for group in groups {
        rows.add_row([
            group.name.clone(),
            or_dash(group.image.as_ref().map(|image| &image.label)),
            super::client::policy(group.policy).to_owned(),
            data_disks::describe(&group.data_disks),
            limits::describe(&group.limits),
            limits::describe_overlay(&group.overlay_limits),
        ]);
    }
    say!("{rows}");
}
