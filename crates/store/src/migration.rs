//! Schema versions, applied in order.
//!
//! On SQLite each is one transaction. MariaDB commits each statement that changes the schema by
//! itself, so every statement there can be run again (`IF NOT EXISTS`): a version that was
//! interrupted, or that two processes apply at once, is applied as a whole again.

use std::path::Path;

use sqlx::mysql::MySqlConnection;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Row};

use crate::StoreError;
use crate::error::{ErrorClass, classify};
use crate::mariadb::Cluster;
use crate::sqlite::open_failed;

/// One schema version.
pub(crate) struct Migration {
    pub(crate) version: u32,
    sqlite: &'static str,
    mariadb: &'static str,
}

macro_rules! migration {
    ($version:literal, $file:literal) => {
        Migration {
            version: $version,
            sqlite: include_str!(concat!("../migrations/sqlite/", $file)),
            mariadb: include_str!(concat!("../migrations/mariadb/", $file)),
        }
    };
}

/// All schema versions, oldest first, each for both databases. A released one never changes.
pub(crate) const MIGRATIONS: &[Migration] = &[
    migration!(1, "0001_initial.sql"),
    migration!(2, "0002_limits.sql"),
    migration!(3, "0003_versions.sql"),
    migration!(4, "0004_space.sql"),
    migration!(5, "0005_data_disks.sql"),
    migration!(6, "0006_access.sql"),
    migration!(7, "0007_operate.sql"),
    migration!(8, "0008_floor_plan.sql"),
    migration!(9, "0009_requests.sql"),
    migration!(10, "0010_cases.sql"),
];

const VERSIONS_TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_versions \
     (version BIGINT NOT NULL PRIMARY KEY)";

/// Tables of MariaDB alone: whose turn it is to write and how often the site was changed, and
/// which of the last transactions were saved.
const TURN_TABLES: &str = "\
    CREATE TABLE IF NOT EXISTS writer_turn (\
        id BIGINT NOT NULL PRIMARY KEY, changes BIGINT NOT NULL) ENGINE=InnoDB; \
    INSERT IGNORE INTO writer_turn (id, changes) VALUES (1, 0); \
    CREATE TABLE IF NOT EXISTS saved_transactions (\
        id VARCHAR(36) NOT NULL PRIMARY KEY, run BIGINT NOT NULL, turn BIGINT NOT NULL, \
        INDEX saved_transactions_turn (turn)) ENGINE=InnoDB DEFAULT CHARSET=ascii";

/// Tables that hold nothing of the site.
pub(crate) const OWN_TABLES: [&str; 3] = ["schema_versions", "writer_turn", "saved_transactions"];

/// The schema version of this release.
pub(crate) fn known_version() -> u32 {
    MIGRATIONS.last().map_or(0, |last| last.version)
}

/// Brings a file to the newest schema version. Safe to run from several processes at once.
pub(crate) async fn migrate_sqlite(
    connection: &mut SqliteConnection,
    path: &Path,
) -> Result<(), StoreError> {
    let database = path.display().to_string();
    let failed = |version, source| match classify(&source) {
        ErrorClass::Taken | ErrorClass::Other => StoreError::Migrate {
            database: database.clone(),
            version,
            source,
        },
        _ => open_failed(path, source),
    };
    let found = version_in_sqlite(connection)
        .await
        .map_err(|source| failed(known_version(), source))?;
    for migration in missing(&database, found)? {
        apply_sqlite(connection, migration)
            .await
            .map_err(|source| failed(migration.version, source))?;
    }
    Ok(())
}

/// Brings the tables on a server to the newest schema version; refuses to make the first ones
/// unless `create`. Safe to run from several processes at once.
pub(crate) async fn migrate_mariadb(
    connection: &mut MySqlConnection,
    cluster: &Cluster,
    create: bool,
) -> Result<(), StoreError> {
    let failed = |version, source| match classify(&source) {
        ErrorClass::Taken | ErrorClass::Other => StoreError::Migrate {
            database: cluster.name().to_owned(),
            version,
            source,
        },
        _ => cluster.open_failed(source),
    };
    let found = version_in_mariadb(connection)
        .await
        .map_err(|source| failed(known_version(), source))?;
    if found.is_none() && !create {
        return Err(StoreError::Missing {
            database: cluster.name().to_owned(),
        });
    }
    for migration in missing(cluster.name(), found.unwrap_or(0))? {
        apply_mariadb(connection, migration)
            .await
            .map_err(|source| failed(migration.version, source))?;
    }
    Ok(())
}

fn missing(
    database: &str,
    found: u32,
) -> Result<impl Iterator<Item = &'static Migration> + use<>, StoreError> {
    let known = known_version();
    if found > known {
        return Err(StoreError::Newer {
            database: database.to_owned(),
            found,
            known,
        });
    }
    Ok(MIGRATIONS
        .iter()
        .filter(move |migration| migration.version > found))
}

/// The schema version of the file; 0 for an empty one.
async fn version_in_sqlite(connection: &mut SqliteConnection) -> Result<u32, sqlx::Error> {
    let table = sqlx::query("SELECT name FROM sqlite_master WHERE name = 'schema_versions'")
        .fetch_optional(&mut *connection)
        .await?;
    if table.is_none() {
        return Ok(0);
    }
    highest_in_sqlite(connection).await
}

async fn highest_in_sqlite(connection: &mut SqliteConnection) -> Result<u32, sqlx::Error> {
    let row = sqlx::query("SELECT COALESCE(MAX(version), 0) AS version FROM schema_versions")
        .fetch_one(connection)
        .await?;
    row.try_get::<u32, _>("version")
}

async fn apply_sqlite(
    connection: &mut SqliteConnection,
    migration: &Migration,
) -> Result<(), sqlx::Error> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::query(VERSIONS_TABLE).execute(&mut *tx).await?;
    // Another process may have done it while this one waited for the lock.
    if highest_in_sqlite(&mut tx).await? < migration.version {
        sqlx::raw_sql(migration.sqlite).execute(&mut *tx).await?;
        sqlx::query("INSERT INTO schema_versions (version) VALUES (?)")
            .bind(migration.version)
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await
}

/// The schema version of the tables; none if there are none.
async fn version_in_mariadb(connection: &mut MySqlConnection) -> Result<Option<u32>, sqlx::Error> {
    let table = sqlx::query(
        "SELECT table_name FROM information_schema.tables \
         WHERE table_schema = DATABASE() AND table_name = 'schema_versions'",
    )
    .fetch_optional(&mut *connection)
    .await?;
    if table.is_none() {
        return Ok(None);
    }
    let row = sqlx::query("SELECT COALESCE(MAX(version), 0) AS version FROM schema_versions")
        .fetch_one(connection)
        .await?;
    let version = row.try_get::<i64, _>("version")?;
    Ok(Some(u32::try_from(version).unwrap_or(u32::MAX)))
}

async fn apply_mariadb(
    connection: &mut MySqlConnection,
    migration: &Migration,
) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(TURN_TABLES).execute(&mut *connection).await?;
    sqlx::raw_sql(migration.mariadb)
        .execute(&mut *connection)
        .await?;
    // Last, so that an interrupted version is not taken for an applied one.
    sqlx::raw_sql(VERSIONS_TABLE)
        .execute(&mut *connection)
        .await?;
    sqlx::query("INSERT IGNORE INTO schema_versions (version) VALUES (?)")
        .bind(i64::from(migration.version))
        .execute(connection)
        .await
        .map(drop)
}
