//! Publication with real overlays; the iSCSI service is played by the store that it owns.

use std::sync::Arc;

use dess_disk::{
    BlockDevice, BlockRead, DiskSpec, DiskStore, PublishRequest, StoreOptions, StorePaths, Version,
    sealed_directory, version_directory,
};
use dess_model::host::{bind_control, serve_control};
use dess_model::{
    ClientEntry, ClientId, ControlError, DiskState, DiskStatus, SealedStatus, TargetReply,
    TargetRequest, VersionRef,
};

use super::*;
use crate::operations::{AssignTo, Follow, ImageView, PublishOrder, RolloutTo};

const IMAGE_BYTES: usize = 3 << 20;

/// A site with an image, a client, and the store of the iSCSI service.
struct Room {
    site: Site,
    client: ClientId,
    store: Option<Arc<DiskStore>>,
    target: Option<JoinHandle<()>>,
}

impl Room {
    async fn new() -> Self {
        let mut site = Site::new(Registration::Auto).await;
        site.start().await;
        let import = import_of(&site, "win");
        let id = site.operations.image_import_start(import).await.unwrap();
        job_end(&site, id).await;
        let client = add(&site, 1).await;
        let mut room = Self {
            site,
            client,
            store: None,
            target: None,
        };
        room.start_target();
        room
    }

    fn start_target(&mut self) {
        let paths = &self.site.paths;
        let store_paths = StorePaths {
            images: paths.images(),
            overlays: paths.overlays(),
            live_maps: paths.live_maps(),
        };
        let store = DiskStore::open(store_paths, StoreOptions::current().unwrap()).unwrap();
        let store = Arc::new(store);
        let listener = bind_control(&paths.target_control()).unwrap();
        let reader = Arc::new(SnapshotReader::new(paths.snapshot()));
        let serving = Arc::clone(&store);
        self.target = Some(tokio::spawn(async move {
            let handle = move |request: TargetRequest| {
                std::future::ready(answer(&serving, &reader.current().unwrap(), &request))
            };
            serve_control(listener, handle, |message| {
                TargetReply::Error(ControlError::Malformed { message })
            })
            .await;
        }));
        self.store = Some(store);
    }

    /// As `kill -9` and a restart.
    async fn restart_target(&mut self) {
        let target = self.target.take().unwrap();
        target.abort();
        let _ = target.await;
        let store = self.store.take().unwrap();
        eventually("requests under way have ended", || async {
            (Arc::strong_count(&store) == 1).then_some(())
        })
        .await;
        drop(store);
        self.start_target();
    }

    fn store(&self) -> &DiskStore {
        self.store.as_ref().unwrap()
    }

    fn entry(&self) -> ClientEntry {
        let snapshot = self.site.snapshot().unwrap();
        snapshot.client_by_id(self.client).unwrap().clone()
    }

    /// What the iSCSI service knows of the client's disk.
    fn spec(&self) -> DiskSpec {
        let entry = self.entry();
        let version = entry.version.unwrap();
        DiskSpec {
            disk: entry.disk.id,
            version,
            version_dir: version_directory(&self.site.paths.images(), version),
            policy: entry.policy,
            reset_epoch: entry.reset_epoch,
        }
    }

    /// The client powers on, writes and is shut down.
    fn write(&self, byte: u8) {
        let disk = self.store().power_on(&self.spec()).unwrap().disk;
        disk.write_at(1000, &[byte; 5000]).unwrap();
    }

    async fn publish(&self) -> crate::operations::JobView {
        let order = PublishOrder {
            image: "win".into(),
            comment: "새 게임".into(),
        };
        let id = self.site.operations.image_publish_start(order).await;
        let job = job_end(&self.site, id.unwrap()).await;
        eventually("the snapshot says so", || async {
            let site = self.site.operations.site().await.unwrap().unwrap();
            (self.site.snapshot()?.revision >= site.revision).then_some(())
        })
        .await;
        job
    }

    async fn maintain(&self) {
        let operations = &self.site.operations;
        operations.image_maintain("win", self.client).await.unwrap();
    }

    async fn image(&self) -> ImageView {
        self.site.operations.image_list().await.unwrap().remove(0)
    }

    fn byte_of(&self, version: VersionRef) -> u8 {
        let directory = version_directory(&self.site.paths.images(), version);
        let mut byte = [0];
        Version::open(&directory)
            .unwrap()
            .read_at(2000, &mut byte)
            .unwrap();
        byte[0]
    }

