//! Both databases have the same tables.

use super::*;
use crate::migration::{MIGRATIONS, OWN_TABLES};
use crate::schema::{ColumnKind, Schema};

async fn schema_of(location: &DatabaseLocation) -> Schema {
    let store = Store::open(location, true).await.unwrap();
    store.read().await.unwrap().schema().await.unwrap()
}

#[test]
fn schema_versions_are_numbered_without_a_gap_and_each_file_is_one_of_them() {
    let numbers: Vec<u32> = MIGRATIONS
        .iter()
        .map(|migration| migration.version)
        .collect();
    let expected: Vec<u32> = (1..).take(MIGRATIONS.len()).collect();
    assert_eq!(numbers, expected);
    for database in ["sqlite", "mariadb"] {
        let directory = format!("{}/migrations/{database}", env!("CARGO_MANIFEST_DIR"));
        let files = std::fs::read_dir(directory).unwrap().count();
        assert_eq!(files, MIGRATIONS.len(), "{database}");
    }
}

#[tokio::test]
async fn the_schema_is_made_of_types_that_both_databases_keep_alike() {
    let directory = tempfile::tempdir().unwrap();
    let schema = schema_of(&file_in(&directory)).await;
    assert!(schema.tables.len() > 10);
    for table in &schema.tables {
        assert!(!OWN_TABLES.contains(&table.name.as_str()));
        assert!(
            table.indexes.iter().any(|(unique, _)| *unique),
            "{} has no primary key, which Galera needs",
            table.name
        );
        for column in &table.columns {
            assert!(
                !matches!(column.kind, ColumnKind::Other(_)),
                "{}.{column:?}",
                table.name
            );
        }
    }
    let place = |name: &str| schema.tables.iter().position(|table| table.name == name);
    assert!(
        place("client_groups") < place("clients"),
        "referred to first"
    );
}

#[tokio::test]
async fn the_schemas_of_both_databases_are_the_same() {
    let Some(server) = crate::testing::Server::start().await else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let mut expected = schema_of(&file_in(&directory)).await;
    let location = server.database("alike");
    let mut found = schema_of(&location).await;
    for schema in [&mut expected, &mut found] {
        for table in &mut schema.tables {
            // MariaDB makes an index for each reference by itself.
            let plain: Vec<Vec<String>> = table
                .references
                .iter()
                .map(|reference| vec![reference.column.clone()])
                .collect();
            table
                .indexes
                .retain(|(unique, columns)| *unique || !plain.contains(columns));
        }
    }
    for (expected, found) in expected.tables.iter().zip(&found.tables) {
        assert_eq!(expected, found);
    }
    assert_eq!(expected, found);

    // Interrupted before its end was noted, every version can be applied again.
    server.sql("DELETE FROM alike.schema_versions");
    let before = schema_of(&location).await;
    assert_eq!(
        server
            .sql("SELECT MAX(version) FROM alike.schema_versions")
            .trim(),
        MIGRATIONS.len().to_string()
    );
    assert_eq!(schema_of(&location).await, before);
}

#[tokio::test]
async fn tables_of_a_later_release_are_left_alone() {
    let Some(server) = crate::testing::Server::start().await else {
        return;
    };
    let location = server.database("later");
    Store::open(&location, true).await.unwrap();
    server.sql("INSERT INTO later.schema_versions VALUES (999)");
    let error = Store::open(&location, false).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Newer { found: 999, .. }),
        "{error:?}"
    );
}
