//! Opening the database, keeping it open, and running transactions.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::location::DatabaseLocation;
use crate::mariadb::{Cluster, CommitError};
use crate::sqlite::SqliteFile;
use crate::tx::Inner;
use crate::{StoreError, Tx};

/// How often a transaction on a file is run again when another process holds the lock.
const RUNS_MAX: u32 = 3;
/// How long a transaction on servers is run again after its first failure: longer than a cluster
/// takes to go on without a lost node.
const PATIENCE: Duration = Duration::from_secs(10);
/// Wait before the second run on servers; doubled for each further one.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// Longest such wait.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// One site's database: opened at the first use, reopened when its file was replaced or failed.
#[derive(Clone, Debug)]
pub struct Database {
    shared: Arc<Keeper>,
}

#[derive(Debug)]
struct Keeper {
    location: DatabaseLocation,
    store: Mutex<Option<Store>>,
    /// Raised at each opening, so that a change counter of before never equals one of after.
    opened: AtomicU64,
}

impl Database {
    /// The database in the SQLite file at `path`. Opens nothing yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::at(DatabaseLocation::File(path.into()))
    }

    /// The database at `location`. Opens nothing yet.
    pub fn at(location: DatabaseLocation) -> Self {
        Self {
            shared: Arc::new(Keeper {
                location,
                store: Mutex::new(None),
                opened: AtomicU64::new(0),
            }),
        }
    }

    /// Where it is.
    pub fn location(&self) -> &DatabaseLocation {
        &self.shared.location
    }

    /// The open database; opens an existing one if needed.
    ///
    /// # Errors
    /// If there is no usable database.
    pub async fn store(&self) -> Result<Store, StoreError> {
        self.get(false).await
    }

    /// The open database; makes the file, or the tables on the servers, if there are none.
    ///
    /// # Errors
    /// If it cannot be made or used.
    pub async fn store_or_create(&self) -> Result<Store, StoreError> {
        self.get(true).await
    }

    /// A number that differs from the one before whenever any process changed the database in
    /// between. Reads no table of the site.
    ///
    /// # Errors
    /// If there is no usable database.
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
        let location = &self.shared.location;
        let mut current = self.shared.store.lock().await;
        if let Some(store) = current.as_ref() {
            if store.is_current() {
                return Ok(store.clone());
            }
            tracing::warn!("the database {location} failed or was replaced; it is opened anew");
        }
        *current = None;
        let store = Store::open(location, create).await?;
        self.shared.opened.fetch_add(1, Ordering::Relaxed);
        *current = Some(store.clone());
        Ok(store)
    }
}

/// An open database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    engine: Engine,
}

#[derive(Clone, Debug)]
pub(crate) enum Engine {
    Sqlite(Arc<SqliteFile>),
    MariaDb(Arc<Cluster>),
}

impl Store {
    /// Opens the database at `location` and brings its schema up to date.
    ///
    /// # Errors
    /// If it is missing (and not to be created), damaged, unreachable or of a later release.
    pub async fn open(location: &DatabaseLocation, create: bool) -> Result<Self, StoreError> {
        let engine = match location {
            DatabaseLocation::File(path) => {
                Engine::Sqlite(Arc::new(SqliteFile::open(path, create).await?))
            }
            DatabaseLocation::Servers(list) => {
                Engine::MariaDb(Arc::new(Cluster::open(list, create).await?))
            }
        };
        Ok(Self { engine })
    }

    /// Starts a transaction that only reads: everything in it sees one state of the database.
    /// It ends when dropped.
    ///
    /// # Errors
    /// If the database cannot be used.
    pub async fn read(&self) -> Result<Tx, StoreError> {
        self.begin(false).await
    }

