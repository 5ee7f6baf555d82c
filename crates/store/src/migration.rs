//! Schema versions, applied in order, each in one transaction.

use std::path::Path;

use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Row};

use crate::StoreError;
use crate::error::{ErrorClass, classify};

/// Number and statements of each schema version, oldest first. A released one never changes.
const SQLITE: &[(u32, &str)] = &[
    (1, include_str!("../migrations/sqlite/0001_initial.sql")),
    (2, include_str!("../migrations/sqlite/0002_limits.sql")),
    (3, include_str!("../migrations/sqlite/0003_versions.sql")),
];

const VERSIONS_TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_versions \
     (version BIGINT NOT NULL PRIMARY KEY)";

/// Brings the schema to the newest version. Safe to run from several processes at once.
pub(crate) async fn migrate(
    connection: &mut SqliteConnection,
    path: &Path,
) -> Result<(), StoreError> {
    let known = SQLITE.last().map_or(0, |(version, _)| *version);
    let found = applied(connection)
        .await
        .map_err(|source| failed(path, known, source))?;
    if found > known {
        return Err(StoreError::Newer {
            path: path.to_owned(),
            found,
            known,
        });
    }
    for (version, statements) in SQLITE {
        if *version > found {
            apply(connection, *version, statements)
                .await
                .map_err(|source| failed(path, *version, source))?;
        }
    }
    Ok(())
}

/// The schema version of the file; 0 for an empty one.
async fn applied(connection: &mut SqliteConnection) -> Result<u32, sqlx::Error> {
    let table = sqlx::query("SELECT name FROM sqlite_master WHERE name = 'schema_versions'")
        .fetch_optional(&mut *connection)
        .await?;
    if table.is_none() {
        return Ok(0);
    }
    highest(connection).await
}

async fn highest(connection: &mut SqliteConnection) -> Result<u32, sqlx::Error> {
    let row = sqlx::query("SELECT COALESCE(MAX(version), 0) AS version FROM schema_versions")
        .fetch_one(connection)
        .await?;
    row.try_get::<u32, _>("version")
}

async fn apply(
    connection: &mut SqliteConnection,
    version: u32,
    statements: &'static str,
) -> Result<(), sqlx::Error> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::query(VERSIONS_TABLE).execute(&mut *tx).await?;
    // Another process may have done it while this one waited for the lock.
    if highest(&mut tx).await? < version {
        sqlx::raw_sql(statements).execute(&mut *tx).await?;
        sqlx::query("INSERT INTO schema_versions (version) VALUES (?)")
            .bind(version)
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await
}

fn failed(path: &Path, version: u32, source: sqlx::Error) -> StoreError {
    let path = path.to_owned();
    match classify(&source) {
        ErrorClass::Busy => StoreError::Busy,
        ErrorClass::Damaged => StoreError::Damaged { path, source },
        ErrorClass::Unusable => StoreError::Open { path, source },
        ErrorClass::Taken | ErrorClass::Other => StoreError::Migrate {
            path,
            version,
            source,
        },
    }
}
