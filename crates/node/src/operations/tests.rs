//! The operations on a database file, without the daemon; the iSCSI service is played.

mod space;
mod wake;

use std::sync::{Arc, Mutex};

use dess_diagnosis::Attempt;
use dess_model::host::{Paths, SnapshotReader, bind_control, serve_control};
use dess_model::{
    AddressRange, AttemptId, BootPolicy, ClientId, ControlError, DhcpMode, DiskState, DiskStatus,
    LoginKind, MacAddr, Registration, SessionStatus, TargetReply, TargetRequest, Timestamp,
};
use serde_json::json;
use uuid::Uuid;

use dess_store::testing::Server;

use super::*;
use crate::timeline::record_of;

use data_disks::{
    a_group_gives_data_disks_and_a_client_may_have_others,
    a_version_that_a_running_client_reads_as_a_data_disk_is_in_use,
    an_image_that_is_a_data_disk_is_not_removed_and_is_maintained_there,
    what_cannot_be_a_data_disk_is_refused,
};
use space::{
    it_is_told_who_uses_the_space_also_without_the_iscsi_service,
    overlay_limits_of_a_group_hold_for_its_clients_until_they_have_their_own,
    the_marks_of_the_pool_are_settings_of_the_site,
    what_nothing_refers_to_is_found_and_removed_and_nothing_else,
    while_a_job_works_files_of_versions_are_left_alone,
};

/// Each of them is a test of its own on SQLite; on MariaDB they share one server.
macro_rules! on_both_databases {
    ($($part:ident,)*) => {
        mod on_sqlite {
            $(
                #[tokio::test]
                async fn $part() {
                    super::$part().await;
                }
            )*
        }

        #[tokio::test]
        async fn the_operations_work_the_same_on_mariadb() {
            let Some(server) = Server::start().await else {
                return;
            };
            let server = std::rc::Rc::new(server);
            let mut broken = Vec::new();
            let local = tokio::task::LocalSet::new();
            $(
                let part = SERVER.scope(std::rc::Rc::clone(&server), $part());
                if local.run_until(async { tokio::task::spawn_local(part).await }).await.is_err() {
                    broken.push(stringify!($part));
                }
            )*
            assert!(broken.is_empty(), "broken on MariaDB: {broken:?}");
        }
    };
}

on_both_databases! {
    a_site_is_set_up_once_and_published_even_without_the_daemon,
    clients_are_found_by_seat_name_mac_and_id,
    a_taken_value_names_who_has_it,
    values_that_make_no_sense_are_refused_by_field,
    a_new_network_card_keeps_the_identity_and_the_disk,
    a_reset_is_published_once_the_disk_was_dropped_under_its_epoch,
    a_running_client_is_not_reset_unless_forced,
    a_reset_that_the_iscsi_service_refuses_changes_nothing,
    without_the_iscsi_service_a_reset_waits_for_the_next_power_on,
    a_removed_client_takes_its_sessions_and_history_with_it,
    only_one_first_user_can_be_made_and_a_new_password_ends_sessions,
    an_unknown_image_is_named,
    a_room_of_a_thousand_with_many_boots_is_listed_at_once,
    limits_of_clients_and_groups_reach_the_data_path_and_go_again,
    some_seats_come_first_then_the_rest_and_one_order_takes_it_back,
    roll_outs_are_taken_back_one_after_the_other_and_spare_what_was_assigned_since,
    an_image_has_one_maintenance_client_and_a_client_maintains_one_image,
    maintenance_is_no_policy_to_choose,
    overlay_limits_of_a_group_hold_for_its_clients_until_they_have_their_own,
    the_marks_of_the_pool_are_settings_of_the_site,
    it_is_told_who_uses_the_space_also_without_the_iscsi_service,
    what_nothing_refers_to_is_found_and_removed_and_nothing_else,
    while_a_job_works_files_of_versions_are_left_alone,
    a_group_gives_data_disks_and_a_client_may_have_others,
    what_cannot_be_a_data_disk_is_refused,
    an_image_that_is_a_data_disk_is_not_removed_and_is_maintained_there,
    a_version_that_a_running_client_reads_as_a_data_disk_is_in_use,
}

tokio::task_local! {
    /// Where `site` puts the database; a file of the site's own if this is not set.
    static SERVER: std::rc::Rc<Server>;
}

