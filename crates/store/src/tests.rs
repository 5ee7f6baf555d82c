//! Contract of the repositories on a database file.

use std::os::unix::fs::PermissionsExt;

use super::*;
use dess_model::{
    AttemptId, BootPolicy, ClientId, DiskId, DiskIdentity, GroupId, IoLimits, IscsiIdentity,
    MacAddr, Registration, Secret, Timestamp,
};
use uuid::Uuid;

struct Site {
    directory: tempfile::TempDir,
    database: Database,
    store: Store,
    group: GroupId,
}

async fn site() -> Site {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::new(directory.path().join("dess.db"));
    let store = database.store_or_create().await.unwrap();
    let group = GroupId(Uuid::now_v7());
    store
        .transact(|mut tx| async move {
            tx.site_insert(&SiteRecord {
                name: "매장 1".into(),
                registration: Registration::Auto,
                revision: 0,
                created: Timestamp(1),
            })
            .await?;
            tx.group_insert(&GroupRecord {
                id: group,
                name: "default".into(),
                default: true,
                version: None,
                follows_latest: false,
                policy: BootPolicy::Volatile,
                limits: IoLimits::default(),
                created: Timestamp(1),
            })
            .await
        })
        .await
        .unwrap();
    Site {
        directory,
        database,
        store,
        group,
    }
}

fn client(group: GroupId, seat: u32) -> ClientRecord {
    ClientRecord {
        id: ClientId(Uuid::now_v7()),
        mac: MacAddr([2, 0, 0, 0, 0, u8::try_from(seat).unwrap()]),
        seat,
        name: format!("좌석-{seat}"),
        group,
        approved: true,
        address: Some([10, 77, 0, u8::try_from(seat).unwrap()].into()),
        version: None,
        follows_latest: false,
        policy: Some(BootPolicy::Persistent),
        boot_file: None,
        limits: IoLimits {
            burst_ms: Some(seat),
            ..IoLimits::default()
        },
        iscsi: IscsiIdentity {
            target_iqn: format!("iqn.t.{seat}"),
            initiator_iqn: format!("iqn.i.{seat}"),
            chap_user: "dess".into(),
            chap_secret: Secret::new("0123456789abcdef"),
        },
        disk: DiskIdentity {
            id: DiskId(Uuid::now_v7()),
            serial: format!("{seat:020}"),
            naa: 3 << 60 | u64::from(seat),
        },
        reset_epoch: 0,
        architecture: Some(7.into()),
        uuid: None,
        last_attempt: None,
        created: Timestamp(5),
    }
}

fn attempt(mac: MacAddr, started: i64) -> AttemptRecord {
    AttemptRecord {
        id: AttemptId(Uuid::now_v7()),
        mac,
        client: None,
        started: Timestamp(started),
        last_event: Timestamp(started),
        up: None,
        ended: None,
        outcome: "in_progress".into(),
        stage: "dhcp".into(),
        fault: None,
        read_bytes: 0,
        written_bytes: 0,
    }
}

async fn insert(store: &Store, record: &ClientRecord) -> Result<(), StoreError> {
    store
        .transact(|mut tx| async move { tx.client_insert(record).await })
        .await
}

#[tokio::test]
async fn records_come_back_as_they_went_in() {
    let site = site().await;
    let record = client(site.group, 3);
    insert(&site.store, &record).await.unwrap();
    let mut tx = site.store.read().await.unwrap();
    assert_eq!(
        tx.client_list().await.unwrap(),
        std::slice::from_ref(&record)
    );
    assert_eq!(
        tx.client_fetch_by_mac(record.mac).await.unwrap(),
        Some(record)
    );
    assert_eq!(tx.site_fetch().await.unwrap().unwrap().name, "매장 1");
    let directory = site.directory.path();
    for file in ["dess.db", "dess.db-wal"] {
        let mode = std::fs::metadata(directory.join(file))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{file} holds CHAP secrets");
    }
}

#[tokio::test]
async fn unique_values_are_kept_unique() {
    let site = site().await;
    insert(&site.store, &client(site.group, 3)).await.unwrap();
    let mut other = client(site.group, 4);
    other.seat = 3;
    let error = insert(&site.store, &other).await.unwrap_err();
    assert!(matches!(error, StoreError::Taken { .. }), "{error:?}");
}

