//! Whether a database is sound.

use serde::Serialize;

use crate::database::Engine;
use crate::migration::known_version;
use crate::row::Columns;
use crate::statement::{query, query_of};
use crate::{Store, StoreError, Tx};

/// What a database was found to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Soundness {
    /// Its schema version.
    pub schema: u32,
    /// Name and number of rows of each table.
    pub tables: Vec<(String, u64)>,
    /// What is wrong, in English; empty if it is sound.
    pub problems: Vec<String>,
}

/// References that no foreign key guards: table, its columns, the other table, its columns.
const LOOSE: &[(&str, &[&str], &str, &[&str])] = &[
    (
        "clients",
        &["image_id", "version_number"],
        "image_versions",
        &["image_id", "number"],
    ),
    (
        "client_groups",
        &["image_id", "version_number"],
        "image_versions",
        &["image_id", "number"],
    ),
    ("data_disks", &["image_id"], "images", &["id"]),
    ("boot_attempts", &["client_id"], "clients", &["id"]),
    ("boot_steps", &["attempt_id"], "boot_attempts", &["id"]),
    (
        "rollout_holders",
        &["image_id", "number"],
        "rollouts",
        &["image_id", "number"],
    ),
];

impl Store {
    /// Looks through the whole database. Changes nothing.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn check(&self) -> Result<Soundness, StoreError> {
        let mut problems = self.check_engine().await?;
        let mut tx = self.read().await?;
        let schema = tx.schema().await?;
        let mut tables = Vec::new();
        for table in &schema.tables {
            tables.push((table.name.clone(), tx.row_count(&table.name).await?));
        }
        problems.extend(tx.dangling(&schema).await?);
        for reference in LOOSE {
            problems.extend(tx.loose(reference).await?);
        }
        Ok(Soundness {
            schema: known_version(),
            tables,
            problems,
        })
    }

    async fn check_engine(&self) -> Result<Vec<String>, StoreError> {
        match self.engine() {
            Engine::Sqlite(_) => {
                let mut tx = self.read().await?;
                let statement = query("PRAGMA integrity_check(20)");
                let rows = tx.fetch_all("check the file", statement).await?;
                let mut found = Vec::new();
                for row in &rows {
                    found.push(Columns(row).text("integrity_check")?);
                }
                found.retain(|line| line != "ok");
                Ok(found)
            }
            Engine::MariaDb(cluster) => Ok(cluster.check().await),
        }
    }
}

impl Tx {
    async fn loose(
        &mut self,
        (table, columns, parent, keys): &(&str, &[&str], &str, &[&str]),
    ) -> Result<Option<String>, StoreError> {
        let pairs = columns.iter().zip(*keys);
        let equal: Vec<String> = pairs
            .map(|(column, key)| format!("parent.{key} = child.{column}"))
            .collect();
        let statement = query_of(format!(
            "SELECT COUNT(*) AS found FROM {table} child WHERE child.{} IS NOT NULL AND NOT EXISTS \
             (SELECT 1 FROM {parent} parent WHERE {})",
            columns[0],
            equal.join(" AND ")
        ));
        let row = self.fetch_optional("check references", statement).await?;
        let count: u64 = row.map_or(Ok(0), |row| Columns(&row).number("found"))?;
        let of = columns.join(", ");
        Ok((count > 0)
            .then(|| format!("{count} rows of {table} name a {of} that is not in {parent}")))
    }
}