/// The database of a new site whose files are at `paths`.
fn new_database(paths: &Paths) -> Database {
    let name = format!("site_{}", Uuid::now_v7().simple());
    let location = SERVER.try_with(|server| server.database(&name));
    location.map_or_else(|_| Database::new(paths.database()), Database::at)
}

pub(super) struct Site {
    _directory: tempfile::TempDir,
    paths: Paths,
    pub(super) operations: Operations,
}

fn setup() -> SiteSetup {
    SiteSetup {
        name: "테스트".into(),
        server_address: [10, 77, 0, 1].into(),
        interfaces: vec!["br0".into()],
        subnet: "10.77.0.0/24".parse().unwrap(),
        mode: DhcpMode::Server,
        pool: Some(AddressRange {
            first: [10, 77, 0, 100].into(),
            last: [10, 77, 0, 199].into(),
        }),
        router: Some([10, 77, 0, 254].into()),
        dns: vec![],
        lease_secs: 600,
        http_port: 80,
        portals: vec![],
        registration: Registration::Auto,
    }
}

fn empty() -> Site {
    empty_on(new_database)
}

fn empty_on(database: impl FnOnce(&Paths) -> Database) -> Site {
    let directory = tempfile::tempdir().unwrap();
    let paths = Paths {
        state: directory.path().join("state"),
        runtime: directory.path().to_owned(),
    };
    Site {
        operations: Operations::with_database(paths.clone(), database(&paths))
            .acting_as("cli:root"),
        _directory: directory,
        paths,
    }
}

pub(super) async fn site() -> Site {
    let site = empty();
    site.operations.site_init(setup()).await.unwrap();
    site
}

pub(super) fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

pub(super) fn new_client(last: u8) -> ClientAdd {
    ClientAdd {
        mac: mac(last),
        seat: None,
        name: None,
        address: None,
        policy: None,
        image: None,
    }
}

impl Site {
    fn entry(&self, id: ClientId) -> dess_model::ClientEntry {
        let snapshot = SnapshotReader::new(self.paths.snapshot())
            .current()
            .unwrap();
        snapshot.client_by_id(id).cloned().unwrap()
    }

    pub(super) async fn actions(&self) -> Vec<String> {
        let lines = self.operations.audit_list(100).await.unwrap();
        lines.into_iter().rev().map(|line| line.action).collect()
    }
}

fn text<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().to_string()
}

async fn a_site_is_set_up_once_and_published_even_without_the_daemon() {
    let site = site().await;
    let view = site.operations.site().await.unwrap().unwrap();
    assert_eq!(view.server.portals, ["10.77.0.1:3260".parse().unwrap()]);
    let snapshot = SnapshotReader::new(site.paths.snapshot())
        .current()
        .unwrap();
    assert_eq!(snapshot.revision, view.revision);
    let again = site.operations.site_init(setup()).await;
    assert_eq!(text(again), "the site \"테스트\" is set up already");
}

#[tokio::test]
async fn a_wrong_set_up_names_the_field() {
    let wrong = [
        (
            "pool",
            SiteSetup {
                pool: None,
                ..setup()
            },
        ),
        (
            "pool",
            SiteSetup {
                pool: Some(AddressRange {
                    first: [10, 77, 0, 1].into(),
                    last: [10, 77, 0, 20].into(),
                }),
                ..setup()
            },
        ),
        (
            "pool",
            SiteSetup {
                mode: DhcpMode::Proxy,
                ..setup()
            },
        ),
        (
            "server address",
            SiteSetup {
                server_address: [10, 78, 0, 1].into(),
                ..setup()
            },
        ),
        (
            "interfaces",
            SiteSetup {
                interfaces: vec![],
                ..setup()
            },
        ),
        (
            "lease time",
            SiteSetup {
                lease_secs: 5,
                ..setup()
            },
        ),
        (
            "name",
            SiteSetup {
                name: " ".into(),
                ..setup()
            },
        ),
    ];
    for (field, setup) in wrong {
        let site = empty();
        let message = text(site.operations.site_init(setup).await);
        assert!(message.starts_with(field), "{field}: {message}");
        assert!(!site.paths.database().exists(), "nothing was made");
    }
}

