//! The daemon with a real database file, real sockets and a real import.

use std::path::Path;
use std::time::Duration;

use dess_diagnosis::{BootOutcome, ClientState, Stage};
use dess_model::host::{EventSender, Paths, SnapshotReader, request};
use dess_model::{
    AddressRange, BootPolicy, BootStage, DhcpMode, DhcpPhase, EventKind, LoginKind, MacAddr,
    Registration, SiteSnapshot,
};
use dess_store::{Database, JobState, NoticeKind};
use tokio::task::JoinHandle;

use super::*;
use crate::operations::{ClientAdd, ImageImport, Operations, SiteSetup};

mod backup;
mod forget;
mod maintenance;
mod scrub;

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x77, 0, 0x10]);
const ADDRESS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 77, 0, 105);

/// A site in a temporary directory with its daemon.
struct Site {
    directory: tempfile::TempDir,
    paths: Paths,
    operations: Operations,
    events: EventSender,
    scrub: ScrubOptions,
    daemon: Option<(CancellationToken, JoinHandle<Result<(), ServeError>>)>,
}

impl Site {
    fn without_database() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths {
            state: directory.path().join("state"),
            runtime: directory.path().join("run"),
        };
        Self {
            operations: Operations::new(paths.clone()).acting_as("test"),
            events: EventSender::new(paths.events()),
            directory,
            paths,
            scrub: ScrubOptions::OFF,
            daemon: None,
        }
    }

    async fn new(registration: Registration) -> Self {
        let site = Self::without_database();
        site.operations
            .site_init(setup(registration))
            .await
            .unwrap();
        site
    }

    async fn start(&mut self) {
        let (ready, is_ready) = oneshot::channel();
        let cancel = CancellationToken::new();
        let options = NodeOptions {
            probed: None,
            paths: self.paths.clone(),
            scrub: self.scrub,
            database: Database::new(self.paths.database()),
            backups_kept: 2,
            retention: Retention::default(),
        };
        let daemon = tokio::spawn(serve(options, ready, cancel.clone()));
        is_ready.await.unwrap();
        self.daemon = Some((cancel, daemon));
    }

    async fn stop(&mut self) {
        let (cancel, daemon) = self.daemon.take().unwrap();
        cancel.cancel();
        daemon.await.unwrap().unwrap();
    }

    fn snapshot(&self) -> Option<std::sync::Arc<SiteSnapshot>> {
        SnapshotReader::new(self.paths.snapshot()).current()
    }

    /// Sends, and tries again what the full or absent socket did not take.
    async fn send(&self, kinds: impl IntoIterator<Item = EventKind>) {
        for kind in kinds {
            self.events.send(kind);
        }
    }

    async fn status(&self) -> NodeStatus {
        let socket = self.paths.node_control();
        let limit = Duration::from_secs(5);
        match request(&socket, &NodeRequest::Status, limit).await.unwrap() {
            NodeReply::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }
}

fn setup(registration: Registration) -> SiteSetup {
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
        router: None,
        dns: vec![],
        lease_secs: 600,
        http_port: 80,
        portals: vec![],
        registration,
    }
}

/// Waits until `look` answers, at most 20 s.
async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn unknown() -> EventKind {
    EventKind::UnknownClient {
        mac: MAC,
        architecture: Some(0.into()),
        uuid: Some("00112233".into()),
        address: Some(ADDRESS),
    }
}

fn ack(phase: DhcpPhase) -> EventKind {
    EventKind::DhcpAck {
        mac: MAC,
        phase,
        address: Some(ADDRESS),
        renewal: false,
    }
}

fn script() -> EventKind {
    EventKind::Script {
        mac: MAC,
        bootable: true,
        code: None,
    }
}

async fn registered(site: &Site) -> crate::operations::ClientView {
    eventually("the client is registered", || async {
        site.operations.client_find(&MAC.to_string()).await.ok()
    })
    .await
}

#[tokio::test]
async fn an_unknown_client_is_registered_and_published_with_the_address_it_was_offered() {
    let mut site = Site::new(Registration::Auto).await;
    site.start().await;
    site.send([unknown(), ack(DhcpPhase::Ipxe)]).await;
    let client = registered(&site).await;
    assert_eq!((client.seat, client.name.as_str()), (1, "PC-01"));
    assert_eq!(client.address, Some(ADDRESS));
    assert!(client.approved);
    let entry = eventually("the snapshot names it", || async {
        site.snapshot()?.client_by_mac(MAC).cloned()
    })
    .await;
    assert_eq!(entry.id, client.id);
    assert_eq!(entry.address, Some(ADDRESS));
    assert_eq!(
        entry.iscsi.target_iqn,
        format!("iqn.2026-11.io.dess:target.{}", client.id.simple())
    );
    let audit = site.operations.audit_list(10).await.unwrap();
    assert_eq!(audit[0].action, "client.register");
    site.stop().await;
}

