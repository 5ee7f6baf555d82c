//! Opening the database, and keeping it open.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Row};
use tokio::sync::Mutex;

use crate::error::{ErrorClass, classify};
use crate::{StoreError, Tx, migration};

/// Connections of one process.
const CONNECTIONS_MAX: u32 = 4;
/// How long a statement waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a task waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a transaction is run again when another process holds the lock.
const RUNS_MAX: u32 = 3;

/// One site's database: opened at the first use, reopened when the file was replaced or failed.
#[derive(Clone, Debug)]
pub struct Database {
    shared: Arc<Keeper>,
}

#[derive(Debug)]
struct Keeper {
    path: PathBuf,
    store: Mutex<Option<Store>>,
    /// Raised at each opening, so that a change counter of before never equals one of after.
    opened: AtomicU64,
}

impl Database {
    /// The database in the file at `path`. Opens nothing yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            shared: Arc::new(Keeper {
                path: path.into(),
                store: Mutex::new(None),
                opened: AtomicU64::new(0),
            }),
        }
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// The open database; opens an existing file if needed.
    ///
    /// # Errors
    /// If there is no usable database at the path.
    pub async fn store(&self) -> Result<Store, StoreError> {
        self.get(false).await
    }

    /// The open database; creates the file if there is none.
    ///
    /// # Errors
    /// If the file cannot be created or used.
    pub async fn store_or_create(&self) -> Result<Store, StoreError> {
        self.get(true).await
    }

    /// A number that differs from the one before whenever any process changed the database in
    /// between. Reads no table.
    ///
    /// # Errors
    /// If there is no usable database at the path.
    pub async fn change_counter(&self) -> Result<u64, StoreError> {
        let version = self.store().await?.data_version().await?;
        Ok(self.shared.opened.load(Ordering::Relaxed) << 32 | u64::from(version))
    }

    /// Closes the database if it is open, one connection after the other: the last one writes the log
    /// into the file, which then holds everything (unless other processes have it open). Used again,
    /// it is opened again.
    pub async fn close(&self) {
        let store = self.shared.store.lock().await.take();
        if let Some(store) = store {
            store.close().await;
        }
    }

    async fn get(&self, create: bool) -> Result<Store, StoreError> {
        let path = &self.shared.path;
        let mut current = self.shared.store.lock().await;
        if let Some(store) = current.as_ref() {
            if !store.is_broken() && identity(path).ok() == Some(store.shared.identity) {
                return Ok(store.clone());
            }
            tracing::warn!(
                "the database {} failed or was replaced; it is opened anew",
                path.display()
            );
        }
        *current = None;
        let store = Store::open(path, create).await?;
        self.shared.opened.fetch_add(1, Ordering::Relaxed);
        *current = Some(store.clone());
        Ok(store)
    }
}

/// An open database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    identity: (u64, u64),
    pool: SqlitePool,
    /// A connection that never writes: `PRAGMA data_version` then shows every commit.
    watch: Mutex<SqliteConnection>,
    broken: AtomicBool,
}

impl Store {
    /// Opens the SQLite file at `path` and brings its schema up to date.
    ///
    /// # Errors
    /// If it is missing (and not to be created), damaged, unreadable or of a later release.
    pub async fn open(path: &Path, create: bool) -> Result<Self, StoreError> {
        if create {
            create_private(path).map_err(|source| StoreError::Create {
                path: path.to_owned(),
                source,
            })?;
        }
        let Ok(identity) = identity(path) else {
            return Err(StoreError::Missing {
                path: path.to_owned(),
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
        migration::migrate(&mut watch, path).await?;
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options)
            .await
            .map_err(open_failed)?;
        Ok(Self {
            shared: Arc::new(Shared {
                path: path.to_owned(),
                identity,
                pool,
                watch: Mutex::new(watch),
                broken: AtomicBool::new(false),
            }),
        })
    }

    /// Starts a transaction that only reads: everything in it sees one state of the database.
    /// It ends when dropped.
    ///
    /// # Errors
    /// If the database cannot be used.
    pub async fn read(&self) -> Result<Tx, StoreError> {
        self.begin("BEGIN").await
    }

    /// Runs `work` in a transaction that is committed if it succeeds and undone if it fails.
    /// `work` may be run again when another process was faster, so it must have no effect but
    /// through its [`Tx`].
    ///
    /// # Errors
    /// Those of `work`, or if the database cannot be used.
    pub async fn transact<T, E, Work, Done>(&self, work: Work) -> Result<T, E>
    where
        E: From<StoreError>,
        Work: Fn(Tx) -> Done,
        Done: Future<Output = Result<T, E>>,
    {
        let mut run = 1;
        loop {
            let tx = match self.begin("BEGIN IMMEDIATE").await {
                Err(StoreError::Busy) if run < RUNS_MAX => {
                    run += 1;
                    continue;
                }
                begun => begun?,
            };
            match work(tx.other_half()).await {
                Ok(value) => {
                    tx.commit().await?;
                    return Ok(value);
                }
                Err(error) => {
                    let again = tx.was_busy() && run < RUNS_MAX;
                    tx.undo().await;
                    if !again {
                        return Err(error);
                    }
                    run += 1;
                }
            }
        }
    }

    /// Closes all connections. SQLite leaves the log behind if two of them close at once, since
    /// neither is then the last.
    async fn close(self) {
        self.shared.pool.close().await;
        // Another owner of this handle closes it when it drops it.
        if let Some(shared) = Arc::into_inner(self.shared)
            && let Err(error) = shared.watch.into_inner().close().await
        {
            tracing::debug!(%error, "the database did not close cleanly");
        }
    }

    async fn begin(&self, statement: &'static str) -> Result<Tx, StoreError> {
        match self.shared.pool.begin_with(statement).await {
            Ok(inner) => Ok(Tx::new(self.clone(), inner)),
            Err(source) => Err(self.failed("begin a transaction", source)),
        }
    }

    async fn data_version(&self) -> Result<u32, StoreError> {
        let mut watch = self.shared.watch.lock().await;
        let version = sqlx::query("PRAGMA data_version")
            .fetch_one(&mut *watch)
            .await
            .and_then(|row| row.try_get::<u32, _>(0));
        drop(watch);
        version.map_err(|source| self.failed("watch for changes", source))
    }

    fn is_broken(&self) -> bool {
        self.shared.broken.load(Ordering::Relaxed)
    }

    /// Sorts a driver error, and marks the store as broken if it must be reopened.
    pub(crate) fn failed(&self, action: &'static str, source: sqlx::Error) -> StoreError {
        match classify(&source) {
            ErrorClass::Busy => StoreError::Busy,
            ErrorClass::Taken => StoreError::Taken { action, source },
            ErrorClass::Other => StoreError::Query { action, source },
            ErrorClass::Damaged => {
                self.shared.broken.store(true, Ordering::Relaxed);
                StoreError::Damaged {
                    path: self.shared.path.clone(),
                    source,
                }
            }
            ErrorClass::Unusable => {
                self.shared.broken.store(true, Ordering::Relaxed);
                StoreError::Query { action, source }
            }
        }
    }
}

fn open_failed(path: &Path, source: sqlx::Error) -> StoreError {
    let path = path.to_owned();
    match classify(&source) {
        ErrorClass::Busy => StoreError::Busy,
        ErrorClass::Damaged => StoreError::Damaged { path, source },
        ErrorClass::Unusable | ErrorClass::Taken | ErrorClass::Other => {
            StoreError::Open { path, source }
        }
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