#[tokio::test]
async fn failed_work_leaves_nothing() {
    let site = site().await;
    let group = site.group;
    let failed: Result<(), StoreError> = site
        .store
        .transact(|mut tx| async move {
            tx.client_insert(&client(group, 1)).await?;
            Err(StoreError::Busy)
        })
        .await;
    assert!(failed.is_err());
    let mut tx = site.store.read().await.unwrap();
    assert!(tx.client_list().await.unwrap().is_empty());
}

#[tokio::test]
async fn attempts_of_before_the_registration_become_the_clients() {
    let site = site().await;
    let record = client(site.group, 1);
    let (mac, id) = (record.mac, record.id);
    let (old, new) = (&attempt(mac, 10), &attempt(mac, 20));
    let record = &record;
    site.store
        .transact(|mut tx| async move {
            tx.attempt_put(old).await?;
            tx.attempt_put(new).await?;
            tx.client_insert(record).await?;
            // A late write of the older one does not make it the last.
            tx.attempt_put(&AttemptRecord {
                client: Some(id),
                ..old.clone()
            })
            .await
        })
        .await
        .unwrap();
    let mut tx = site.store.read().await.unwrap();
    let listed: Vec<AttemptId> = tx
        .attempt_list(id, 10)
        .await
        .unwrap()
        .iter()
        .map(|attempt| attempt.id)
        .collect();
    assert_eq!(listed, [new.id, old.id]);
    let last = tx.attempt_list_last().await.unwrap();
    assert_eq!(last.len(), 1);
    assert_eq!(last[0].id, new.id);
}

#[tokio::test]
async fn writing_an_attempt_twice_is_writing_it_once() {
    let site = site().await;
    let mut record = attempt(MacAddr([2, 0, 0, 0, 0, 9]), 10);
    let step = &StepRecord {
        position: 0,
        at: Timestamp(10),
        stage: "dhcp".into(),
        detail: "offered".into(),
    };
    for outcome in ["in_progress", "up"] {
        record.outcome = outcome.into();
        let record = &record;
        site.store
            .transact(|mut tx| async move {
                tx.attempt_put(record).await?;
                tx.step_put(record.id, step).await
            })
            .await
            .unwrap();
    }
    let mut tx = site.store.read().await.unwrap();
    assert_eq!(
        tx.attempt_list_open().await.unwrap(),
        std::slice::from_ref(&record)
    );
    assert_eq!(
        tx.step_list(record.id).await.unwrap(),
        std::slice::from_ref(step)
    );
}

#[tokio::test]
async fn old_attempts_go_but_a_clients_last_one_stays() {
    let site = site().await;
    let record = &client(site.group, 1);
    let (first, last) = (&attempt(record.mac, 10), &attempt(record.mac, 20));
    let stranger = &attempt(MacAddr([2, 0, 0, 0, 0, 99]), 500);
    let removed = site
        .store
        .transact(|mut tx| async move {
            for attempt in [first, last, stranger] {
                tx.attempt_put(attempt).await?;
            }
            tx.client_insert(record).await?;
            tx.attempt_delete_old(Timestamp(100), Timestamp(501)).await
        })
        .await
        .unwrap();
    assert_eq!(removed, 2);
    let mut tx = site.store.read().await.unwrap();
    let left = tx.attempt_list_open().await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].id, last.id);
}

#[tokio::test]
async fn removing_a_client_removes_its_history() {
    let site = site().await;
    let record = &client(site.group, 1);
    let boot = &AttemptRecord {
        client: Some(record.id),
        ..attempt(record.mac, 10)
    };
    site.store
        .transact(|mut tx| async move {
            tx.client_insert(record).await?;
            tx.attempt_put(boot).await?;
            tx.client_delete(record.id).await
        })
        .await
        .unwrap();
    let mut tx = site.store.read().await.unwrap();
    assert!(tx.client_list().await.unwrap().is_empty());
    assert!(tx.attempt_list_open().await.unwrap().is_empty());
}

