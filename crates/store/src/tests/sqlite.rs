//! What holds for a SQLite file alone.

use std::os::unix::fs::PermissionsExt;

use super::*;

#[tokio::test]
async fn nobody_else_may_read_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let _site = site_at(file_in(&directory)).await;
    for file in ["dess.db", "dess.db-wal"] {
        let mode = std::fs::metadata(directory.path().join(file))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{file} holds CHAP secrets");
    }
}

#[tokio::test]
async fn a_missing_database_is_not_made_in_passing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dess.db");
    let error = Database::new(&path).store().await.unwrap_err();
    assert!(matches!(error, StoreError::Missing { .. }), "{error:?}");
    assert!(error.to_string().contains("dess init"), "{error}");
    assert!(!path.exists());
}

#[tokio::test]
async fn garbage_and_directories_are_named_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dess.db");
    std::fs::write(&path, vec![0xa5; 8192]).unwrap();
    let error = Database::new(&path).store().await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains("dess.db") && text.contains("backup"),
        "{text}"
    );

    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let error = Database::new(&path).store().await.unwrap_err();
    assert!(matches!(error, StoreError::Open { .. }), "{error:?}");
}

#[tokio::test]
async fn a_database_that_was_away_is_opened_anew() {
    let directory = tempfile::tempdir().unwrap();
    let site = site_at(file_in(&directory)).await;
    let (path, aside) = (
        directory.path().join("dess.db"),
        directory.path().join("aside.db"),
    );
    let counter = site.database.change_counter().await.unwrap();
    std::fs::rename(&path, &aside).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(site.database.store().await.is_err());
    std::fs::remove_dir(&path).unwrap();
    std::fs::rename(&aside, &path).unwrap();
    let store = site.database.store().await.unwrap();
    let mut tx = store.read().await.unwrap();
    assert_eq!(tx.site_fetch().await.unwrap().unwrap().name, "매장 1");
    assert_ne!(site.database.change_counter().await.unwrap(), counter);
}

#[tokio::test]
async fn a_database_of_a_later_release_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    site_at(file_in(&directory)).await;
    let path = directory.path().join("dess.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::query("INSERT INTO schema_versions (version) VALUES (999)")
        .execute(&mut connection)
        .await
        .unwrap();
    let error = Store::open(&file_in(&directory), false).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Newer { found: 999, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_closed_database_is_one_file_that_holds_everything_and_opens_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dess.db");
    let database = Database::new(&path);
    database.store_or_create().await.unwrap();
    assert!(path.with_extension("db-wal").exists());
    database.close().await;
    let left: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["dess.db"]);
    database.store().await.unwrap();
}
