//! `dess db`

use std::process::ExitCode;

use anyhow::Result;
use dess_node::operations::Operations;
use dess_store::Transfer;
use serde_json::json;

use super::{ABNORMAL, confirmed};
use crate::arguments::DbCommand;
use crate::output::{self, say};

pub(super) async fn db(
    operations: &Operations,
    command: DbCommand,
    backups_kept: u32,
    json: bool,
) -> Result<ExitCode> {
    let location = operations.database().location().to_string();
    match command {
        DbCommand::Migrate => migrate(operations, &location, json).await,
        DbCommand::Check => check(operations, &location, json).await,
        DbCommand::Export { file } => {
            let done = operations.database_export(&file).await?;
            tell(&done, json, "exported to", &file.display().to_string())
        }
        DbCommand::Import { file, replace, yes } => {
            if replace && !confirmed(&format!("Remove what is in {location} and import?"), yes)? {
                return Ok(ExitCode::FAILURE);
            }
            let done = operations.database_import(&file, replace).await?;
            tell(&done, json, "imported into", &location)
        }
        DbCommand::Backup { to } => {
            let path = operations
                .database_back_up(to.as_deref(), backups_kept)
                .await?;
            if json {
                output::json(&json!({ "backup": path }))?;
            } else {
                say!("backed up to {}", path.display());
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn migrate(operations: &Operations, location: &str, json: bool) -> Result<ExitCode> {
    // Opening is migrating.
    operations.database().store().await?;
    let schema = operations.database_check().await?.schema;
    if json {
        output::json(&json!({ "database": location, "schema": schema }))?;
    } else {
        say!("{location} has schema version {schema}, that of this release");
    }
    Ok(ExitCode::SUCCESS)
}

async fn check(operations: &Operations, location: &str, json: bool) -> Result<ExitCode> {
    let found = operations.database_check().await?;
    if json {
        output::json(&found)?;
    } else {
        let rows: u64 = found.tables.iter().map(|(_, rows)| rows).sum();
        let tables = found.tables.len();
        say!(
            "{location}: schema version {}, {tables} tables, {rows} rows",
            found.schema
        );
        for problem in &found.problems {
            say!("  wrong: {problem}");
        }
        if found.problems.is_empty() {
            say!("nothing is wrong");
        }
    }
    Ok(match found.problems.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(ABNORMAL),
    })
}

fn tell(done: &Transfer, json: bool, what: &str, place: &str) -> Result<ExitCode> {
    if json {
        output::json(done)?;
    } else {
        say!(
            "{} rows of {} tables {what} {place}",
            done.rows(),
            done.tables.len()
        );
    }
    Ok(ExitCode::SUCCESS)
}
