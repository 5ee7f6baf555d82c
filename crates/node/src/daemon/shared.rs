//! What the daemon's tasks share: the database, the publisher, how it goes.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dess_model::host::Paths;
use dess_store::{Database, StoreError};
use tokio::sync::Notify;

use super::NodeStatus;
use super::scrub::Load;
use crate::snapshot::{self, PublishError};

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) paths: Paths,
    pub(crate) database: Database,
    /// Wakes the job runner.
    pub(crate) jobs: Notify,
    /// Wakes the chronicle when the database may work again.
    pub(crate) retry: Notify,
    /// One publication at a time.
    publishing: tokio::sync::Mutex<()>,
    status: Mutex<NodeStatus>,
    /// What clients move.
    pub(crate) load: Load,
    /// True while boot events cannot be written.
    writes_fail: AtomicBool,
}

impl Shared {
    pub(crate) fn new(paths: Paths, database: Database) -> Self {
        Self {
            database,
            jobs: Notify::new(),
            retry: Notify::new(),
            publishing: tokio::sync::Mutex::new(()),
            status: Mutex::default(),
            load: Load::default(),
            writes_fail: AtomicBool::new(false),
            paths,
        }
    }

    pub(crate) fn status(&self) -> NodeStatus {
        self.lock().clone()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, NodeStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes the snapshot if the database differs from it.
    pub(crate) async fn publish(&self) -> Result<Option<u64>, PublishError> {
        let _one_at_a_time = self.publishing.lock().await;
        let published = self.try_publish().await;
        match &published {
            Ok(revision) => {
                self.lock().revision = revision.unwrap_or(0);
            }
            Err(PublishError::Store(error)) => self.degraded(error),
            Err(error) => {
                let error = error as &dyn Error;
                tracing::error!(error, "cannot publish the site snapshot; the old one stays");
            }
        }
        published
    }

    async fn try_publish(&self) -> Result<Option<u64>, PublishError> {
        let store = self.database.store().await?;
        snapshot::publish(&store, &self.paths).await
    }

    /// Publishes if the site's revision is not the published one.
    pub(crate) async fn publish_if_changed(&self) -> Result<(), PublishError> {
        let revision = self.site_revision().await.inspect_err(|error| {
            self.degraded(error);
        })?;
        let published = self.lock().revision;
        if revision != Some(published) || published == 0 {
            self.publish().await?;
        }
        if self.writes_fail.load(Ordering::Relaxed) {
            self.retry.notify_one();
        } else {
            self.recovered();
        }
        Ok(())
    }

    async fn site_revision(&self) -> Result<Option<u64>, StoreError> {
        let mut tx = self.database.store().await?.read().await?;
        Ok(tx.site_fetch().await?.map(|site| site.revision))
    }

    /// Notes that the database cannot be used; logs it once per cause.
    pub(crate) fn degraded(&self, error: &StoreError) {
        let message = chain(error);
        let mut status = self.lock();
        if status.degraded.as_deref() == Some(&message) {
            return;
        }
        match error {
            // Another process writes; this passes by itself.
            StoreError::Busy => tracing::warn!("{message}"),
            StoreError::Missing { .. } => tracing::warn!(
                "{message}; until then clients boot from the last site snapshot, if there is one"
            ),
            _ => tracing::error!(
                "{message}; clients boot on from the last site snapshot, boot events are kept in \
                 memory, and the database is tried again"
            ),
        }
        status.degraded = Some(message);
    }

    /// Notes whether boot events can be written.
    pub(crate) fn writes_work(&self, work: bool) {
        self.writes_fail.store(!work, Ordering::Relaxed);
    }

    /// Notes that the database works.
    pub(crate) fn recovered(&self) {
        if self.lock().degraded.take().is_some() {
            tracing::info!("the database works again");
        }
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