#[tokio::test]
async fn a_lost_database_is_not_replaced_by_an_empty_one_while_clients_boot_from_its_snapshot() {
    let site = site().await;
    std::fs::remove_file(site.paths.database()).unwrap();
    let message = text(site.operations.site_init(setup()).await);
    assert!(message.contains("restore a backup"), "{message}");
    assert!(!site.paths.database().exists());
}

async fn clients_are_found_by_seat_name_mac_and_id() {
    let site = site().await;
    let added = site
        .operations
        .client_add(ClientAdd {
            name: Some("창가-Left".into()),
            ..new_client(1)
        })
        .await
        .unwrap();
    let id = added.id.to_string();
    for text in ["1", "창가-left", "02:00:00:00:00:01", "020000000001", &id] {
        let found = site.operations.client_find(text).await.unwrap();
        assert_eq!(found.id, added.id, "{text}");
    }
    let missing = site.operations.client_find("2").await;
    assert_eq!(text(missing), "there is no client \"2\"");
}

async fn a_taken_value_names_who_has_it() {
    let site = site().await;
    let operations = &site.operations;
    operations
        .client_add(ClientAdd {
            address: Some([10, 77, 0, 12].into()),
            ..new_client(1)
        })
        .await
        .unwrap();
    let second = operations.client_add(new_client(2)).await.unwrap();
    let change = |change| operations.client_set(second.id, change);
    let seat = ClientChange {
        seat: Some(1),
        ..ClientChange::default()
    };
    assert_eq!(text(change(seat).await), "seat 1 is already used by PC-01");
    let name = ClientChange {
        name: Some("pc-01".into()),
        ..ClientChange::default()
    };
    assert_eq!(
        text(change(name).await),
        "name pc-01 is already used by PC-01"
    );
    let address = ClientChange {
        address: Some(Some([10, 77, 0, 12].into())),
        ..ClientChange::default()
    };
    assert_eq!(
        text(change(address).await),
        "address 10.77.0.12 is already used by PC-01"
    );
    let again = operations.client_add(new_client(1)).await;
    assert_eq!(
        text(again),
        "MAC 02:00:00:00:00:01 is already used by PC-01"
    );
}

async fn values_that_make_no_sense_are_refused_by_field() {
    let site = site().await;
    let operations = &site.operations;
    let id = operations.client_add(new_client(1)).await.unwrap().id;
    let default = ClientChange::default;
    let wrong = [
        (
            "seat",
            ClientChange {
                seat: Some(0),
                ..default()
            },
        ),
        (
            "name",
            ClientChange {
                name: Some("12".into()),
                ..default()
            },
        ),
        (
            "name",
            ClientChange {
                name: Some("a b".into()),
                ..default()
            },
        ),
        (
            "MAC",
            ClientChange {
                mac: Some(MacAddr([0xff; 6])),
                ..default()
            },
        ),
        (
            "address",
            ClientChange {
                address: Some(Some([10, 78, 0, 5].into())),
                ..default()
            },
        ),
        (
            "address",
            ClientChange {
                address: Some(Some([10, 77, 0, 1].into())),
                ..default()
            },
        ),
        (
            "boot file",
            ClientChange {
                boot_file: Some(Some("../../etc/shadow".into())),
                ..default()
            },
        ),
    ];
    for (field, change) in wrong {
        let message = text(operations.client_set(id, change).await);
        assert!(message.starts_with(field), "{field}: {message}");
    }
    assert_eq!(site.actions().await, ["site.init", "client.add"]);
}

#[test]
fn a_change_in_json_tells_null_from_absent() {
    let change: ClientChange = serde_json::from_value(json!({"seat": 4, "address": null})).unwrap();
    assert_eq!(change.seat, Some(4));
    assert_eq!(change.address, Some(None));
    assert_eq!(change.image, None);
    assert_eq!(json!(change), json!({"seat": 4, "address": null}));
}

async fn a_new_network_card_keeps_the_identity_and_the_disk() {
    let site = site().await;
    let added = site.operations.client_add(new_client(1)).await.unwrap();
    let before = site.entry(added.id);
    let change = ClientChange {
        mac: Some(mac(9)),
        seat: Some(40),
        policy: Some(Some(BootPolicy::Persistent)),
        ..ClientChange::default()
    };
    site.operations.client_set(added.id, change).await.unwrap();
    let after = site.entry(added.id);
    assert_eq!((after.mac, after.seat), (mac(9), 40));
    assert_eq!(after.policy, BootPolicy::Persistent);
    assert_eq!(after.iscsi, before.iscsi);
    assert_eq!(after.disk, before.disk);
}