#[tokio::test]
async fn a_flood_of_new_pcs_waits_for_approval_and_says_so() {
    let mut site = Site::new(Registration::Auto).await;
    site.start().await;
    let invented = (0..100).map(|number| EventKind::UnknownClient {
        mac: MacAddr([2, 0, 0, 0, 9, number]),
        architecture: None,
        uuid: None,
        address: None,
    });
    site.send(invented).await;
    let sender = site.events.clone();
    let retries = tokio::spawn(async move { sender.keep_flushing().await });
    let clients = eventually("all are known", || async {
        let clients = site.operations.client_list().await.ok()?;
        (clients.len() == 100).then_some(clients)
    })
    .await;
    let approved = clients.iter().filter(|client| client.approved).count();
    assert!((60..85).contains(&approved), "{approved} approved");
    let notices = site.operations.notice_list(60_000).await.unwrap();
    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0].kind, NoticeKind::RegistrationHeld);
    retries.abort();
    site.stop().await;
}

#[tokio::test]
async fn refused_logins_are_one_notice_per_peer_whatever_names_it_makes_up() {
    let mut site = Site::new(Registration::Auto).await;
    site.start().await;
    let refused = (0..50).map(|number| EventKind::LoginRefused {
        client: None,
        peer: ADDRESS.into(),
        initiator: format!("iqn.{number}"),
        status: 0x0201,
    });
    site.send(refused).await;
    let sender = site.events.clone();
    let retries = tokio::spawn(async move { sender.keep_flushing().await });
    let notices = eventually("all are counted", || async {
        let notices = site.operations.notice_list(60_000).await.ok()?;
        let count: u64 = notices.iter().map(|notice| notice.count).sum();
        (count == 50).then_some(notices)
    })
    .await;
    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0].subject, ADDRESS.to_string());
    retries.abort();
    site.stop().await;
}

#[tokio::test]
async fn on_hold_an_unknown_client_waits_for_approval() {
    let mut site = Site::new(Registration::Hold).await;
    site.start().await;
    site.send([unknown()]).await;
    let client = registered(&site).await;
    assert!(!client.approved);
    assert_eq!(client.state, ClientState::Pending);
    assert_eq!(client.address, None, "a stranger reserves nothing");
    site.operations.client_approve(client.id).await.unwrap();
    let entry = site.snapshot().unwrap().client_by_mac(MAC).cloned();
    assert!(
        entry.unwrap().approved,
        "published when the operation returns"
    );
    site.stop().await;
}

#[tokio::test]
async fn a_boot_is_kept_with_its_timeline_and_survives_a_restart_of_the_daemon() {
    let mut site = Site::new(Registration::Auto).await;
    let client = site
        .operations
        .client_add(ClientAdd {
            mac: MAC,
            seat: Some(7),
            name: None,
            address: None,
            policy: None,
            image: None,
        })
        .await
        .unwrap();
    site.start().await;
    site.send([ack(DhcpPhase::Ipxe), script()]).await;
    eventually("the boot is seen", || async {
        let client = site.operations.client_get(client.id).await.ok()?;
        matches!(
            client.state,
            ClientState::Booting {
                stage: Stage::Script,
                ..
            }
        )
        .then_some(())
    })
    .await;
    site.stop().await;
    // What happens while the daemon is away waits with the senders.
    let login = EventKind::Login {
        client: client.id,
        kind: LoginKind::Os,
        peer: ADDRESS.into(),
        session: 3,
    };
    site.send([login, ack(DhcpPhase::Os)]).await;
    site.start().await;
    let sender = site.events.clone();
    let retries = tokio::spawn(async move { sender.keep_flushing().await });
    let boots = eventually("the boot ends up", || async {
        let boots = site.operations.client_boots(client.id, 5).await.ok()?;
        (boots.first()?.summary.outcome == BootOutcome::Up).then_some(boots)
    })
    .await;
    assert_eq!(boots.len(), 1, "one boot, not one per daemon");
    let stages: Vec<Stage> = boots[0].steps.iter().map(|step| step.stage).collect();
    assert_eq!(
        stages,
        [
            Stage::Ipxe,
            Stage::Script,
            Stage::OsLogin,
            Stage::OsDhcp,
            Stage::Up
        ]
    );
    retries.abort();
    site.stop().await;
}