    /// Runs `work` in a transaction that is committed if it succeeds and undone if it fails.
    /// `work` may be run again when another process was faster or a server went away, so it must
    /// have no effect but through its [`Tx`]. It takes effect once: a transaction whose commit was
    /// not answered is looked up by its key before it is run again.
    ///
    /// # Errors
    /// Those of `work`, or if the database cannot be used.
    pub async fn transact<T, E, Work, Done>(&self, work: Work) -> Result<T, E>
    where
        E: From<StoreError>,
        Work: Fn(Tx) -> Done,
        Done: Future<Output = Result<T, E>>,
    {
        let mut runs = Runs::new(&self.engine);
        // What the runs gave whose commit was not answered, and the last such error.
        let mut doubtful = Vec::new();
        let mut lost = None;
        loop {
            let mut tx = match self.begin(true).await {
                Ok(tx) => tx,
                Err(error) if error.is_passing() && runs.again().await => continue,
                Err(error) => return Err(lost.map_or(error, unknown).into()),
            };
            if lost.is_some() {
                match tx.saved_run(&runs.key).await {
                    Ok(Some(saved)) => {
                        tx.undo().await;
                        let saved = doubtful.into_iter().find(|(run, _)| *run == saved);
                        let (_, value) = saved.expect("only runs of this transaction have its key");
                        return Ok(value);
                    }
                    Ok(None) => {}
                    Err(_) if runs.again().await => continue,
                    Err(error) => return Err(lost.map_or(error, unknown).into()),
                }
            }
            match work(tx.other_half()).await {
                Ok(value) => match tx.commit(&runs.key, runs.number).await {
                    Ok(()) => return Ok(value),
                    Err(CommitError::Undone(source)) => {
                        let error = self.failed("commit", source);
                        if !(error.is_passing() && runs.again().await) {
                            return Err(error.into());
                        }
                    }
                    Err(CommitError::Unknown(source)) => {
                        tracing::warn!("a commit was not answered; it is looked up");
                        doubtful.push((runs.number, value));
                        if !runs.again().await {
                            return Err(unknown(source).into());
                        }
                        lost = Some(source);
                    }
                },
                Err(error) => {
                    let passing = tx.met_passing_failure();
                    tx.undo().await;
                    if !(passing && runs.again().await) {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Closes all connections.
    async fn close(self) {
        match self.engine {
            Engine::Sqlite(file) => {
                file.close_pool().await;
                // Another owner of this handle closes it when it drops it.
                if let Some(file) = Arc::into_inner(file) {
                    file.close().await;
                }
            }
            Engine::MariaDb(cluster) => cluster.close().await,
        }
    }

    async fn begin(&self, write: bool) -> Result<Tx, StoreError> {
        let begun = match &self.engine {
            Engine::Sqlite(file) => file.begin(write).await.map(Inner::Sqlite),
            Engine::MariaDb(cluster) => cluster.begin(write).await.map(Inner::MariaDb),
        };
        match begun {
            Ok(inner) => Ok(Tx::new(self.clone(), inner)),
            Err(source) => Err(self.failed("begin a transaction", source)),
        }
    }

    async fn data_version(&self) -> Result<u32, StoreError> {
        let version = match &self.engine {
            Engine::Sqlite(file) => file.data_version().await,
            // Only equality counts, so the low bits will do.
            Engine::MariaDb(cluster) => cluster.changes().await.map(|changes| {
                u32::try_from(changes & i64::from(u32::MAX)).expect("32 bits are left")
            }),
        };
        version.map_err(|source| self.failed("watch for changes", source))
    }

    fn is_current(&self) -> bool {
        match &self.engine {
            Engine::Sqlite(file) => file.is_current(),
            // Its connections are renewed one by one.
            Engine::MariaDb(_) => true,
        }
    }

    /// Sorts a driver error.
    pub(crate) fn failed(&self, action: &'static str, source: sqlx::Error) -> StoreError {
        match &self.engine {
            Engine::Sqlite(file) => file.failed(action, source),
            Engine::MariaDb(cluster) => cluster.failed(action, source),
        }
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }
}

fn unknown(source: sqlx::Error) -> StoreError {
    StoreError::Unknown { source }
}

/// The runs of one transaction.
struct Runs {
    /// Names the transaction in the database.
    key: String,
    /// The present run, from 1.
    number: i64,
    limit: Limit,
}

enum Limit {
    Number(u32),
    Time {
        first_failure: Option<Instant>,
        pause: Duration,
    },
}

impl Runs {
    fn new(engine: &Engine) -> Self {
        Self {
            key: Uuid::now_v7().to_string(),
            number: 1,
            limit: match engine {
                Engine::Sqlite(_) => Limit::Number(RUNS_MAX),
                Engine::MariaDb(_) => Limit::Time {
                    first_failure: None,
                    pause: PAUSE_MIN,
                },
            },
        }
    }

    /// Counts one run more; false if there were enough.
    async fn again(&mut self) -> bool {
        let allowed = match &mut self.limit {
            Limit::Number(max) => self.number < i64::from(*max),
            Limit::Time {
                first_failure,
                pause,
            } => {
                let since = first_failure.get_or_insert_with(Instant::now);
                let allowed = since.elapsed() < PATIENCE;
                if allowed {
                    sleep(*pause).await;
                    *pause = (*pause * 2).min(PAUSE_MAX);
                }
                allowed
            }
        };
        self.number += i64::from(allowed);
        allowed
    }
}
