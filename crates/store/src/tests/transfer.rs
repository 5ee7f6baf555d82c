//! A site moves between databases.

use std::path::{Path, PathBuf};

use super::*;

/// A site with something in most tables.
async fn furnish(site: &Site) {
    let record = &client(site.group, 7);
    let boot = &attempt(record.mac, 10);
    let step = &StepRecord {
        position: 0,
        at: Timestamp(10),
        stage: "dhcp".into(),
        detail: "제안 \"quoted\" \\ and\nbroken".into(),
    };
    site.store
        .transact(|mut tx| async move {
            tx.client_insert(record).await?;
            tx.attempt_put(boot).await?;
            tx.step_put(boot.id, step).await?;
            tx.notice_count(NoticeKind::RogueDhcp, "10.0.0.9", "", 1, Timestamp(3))
                .await
        })
        .await
        .unwrap();
}

async fn export(site: &Site, directory: &Path, name: &str) -> PathBuf {
    let path = directory.join(name);
    site.store.export(&path, Timestamp(5)).await.unwrap();
    path
}

fn rows_of(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn a_site_goes_to_mariadb_and_back_without_a_change() {
    let Some(server) = crate::testing::Server::start().await else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let site = site_at(file_in(&directory)).await;
    furnish(&site).await;
    let first = export(&site, directory.path(), "first").await;

    let there = Store::open(&server.database("moved"), true).await.unwrap();
    let moved = there.import(&first, false).await.unwrap();
    assert_eq!(moved.rows(), 6, "{moved:?}");
    let second = directory.path().join("second");
    there.export(&second, Timestamp(5)).await.unwrap();
    assert_eq!(rows_of(&second), rows_of(&first));

    let other = tempfile::tempdir().unwrap();
    let back = Store::open(&file_in(&other), true).await.unwrap();
    assert_eq!(back.import(&second, false).await.unwrap(), moved);
    let mut tx = back.read().await.unwrap();
    assert_eq!(tx.client_list().await.unwrap()[0].seat, 7);
}

#[tokio::test]
async fn a_database_with_rows_is_replaced_only_when_asked() {
    let directory = tempfile::tempdir().unwrap();
    let site = site_at(file_in(&directory)).await;
    furnish(&site).await;
    let path = export(&site, directory.path(), "e").await;
    let other = tempfile::tempdir().unwrap();
    let target = site_at(file_in(&other)).await;
    insert(&target.store, &client(target.group, 9))
        .await
        .unwrap();

    let error = target.store.import(&path, false).await.unwrap_err();
    assert!(matches!(error, TransferError::NotEmpty { .. }), "{error}");
    let seats = async || {
        let mut tx = target.store.read().await.unwrap();
        let clients = tx.client_list().await.unwrap();
        clients.iter().map(|client| client.seat).collect::<Vec<_>>()
    };
    assert_eq!(seats().await, [9]);
    target.store.import(&path, true).await.unwrap();
    assert_eq!(seats().await, [7]);
}

#[tokio::test]
async fn a_file_that_is_not_whole_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let site = site_at(file_in(&directory)).await;
    furnish(&site).await;
    let whole = rows_of(&export(&site, directory.path(), "e").await);
    let lines: Vec<&str> = whole.lines().collect();
    let other = tempfile::tempdir().unwrap();
    let target = Store::open(&file_in(&other), true).await.unwrap();
    let path = directory.path().join("damaged");
    for cut in 0..lines.len() {
        std::fs::write(&path, lines[..cut].join("\n")).unwrap();
        let error = target.import(&path, false).await.unwrap_err();
        assert!(
            matches!(error, TransferError::Line { .. }),
            "{cut}: {error}"
        );
    }
    let row = lines.iter().find(|line| line.contains("좌석-7")).unwrap();
    let group = site.group.to_string();
    let mut wrong: Vec<serde_json::Value> = serde_json::from_str(row).unwrap();
    wrong[2] = "seven".into();
    let wrong = serde_json::to_string(&wrong).unwrap();
    for (from, to, words) in [
        (*row, "[]", "columns"),
        (*row, &wrong, "seat of clients cannot be this"),
        ("{\"end\":6}", "{\"end\":7}", "number of rows"),
        ("\"table\":\"clients\"", "\"table\":\"klients\"", "klients"),
        ("\"schema\":", "\"schema\":1", "schema version"),
    ] {
        std::fs::write(&path, whole.replacen(from, to, 1)).unwrap();
        let error = target.import(&path, false).await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert!(!error.contains("0123456789abcdef"), "a secret in {error}");
    }
    // A row that refers to a group that is not there.
    let stranger = row.replace(&group, &Uuid::now_v7().to_string());
    std::fs::write(&path, whole.replacen(row, &stranger, 1)).unwrap();
    target.import(&path, false).await.unwrap_err();

    let mut tx = target.read().await.unwrap();
    assert!(tx.site_fetch().await.unwrap().is_none());
    assert!(tx.client_list().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_export_overwrites_nothing_and_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let site = site_at(file_in(&directory)).await;
    let path = export(&site, directory.path(), "e").await;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = rows_of(&path);
    let error = site.store.export(&path, Timestamp(6)).await.unwrap_err();
    assert!(matches!(error, TransferError::File { .. }), "{error}");
    assert_eq!(rows_of(&path), before);
}