#[tokio::test]
async fn events_of_a_time_without_database_are_written_when_it_returns() {
    let mut site = Site::new(Registration::Auto).await;
    site.start().await;
    eventually("published", || async { site.snapshot() }).await;
    let before = std::fs::read(site.paths.snapshot()).unwrap();
    let database = site.paths.database();
    let aside = site.directory.path().join("aside.db");
    std::fs::rename(&database, &aside).unwrap();
    std::fs::create_dir(&database).unwrap();
    site.send([unknown(), ack(DhcpPhase::Ipxe), script()]).await;
    let degraded = eventually("degraded", || async {
        let status = site.status().await;
        (status.events_received == 3 && status.changes_waiting > 0)
            .then_some(status.degraded)
            .flatten()
    })
    .await;
    assert!(degraded.contains("dess.db"), "{degraded}");
    assert_eq!(
        std::fs::read(site.paths.snapshot()).unwrap(),
        before,
        "the snapshot in force stays as it is"
    );
    std::fs::remove_dir(&database).unwrap();
    std::fs::rename(&aside, &database).unwrap();
    let client = registered(&site).await;
    let boots = site.operations.client_boots(client.id, 5).await.unwrap();
    assert_eq!(boots.len(), 1);
    assert_eq!(boots[0].summary.stage, Stage::Script);
    eventually("not degraded", || async {
        let status = site.status().await;
        (status.degraded.is_none() && status.changes_waiting == 0).then_some(())
    })
    .await;
    assert!(site.snapshot().unwrap().client_by_mac(MAC).is_some());
    site.stop().await;
}

#[tokio::test]
async fn a_daemon_that_starts_on_a_garbage_database_runs_and_recovers() {
    let mut site = Site::new(Registration::Auto).await;
    let database = site.paths.database();
    let good = site.directory.path().join("good.db");
    site.operations.close().await;
    std::fs::rename(&database, &good).unwrap();
    std::fs::write(&database, vec![0x5a; 16384]).unwrap();
    let before = std::fs::read(site.paths.snapshot()).unwrap();
    site.start().await;
    site.send([ack(DhcpPhase::Ipxe)]).await;
    let status = eventually("degraded", || async {
        let status = site.status().await;
        (status.degraded.is_some() && status.events_received == 1).then_some(status)
    })
    .await;
    assert!(status.degraded.unwrap().contains("damaged"));
    assert_eq!(std::fs::read(site.paths.snapshot()).unwrap(), before);
    assert!(site.operations.client_list().await.is_err());
    std::fs::rename(&good, &database).unwrap();
    eventually("recovered", || async {
        let status = site.status().await;
        (status.degraded.is_none() && status.changes_waiting == 0).then_some(())
    })
    .await;
    site.stop().await;
}

#[tokio::test]
async fn a_daemon_may_start_before_the_site_is_set_up() {
    let mut site = Site::without_database();
    site.start().await;
    site.send([unknown()]).await;
    assert!(site.operations.site().await.unwrap().is_none());
    site.operations
        .site_init(setup(Registration::Auto))
        .await
        .unwrap();
    assert!(site.snapshot().is_some());
    registered(&site).await;
    site.stop().await;
}

#[tokio::test]
async fn a_change_that_nobody_told_of_is_published() {
    let mut site = Site::new(Registration::Auto).await;
    site.start().await;
    let store = Database::new(site.paths.database()).store().await.unwrap();
    store
        .transact(|mut tx| async move {
            tx.registration_update(Registration::Hold).await?;
            tx.revision_raise(0).await
        })
        .await
        .unwrap();
    eventually("the new policy", || async {
        (site.snapshot()?.registration == Registration::Hold).then_some(())
    })
    .await;
    site.stop().await;
}

#[tokio::test]
async fn revisions_never_go_back_when_an_old_database_is_restored() {
    let site = Site::new(Registration::Auto).await;
    let backup = site.directory.path().join("backup.db");
    site.operations.close().await;
    std::fs::copy(site.paths.database(), &backup).unwrap();
    for _ in 0..5 {
        site.operations
            .registration_set(Registration::Hold)
            .await
            .unwrap();
    }
    let newest = site.snapshot().unwrap().revision;
    site.operations.close().await;
    std::fs::rename(&backup, site.paths.database()).unwrap();
    let mut restored = site;
    restored.start().await;
    let snapshot = eventually("the old policy is in force again", || async {
        restored
            .snapshot()
            .filter(|snapshot| snapshot.registration == Registration::Auto)
    })
    .await;
    assert!(snapshot.revision > newest, "{}", snapshot.revision);
    let site_view = restored.operations.site().await.unwrap().unwrap();
    assert_eq!(site_view.revision, snapshot.revision);
    restored.stop().await;
}

