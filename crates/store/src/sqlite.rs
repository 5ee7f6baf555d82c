//! A SQLite file: opening it, and noticing that it was replaced or failed.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dess_model::Timestamp;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Row, Sqlite};
use tokio::sync::Mutex;

use crate::error::{ErrorClass, classify};
use crate::{StoreError, migration};

/// Connections of one process.
const CONNECTIONS_MAX: u32 = 4;
/// How long a statement waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a task waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// A transaction of a file.
pub(crate) type Transaction = sqlx::Transaction<'static, Sqlite>;

/// An open file.
#[derive(Debug)]
pub(crate) struct SqliteFile {
    path: PathBuf,
    identity: (u64, u64),
    pool: SqlitePool,
    /// A connection that never writes: `PRAGMA data_version` then shows every commit.
    watch: Mutex<SqliteConnection>,
    broken: AtomicBool,
}

impl SqliteFile {
    /// Opens the file and brings its schema up to date.
    pub(crate) async fn open(path: &Path, create: bool) -> Result<Self, StoreError> {
        if create {
            create_private(path).map_err(|source| StoreError::Create {
                path: path.to_owned(),
                source,
            })?;
        }
        let Ok(identity) = identity(path) else {
            return Err(StoreError::Missing {
                database: path.display().to_string(),
            });
        };
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();
        let open_failed = |source| open_failed(path, source);
        let mut watch = SqliteConnection::connect_with(&options)
            .await
            .map_err(open_failed)?;
        migration::migrate_sqlite(&mut watch, path).await?;
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options)
            .await
            .map_err(open_failed)?;
        Ok(Self {
            path: path.to_owned(),
            identity,
            pool,
            watch: Mutex::new(watch),
            broken: AtomicBool::new(false),
        })
    }

    /// True while the path leads to this file and it did not fail.
    pub(crate) fn is_current(&self) -> bool {
        !self.broken.load(Ordering::Relaxed) && identity(&self.path).ok() == Some(self.identity)
    }

    /// Starts a transaction; a writing one takes the lock at once, so that it never has to give up
    /// what it has read.
    pub(crate) async fn begin(&self, write: bool) -> Result<Transaction, sqlx::Error> {
        let statement = if write { "BEGIN IMMEDIATE" } else { "BEGIN" };
        self.pool.begin_with(statement).await
    }

    /// Copies the file as it is now into the empty file `copy`; answers the time `at` as text
    /// (UTC). Others may write meanwhile.
    pub(crate) async fn copy_to(&self, copy: &Path, at: Timestamp) -> Result<String, sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        sqlx::query("VACUUM INTO ?")
            .bind(copy.to_string_lossy().into_owned())
            .execute(&mut *connection)
            .await?;
        sqlx::query("SELECT strftime('%Y%m%d-%H%M%S', ? / 1000, 'unixepoch')")
            .bind(at.0)
            .fetch_one(&mut *connection)
            .await?
            .try_get(0)
    }

    /// Differs from the value before if the file was changed in between.
    pub(crate) async fn data_version(&self) -> Result<u32, sqlx::Error> {
        let mut watch = self.watch.lock().await;
        sqlx::query("PRAGMA data_version")
            .fetch_one(&mut *watch)
            .await
            .and_then(|row| row.try_get::<u32, _>(0))
    }

    /// Sorts a driver error, and marks the file as broken if it must be opened anew.
    pub(crate) fn failed(&self, action: &'static str, source: sqlx::Error) -> StoreError {
        match classify(&source) {
            ErrorClass::Busy => StoreError::Busy,
            ErrorClass::Taken => StoreError::Taken { action, source },
            ErrorClass::Other => StoreError::Query { action, source },
            ErrorClass::Damaged => {
                self.broken.store(true, Ordering::Relaxed);
                StoreError::Damaged {
                    path: self.path.clone(),
                    source,
                }
            }
            ErrorClass::Unusable => {
                self.broken.store(true, Ordering::Relaxed);
                StoreError::Query { action, source }
            }
        }
    }

    /// Closes the connections that transactions use.
    pub(crate) async fn close_pool(&self) {
        self.pool.close().await;
    }

    /// Closes the last connection. SQLite leaves the log behind if two of them close at once, since
    /// neither is then the last.
    pub(crate) async fn close(self) {
        if let Err(error) = self.watch.into_inner().close().await {
            tracing::debug!(%error, "the database did not close cleanly");
        }
    }
}

pub(crate) fn open_failed(path: &Path, source: sqlx::Error) -> StoreError {
    match classify(&source) {
        ErrorClass::Busy => StoreError::Busy,
        ErrorClass::Damaged => StoreError::Damaged {
            path: path.to_owned(),
            source,
        },
        ErrorClass::Unusable | ErrorClass::Taken | ErrorClass::Other => StoreError::Open {
            database: path.display().to_string(),
            source,
        },
    }
}

/// Makes the file, if missing, so that only its owner can read it (it holds CHAP secrets).
/// SQLite gives its companions (`-wal`, `-shm`) the same rights.
fn create_private(path: &Path) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    match File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
    {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Device and inode: tells a file from the one that replaced it.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::metadata(path)?;
    Ok((found.dev(), found.ino()))
}
