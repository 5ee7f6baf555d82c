//! The removal of old history, on both databases.

use dess_store::testing::{History, Server, fill};
use dess_store::{DatabaseLocation, Soundness};

use super::*;
use crate::daemon::forget::{Forgotten, forget};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test]
async fn history_goes_in_batches_and_what_is_kept_stays_whole() {
    let directory = tempfile::tempdir().unwrap();
    let file = DatabaseLocation::File(directory.path().join("dess.db"));
    keeps_what_it_should(file).await;
    if let Some(server) = Server::start().await {
        keeps_what_it_should(server.database("history")).await;
    }
}

async fn keeps_what_it_should(location: DatabaseLocation) {
    let directory = tempfile::tempdir().unwrap();
    let paths = Paths {
        state: directory.path().to_owned(),
        runtime: directory.path().to_owned(),
    };
    let database = Database::at(location);
    let operations = Operations::with_database(paths, database.clone());
    operations
        .site_init(setup(Registration::Auto))
        .await
        .unwrap();
    let store = database.store().await.unwrap();
    let now = dess_model::Timestamp::now();
    let history = History {
        clients: 20,
        attempts: 2000,
        audit: 600,
        jobs: 300,
        now,
    };
    fill(&store, &history).await.unwrap();

    let forever = forget(&store, &Retention::default(), now).await.unwrap();
    assert_eq!(forever, Forgotten::default());

    let retention = Retention {
        boots: Some(30 * DAY),
        unknown_boots: Some(DAY),
        audit: Some(DAY / 6),
        jobs: Some(DAY),
        notices: Some(DAY),
    };
    let gone = forget(&store, &retention, now).await.unwrap();
    // Beside the lines of the history there is that of the set-up.
    let sound = store.check().await.unwrap();
    // The tests' server is set up for speed, and the check says so.
    let rows_wrong = |line: &&String| !line.starts_with("server ");
    let wrong: Vec<_> = sound.problems.iter().filter(rows_wrong).collect();
    assert!(wrong.is_empty(), "no step without its boot: {wrong:?}");
    let (boots, audit) = (2000 - gone.boots, 601 - gone.audit);
    assert_eq!(rows(&sound, "boot_attempts"), boots);
    assert_eq!(rows(&sound, "boot_steps"), boots * 4);
    assert_eq!(rows(&sound, "audit"), audit);
    assert_eq!(rows(&sound, "jobs"), 300 - gone.jobs);
    // Of 183 days 30 are left; of 600 minutes 240; of 300 jobs, one in 10 minutes, a day's.
    assert!((327..=329).contains(&boots), "{boots}");
    assert!((240..=242).contains(&audit), "{audit}");
    assert!((143..=145).contains(&(300 - gone.jobs)), "{gone:?}");

    // Far later each client's last boot is still known, and what the clients did then.
    let later = dess_model::Timestamp(now.0 + 400 * 24 * 3600 * 1000);
    let gone = forget(&store, &retention, later).await.unwrap();
    assert_eq!(gone.boots, boots - 20);
    let overview = operations.overview().await.unwrap();
    assert_eq!((overview.clients, overview.running), (20, 10));
    assert_eq!((overview.booting, overview.fault), (9, 1));
    assert_eq!(overview.faults[0].name, "PC-00001");
    let clients = operations.client_list().await.unwrap();
    assert!(clients.iter().all(|client| client.last_boot.is_some()));
    database.close().await;
}

fn rows(sound: &Soundness, table: &str) -> u64 {
    let found = sound.tables.iter().find(|(name, _)| name == table);
    found.unwrap().1
}