fn raw_image(directory: &Path, bytes: usize) -> std::path::PathBuf {
    let path = directory.join("disk.raw");
    let content: Vec<u8> = (0..bytes).map(|at| (at / 512 % 251) as u8).collect();
    std::fs::write(&path, content).unwrap();
    path
}

async fn job_end(site: &Site, id: dess_model::JobId) -> crate::operations::JobView {
    eventually("the job ends", || async {
        let job = site.operations.job_get(id).await.ok()?;
        job.state.is_final().then_some(job)
    })
    .await
}

fn import_of(site: &Site, name: &str) -> ImageImport {
    ImageImport {
        source: raw_image(site.directory.path(), 3 << 20),
        name: name.into(),
    }
}

#[tokio::test]
async fn the_first_imported_image_becomes_what_the_room_boots() {
    let mut site = Site::new(Registration::Auto).await;
    site.start().await;
    let import = import_of(&site, "debian");
    let id = site
        .operations
        .image_import_start(import.clone())
        .await
        .unwrap();
    let job = job_end(&site, id).await;
    assert_eq!(job.error, None);
    assert_eq!(job.state, JobState::Done);
    assert_eq!(job.result.as_deref(), Some("debian@1"));
    assert_eq!((job.progress, job.total), (3 << 20, 3 << 20));
    site.send([unknown()]).await;
    let client = registered(&site).await;
    let image = client.image.unwrap();
    assert_eq!((image.label.as_str(), image.inherited), ("debian@1", true));
    let snapshot = eventually("the client is published", || async {
        site.snapshot()
            .filter(|snapshot| !snapshot.clients.is_empty())
    })
    .await;
    let version = snapshot.version(image.version).unwrap();
    assert_eq!(version.size_bytes, 3 << 20);
    assert!(site.paths.images().join(&version.directory).is_dir());

    let second = site.operations.image_import_start(import).await.unwrap();
    assert_eq!(
        job_end(&site, second).await.result.as_deref(),
        Some("debian@2")
    );
    let client = site.operations.client_get(client.id).await.unwrap();
    assert_eq!(
        client.image.unwrap().label,
        "debian@1",
        "saved is not rolled out"
    );
    site.stop().await;
}

#[tokio::test]
async fn a_job_over_which_the_daemon_died_is_done_at_the_next_start() {
    let mut site = Site::new(Registration::Auto).await;
    let import = import_of(&site, "debian");
    let id = site.operations.image_import_start(import).await.unwrap();
    let store = Database::new(site.paths.database()).store().await.unwrap();
    store
        .transact(|mut tx| async move {
            let mut job = tx.job_fetch(id).await?.unwrap();
            job.state = JobState::Running;
            job.runs = 1;
            tx.job_update(&job).await
        })
        .await
        .unwrap();
    site.start().await;
    assert_eq!(job_end(&site, id).await.result.as_deref(), Some("debian@1"));
    site.stop().await;
}

#[tokio::test]
async fn an_import_whose_result_was_never_written_is_not_lost() {
    let mut site = Site::new(Registration::Auto).await;
    let import = import_of(&site, "debian");
    let id = site
        .operations
        .image_import_start(import.clone())
        .await
        .unwrap();
    // As if the daemon had died between the end of the import and the transaction.
    let version = dess_model::VersionRef {
        image: dess_model::ImageId(id.0),
        number: 1,
    };
    let request = dess_disk::ImportRequest {
        images: site.paths.images(),
        version,
        source: dess_disk::ImportSource {
            path: import.source,
            format: None,
            end_marker: None,
        },
        comment: "debian".into(),
        created: dess_model::Timestamp::now(),
    };
    dess_disk::import(&request, &mut |_| {}, &|| false).unwrap();
    site.start().await;
    let job = job_end(&site, id).await;
    assert_eq!(job.result.as_deref(), Some("debian@1"), "{:?}", job.error);
    let images = site.operations.image_list().await.unwrap();
    assert_eq!(images[0].versions[0].version, version);
    site.stop().await;
}

