//! A database on MariaDB servers, alone or as a Galera cluster.
//!
//! All transactions go to one server: the first in the list that works. Who writes holds the one
//! row of `writer_turn` from his first statement on, so that writers of a site follow each other
//! as they do on SQLite; two that write on different nodes of a cluster both change that row, and
//! the cluster undoes the later one (error 1213).

mod session;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlPool, MySqlPoolOptions};
use sqlx::pool::PoolConnection;
use sqlx::{ConnectOptions, MySql, Row};

use crate::error::{ErrorClass, classify};
use crate::location::ServerList;
use crate::statement::query;
use crate::{StoreError, migration};
use session::bounded;
pub(crate) use session::{CommitError, Session};

/// Connections of one process to one server.
const CONNECTIONS_MAX: u32 = 8;
/// How long a server may take to accept a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a server that comes before the one in use is tried again.
const RETURN_EVERY: Duration = Duration::from_secs(30);
/// The servers of one database.
#[derive(Debug)]
pub(crate) struct Cluster {
    database: String,
    servers: Vec<Server>,
    /// Index of the one in use.
    current: AtomicUsize,
    /// When those before it were tried last.
    tried: Mutex<Instant>,
}

#[derive(Debug)]
struct Server {
    name: String,
    pool: MySqlPool,
}

impl Cluster {
    /// Connects to the first server that works and brings the schema up to date.
    pub(crate) async fn open(list: &ServerList, create: bool) -> Result<Self, StoreError> {
        let servers = list
            .addresses()
            .map(|address| Server {
                name: address.to_string(),
                pool: pool(list, &address.host, address.port),
            })
            .collect();
        let cluster = Self {
            database: list.to_string(),
            servers,
            current: AtomicUsize::new(0),
            tried: Mutex::new(Instant::now()),
        };
        let mut connection = cluster
            .connect()
            .await
            .map_err(|source| cluster.open_failed(source))?;
        migration::migrate_mariadb(&mut connection, &cluster, create).await?;
        Ok(cluster)
    }

    /// As people write it.
    pub(crate) fn name(&self) -> &str {
        &self.database
    }

    /// Closes all connections.
    pub(crate) async fn close(&self) {
        for server in &self.servers {
            server.pool.close().await;
        }
    }

    /// Starts a transaction on the first server that works, the one in use before the others.
    pub(crate) async fn begin(self: &Arc<Self>, write: bool) -> Result<Session, sqlx::Error> {
        self.try_to_return();
        let first = self.current.load(Ordering::Relaxed);
        let mut failure = sqlx::Error::PoolClosed;
        for index in self.in_turn(first) {
            let server = &self.servers[index];
            match server.begin(write).await {
                Ok(session) => {
                    self.moved(first, index);
                    return Ok(session);
                }
                Err(error) if classify(&error) == ErrorClass::Unusable && !server.is_full() => {
                    tracing::debug!(%error, "database server {} cannot be used", server.name);
                    failure = error;
                }
                Err(error) => return Err(error),
            }
        }
        Err(failure)
    }

    /// How many transactions changed the database.
    pub(crate) async fn changes(self: &Arc<Self>) -> Result<i64, sqlx::Error> {
        let mut session = self.begin(false).await?;
        let statement = query("SELECT changes FROM writer_turn WHERE id = 1");
        let row = session.fetch_optional(statement).await?;
        row.ok_or(sqlx::Error::RowNotFound)?.try_get("changes")
    }

    /// What is wrong with the servers, each looked at by itself.
    pub(crate) async fn check(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for server in &self.servers {
            match server.state().await {
                Ok(state) => problems.extend(
                    state
                        .problems()
                        .into_iter()
                        .map(|problem| format!("server {}: {problem}", server.name)),
                ),
                Err(error) => problems.push(format!("server {}: {error}", server.name)),
            }
        }
        problems
    }

    /// Sorts a driver error.
    pub(crate) fn failed(&self, action: &'static str, source: sqlx::Error) -> StoreError {
        match classify(&source) {
            ErrorClass::Busy => StoreError::Busy,
            ErrorClass::Taken => StoreError::Taken { action, source },
            ErrorClass::Unusable => StoreError::Unreachable {
                database: self.database.clone(),
                source,
            },
            ErrorClass::Damaged | ErrorClass::Other => StoreError::Query { action, source },
        }
    }

    /// Sorts an error of opening.
    pub(crate) fn open_failed(&self, source: sqlx::Error) -> StoreError {
        match self.failed("open the database", source) {
            StoreError::Query { source, .. } | StoreError::Taken { source, .. } => {
                StoreError::Open {
                    database: self.database.clone(),
                    source,
                }
            }
            other => other,
        }
    }