/// An iSCSI service that says what it is told, and notes what it is asked.
struct Target {
    task: tokio::task::JoinHandle<()>,
    asked: Arc<Mutex<Vec<(TargetRequest, u32)>>>,
}

impl Target {
    fn start(paths: &Paths, running: Option<ClientId>) -> Self {
        Self::answering(paths, move |request| reply(request, running))
    }

    fn answering(
        paths: &Paths,
        answer: impl Fn(&TargetRequest) -> TargetReply + Send + Sync + 'static,
    ) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        let reader = Arc::new(SnapshotReader::new(paths.snapshot()));
        let listener = bind_control(&paths.target_control()).unwrap();
        let task = tokio::spawn(async move {
            let handle = move |request: TargetRequest| {
                let epoch = reader.current().unwrap().clients[0].reset_epoch;
                noted.lock().unwrap().push((request.clone(), epoch));
                std::future::ready(answer(&request))
            };
            serve_control(listener, handle, |message| {
                TargetReply::Error(ControlError::Malformed { message })
            })
            .await;
        });
        Self { task, asked }
    }

    fn asked(&self) -> Vec<(TargetRequest, u32)> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn reply(request: &TargetRequest, running: Option<ClientId>) -> TargetReply {
    match request {
        TargetRequest::Status => TargetReply::Status {
            sessions: running.into_iter().map(session).collect(),
            disks: vec![],
            clients: vec![],
            boot_profiles: vec![],
        },
        TargetRequest::Reset { client, .. } => TargetReply::Disk(DiskStatus {
            client: *client,
            lun: 0,
            state: DiskState::Ready,
            size_bytes: 1 << 30,
            overlay_bytes: 0,
            generation: 2,
            version: None,
            fresh: true,
        }),
        TargetRequest::Snapshot { .. } => TargetReply::Snapshots { snapshots: vec![] },
        TargetRequest::PowerOn { .. }
        | TargetRequest::Pool
        | TargetRequest::Collect { .. }
        | TargetRequest::Expect { .. }
        | TargetRequest::Disconnect { .. }
        | TargetRequest::Seal { .. }
        | TargetRequest::Unseal { .. }
        | TargetRequest::Release { .. }
        | TargetRequest::Discard { .. }
        | TargetRequest::Remove { .. } => TargetReply::Done,
    }
}

fn session(client: ClientId) -> SessionStatus {
    SessionStatus {
        client,
        session: 1,
        kind: LoginKind::Os,
        peer: "10.77.0.100:4000".into(),
        since: Timestamp(1),
        last_command: Timestamp(1),
        read_bytes: 0,
        written_bytes: 0,
        tcp: None,
    }
}

async fn a_reset_is_published_once_the_disk_was_dropped_under_its_epoch() {
    let site = site().await;
    let id = site.operations.client_add(new_client(1)).await.unwrap().id;
    let target = Target::start(&site.paths, None);
    let disk = site.operations.client_reset(id, false).await.unwrap();
    assert!(disk.unwrap().fresh);
    let reset = TargetRequest::Reset {
        client: id,
        force: false,
        epoch: 1,
    };
    assert_eq!(target.asked(), [(TargetRequest::Status, 0), (reset, 0)]);
    assert_eq!(site.entry(id).reset_epoch, 1);
    assert!(site.actions().await.contains(&"client.reset".to_owned()));
}

async fn a_running_client_is_not_reset_unless_forced() {
    let site = site().await;
    let id = site.operations.client_add(new_client(1)).await.unwrap().id;
    let _target = Target::start(&site.paths, Some(id));
    let refused = site.operations.client_reset(id, false).await;
    assert!(
        matches!(
            refused,
            Err(OperationError::Target(ControlError::Running {
                sessions: 1,
                ..
            }))
        ),
        "{refused:?}"
    );
    assert_eq!(site.entry(id).reset_epoch, 0, "nothing was changed");
    site.operations.client_reset(id, true).await.unwrap();
    assert_eq!(site.entry(id).reset_epoch, 1);
}

