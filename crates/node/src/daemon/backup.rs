//! A backup of the database file each day.

use std::sync::Arc;
use std::time::Duration;

use dess_model::Timestamp;
use dess_store::{BackupError, DatabaseLocation, newest_backup};
use tokio::time::{MissedTickBehavior, interval};

use super::Shared;
use super::shared::chain;

/// How old the newest backup gets.
const BACK_UP_EVERY: Duration = Duration::from_secs(24 * 3600);
/// How often its age is looked at; a backup that failed is tried again then.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// Backs the database up whenever the newest backup is a day old; `keep` of them stay, 0 for no
/// backups. Servers are backed up by their own means.
pub(super) async fn back_up_daily(shared: Arc<Shared>, keep: u32) {
    if keep == 0 || !matches!(shared.database.location(), DatabaseLocation::File(_)) {
        return;
    }
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = None;
    loop {
        ticks.tick().await;
        match back_up_if_due(&shared, keep).await {
            Ok(()) => said = None,
            Err(error) => {
                // Once per cause, not every ten minutes.
                let text = chain(&error);
                if said.as_ref() != Some(&text) {
                    tracing::error!("the daily backup of the database failed: {text}");
                }
                said = Some(text);
            }
        }
    }
}

pub(super) async fn back_up_if_due(shared: &Shared, keep: u32) -> Result<(), BackupError> {
    let directory = shared.paths.backups();
    // One of the future is one of a clock that was wrong: it does not count.
    let age = newest_backup(&directory)?.and_then(|newest| newest.elapsed().ok());
    if age.is_some_and(|age| age < BACK_UP_EVERY) {
        return Ok(());
    }
    let Ok(store) = shared.database.store().await else {
        // That there is no database is said elsewhere.
        return Ok(());
    };
    let path = store.back_up(&directory, Timestamp::now(), keep).await?;
    tracing::info!("backed the database up to {}", path.display());
    Ok(())
}
