//! Backups of a SQLite file: each a whole database of its own, opened and checked before it counts.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use dess_model::Timestamp;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, Row};

use crate::database::Engine;
use crate::migration::known_version;
use crate::{Store, StoreError};

/// Names of backups begin so; a time follows, so that they sort by age.
const PREFIX: &str = "dess-";
const SUFFIX: &str = ".db";
/// Name while it is being written.
const PART: &str = "dess.part";

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The database is not a file.
    #[error(
        "only a SQLite file is backed up; for MariaDB servers use mariadb-backup, or write the \
         site to a file with `dess db export`"
    )]
    NotAFile,
    /// The directory or a file in it cannot be used.
    #[error("cannot use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The copy could not be written.
    #[error("cannot copy the database to {}; is the disk full?", path.display())]
    Copy {
        /// The copy.
        path: PathBuf,
        /// Cause.
        #[source]
        source: sqlx::Error,
    },
    /// The copy could not be read, or is not what was copied. The older backups stay.
    #[error("the copy {} is not sound: {reason}", path.display())]
    Unsound {
        /// The copy; removed.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Writes a backup into `directory`, named after the time `at` (UTC), checks it, and removes
    /// all but the `keep` newest ones (at least this one stays). Answers its path. Writers are not
    /// held up.
    ///
    /// # Errors
    /// If the database is not a file, or the backup cannot be written or is not sound; the older
    /// ones stay then.
    pub async fn back_up(
        &self,
        directory: &Path,
        at: Timestamp,
        keep: u32,
    ) -> Result<PathBuf, BackupError> {
        let Engine::Sqlite(file) = self.engine() else {
            return Err(BackupError::NotAFile);
        };
        let part = directory.join(PART);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|source| failed(directory, source))?;
        begin_part(&part).map_err(|source| failed(&part, source))?;
        let name = match file.copy_to(&part, at).await {
            Ok(time) => format!("{PREFIX}{time}{SUFFIX}"),
            Err(source) => {
                discard(&part);
                return Err(BackupError::Copy { path: part, source });
            }
        };
        if let Err(reason) = verify(&part).await {
            discard(&part);
            return Err(BackupError::Unsound { path: part, reason });
        }
        let path = directory.join(name);
        settle(&part, &path).map_err(|source| failed(&path, source))?;
        for old in backups_in(directory)?
            .into_iter()
            .rev()
            .skip(keep.max(1) as usize)
        {
            fs::remove_file(&old).map_err(|source| failed(&old, source))?;
        }
        Ok(path)
    }
}

/// When the newest backup in a directory was written; none if there is none.
///
/// # Errors
/// If the directory cannot be read.
pub fn newest_backup(directory: &Path) -> Result<Option<SystemTime>, BackupError> {
    let Some(newest) = backups_in(directory)?.pop() else {
        return Ok(None);
    };
    fs::metadata(&newest)
        .and_then(|found| found.modified())
        .map(Some)
        .map_err(|source| failed(&newest, source))
}

/// Oldest first.
fn backups_in(directory: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed(directory, source)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry
            .map_err(|source| failed(directory, source))?
            .file_name();
        if let Some(name) = name.to_str()
            && name.starts_with(PREFIX)
            && name.ends_with(SUFFIX)
        {
            found.push(directory.join(name));
        }
    }
    found.sort();
    Ok(found)
}

/// An empty file that only its owner may read, which SQLite then fills.
fn begin_part(part: &Path) -> io::Result<()> {
    match fs::remove_file(part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(part)
        .map(drop)
}

/// Opens the copy as a restored database would be, and looks through it.
async fn verify(part: &Path) -> Result<(), String> {
    let options = SqliteConnectOptions::new()
        .filename(part)
        .create_if_missing(false)
        .read_only(true)
        .disable_statement_logging();
    let text = |error: sqlx::Error| error.to_string();
    let mut connection = SqliteConnection::connect_with(&options)
        .await
        .map_err(text)?;
    let found = sqlx::query("PRAGMA integrity_check(1)")
        .fetch_one(&mut connection)
        .await
        .and_then(|row| row.try_get::<String, _>(0))
        .map_err(text)?;
    if found != "ok" {
        return Err(found);
    }
    let version = sqlx::query("SELECT MAX(version) FROM schema_versions")
        .fetch_one(&mut connection)
        .await
        .and_then(|row| row.try_get::<u32, _>(0))
        .map_err(text)?;
    if version != known_version() {
        return Err(format!("its schema version is {version}"));
    }
    connection.close().await.map_err(text)
}

/// Gives the copy its name once it is on the disk.
fn settle(part: &Path, path: &Path) -> io::Result<()> {
    File::open(part)?.sync_all()?;
    fs::rename(part, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn discard(part: &Path) {
    if let Err(error) = fs::remove_file(part) {
        tracing::debug!(%error, "cannot remove {}", part.display());
    }
}

fn failed(path: &Path, source: io::Error) -> BackupError {
    BackupError::File {
        path: path.to_owned(),
        source,
    }
}
