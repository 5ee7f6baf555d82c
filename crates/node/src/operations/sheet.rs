//! Clients as a sheet (CSV): written out, and read in as a whole or not at all.

mod csv;
mod plan;

use dess_model::BootPolicy;
use dess_store::Tx;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::images::{Catalogue, default_group};
use super::trial::Undone;
use super::{Operations, Result, record};
pub(super) use plan::{Plan, Wanted};

/// Columns of a sheet. Only the first must be there; a field that is empty leaves the client as
/// its group has it, a column that is missing as it is.
const COLUMNS: [&str; 7] = [
    "mac",
    "seat",
    "name",
    "address",
    "policy",
    "image",
    "boot_file",
];
/// What a sheet does, or why it does nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SheetReport {
    /// Names of clients that are new.
    pub added: Vec<String>,
    /// Names of clients that it changes.
    pub changed: Vec<String>,
    /// Clients that are as the sheet says already.
    pub unchanged: usize,
    /// What is wrong; nothing is done then.
    pub problems: Vec<SheetProblem>,
    /// True if it was done; false if something is wrong, or it was only tried.
    pub done: bool,
}

/// One thing that is wrong with a sheet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SheetProblem {
    /// Line of the sheet, from 1.
    pub line: usize,
    /// The column.
    pub field: String,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl Operations {
    /// All clients as a sheet, in seat order.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn client_sheet(&self) -> Result<String> {
        let mut tx = self.read().await?;
        let catalogue = Catalogue::read(&mut tx).await?;
        let mut sheet = String::new();
        csv::write_record(&mut sheet, COLUMNS);
        for client in tx.client_list().await? {
            let fields = [
                client.mac.to_string(),
                client.seat.to_string(),
                client.name,
                client
                    .address
                    .map(|address| address.to_string())
                    .unwrap_or_default(),
                client.policy.map(name_of_policy).unwrap_or_default(),
                client
                    .version
                    .map(|version| catalogue.label(version))
                    .unwrap_or_default(),
                client.boot_file.unwrap_or_default(),
            ];
            csv::write_record(&mut sheet, fields.iter().map(String::as_str));
        }
        Ok(sheet)
    }

    /// Registers and changes clients as a sheet says, each known by its MAC address; clients that
    /// are not in it stay as they are. With `dry_run`, or if anything is wrong, nothing is done.
    ///
    /// # Errors
    /// If the database cannot be used.
    pub async fn client_sheet_import(&self, sheet: &str, dry_run: bool) -> Result<SheetReport> {
        let actor = &*self.actor;
        let report = self
            .store()
            .await?
            .transact(|tx| import(tx, sheet, dry_run, actor))
            .await;
        self.reported(report).await
    }
}

async fn import(
    mut tx: Tx,
    sheet: &str,
    dry_run: bool,
    actor: &str,
) -> std::result::Result<SheetReport, Undone<SheetReport>> {
    let before = tx.client_list().await?;
    let group = default_group(&mut tx).await?.id;
    let catalogue = Catalogue::read(&mut tx).await?;
    let mut plan = Plan::new(&before, group);
    plan.read(sheet, &catalogue);
    plan.check(&mut tx).await?;
    let mut report = plan.report(&before);
    if dry_run || !report.problems.is_empty() {
        return Err(Undone::Reported(report));
    }
    plan.apply(&mut tx, &before).await?;
    let details = json!({"added": report.added, "changed": report.changed});
    record(&mut tx, actor, "client.import", "clients", details).await?;
    report.done = true;
    Ok(report)
}

fn name_of_policy(policy: BootPolicy) -> String {
    match policy {
        BootPolicy::Volatile => "volatile",
        BootPolicy::Persistent => "persistent",
        BootPolicy::Maintenance => "maintenance",
    }
    .to_owned()
}

#[cfg(test)]
mod tests;
