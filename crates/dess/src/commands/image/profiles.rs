//! `dess image profiles`

use anyhow::{Context, Result};
use dess_node::operations::Operations;

use crate::output::{self, bytes, say, table};

pub(super) async fn show(operations: &Operations, json: bool) -> Result<()> {
    let profiles = operations.boot_profiles().await?;
    let profiles = profiles.context("the iSCSI service does not run")?;
    if json {
        return output::json(&profiles);
    }
    let mut rows = table(&[
        "version",
        "boots",
        "read ahead per boot",
        "done since start",
        "found in memory",
        "foreseen",
        "reads from memory",
    ]);
    for view in &profiles {
        let profile = &view.profile;
        let reads = profile.reads_from_memory + profile.reads_from_storage;
        rows.add_row([
            view.label.clone(),
            profile.boots.to_string(),
            bytes(profile.profile_bytes),
            bytes(profile.ahead_bytes),
            bytes(profile.ahead_warm_bytes),
            percent(profile.units_predicted, profile.units_read),
            percent(profile.reads_from_memory, reads),
        ]);
    }
    say!("{rows}");
    Ok(())
}

/// A part of a whole, e.g. `97.3 %`; a dash if there is nothing yet.
fn percent(part: u64, whole: u64) -> String {
    match whole {
        0 => "-".to_owned(),
        whole => format!("{:.1} %", part as f64 * 100.0 / whole as f64),
    }
}