async fn a_reset_that_the_iscsi_service_refuses_changes_nothing() {
    let site = site().await;
    let id = site.operations.client_add(new_client(1)).await.unwrap().id;
    let _target = Target::answering(&site.paths, move |request| match request {
        TargetRequest::Status => reply(request, None),
        _ => TargetReply::Error(ControlError::Disk {
            client: id,
            message: "the store is read only".into(),
        }),
    });
    assert!(site.operations.client_reset(id, false).await.is_err());
    assert_eq!(site.entry(id).reset_epoch, 0);
    assert!(site.operations.client_remove(id, false).await.is_err());
    assert_eq!(site.operations.client_list().await.unwrap().len(), 1);
}

async fn without_the_iscsi_service_a_reset_waits_for_the_next_power_on() {
    let site = site().await;
    let id = site.operations.client_add(new_client(1)).await.unwrap().id;
    assert_eq!(site.operations.client_reset(id, false).await.unwrap(), None);
    assert_eq!(site.entry(id).reset_epoch, 1);
}

async fn a_removed_client_takes_its_sessions_and_history_with_it() {
    let site = site().await;
    let id = site.operations.client_add(new_client(1)).await.unwrap().id;
    let target = Target::start(&site.paths, Some(id));
    assert!(site.operations.client_remove(id, false).await.is_err());
    site.operations.client_remove(id, true).await.unwrap();
    let remove = TargetRequest::Remove {
        client: id,
        force: true,
    };
    assert!(target.asked().contains(&(remove, 0)));
    assert!(site.operations.client_list().await.unwrap().is_empty());
    let next = site.operations.client_add(new_client(2)).await.unwrap();
    assert_eq!(next.seat, 1, "its seat is free again");
}

async fn only_one_first_user_can_be_made_and_a_new_password_ends_sessions() {
    let site = site().await;
    let operations = &site.operations;
    assert_eq!(operations.user_count().await.unwrap(), 0);
    operations.user_create_first("owner", "$one").await.unwrap();
    let second = operations.user_create_first("thief", "$two").await;
    assert!(matches!(second, Err(OperationError::Refused(_))));
    let create = |token: &str, expires: Timestamp| SessionCreate {
        token_hash: token.into(),
        user: "owner".into(),
        csrf: "c".into(),
        peer: "192.0.2.7".into(),
        network: "192.0.2.7".into(),
        agent: String::new(),
        expires,
    };
    let later = Timestamp(Timestamp::now().0 + 60_000);
    operations
        .session_create(create("valid", later))
        .await
        .unwrap();
    operations
        .session_create(create("expired", Timestamp(1)))
        .await
        .unwrap();
    assert!(operations.session_fetch("valid").await.unwrap().is_some());
    assert!(operations.session_fetch("expired").await.unwrap().is_none());
    operations
        .user_password_set("owner", "$new", None)
        .await
        .unwrap();
    assert!(operations.session_fetch("valid").await.unwrap().is_none());
    let lines = operations.audit_list(10).await.unwrap();
    let logged = json!(lines).to_string();
    assert!(!logged.contains("$new"), "no hash in the audit log");
}

async fn an_unknown_image_is_named() {
    let site = site().await;
    let assigned = site
        .operations
        .image_assign(Some("debian@3"), AssignTo::DefaultGroup, Follow::Pinned)
        .await;
    assert_eq!(text(assigned), "there is no image \"debian@3\"");
    let import = ImageImport {
        source: "/nowhere/disk.raw".into(),
        name: "debian".into(),
    };
    let started = site.operations.image_import_start(import).await;
    assert!(text(started).starts_with("source: cannot read /nowhere/disk.raw"));
}

async fn a_room_of_a_thousand_with_many_boots_is_listed_at_once() {
    let site = site().await;
    let store = site.operations.database().store().await.unwrap();
    store
        .transact(|mut tx| async move {
            let group = images::default_group(&mut tx).await?.id;
            for seat in 1..=1000_u32 {
                let bytes = seat.to_be_bytes();
                let mac = MacAddr([2, 0, 0, 0, bytes[2], bytes[3]]);
                let client = crate::registration::client(mac, seat, group, Timestamp(1));
                tx.client_insert(&client).await?;
                for started in 0..5 {
                    let id = AttemptId(Uuid::now_v7());
                    let attempt = Attempt::new(id, mac, Some(client.id), Timestamp(started));
                    tx.attempt_put(&record_of(&attempt)).await?;
                }
            }
            Result::Ok(())
        })
        .await
        .unwrap();
    let started = std::time::Instant::now();
    let clients = site.operations.client_list().await.unwrap();
    let took = started.elapsed();
    assert_eq!(clients.len(), 1000);
    let last = clients[999].last_boot.as_ref().unwrap();
    assert_eq!(last.started, Timestamp(4));
    // Generous: the bound is against a query per client, not a benchmark.
    assert!(took < Duration::from_secs(2), "{took:?}");
}