    async fn stop(mut self) {
        self.site.stop().await;
        self.target.take().unwrap().abort();
    }
}

async fn add(site: &Site, last: u8) -> ClientId {
    let add = ClientAdd {
        mac: MacAddr([2, 0, 0, 0, 7, last]),
        seat: None,
        name: None,
        address: None,
        policy: None,
        image: None,
    };
    site.operations.client_add(add).await.unwrap().id
}

fn answer(store: &DiskStore, snapshot: &SiteSnapshot, request: &TargetRequest) -> TargetReply {
    let disk = |id: &ClientId| snapshot.client_by_id(*id).unwrap().disk.id;
    let done = match request {
        TargetRequest::Seal { client } => store.seal(disk(client)).map(|sealed| {
            TargetReply::Sealed(SealedStatus {
                disk: disk(client),
                generation: sealed.generation,
                base: sealed.base,
                changed_bytes: sealed.changed_bytes,
            })
        }),
        TargetRequest::Unseal { client } => store.unseal(disk(client)).map(|()| TargetReply::Done),
        TargetRequest::Release { client } => store.release(disk(client)).map(|_| TargetReply::Done),
        TargetRequest::Discard { client, .. } => {
            store.discard(disk(client)).map(|_| TargetReply::Done)
        }
        _ => Ok(TargetReply::Status {
            sessions: vec![],
            disks: vec![],
            clients: vec![],
            boot_profiles: vec![],
        }),
    };
    done.unwrap_or_else(|error| {
        TargetReply::Error(ControlError::Disk {
            client: snapshot.clients[0].id,
            message: chain(&error),
        })
    })
}

