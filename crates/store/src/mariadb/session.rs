//! One transaction on one server.

use std::io;
use std::time::Duration;

use sqlx::mysql::{MySqlDatabaseError, MySqlRow};
use sqlx::pool::PoolConnection;
use sqlx::{MySql, Row};
use tokio::time::timeout;

use crate::statement::{Statement, query};

/// How long a statement may take. A cluster that loses a node answers nothing for 5 to 7 s
/// (`evs.suspect_timeout`).
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Committed transactions that are remembered; more than can come while one is in doubt.
const REMEMBERED: i64 = 20_000;
/// How often those before them are forgotten, in transactions.
const FORGET_EVERY: i64 = 256;

/// A transaction on a server. Dropped, it is undone.
#[derive(Debug)]
pub(crate) struct Session {
    connection: PoolConnection<MySql>,
    /// Changes of the database before this one.
    turn: i64,
    changed: bool,
}

/// What became of a commit that failed.
#[derive(Debug)]
pub(crate) enum CommitError {
    /// Nothing was saved.
    Undone(sqlx::Error),
    /// It may be saved or not.
    Unknown(sqlx::Error),
}

impl Session {
    /// Begins a transaction; a writing one waits for its turn.
    pub(super) async fn begin(
        connection: PoolConnection<MySql>,
        write: bool,
    ) -> Result<Self, sqlx::Error> {
        let mut session = Self {
            connection,
            turn: 0,
            changed: false,
        };
        if !write {
            session
                .run("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
                .await?;
            return Ok(session);
        }
        session.run("START TRANSACTION").await?;
        let turn = query("SELECT changes FROM writer_turn WHERE id = 1 FOR UPDATE");
        let row = session.fetch_optional(turn).await?;
        session.turn = row.ok_or(sqlx::Error::RowNotFound)?.try_get("changes")?;
        Ok(session)
    }

    pub(crate) async fn execute(&mut self, statement: Statement) -> Result<u64, sqlx::Error> {
        let running = statement
            .into_query::<MySql>()
            .execute(&mut *self.connection);
        let done = bounded(running).await?;
        self.changed |= done.rows_affected() > 0;
        Ok(done.rows_affected())
    }

    pub(crate) async fn fetch_all(
        &mut self,
        statement: Statement,
    ) -> Result<Vec<MySqlRow>, sqlx::Error> {
        let running = statement
            .into_query::<MySql>()
            .fetch_all(&mut *self.connection);
        bounded(running).await
    }

    pub(crate) async fn fetch_optional(
        &mut self,
        statement: Statement,
    ) -> Result<Option<MySqlRow>, sqlx::Error> {
        let running = statement
            .into_query::<MySql>()
            .fetch_optional(&mut *self.connection);
        bounded(running).await
    }

    /// The run of the transaction `key` that is saved, if one is.
    pub(crate) async fn saved_run(&mut self, key: &str) -> Result<Option<i64>, sqlx::Error> {
        let statement =
            query("SELECT run FROM saved_transactions WHERE id = ?").bind(key.to_owned());
        let row = self.fetch_optional(statement).await?;
        row.map(|row| row.try_get("run")).transpose()
    }

    /// Saves the changes, if there are any, under the name `key` and the number of this run.
    pub(crate) async fn commit(mut self, key: &str, run: i64) -> Result<(), CommitError> {
        if !self.changed {
            self.undo().await;
            return Ok(());
        }
        self.sign(key, run).await.map_err(CommitError::Undone)?;
        match self.run("COMMIT").await {
            Ok(()) => Ok(()),
            // A deadlock or a certification that failed: the cluster has undone it.
            Err(error) if is_conflict(&error) => Err(CommitError::Undone(error)),
            Err(error) => {
                self.connection.close_on_drop();
                Err(CommitError::Unknown(error))
            }
        }
    }

    /// Undoes everything.
    pub(crate) async fn undo(mut self) {
        if let Err(error) = self.run("ROLLBACK").await {
            tracing::debug!(%error, "cannot undo a transaction; its connection is closed");
            self.connection.close_on_drop();
        }
    }

    /// Gives the connection up: it failed in the middle of a statement.
    pub(crate) fn abandon(mut self) {
        self.connection.close_on_drop();
    }

    /// Counts the change, and notes which transaction made it.
    async fn sign(&mut self, key: &str, run: i64) -> Result<(), sqlx::Error> {
        let turn = self.turn + 1;
        let count = query("UPDATE writer_turn SET changes = ? WHERE id = 1").bind(turn);
        self.execute(count).await?;
        let note = query("INSERT INTO saved_transactions (id, run, turn) VALUES (?, ?, ?)")
            .bind(key.to_owned())
            .bind(run)
            .bind(turn);
        self.execute(note).await?;
        if turn % FORGET_EVERY == 0 {
            let old =
                query("DELETE FROM saved_transactions WHERE turn < ?").bind(turn - REMEMBERED);
            self.execute(old).await?;
        }
        Ok(())
    }

    async fn run(&mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        let running = sqlx::raw_sql(statement).execute(&mut *self.connection);
        bounded(running).await.map(drop)
    }
}

/// Waits for a statement, but not for ever.
pub(super) async fn bounded<T>(
    running: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    timeout(STATEMENT_TIMEOUT, running)
        .await
        .unwrap_or_else(|_| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into())))
}

fn is_conflict(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error)
        if error.try_downcast_ref::<MySqlDatabaseError>()
            .is_some_and(|error| matches!(error.number(), 1020 | 1205 | 1213)))
}
