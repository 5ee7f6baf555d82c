//! Why the database could not be used.

use std::io;
use std::path::PathBuf;

use sqlx::mysql::MySqlDatabaseError;

/// Why the database could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is none.
    #[error(
        "there is no database at {database}; set the site up with `dess init`, or restore a backup there"
    )]
    Missing {
        /// Where it was looked for.
        database: String,
    },
    /// The file cannot be created.
    #[error("cannot create the database {}; is its directory writable and the disk not full?", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// It cannot be opened.
    #[error(
        "cannot open the database {database}; check its path or user, its rights and the disk below it"
    )]
    Open {
        /// Which.
        database: String,
        /// Cause.
        #[source]
        source: sqlx::Error,
    },
    /// The file is no database, or a damaged one.
    #[error(
        "the database {} is damaged; stop DESS, move the file (and its -wal and -shm) away and restore a backup; \
         clients boot from the last site snapshot meanwhile",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: sqlx::Error,
    },
    /// The database was written by a later release.
    #[error(
        "the database {database} has schema version {found}, but this release knows only {known}; update DESS"
    )]
    Newer {
        /// Which.
        database: String,
        /// Its schema version.
        found: u32,
        /// The last version of this release.
        known: u32,
    },
    /// A migration failed. A SQLite file is as before; on MariaDB it goes on where it stopped.
    #[error("cannot bring the database {database} to schema version {version}")]
    Migrate {
        /// Which.
        database: String,
        /// The version.
        version: u32,
        /// Cause.
        #[source]
        source: sqlx::Error,
    },
    /// Somebody else held the database too long.
    #[error("the database is locked by another change; try again")]
    Busy,
    /// No server of the database answers as it should.
    #[error("no server of the database {database} can be used; they are tried again")]
    Unreachable {
        /// Which.
        database: String,
        /// Cause, as the last one of them gave it.
        #[source]
        source: sqlx::Error,
    },
    /// The connection broke while a change was being saved, and did not come back in time.
    #[error(
        "the database went away while a change was being saved, so it may be saved or not; \
         look before doing it again"
    )]
    Unknown {
        /// Cause.
        #[source]
        source: sqlx::Error,
    },
    /// A value that must be unique is taken.
    #[error("cannot {action}: a value that must be unique is taken")]
    Taken {
        /// What was attempted, e.g. `insert a client`.
        action: &'static str,
        /// Cause; names the column.
        #[source]
        source: sqlx::Error,
    },
    /// A statement failed.
    #[error("cannot {action} in the database")]
    Query {
        /// What was attempted, e.g. `list clients`.
        action: &'static str,
        /// Cause.
        #[source]
        source: sqlx::Error,
    },
    /// A stored value makes no sense.
    #[error("the database holds \"{value}\" as {column}, which cannot be understood")]
    Value {
        /// The column.
        column: &'static str,
        /// The value.
        value: String,
    },
}

impl StoreError {
    /// True if the same may work in a moment: the database is locked, or its servers change.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Busy | Self::Unreachable { .. })
    }
}

/// What a driver error means for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorClass {
    /// Someone else was faster or holds the lock; the transaction is undone and can be run again.
    Busy,
    /// The file is no database, or damaged.
    Damaged,
    /// The file, the connection or the server cannot be used; another one, or reopening, may help.
    Unusable,
    /// A unique constraint.
    Taken,
    /// Anything else.
    Other,
}

pub(crate) fn classify(error: &sqlx::Error) -> ErrorClass {
    let sqlx::Error::Database(database) = error else {
        return match error {
            sqlx::Error::Io(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => ErrorClass::Unusable,
            _ => ErrorClass::Other,
        };
    };
    if database.is_unique_violation() {
        return ErrorClass::Taken;
    }
    if let Some(error) = database.try_downcast_ref::<MySqlDatabaseError>() {
        return classify_mariadb(error.number());
    }
    let code = database.code().and_then(|code| code.parse::<u32>().ok());
    code.map_or(ErrorClass::Other, classify_sqlite)
}

/// Primary result codes of SQLite (<https://sqlite.org/rescode.html>): the low 8 bits.
fn classify_sqlite(code: u32) -> ErrorClass {
    match code & 0xff {
        5 | 6 => ErrorClass::Busy,
        11 | 26 => ErrorClass::Damaged,
        // Read-only, I/O error, full, cannot open, protocol.
        8 | 10 | 13 | 14 | 15 => ErrorClass::Unusable,
        _ => ErrorClass::Other,
    }
}

/// Error numbers of MariaDB (<https://mariadb.com/kb/en/mariadb-error-code-reference/>).
fn classify_mariadb(number: u16) -> ErrorClass {
    match number {
        // Record changed since the last read, lock wait timeout, deadlock or a certification
        // that failed, statement interrupted, statement took too long.
        1020 | 1205 | 1213 | 1317 | 1969 => ErrorClass::Busy,
        // Too many connections, node not prepared (non-Primary), server shuts down, network,
        // host blocked, write set not replicated, too many connections of the user, read-only,
        // connection killed, read-only mode.
        1040 | 1047 | 1053 | 1129 | 1158..=1161 | 1180 | 1203 | 1290 | 1836 | 1927 => {
            ErrorClass::Unusable
        }
        _ => ErrorClass::Other,
    }
}