#[tokio::test]
async fn what_was_published_is_known_and_rolled_out_only_by_order() {
    let room = Room::new().await;
    room.maintain().await;
    assert_eq!(room.entry().policy, BootPolicy::Maintenance);
    let holder = room.image().await.maintenance.unwrap();
    assert_eq!((holder.client, holder.seat), (room.client, 1));
    room.write(7);
    let job = room.publish().await;
    assert_eq!((job.result.as_deref(), job.error), (Some("win@2"), None));
    let image = room.image().await;
    assert_eq!(image.maintenance, None);
    let made = &image.versions[1];
    assert_eq!((&*made.comment, &*made.author), ("새 게임", "test"));
    assert_eq!(made.parent, Some(image.versions[0].version));
    assert_eq!(made.layer_bytes, Some(8192));
    assert_eq!(room.byte_of(made.version), 7);
    // The client is what it was before, on the version that it had.
    let entry = room.entry();
    assert_eq!(entry.policy, BootPolicy::Volatile);
    assert_eq!(entry.version, Some(image.versions[0].version));
    eventually("the overlay is released", || async {
        room.store()
            .status(entry.disk.id)
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;

    let rolled = room
        .site
        .operations
        .image_rollout("win@2", RolloutTo::All)
        .await
        .unwrap();
    assert_eq!((&*rolled.label, rolled.clients), ("win@2", 1));
    assert_eq!(room.entry().version, Some(made.version));
    room.stop().await;
}

#[tokio::test]
async fn those_who_follow_the_latest_version_boot_what_was_published() {
    let room = Room::new().await;
    let operations = &room.site.operations;
    operations
        .image_assign(Some("win"), AssignTo::DefaultGroup, Follow::Latest)
        .await
        .unwrap();
    let pinned = add(&room.site, 2).await;
    operations
        .image_assign(Some("win@1"), AssignTo::Client(pinned), Follow::Pinned)
        .await
        .unwrap();
    room.maintain().await;
    room.write(7);
    room.publish().await;
    assert_eq!(room.entry().version.unwrap().number, 2);
    let snapshot = room.site.snapshot().unwrap();
    let pinned = snapshot.client_by_id(pinned).unwrap();
    assert_eq!(pinned.version.unwrap().number, 1);
    room.stop().await;
}

#[tokio::test]
async fn a_version_over_which_both_services_died_is_not_lost() {
    let mut room = Room::new().await;
    room.maintain().await;
    room.write(9);
    room.site.stop().await;
    let order = PublishOrder {
        image: "win".into(),
        comment: "survives".into(),
    };
    let id = room
        .site
        .operations
        .image_publish_start(order)
        .await
        .unwrap();
    // As if the daemon had died after the rename and before the transaction.
    let entry = room.entry();
    let sealed = room.store().seal(entry.disk.id).unwrap();
    let request = PublishRequest {
        images: room.site.paths.images(),
        sealed: sealed_directory(
            &room.site.paths.overlays(),
            entry.disk.id,
            sealed.generation,
        ),
        number: 2,
        comment: "survives".into(),
        author: "test".into(),
        created: dess_model::Timestamp::now(),
    };
    dess_disk::publish(&request, &mut |_| {}, &|| false).unwrap();
    // The other service finds at its start that the overlay is a version, and drops it.
    room.restart_target().await;
    room.store().wait_for_tidying();
    assert!(room.store().status(entry.disk.id).unwrap().is_none());
    room.site.start().await;
    let job = job_end(&room.site, id).await;
    assert_eq!((job.result.as_deref(), job.error), (Some("win@2"), None));
    assert_eq!(room.byte_of(room.image().await.versions[1].version), 9);
    room.stop().await;
}

#[tokio::test]
async fn a_failed_publication_gives_the_client_its_overlay_back() {
    let room = Room::new().await;
    room.maintain().await;
    room.write(7);
    let spec = room.spec();
    let obstacle = spec.version_dir.with_file_name(".publish-2");
    std::fs::write(&obstacle, "in the way").unwrap();
    let job = room.publish().await;
    assert_eq!(job.state, JobState::Failed, "{:?}", job.result);
    assert!(room.image().await.maintenance.is_some());
    room.write(8);
    std::fs::remove_file(obstacle).unwrap();
    assert_eq!(room.publish().await.result.as_deref(), Some("win@2"));
    assert_eq!(room.byte_of(room.image().await.versions[1].version), 8);
    room.stop().await;
}

#[tokio::test]
async fn an_overlay_that_was_sealed_for_nothing_is_given_back() {
    let room = Room::new().await;
    room.maintain().await;
    room.write(7);
    let entry = room.entry();
    room.store().seal(entry.disk.id).unwrap();
    assert!(room.store().power_on(&room.spec()).is_err());
    let status = DiskStatus {
        client: room.client,
        lun: 0,
        state: DiskState::Sealed,
        size_bytes: IMAGE_BYTES as u64,
        overlay_bytes: 0,
        generation: 1,
        version: None,
        fresh: false,
    };
    let shared = Shared::new(
        room.site.paths.clone(),
        Database::new(room.site.paths.database()),
    );
    publish::reconcile(&shared, &[status]).await;
    room.write(8);
    room.stop().await;
}

#[tokio::test]
async fn a_discarded_maintenance_leaves_the_image_as_it_was() {
    let room = Room::new().await;
    room.maintain().await;
    room.write(7);
    room.site
        .operations
        .image_discard("win", false)
        .await
        .unwrap();
    let image = room.image().await;
    assert_eq!((image.versions.len(), image.maintenance), (1, None));
    assert_eq!(room.entry().policy, BootPolicy::Volatile);
    room.stop().await;
}

#[tokio::test]
async fn a_version_goes_when_nothing_needs_it_any_more() {
    let room = Room::new().await;
    let operations = &room.site.operations;
    room.maintain().await;
    room.write(7);
    room.publish().await;
    let refused =
        |result: crate::operations::Result<dess_model::JobId>| result.unwrap_err().to_string();
    let needed = refused(operations.version_remove("win@1").await);
    assert!(needed.contains("win@2 is made on it"), "{needed}");
    assert!(needed.contains("assigned to the group default"), "{needed}");
    operations
        .image_rollout("win@2", RolloutTo::All)
        .await
        .unwrap();
    let flatten = operations.version_flatten_start("win@2").await.unwrap();
    assert_eq!(job_end(&room.site, flatten).await.state, JobState::Done);
    let whole = refused(operations.version_flatten_start("win@2").await);
    assert_eq!(whole, "win@2 is whole already");
    let directory = room.spec().version_dir.with_file_name("1");
    assert!(directory.exists());
    let removal = operations.version_remove("win@1").await.unwrap();
    assert_eq!(job_end(&room.site, removal).await.error, None);
    assert!(!directory.exists());
    let image = room.image().await;
    assert_eq!(image.versions.len(), 1);
    assert_eq!(image.versions[0].parent, None);
    assert_eq!(room.byte_of(image.versions[0].version), 7);
    // Numbers are not given again: disks may still name them.
    for (byte, made) in [(8, "win@3"), (9, "win@4")] {
        room.maintain().await;
        room.write(byte);
        assert_eq!(room.publish().await.result.as_deref(), Some(made));
        let removal = operations.version_remove(made).await.unwrap();
        job_end(&room.site, removal).await;
    }
    room.stop().await;
}