    async fn connect(&self) -> Result<PoolConnection<MySql>, sqlx::Error> {
        let mut failure = sqlx::Error::PoolClosed;
        for index in self.in_turn(0) {
            match self.servers[index].pool.acquire().await {
                Ok(connection) => {
                    self.moved(0, index);
                    return Ok(connection);
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn in_turn(&self, first: usize) -> impl Iterator<Item = usize> + use<> {
        let count = self.servers.len();
        (0..count).map(move |step| (first + step) % count)
    }

    fn moved(&self, from: usize, to: usize) {
        if from == to {
            return;
        }
        self.current.store(to, Ordering::Relaxed);
        tracing::warn!(
            "database server {} cannot be used; {} takes its place",
            self.servers[from].name,
            self.servers[to].name
        );
    }

    /// Tries now and then, in the background, whether a server before the one in use works again:
    /// all processes use the same one then.
    fn try_to_return(self: &Arc<Self>) {
        let current = self.current.load(Ordering::Relaxed);
        if current == 0 {
            return;
        }
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        if tried.elapsed() < RETURN_EVERY {
            return;
        }
        *tried = Instant::now();
        drop(tried);
        let cluster = Arc::clone(self);
        tokio::spawn(async move {
            for index in 0..current {
                if cluster.servers[index].begin(true).await.is_ok() {
                    cluster.current.store(index, Ordering::Relaxed);
                    let name = &cluster.servers[index].name;
                    tracing::info!("database server {name} works again and is used again");
                    return;
                }
            }
        });
    }
}

impl Server {
    async fn begin(&self, write: bool) -> Result<Session, sqlx::Error> {
        Session::begin(self.pool.acquire().await?, write).await
    }

    async fn state(&self) -> Result<ServerState, sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        let flush = sqlx::query("SELECT @@innodb_flush_log_at_trx_commit AS flush")
            .fetch_one(&mut *connection)
            .await?
            .try_get::<u64, _>("flush")
            .unwrap_or(1);
        let rows = bounded(
            sqlx::query(
                "SELECT LOWER(variable_name) AS name, variable_value AS value \
                 FROM information_schema.global_status WHERE variable_name IN \
                 ('wsrep_cluster_status', 'wsrep_ready', 'wsrep_local_state')",
            )
            .fetch_all(&mut *connection),
        )
        .await?;
        let mut status = Vec::new();
        for row in rows {
            status.push((row.try_get("name")?, row.try_get("value")?));
        }
        Ok(ServerState { flush, status })
    }

    /// True if all connections are in use: then this process is slow, not the server.
    fn is_full(&self) -> bool {
        self.pool.size() >= CONNECTIONS_MAX && self.pool.num_idle() == 0
    }
}

/// How a server is set up and how it goes.
struct ServerState {
    /// `innodb_flush_log_at_trx_commit`.
    flush: u64,
    /// Galera's status variables; none on a server without it.
    status: Vec<(String, String)>,
}

impl ServerState {
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.flush != 1 {
            problems.push(format!(
                "innodb_flush_log_at_trx_commit is {}, so a power cut loses changes that were \
                 acknowledged; set it to 1",
                self.flush
            ));
        }
        // Synced, or giving its state to a node that joins.
        let sound: [(&str, &[&str]); 3] = [
            ("wsrep_cluster_status", &["Primary"]),
            ("wsrep_ready", &["ON"]),
            ("wsrep_local_state", &["2", "4"]),
        ];
        let in_cluster = self
            .status
            .iter()
            .any(|(name, value)| name == "wsrep_cluster_status" && value != "Disconnected");
        for (name, value) in &self.status {
            let expected = sound.iter().find(|(sound, _)| sound == name);
            if in_cluster && expected.is_some_and(|(_, values)| !values.contains(&value.as_str())) {
                problems.push(format!("{name} is {value}"));
            }
        }
        problems
    }
}

fn pool(list: &ServerList, host: &str, port: u16) -> MySqlPool {
    let options = MySqlConnectOptions::new()
        .host(host)
        .port(port)
        .username(&list.user)
        .password(list.password.expose())
        .database(&list.name)
        .disable_statement_logging();
    MySqlPoolOptions::new()
        .max_connections(CONNECTIONS_MAX)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .after_connect(|connection, _| Box::pin(prepare(connection)))
        // A transaction that was dropped is undone before anybody else gets its connection.
        .after_release(|connection, _| {
            Box::pin(async move {
                let undone = bounded(sqlx::raw_sql("ROLLBACK").execute(connection)).await;
                Ok(undone.is_ok())
            })
        })
        .connect_lazy_with(options)
}

/// Sets up a fresh connection.
async fn prepare(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(
        "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES'), \
         SESSION tx_isolation = 'REPEATABLE-READ', SESSION innodb_lock_wait_timeout = 5",
    )
    .execute(&mut *connection)
    .await?;
    // Reads see what was committed on another node. A server without Galera may not know it.
    if let Err(error) = sqlx::raw_sql("SET SESSION wsrep_sync_wait = 1")
        .execute(connection)
        .await
    {
        tracing::debug!(%error, "the database server knows nothing of Galera");
    }
    Ok(())
}