#[tokio::test]
async fn writers_of_two_processes_wait_for_each_other() {
    let site = site().await;
    let path = site.database.path().to_owned();
    let mut writers = Vec::new();
    for _ in 0..4 {
        // A store of its own has connections of its own, as another process has.
        let store = Store::open(&path, false).await.unwrap();
        writers.push(tokio::spawn(async move {
            for _ in 0..25 {
                store
                    .transact(|mut tx| async move { tx.revision_raise(0).await })
                    .await
                    .unwrap();
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let mut tx = site.store.read().await.unwrap();
    assert_eq!(tx.site_fetch().await.unwrap().unwrap().revision, 100);
}

#[tokio::test]
async fn a_revision_never_goes_back() {
    let site = site().await;
    for (floor, expected) in [(0, 1), (40, 40), (3, 41)] {
        site.store
            .transact(|mut tx| async move { tx.revision_raise(floor).await })
            .await
            .unwrap();
        let mut tx = site.store.read().await.unwrap();
        assert_eq!(tx.site_fetch().await.unwrap().unwrap().revision, expected);
    }
}

#[tokio::test]
async fn the_change_counter_shows_the_changes_of_others_and_of_oneself() {
    let site = site().await;
    let other = Database::new(site.database.path());
    let before = (
        site.database.change_counter().await.unwrap(),
        other.change_counter().await.unwrap(),
    );
    assert_eq!(site.database.change_counter().await.unwrap(), before.0);
    insert(&site.store, &client(site.group, 1)).await.unwrap();
    assert_ne!(site.database.change_counter().await.unwrap(), before.0);
    assert_ne!(other.change_counter().await.unwrap(), before.1);
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
    let site = site().await;
    let (path, aside) = (
        site.directory.path().join("dess.db"),
        site.directory.path().join("aside.db"),
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
    let site = site().await;
    let path = site.database.path().to_owned();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::query("INSERT INTO schema_versions (version) VALUES (999)")
        .execute(&mut connection)
        .await
        .unwrap();
    let error = Store::open(&path, false).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Newer { found: 999, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_notice_that_repeats_is_counted() {
    let site = site().await;
    for at in [10, 20, 30] {
        site.store
            .transact(|mut tx| async move {
                tx.notice_count(NoticeKind::RogueDhcp, "10.0.0.9", "seen", 1, Timestamp(at))
                    .await
            })
            .await
            .unwrap();
    }
    let mut tx = site.store.read().await.unwrap();
    let notices = tx.notice_list(Timestamp(0)).await.unwrap();
    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0].count, 3);
    assert_eq!(notices[0].first_seen, Timestamp(10));
    assert_eq!(notices[0].last_seen, Timestamp(30));
    assert!(tx.notice_list(Timestamp(31)).await.unwrap().is_empty());
}

#[tokio::test]
async fn old_notices_go_and_so_do_those_beyond_the_newest_that_are_kept() {
    let site = site().await;
    let removed = site
        .store
        .transact(|mut tx| async move {
            for at in 0..20 {
                let subject = at.to_string();
                tx.notice_count(NoticeKind::LoginRefused, &subject, "x", 1, Timestamp(at))
                    .await?;
            }
            Ok::<_, StoreError>((
                tx.notice_delete_old(Timestamp(5), 100).await?,
                tx.notice_delete_old(Timestamp(5), 10).await?,
                tx.notice_delete_old(Timestamp(5), 10).await?,
            ))
        })
        .await
        .unwrap();
    assert_eq!(removed, (5, 5, 0));
    let mut tx = site.store.read().await.unwrap();
    let kept = tx.notice_list(Timestamp(0)).await.unwrap();
    assert_eq!(kept.len(), 10);
    assert_eq!(kept[9].subject, "10");
}

#[tokio::test]
async fn old_lines_of_the_audit_log_go() {
    let site = site().await;
    let removed = site
        .store
        .transact(|mut tx| async move {
            for at in 0..4 {
                tx.audit_insert(&AuditRecord {
                    id: Uuid::from_u128(at),
                    at: Timestamp(i64::try_from(at).unwrap()),
                    actor: "a".into(),
                    action: "b".into(),
                    subject: "c".into(),
                    details: "{}".into(),
                })
                .await?;
            }
            tx.audit_delete_old(Timestamp(3)).await
        })
        .await
        .unwrap();
    assert_eq!(removed, 3);
    let mut tx = site.store.read().await.unwrap();
    let kept = tx.audit_list(10).await.unwrap();
    assert_eq!((kept.len(), kept[0].at), (1, Timestamp(3)));
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
