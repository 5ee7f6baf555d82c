//! A transaction: the handle on which all repository methods live.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::Sqlite;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};

use tokio::sync::Mutex;

use crate::{Store, StoreError};

/// An open transaction. Dropped without a commit, it is undone.
///
/// It is handed to the work of [`Store::transact`] by value, so that the work's future borrows
/// nothing from its caller (the compiler could not prove it `Send` otherwise); the caller keeps
/// the other half to commit.
#[derive(Debug)]
pub struct Tx {
    store: Store,
    inner: Arc<Mutex<Option<Inner>>>,
    busy: Arc<AtomicBool>,
}

type Inner = sqlx::Transaction<'static, Sqlite>;

/// A statement with its parameters.
pub(crate) type Statement = Query<'static, Sqlite, SqliteArguments>;

impl Tx {
    pub(crate) fn new(store: Store, inner: Inner) -> Self {
        Self {
            store,
            inner: Arc::new(Mutex::new(Some(inner))),
            busy: Arc::default(),
        }
    }

    /// A second handle on the same transaction.
    pub(crate) fn other_half(&self) -> Self {
        Self {
            store: self.store.clone(),
            inner: Arc::clone(&self.inner),
            busy: Arc::clone(&self.busy),
        }
    }

    /// True if a statement failed because another process held the lock.
    pub(crate) fn was_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        let inner = self.inner.lock().await.take();
        match inner {
            Some(inner) => inner
                .commit()
                .await
                .map_err(|source| self.failed("commit", source)),
            None => Ok(()),
        }
    }

    /// Undoes everything now, whoever still holds the other half.
    pub(crate) async fn undo(self) {
        if let Some(inner) = self.inner.lock().await.take()
            && let Err(error) = inner.rollback().await
        {
            tracing::debug!(%error, "cannot undo a transaction");
        }
    }

    /// Runs a statement; answers how many rows it changed.
    pub(crate) async fn execute(
        &mut self,
        action: &'static str,
        statement: Statement,
    ) -> Result<u64, StoreError> {
        let done = match self.inner.lock().await.as_mut() {
            Some(inner) => statement.execute(&mut **inner).await,
            None => Err(sqlx::Error::WorkerCrashed),
        };
        done.map(|done| done.rows_affected())
            .map_err(|source| self.failed(action, source))
    }

    /// All rows of a query.
    pub(crate) async fn fetch_all(
        &mut self,
        action: &'static str,
        statement: Statement,
    ) -> Result<Vec<SqliteRow>, StoreError> {
        let rows = match self.inner.lock().await.as_mut() {
            Some(inner) => statement.fetch_all(&mut **inner).await,
            None => Err(sqlx::Error::WorkerCrashed),
        };
        rows.map_err(|source| self.failed(action, source))
    }

    /// The first row of a query.
    pub(crate) async fn fetch_optional(
        &mut self,
        action: &'static str,
        statement: Statement,
    ) -> Result<Option<SqliteRow>, StoreError> {
        let row = match self.inner.lock().await.as_mut() {
            Some(inner) => statement.fetch_optional(&mut **inner).await,
            None => Err(sqlx::Error::WorkerCrashed),
        };
        row.map_err(|source| self.failed(action, source))
    }

    fn failed(&self, action: &'static str, source: sqlx::Error) -> StoreError {
        let error = self.store.failed(action, source);
        if matches!(error, StoreError::Busy) {
            self.busy.store(true, Ordering::Relaxed);
        }
        error
    }
}
