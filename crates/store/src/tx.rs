//! A transaction: the handle on which all repository methods live.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Mutex;

use crate::database::Engine;
use crate::error::{ErrorClass, classify};
use crate::mariadb::{CommitError, Session};
use crate::row::{Columns, Row};
use crate::sqlite::Transaction;
use crate::statement::Statement;
use crate::{Store, StoreError};

/// An open transaction. Dropped without a commit, it is undone.
///
/// It is handed to the work of [`Store::transact`] by value, so that the work's future borrows
/// nothing from its caller (the compiler could not prove it `Send` otherwise); the caller keeps
/// the other half to commit.
#[derive(Debug)]
pub struct Tx {
    store: Store,
    /// Empty after a failure that ended the transaction: nothing more is run then.
    inner: Arc<Mutex<Option<Inner>>>,
    /// A statement failed in a way that a further run may not meet.
    passing: Arc<AtomicBool>,
}

/// A transaction of the one or the other database.
#[derive(Debug)]
pub(crate) enum Inner {
    Sqlite(Transaction),
    MariaDb(Session),
}

impl Tx {
    pub(crate) fn new(store: Store, inner: Inner) -> Self {
        Self {
            store,
            inner: Arc::new(Mutex::new(Some(inner))),
            passing: Arc::default(),
        }
    }

    /// Which database it runs on.
    pub(crate) fn engine(&self) -> &Engine {
        self.store.engine()
    }

    /// A second handle on the same transaction.
    pub(crate) fn other_half(&self) -> Self {
        Self {
            store: self.store.clone(),
            inner: Arc::clone(&self.inner),
            passing: Arc::clone(&self.passing),
        }
    }

    /// True if a statement failed in a way that a further run may not meet.
    pub(crate) fn met_passing_failure(&self) -> bool {
        self.passing.load(Ordering::Relaxed)
    }

    /// Which run of the transaction `key` is saved already; none on SQLite, where a commit is
    /// always answered.
    pub(crate) async fn saved_run(&mut self, key: &str) -> Result<Option<i64>, StoreError> {
        let mut inner = self.inner.lock().await;
        match inner.as_mut() {
            Some(Inner::MariaDb(session)) => session
                .saved_run(key)
                .await
                .map_err(|source| self.store.failed("look a transaction up", source)),
            Some(Inner::Sqlite(_)) | None => Ok(None),
        }
    }

    pub(crate) async fn commit(self, key: &str, run: i64) -> Result<(), CommitError> {
        match self.inner.lock().await.take() {
            Some(Inner::Sqlite(tx)) => tx.commit().await.map_err(CommitError::Undone),
            Some(Inner::MariaDb(session)) => session.commit(key, run).await,
            None => Err(CommitError::Undone(ended())),
        }
    }

    /// Undoes everything now, whoever still holds the other half.
    pub(crate) async fn undo(self) {
        match self.inner.lock().await.take() {
            Some(Inner::Sqlite(tx)) => {
                if let Err(error) = tx.rollback().await {
                    tracing::debug!(%error, "cannot undo a transaction");
                }
            }
            Some(Inner::MariaDb(session)) => session.undo().await,
            None => {}
        }
    }

    /// Runs a statement; answers how many rows it changed.
    pub(crate) async fn execute(
        &mut self,
        action: &'static str,
        statement: Statement,
    ) -> Result<u64, StoreError> {
        let mut inner = self.inner.lock().await;
        let done = match inner.as_mut() {
            Some(Inner::Sqlite(tx)) => statement
                .into_query()
                .execute(&mut **tx)
                .await
                .map(|done| done.rows_affected()),
            Some(Inner::MariaDb(session)) => session.execute(statement).await,
            None => Err(ended()),
        };
        done.map_err(|source| self.failed(action, source, &mut inner))
    }

    /// All rows of a query.
    pub(crate) async fn fetch_all(
        &mut self,
        action: &'static str,
        statement: Statement,
    ) -> Result<Vec<Row>, StoreError> {
        let mut inner = self.inner.lock().await;
        let rows = match inner.as_mut() {
            Some(Inner::Sqlite(tx)) => statement
                .into_query()
                .fetch_all(&mut **tx)
                .await
                .map(|rows| rows.into_iter().map(Row::Sqlite).collect()),
            Some(Inner::MariaDb(session)) => session
                .fetch_all(statement)
                .await
                .map(|rows| rows.into_iter().map(Row::MariaDb).collect()),
            None => Err(ended()),
        };
        rows.map_err(|source| self.failed(action, source, &mut inner))
    }

    /// The first row of a query.
    pub(crate) async fn fetch_optional(
        &mut self,
        action: &'static str,
        statement: Statement,
    ) -> Result<Option<Row>, StoreError> {
        let mut inner = self.inner.lock().await;
        let row = match inner.as_mut() {
            Some(Inner::Sqlite(tx)) => statement
                .into_query()
                .fetch_optional(&mut **tx)
                .await
                .map(|row| row.map(Row::Sqlite)),
            Some(Inner::MariaDb(session)) => session
                .fetch_optional(statement)
                .await
                .map(|row| row.map(Row::MariaDb)),
            None => Err(ended()),
        };
        row.map_err(|source| self.failed(action, source, &mut inner))
    }

    /// The column `id` of all rows of a query.
    pub(crate) async fn ids(
        &mut self,
        action: &'static str,
        statement: Statement,
    ) -> Result<Vec<String>, StoreError> {
        let rows = self.fetch_all(action, statement).await?;
        rows.iter().map(|row| Columns(row).text("id")).collect()
    }

    fn failed(
        &self,
        action: &'static str,
        source: sqlx::Error,
        inner: &mut Option<Inner>,
    ) -> StoreError {
        let class = classify(&source);
        if matches!(class, ErrorClass::Busy | ErrorClass::Unusable)
            && matches!(inner, Some(Inner::MariaDb(_)))
            && let Some(Inner::MariaDb(session)) = inner.take()
        {
            // The server has undone the transaction, or is gone: a further statement would be one
            // of its own.
            session.abandon();
        }
        let error = self.store.failed(action, source);
        if error.is_passing() {
            self.passing.store(true, Ordering::Relaxed);
        }
        error
    }
}

/// A statement after the end of its transaction.
fn ended() -> sqlx::Error {
    sqlx::Error::WorkerCrashed
}