#[tokio::test]
async fn a_job_that_kills_the_daemon_each_time_is_given_up() {
    let mut site = Site::new(Registration::Auto).await;
    let import = import_of(&site, "debian");
    let id = site.operations.image_import_start(import).await.unwrap();
    let store = Database::new(site.paths.database()).store().await.unwrap();
    store
        .transact(|mut tx| async move {
            let mut job = tx.job_fetch(id).await?.unwrap();
            job.state = JobState::Running;
            job.runs = 3;
            tx.job_update(&job).await
        })
        .await
        .unwrap();
    site.start().await;
    let job = job_end(&site, id).await;
    assert_eq!(job.state, JobState::Failed);
    assert!(job.error.unwrap().contains("3 times"));
    site.stop().await;
}

#[tokio::test]
async fn a_file_that_is_no_image_fails_the_job_and_leaves_no_image() {
    let mut site = Site::new(Registration::Auto).await;
    site.start().await;
    let source = site.directory.path().join("empty.raw");
    std::fs::write(&source, b"").unwrap();
    let id = site
        .operations
        .image_import_start(ImageImport {
            source,
            name: "empty".into(),
        })
        .await
        .unwrap();
    let job = job_end(&site, id).await;
    assert_eq!(job.state, JobState::Failed);
    assert!(job.error.unwrap().contains("empty.raw"));
    assert!(site.operations.image_list().await.unwrap().is_empty());
    site.stop().await;
}

#[tokio::test]
async fn a_queued_job_is_cancelled_at_once() {
    let site = Site::new(Registration::Auto).await;
    let import = import_of(&site, "debian");
    let id = site.operations.image_import_start(import).await.unwrap();
    site.operations.job_cancel(id).await.unwrap();
    let job = site.operations.job_get(id).await.unwrap();
    assert_eq!(job.state, JobState::Cancelled);
    assert!(site.operations.job_cancel(id).await.is_err(), "only once");
}

#[tokio::test]
async fn a_running_import_is_cancelled_and_leaves_nothing() {
    let mut site = Site::new(Registration::Auto).await;
    site.start().await;
    // So many holes take much longer to walk than a request to cancel.
    let source = site.directory.path().join("holes.raw");
    let file = std::fs::File::create(&source).unwrap();
    file.set_len(8 << 40).unwrap();
    let name = "holes".into();
    let import = ImageImport { source, name };
    let id = site.operations.image_import_start(import).await.unwrap();
    eventually("it runs", || async {
        let job = site.operations.job_get(id).await.ok()?;
        (job.state == JobState::Running).then_some(())
    })
    .await;
    site.operations.job_cancel(id).await.unwrap();
    assert_eq!(job_end(&site, id).await.state, JobState::Cancelled);
    assert!(site.operations.image_list().await.unwrap().is_empty());
    site.stop().await;
}

#[tokio::test]
async fn two_daemons_of_one_site_replace_each_others_sockets_cleanly() {
    let mut site = Site::new(Registration::Auto).await;
    site.start().await;
    site.stop().await;
    site.start().await;
    assert!(site.status().await.revision > 0 || site.snapshot().is_some());
    assert_eq!(
        site.operations.group_list().await.unwrap()[0].policy,
        BootPolicy::Volatile
    );
    site.stop().await;
}

#[tokio::test]
async fn a_case_is_kept_from_its_first_event_until_the_system_starts() {
    let mut site = Site::new(Registration::Auto).await;
    site.start().await;
    site.send([unknown(), ack(DhcpPhase::Ipxe)]).await;
    let client = registered(&site).await;
    eventually("the snapshot names it", || async {
        site.snapshot()?.client_by_mac(MAC).cloned()
    })
    .await;
    let failure = EventKind::BootFailure {
        mac: MAC,
        stage: BootStage::Sanboot,
        errno: "0x2c0d603b".into(),
    };
    site.send([script(), failure]).await;
    let case = eventually("the case is open", || async {
        site.operations.case_list().await.ok()?.pop()
    })
    .await;
    assert_eq!((case.code.as_str(), case.seat), ("E22", Some(1)));
    assert_eq!(case.name, client.name);
    site.operations
        .acting_as("web:owner")
        .case_acknowledge(case.id)
        .await
        .unwrap();

    // It is taken up again by the next daemon.
    site.stop().await;
    site.start().await;
    let login = EventKind::Login {
        client: client.id,
        kind: LoginKind::Os,
        peer: ADDRESS.into(),
        session: 1,
    };
    site.send([script(), login]).await;
    let over = eventually("the case is over", || async {
        let case = site.operations.case_get(case.id).await.ok()?;
        case.resolved.is_some().then_some(case)
    })
    .await;
    assert_eq!(over.acknowledged_by.as_deref(), Some("web:owner"));
    assert_eq!(site.operations.case_list().await.unwrap(), []);
    assert_eq!(site.operations.case_list_all(9).await.unwrap().len(), 1);
}
