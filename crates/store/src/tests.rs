//! Contract of the repositories, on both databases.

use super::*;
use dess_model::{
    AttemptId, BootPolicy, CaseId, ClientId, DiskId, DiskIdentity, GroupId, IoLimits,
    IscsiIdentity, MacAddr, OverlayLimits, Registration, Secret, Timestamp,
};
use uuid::Uuid;

mod backup;
mod contract;
mod galera;
mod mariadb;
mod schema;
mod sqlite;
mod transfer;

/// Each part of the contract is a test of its own on SQLite; on MariaDB they share one server.
macro_rules! contract {
    ($($part:ident,)*) => {
        mod on_sqlite {
            $(
                #[tokio::test]
                async fn $part() {
                    let directory = tempfile::tempdir().unwrap();
                    super::contract::$part(super::site_at(super::file_in(&directory)).await).await;
                }
            )*
        }

        #[tokio::test]
        async fn the_contract_holds_on_mariadb() {
            let Some(server) = crate::testing::Server::start().await else {
                return;
            };
            let mut broken = Vec::new();
            $(
                let site = site_at(server.database(stringify!($part))).await;
                let database = site.database.clone();
                if tokio::spawn(contract::$part(site)).await.is_err() {
                    broken.push(stringify!($part));
                }
                database.close().await;
            )*
            assert!(broken.is_empty(), "broken on MariaDB: {broken:?}");
        }
    };
}

contract! {
    records_come_back_as_they_went_in,
    unique_values_are_kept_unique,
    failed_work_leaves_nothing,
    attempts_of_before_the_registration_become_the_clients,
    writing_an_attempt_twice_is_writing_it_once,
    old_attempts_go_but_a_clients_last_one_stays,
    removing_a_client_removes_its_history,
    writers_of_two_processes_wait_for_each_other,
    a_revision_never_goes_back,
    the_change_counter_shows_the_changes_of_others_and_of_oneself,
    a_notice_that_repeats_is_counted,
    old_notices_go_and_so_do_those_beyond_the_newest_that_are_kept,
    old_lines_of_the_audit_log_go,
    text_is_compared_byte_by_byte,
    a_reader_sees_one_state_while_others_write,
    a_writer_sees_what_the_writer_before_it_did,
    rows_that_others_need_are_not_removed,
    a_plan_of_the_room_takes_the_place_of_the_one_before,
    a_case_changes_and_ends_and_who_took_note_stays,
}

struct Site {
    database: Database,
    store: Store,
    group: GroupId,
}

fn file_in(directory: &tempfile::TempDir) -> DatabaseLocation {
    DatabaseLocation::File(directory.path().join("dess.db"))
}

async fn site_at(location: DatabaseLocation) -> Site {
    let database = Database::at(location);
    let store = database.store_or_create().await.unwrap();
    let group = GroupId(Uuid::now_v7());
    store
        .transact(|mut tx| async move {
            tx.site_insert(&SiteRecord {
                name: "매장 1".into(),
                registration: Registration::Auto,
                pool: dess_model::PoolSettings {
                    warn_percent: 70,
                    ..Default::default()
                },
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
                overlay_limits: OverlayLimits::default(),
                created: Timestamp(1),
            })
            .await
        })
        .await
        .unwrap();
    Site {
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
        overlay_limits: OverlayLimits {
            soft_bytes: Some(1 << 30),
            hard_bytes: None,
        },
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
