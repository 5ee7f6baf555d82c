//! Contract of the repositories on a database file.

use super::*;
use dess_model::Timestamp;

async fn requires_send() {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::new(directory.path().join("dess.db"));
    let name = "owner".to_owned();
    tokio::spawn(async move {
        let store = database.store_or_create().await.unwrap();
        store
            .transact(|mut tx| {
                let name = &name;
                async move {
                    tx.user_insert(&UserRecord {
                        name: name.clone(),
                        password_hash: "x".into(),
                        created: Timestamp(1),
                    })
                    .await
                }
            })
            .await
            .unwrap();
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn transactions_can_run_in_spawned_tasks() {
    requires_send().await;
}
