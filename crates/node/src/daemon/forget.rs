//! Removes history that is older than the site wants to keep.
//!
//! In batches, each a short transaction of its own, with a pause between them: whoever else wants
//! to write waits for one batch at most, and one that fails takes nothing with it.

use std::sync::Arc;
use std::time::Duration;

use dess_model::Timestamp;
use dess_store::{Store, StoreError};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::Shared;

/// How often the history is looked through.
const FORGET_EVERY: Duration = Duration::from_secs(3600);
/// Most rows that one transaction removes; a boot attempt counts as one, with all its steps.
const BATCH: u32 = 250;
/// Pause between two of them.
const PAUSE: Duration = Duration::from_millis(50);
/// Most notices kept, whatever their age: strangers make them.
const NOTICES_MAX: u32 = 1000;

/// How long the history is kept; `None` for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Boot attempts with their steps, and cases that are over. A client's last boot stays in any
    /// case.
    pub boots: Option<Duration>,
    /// Boot attempts of network cards that were never registered.
    pub unknown_boots: Option<Duration>,
    /// Lines of the audit log.
    pub audit: Option<Duration>,
    /// Jobs that have ended.
    pub jobs: Option<Duration>,
    /// Notices, after they were seen last.
    pub notices: Option<Duration>,
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Forgotten {
    pub(super) boots: u64,
    pub(super) audit: u64,
    pub(super) jobs: u64,
    pub(super) notices: u64,
    pub(super) cases: u64,
}

/// One kind of history that is removed by age alone.
#[derive(Clone, Copy)]
enum Kind {
    Boots,
    UnknownBoots,
    Audit,
    Jobs,
}

/// Forgets now and then.
pub(super) async fn run(shared: Arc<Shared>, retention: Retention) {
    let mut ticks = interval(FORGET_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Ok(store) = shared.database.store().await else {
            // That there is no database is said elsewhere.
            continue;
        };
        match forget(&store, &retention, Timestamp::now()).await {
            Ok(gone) if gone == Forgotten::default() => {}
            Ok(gone) => tracing::info!(
                forgotten.boots = gone.boots,
                forgotten.audit = gone.audit,
                forgotten.jobs = gone.jobs,
                forgotten.notices = gone.notices,
                forgotten.cases = gone.cases,
                "removed history that is older than the site keeps it"
            ),
            Err(error) => shared.degraded(&error),
        }
    }
}

/// Removes everything that is too old.
pub(super) async fn forget(
    store: &Store,
    retention: &Retention,
    now: Timestamp,
) -> Result<Forgotten, StoreError> {
    let before = |kept: Duration| {
        let kept_ms = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
        Timestamp(now.0.saturating_sub(kept_ms))
    };
    let mut gone = Forgotten::default();
    for (kept, kind, count) in [
        (retention.boots, Kind::Boots, &mut gone.boots),
        (retention.audit, Kind::Audit, &mut gone.audit),
        (retention.jobs, Kind::Jobs, &mut gone.jobs),
    ] {
        if let Some(kept) = kept {
            *count = in_batches(store, kind, before(kept)).await?;
        }
    }
    if let Some(kept) = retention.unknown_boots {
        gone.boots += in_batches(store, Kind::UnknownBoots, before(kept)).await?;
    }
    let oldest = retention.notices.map_or(Timestamp(i64::MIN), before);
    gone.notices = store
        .transact(|mut tx| async move { tx.notice_delete_old(oldest, NOTICES_MAX).await })
        .await?;
    // Few, and as much a part of the history as the boots that they are about.
    if let Some(kept) = retention.boots {
        let oldest = before(kept);
        gone.cases = store
            .transact(|mut tx| async move { tx.case_delete_old(oldest).await })
            .await?;
    }
    Ok(gone)
}

/// Removes what is older than `before`; answers how many rows.
async fn in_batches(store: &Store, kind: Kind, before: Timestamp) -> Result<u64, StoreError> {
    let mut gone = 0;
    loop {
        let removed = store
            .transact(|mut tx| async move {
                match kind {
                    Kind::Boots => tx.attempt_delete_old(before, BATCH).await,
                    Kind::UnknownBoots => tx.attempt_delete_strangers(before, BATCH).await,
                    Kind::Audit => tx.audit_delete_old(before, BATCH).await,
                    Kind::Jobs => tx.job_delete_old(before, BATCH).await,
                }
            })
            .await?;
        gone += removed;
        if removed < u64::from(BATCH) {
            return Ok(gone);
        }
        sleep(PAUSE).await;
    }
}
