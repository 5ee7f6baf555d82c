//! Backups and checks of the whole database.

use std::os::unix::fs::PermissionsExt;

use super::*;

/// 2026-11-23 00:00:00 UTC.
const MIDNIGHT: i64 = 1_795_392_000_000;

fn names_in(directory: &std::path::Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_backup_is_a_private_database_that_opens_while_the_site_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let site = site_at(file_in(&directory)).await;
    insert(&site.store, &client(site.group, 1)).await.unwrap();
    let backups = directory.path().join("backups");
    let path = site
        .store
        .back_up(&backups, Timestamp(MIDNIGHT), 3)
        .await
        .unwrap();
    assert_eq!(path, backups.join("dess-20261123-000000.db"));
    assert_eq!(names_in(&backups), ["dess-20261123-000000.db"]);
    for path in [&path, &backups] {
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} holds secrets", path.display());
    }
    insert(&site.store, &client(site.group, 2)).await.unwrap();

    let restored = Store::open(&DatabaseLocation::File(path), false)
        .await
        .unwrap();
    let mut tx = restored.read().await.unwrap();
    let seats: Vec<u32> = tx
        .client_list()
        .await
        .unwrap()
        .iter()
        .map(|client| client.seat)
        .collect();
    assert_eq!(seats, [1]);
}

#[tokio::test]
async fn the_newest_backups_stay_and_nothing_else_is_touched() {
    let directory = tempfile::tempdir().unwrap();
    let site = site_at(file_in(&directory)).await;
    let backups = directory.path().join("backups");
    std::fs::create_dir(&backups).unwrap();
    std::fs::write(backups.join("notes.txt"), "mine").unwrap();
    // Left behind by one that was killed.
    std::fs::write(backups.join("dess.part"), "half").unwrap();
    assert!(newest_backup(&backups).unwrap().is_none());
    for day in 0..4 {
        let at = Timestamp(MIDNIGHT + day * 24 * 3600 * 1000);
        site.store.back_up(&backups, at, 2).await.unwrap();
    }
    assert_eq!(
        names_in(&backups),
        [
            "dess-20261125-000000.db",
            "dess-20261126-000000.db",
            "notes.txt"
        ]
    );
    assert!(newest_backup(&backups).unwrap().is_some());
}

#[tokio::test]
async fn a_backup_that_fails_leaves_the_older_ones() {
    let directory = tempfile::tempdir().unwrap();
    let site = site_at(file_in(&directory)).await;
    let backups = directory.path().join("backups");
    let at = Timestamp(MIDNIGHT);
    site.store.back_up(&backups, at, 1).await.unwrap();
    // Something is in the way that cannot be written.
    std::fs::create_dir(backups.join("dess.part")).unwrap();
    std::fs::write(backups.join("dess.part/x"), "").unwrap();
    let error = site.store.back_up(&backups, at, 1).await.unwrap_err();
    assert!(matches!(error, BackupError::File { .. }), "{error}");
    assert!(backups.join("dess-20261123-000000.db").exists());
}

#[tokio::test]
async fn a_check_names_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let site = site_at(file_in(&directory)).await;
    let record = ClientRecord {
        version: Some(dess_model::VersionRef {
            image: dess_model::ImageId(Uuid::now_v7()),
            number: 3,
        }),
        ..client(site.group, 1)
    };
    let sound = site.store.check().await.unwrap();
    assert_eq!(sound.problems, [""; 0]);
    insert(&site.store, &record).await.unwrap();
    let found = site.store.check().await.unwrap();
    assert_eq!(found.problems.len(), 1, "{found:?}");
    assert!(found.problems[0].contains("clients"), "{found:?}");
    assert!(found.tables.contains(&("clients".into(), 1)));

    // Rows that a foreign key should have kept.
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(directory.path().join("dess.db"))
        .foreign_keys(false);
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::query("DELETE FROM client_groups")
        .execute(&mut connection)
        .await
        .unwrap();
    let found = site.store.check().await.unwrap();
    assert!(
        found
            .problems
            .iter()
            .any(|line| line.contains("client_groups")),
        "{found:?}"
    );
}

#[tokio::test]
async fn servers_are_checked_each_by_itself() {
    let (Some(mut first), Some(second)) = (
        crate::testing::Server::start().await,
        crate::testing::Server::start().await,
    ) else {
        return;
    };
    for server in [&first, &second] {
        site_at(server.database("looked_at")).await;
    }
    second.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 1");
    first.kill();
    let list = crate::testing::at(&[first.port, second.port], "looked_at");
    let store = Store::open(&DatabaseLocation::Servers(list), false)
        .await
        .unwrap();
    let problems = store.check().await.unwrap().problems;
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].contains(&first.port.to_string()),
        "{problems:?}"
    );
    second.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 2");
    let problems = store.check().await.unwrap().problems;
    assert!(problems[1].contains("power cut"), "{problems:?}");
    let error = store
        .back_up(first.directory(), Timestamp(0), 1)
        .await
        .unwrap_err();
    assert!(matches!(error, BackupError::NotAFile), "{error}");
}
