//! `dess client export`, `dess client import` and `dess client import-dhcpd`

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use dess_node::operations::Operations;

use crate::output::{self, say};

/// Largest file that is read: far beyond a sheet of all clients.
const FILE_MAX: u64 = 16 << 20;

/// `dess client export`
pub(super) async fn export(operations: &Operations, file: Option<&Path>) -> Result<()> {
    let sheet = operations.client_sheet().await?;
    match file {
        Some(file) => fs::write(file, sheet)
            .with_context(|| format!("cannot write the file {}", file.display())),
        None => {
            say!("{}", sheet.trim_end());
            Ok(())
        }
    }
}

/// `dess client import`
pub(super) async fn import(
    operations: &Operations,
    file: &Path,
    dry_run: bool,
    json: bool,
) -> Result<ExitCode> {
    let report = operations
        .client_sheet_import(&read(file)?, dry_run)
        .await?;
    if json {
        output::json(&report)?;
    } else {
        for problem in &report.problems {
            let (line, field) = (problem.line, &problem.field);
            let colon = if field.is_empty() { "" } else { ": " };
            say!("line {line}: {field}{colon}{}", problem.reason);
        }
        let (added, changed) = (report.added.len(), report.changed.len());
        let same = report.unchanged;
        say!(
            "{added} new, {changed} changed, {same} as they are{}",
            tail(report.done)
        );
    }
    Ok(match report.problems.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// `dess client import-dhcpd`
pub(super) async fn import_dhcpd(
    operations: &Operations,
    file: &Path,
    dry_run: bool,
    json: bool,
) -> Result<ExitCode> {
    let report = operations.dhcpd_import(&read(file)?, dry_run).await?;
    if json {
        output::json(&report)?;
    } else {
        for left in &report.left {
            say!(
                "line {}: {} not taken: {}",
                left.line,
                left.what,
                left.reason
            );
        }
        for subnet in &report.subnets {
            say!("new subnet {subnet}");
        }
        let (added, changed) = (report.added.len(), report.changed.len());
        let same = report.unchanged;
        say!(
            "{added} new clients, {changed} changed, {same} as they are{}",
            tail(report.done)
        );
    }
    Ok(match report.done || dry_run {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn tail(done: bool) -> &'static str {
    if done { "" } else { "; nothing was done" }
}

fn read(path: &Path) -> Result<String> {
    let open = fs::File::open(path);
    let mut bytes = Vec::new();
    open.and_then(|file| file.take(FILE_MAX).read_to_end(&mut bytes))
        .with_context(|| format!("cannot read the file {}", path.display()))?;
    String::from_utf8(bytes).with_context(|| {
        let path = path.display();
        format!("{path} is not UTF-8 text; save it from the spreadsheet as \"CSV UTF-8\"")
    })
}
