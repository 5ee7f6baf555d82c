//! `dess group`

use std::process::ExitCode;

use anyhow::Result;
use dess_node::operations::{GroupChange, GroupView, OperationError};

use crate::arguments::GroupCommand;
use crate::control::Control;
use crate::data_disks;
use crate::limits;
use crate::output::{self, or_dash, say, table};

pub(super) async fn group(
    control: &impl Control,
    command: GroupCommand,
    json: bool,
) -> Result<ExitCode> {
    let groups = match command {
        GroupCommand::List => control.group_list().await?,
        GroupCommand::Set {
            group,
            data_disks,
            limits,
        } => {
            let change = GroupChange {
                policy: None,
                data_disks: data_disks.changes,
                limits: limits.change()?,
            };
            let seen = named(control, group).await?;
            vec![control.group_set(&seen, change).await?]
        }
    };
    if json {
        output::json(&groups)?;
    } else {
        print(&groups);
    }
    Ok(ExitCode::SUCCESS)
}

async fn named(control: &impl Control, name: String) -> Result<GroupView> {
    let groups = control.group_list().await?;
    let found = groups.into_iter().find(|group| group.name == name);
    let what = "group";
    Ok(found.ok_or(OperationError::NotFound { what, name })?)
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