async fn limits_of_clients_and_groups_reach_the_data_path_and_go_again() {
    let site = site().await;
    let operations = &site.operations;
    let id = operations.client_add(new_client(1)).await.unwrap().id;
    let limited = |limits| ClientChange {
        limits,
        ..ClientChange::default()
    };
    let limits = LimitsChange {
        read_bytes_per_sec: Some(Some(50 << 20)),
        write_iops: Some(Some(500)),
        ..LimitsChange::default()
    };
    let view = operations.client_set(id, limited(limits)).await.unwrap();
    assert_eq!(view.limits.read.bytes_per_sec, Some(50 << 20));
    operations.group_limit("default", limits).await.unwrap();
    let snapshot = || {
        SnapshotReader::new(site.paths.snapshot())
            .current()
            .unwrap()
    };
    let published = snapshot();
    let client = published.client_by_id(id).unwrap();
    assert_eq!(client.limits, view.limits);
    assert_eq!(client.group, Some(published.groups[0].id));
    assert_eq!(published.groups[0].limits, view.limits);

    let too_low = LimitsChange {
        read_bytes_per_sec: Some(Some(1000)),
        ..LimitsChange::default()
    };
    let refused = text(operations.client_set(id, limited(too_low)).await);
    assert!(refused.starts_with("read bytes: 1048576"), "{refused}");
    let gone = LimitsChange {
        read_bytes_per_sec: Some(None),
        write_iops: Some(None),
        ..LimitsChange::default()
    };
    let view = operations.client_set(id, limited(gone)).await.unwrap();
    assert!(view.limits.is_none());
    assert!(snapshot().client_by_id(id).unwrap().limits.is_none());
    let nobody = text(operations.group_limit("nobody", limits).await);
    assert_eq!(nobody, "there is no group \"nobody\"");
}

/// A site with three clients on `win@1` of two versions, without files.
async fn site_with_versions() -> (Site, Vec<ClientId>) {
    let site = site().await;
    let mut clients = Vec::new();
    for last in 1..=3 {
        clients.push(
            site.operations
                .client_add(new_client(last))
                .await
                .unwrap()
                .id,
        );
    }
    let image = dess_model::ImageId(Uuid::now_v7());
    let store = site.operations.store().await.unwrap();
    store
        .transact(|mut tx| async move {
            tx.image_insert(&dess_store::ImageRecord {
                id: image,
                name: "win".into(),
                last_version: 0,
                created: Timestamp(1),
            })
            .await?;
            for number in 1..=3 {
                tx.version_insert(&dess_store::VersionRecord {
                    version: dess_model::VersionRef { image, number },
                    directory: format!("{}/{number}", image.simple()),
                    size_bytes: 1 << 30,
                    parent: (number > 1).then(|| number - 1),
                    comment: String::new(),
                    author: String::new(),
                    layer_bytes: None,
                    created: Timestamp(1),
                })
                .await?;
            }
            Result::Ok(())
        })
        .await
        .unwrap();
    let assign =
        site.operations
            .image_assign(Some("win@1"), AssignTo::DefaultGroup, Follow::Pinned);
    assign.await.unwrap();
    (site, clients)
}

impl Site {
    /// Numbers of the versions that the clients boot, in seat order.
    fn booted(&self) -> Vec<u32> {
        let snapshot = SnapshotReader::new(self.paths.snapshot())
            .current()
            .unwrap();
        let booted = |client: &dess_model::ClientEntry| client.version.unwrap().number;
        snapshot.clients.iter().map(booted).collect()
    }
}

