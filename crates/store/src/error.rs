//! Why the database could not be used.

use std::io;
use std::path::PathBuf;

/// Why the database could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no file.
    #[error(
        "there is no database at {}; set the site up with `dess init`, or restore a backup there",
        path.display()
    )]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
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
    /// The file cannot be opened.
    #[error("cannot open the database {}; check its path, rights and the disk below it", path.display())]
    Open {
        /// The file.
        path: PathBuf,
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
        "the database {} has schema version {found}, but this release knows only {known}; update DESS",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: u32,
        /// The last version of this release.
        known: u32,
    },
    /// A migration failed; nothing was changed.
    #[error("cannot bring the database {} to schema version {version}", path.display())]
    Migrate {
        /// The file.
        path: PathBuf,
        /// The version.
        version: u32,
        /// Cause.
        #[source]
        source: sqlx::Error,
    },
    /// Another process held the database too long.
    #[error("the database is locked by another process; try again")]
    Busy,
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

/// What a driver error means for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorClass {
    /// Someone else holds the lock; the transaction can be run again.
    Busy,
    /// The file is no database, or damaged.
    Damaged,
    /// The file or the connection cannot be used; reopening may help.
    Unusable,
    /// A unique constraint.
    Taken,
    /// Anything else.
    Other,
}

/// Primary result codes of SQLite (<https://sqlite.org/rescode.html>): the low 8 bits.
pub(crate) fn classify(error: &sqlx::Error) -> ErrorClass {
    let sqlx::Error::Database(database) = error else {
        return match error {
            sqlx::Error::Io(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => ErrorClass::Unusable,
            _ => ErrorClass::Other,
        };
    };
    if database.is_unique_violation() {
        return ErrorClass::Taken;
    }
    let code = database.code().and_then(|code| code.parse::<u32>().ok());
    match code.map(|code| code & 0xff) {
        Some(5 | 6) => ErrorClass::Busy,
        Some(11 | 26) => ErrorClass::Damaged,
        // Read-only, I/O error, full, cannot open, protocol.
        Some(8 | 10 | 13 | 14 | 15) => ErrorClass::Unusable,
        _ => ErrorClass::Other,
    }
}