async fn some_seats_come_first_then_the_rest_and_one_order_takes_it_back() {
    let (site, clients) = site_with_versions().await;
    let operations = &site.operations;
    let some = RolloutTo::Clients(vec![clients[0]]);
    let view = operations.image_rollout("win@2", some).await.unwrap();
    assert_eq!(
        (view.clients, &*view.names),
        (1, &["1 (PC-01)".to_owned()][..])
    );
    assert_eq!(site.booted(), [2, 1, 1]);
    let view = operations
        .image_rollout("win@2", RolloutTo::All)
        .await
        .unwrap();
    assert_eq!(view.clients, 2);
    assert_eq!(site.booted(), [2, 2, 2]);
    let inherits = operations.client_get(clients[0]).await.unwrap();
    assert!(
        inherits.image.unwrap().inherited,
        "the first seat is like the rest again"
    );
    let view = operations.image_rollback("win").await.unwrap();
    assert_eq!((&*view.label, view.clients), ("win@2", 3));
    assert_eq!(site.booted(), [1, 1, 1]);
    let nothing = text(operations.image_rollback("win").await);
    assert_eq!(nothing, "no roll-out of win can be taken back");
}

async fn roll_outs_are_taken_back_one_after_the_other_and_spare_what_was_assigned_since() {
    let (site, clients) = site_with_versions().await;
    let operations = &site.operations;
    operations
        .image_rollout("win@2", RolloutTo::All)
        .await
        .unwrap();
    operations
        .image_rollout("win@3", RolloutTo::Clients(clients.clone()))
        .await
        .unwrap();
    assert_eq!(site.booted(), [3, 3, 3]);
    let own = AssignTo::Client(clients[1]);
    operations
        .image_assign(Some("win@1"), own, Follow::Pinned)
        .await
        .unwrap();
    operations.image_rollback("win").await.unwrap();
    assert_eq!(site.booted(), [2, 1, 2]);
    operations.image_rollback("win").await.unwrap();
    assert_eq!(site.booted(), [1, 1, 1]);
}

async fn an_image_has_one_maintenance_client_and_a_client_maintains_one_image() {
    let (site, clients) = site_with_versions().await;
    let operations = &site.operations;
    operations
        .image_maintain("win@2", clients[1])
        .await
        .unwrap();
    let second = text(operations.image_maintain("win", clients[0]).await);
    assert_eq!(
        second,
        "seat 2 (PC-02) is the maintenance client of win@2 already; publish or discard that first"
    );
    let view = operations.client_get(clients[1]).await.unwrap();
    assert_eq!(view.policy, BootPolicy::Maintenance);
    assert_eq!(view.image.unwrap().label, "win@2");
    let entry = site.entry(clients[1]);
    assert_eq!(
        (entry.policy, entry.version.unwrap().number),
        (BootPolicy::Maintenance, 2)
    );
    for refused in [
        text(operations.client_reset(clients[1], true).await),
        text(operations.client_remove(clients[1], true).await),
    ] {
        assert_eq!(
            refused,
            "it is the maintenance client of win@2; publish or discard that first"
        );
    }
    let order = || PublishOrder {
        image: "win".into(),
        comment: String::new(),
    };
    let down = text(operations.image_publish_start(order()).await);
    assert!(down.contains("the iSCSI service does not run"), "{down}");
    let running = Target::answering(&site.paths, |request| match request {
        TargetRequest::Seal { client }
        | TargetRequest::Discard {
            client,
            force: false,
        } => TargetReply::Error(ControlError::Running {
            client: *client,
            sessions: 1,
        }),
        _ => TargetReply::Done,
    });
    for refused in [
        text(operations.image_publish_start(order()).await),
        text(operations.image_discard("win", false).await),
    ] {
        assert_eq!(
            refused,
            "the maintenance client, seat 2 (PC-02), is running; shut it down first (if it was switched off just now, try again in a minute)"
        );
    }
    assert!(operations.job_list(10).await.unwrap().is_empty());
    operations.image_discard("win", true).await.unwrap();
    drop(running);
    assert_eq!(site.entry(clients[1]).policy, BootPolicy::Volatile);
    operations.image_maintain("win", clients[0]).await.unwrap();
}

async fn maintenance_is_no_policy_to_choose() {
    let (site, clients) = site_with_versions().await;
    let change = ClientChange {
        policy: Some(Some(BootPolicy::Maintenance)),
        ..ClientChange::default()
    };
    let refused = text(site.operations.client_set(clients[0], change).await);
    assert!(refused.contains("dess image maintain"), "{refused}");
    let policy = site.operations.default_policy_set(BootPolicy::Maintenance);
    assert!(policy.await.is_err());
}

mod cuts;
mod data_disks;
