//! Space: limits and marks reach the data path, who uses it is told, and what is left over is found.

use dess_disk::{
    DiskSpec, DiskStore, ImageFormat, ImportRequest, ImportSource, StoreOptions, StorePaths,
    import, version_directory,
};
use dess_model::{BootPolicy, DiskId, ImageId, OverlayLimits, PoolLevel, PoolSettings, VersionRef};

use super::*;

const MIB: u64 = 1 << 20;

fn overlay(soft: Option<u64>, hard: Option<u64>) -> LimitsChange {
    LimitsChange {
        overlay_soft_bytes: Some(soft),
        overlay_hard_bytes: Some(hard),
        ..LimitsChange::default()
    }
}

pub(super) async fn overlay_limits_of_a_group_hold_for_its_clients_until_they_have_their_own() {
    let site = site().await;
    let operations = &site.operations;
    let id = operations.client_add(new_client(1)).await.unwrap().id;
    let group = overlay(Some(100 * MIB), Some(200 * MIB));
    operations.group_limit("default", group).await.unwrap();
    let of_client = || site.entry(id).overlay_limits;
    assert_eq!(of_client().hard_bytes, Some(200 * MIB));
    let own = ClientChange {
        limits: LimitsChange {
            overlay_hard_bytes: Some(Some(500 * MIB)),
            ..LimitsChange::default()
        },
        ..ClientChange::default()
    };
    let view = operations.client_set(id, own).await.unwrap();
    let both = OverlayLimits {
        soft_bytes: Some(100 * MIB),
        hard_bytes: Some(500 * MIB),
    };
    assert_eq!((view.overlay_limits, of_client()), (both, both));
    for (wrong, reason) in [
        (overlay(None, Some(MIB)), "67108864 bytes is the least"),
        (
            overlay(Some(300 * MIB), Some(200 * MIB)),
            "is above the hard one",
        ),
    ] {
        let change = ClientChange {
            limits: wrong,
            ..ClientChange::default()
        };
        let refused = text(operations.client_set(id, change).await);
        assert!(refused.contains(reason), "{refused}");
    }
    assert_eq!(of_client(), both);
}

pub(super) async fn the_marks_of_the_pool_are_settings_of_the_site() {
    let site = site().await;
    let operations = &site.operations;
    let published = || {
        let snapshot = SnapshotReader::new(site.paths.snapshot());
        snapshot.current().unwrap().pool
    };
    assert_eq!(published(), PoolSettings::default());
    let change = PoolChange {
        warn_percent: Some(70),
        stop_percent: Some(97),
        ..PoolChange::default()
    };
    let settings = operations.pool_set(change).await.unwrap();
    assert_eq!((settings.warn_percent, settings.throttle_percent), (70, 90));
    assert_eq!(published(), settings);
    let twisted = PoolChange {
        warn_percent: Some(95),
        ..PoolChange::default()
    };
    let refused = text(operations.pool_set(twisted).await);
    assert!(refused.starts_with("pool marks: warn at 95 %"), "{refused}");
    assert_eq!(published(), settings);
    assert!(site.actions().await.contains(&"site.pool".to_owned()));
}

fn image() -> ImageId {
    "00000000-0000-7000-8000-00000000d15c".parse().unwrap()
}

/// Files of a version of 1 MiB that is not zero.
fn make_version(site: &Site, number: u32) -> VersionRef {
    let version = VersionRef {
        image: image(),
        number,
    };
    let source = site.paths.runtime.join(format!("source-{number}"));
    std::fs::write(&source, vec![7; 1 << 20]).unwrap();
    let request = ImportRequest {
        images: site.paths.images(),
        version,
        source: ImportSource {
            path: source,
            format: Some(ImageFormat::Raw),
            end_marker: None,
        },
        comment: String::new(),
        created: Timestamp(1),
    };
    import(&request, &mut |_| {}, &|| false).unwrap();
    version
}

/// Writes 64 KiB on a disk of a version.
fn write_disk(site: &Site, disk: DiskId, version: VersionRef) {
    let paths = StorePaths {
        images: site.paths.images(),
        overlays: site.paths.overlays(),
        live_maps: site.paths.live_maps(),
    };
    let store = DiskStore::open(paths, StoreOptions::current().unwrap()).unwrap();
    let spec = DiskSpec {
        disk,
        version,
        version_dir: version_directory(&site.paths.images(), version),
        policy: BootPolicy::Persistent,
        reset_epoch: 0,
    };
    let powered = store.power_on(&spec).unwrap();
    dess_disk::BlockDevice::write_at(&*powered.disk, 0, &[9; 65536]).unwrap();
}

async fn record_version(site: &Site, version: VersionRef) {
    let store = site.operations.store().await.unwrap();
    let recorded = store.transact(|mut tx| async move {
        let known = tx.image_list().await?;
        if !known.iter().any(|image| image.id == version.image) {
            tx.image_insert(&dess_store::ImageRecord {
                id: version.image,
                name: "win".into(),
                last_version: version.number,
                created: Timestamp(1),
            })
            .await?;
        }
        tx.version_insert(&dess_store::VersionRecord {
            version,
            directory: version.number.to_string(),
            size_bytes: MIB,
            parent: None,
            comment: String::new(),
            author: String::new(),
            layer_bytes: None,
            created: Timestamp(1),
        })
        .await?;
        Result::Ok(())
    });
    recorded.await.unwrap();
}

pub(super) async fn it_is_told_who_uses_the_space_also_without_the_iscsi_service() {
    let site = site().await;
    let id = site.operations.client_add(new_client(1)).await.unwrap().id;
    let version = make_version(&site, 1);
    record_version(&site, version).await;
    write_disk(&site, site.entry(id).disk.id, version);
    let space = site.operations.space().await.unwrap();
    assert!(space.pool.figures.total_bytes > 0 && space.pool.since.is_none());
    assert_eq!(space.pool.full_in_secs, None);
    assert_eq!(space.disks.len(), 1);
    assert_eq!(
        (space.disks[0].client, space.disks[0].seat),
        (Some(id), Some(1))
    );
    assert!(space.disks[0].usage.overlay_bytes >= 65536);
    assert_eq!(space.versions[0].label, "win@1");
    assert!(space.versions[0].bytes >= MIB);
    assert!(space.pool.level <= PoolLevel::Stop);
}

pub(super) async fn what_nothing_refers_to_is_found_and_removed_and_nothing_else() {
    let site = site().await;
    let operations = &site.operations;
    let id = operations.client_add(new_client(1)).await.unwrap().id;
    let (known, stray) = (make_version(&site, 2), make_version(&site, 1));
    record_version(&site, known).await;
    // An import may take this one up.
    let next = make_version(&site, 3);
    let disk = site.entry(id).disk.id;
    let orphan: DiskId = "00000000-0000-7000-8000-0000000000aa".parse().unwrap();
    write_disk(&site, disk, known);
    write_disk(&site, orphan, stray);
    let found = operations.garbage().await.unwrap();
    let kinds = |view: &GarbageView| view.orphans.iter().map(|one| one.what).collect::<Vec<_>>();
    // The orphan stands on the stray version: it goes first.
    assert_eq!(kinds(&found), [OrphanKind::Disk { disk: orphan }]);
    assert!(found.orphans[0].bytes >= 65536 && !found.removed);
    assert!(
        site.paths.overlays().join(orphan.simple()).exists(),
        "only looked at"
    );
    assert!(operations.garbage_collect().await.unwrap().removed);
    let found = operations.garbage().await.unwrap();
    assert_eq!(kinds(&found), [OrphanKind::Version { version: stray }]);
    operations.garbage_collect().await.unwrap();
    assert!(operations.garbage().await.unwrap().orphans.is_empty());
    let there = |version| version_directory(&site.paths.images(), version).exists();
    assert!(there(known) && there(next) && !there(stray));
    assert!(site.paths.overlays().join(disk.simple()).exists());
    assert!(!site.paths.overlays().join(orphan.simple()).exists());
    assert!(site.actions().await.contains(&"space.collect".to_owned()));
}

pub(super) async fn while_a_job_works_files_of_versions_are_left_alone() {
    let site = site().await;
    let stray = make_version(&site, 1);
    let source = site.paths.runtime.join("source-1");
    let order = ImageImport {
        source,
        name: "win".into(),
    };
    let job = site.operations.image_import_start(order).await.unwrap();
    let busy = site.operations.garbage().await.unwrap();
    assert_eq!(busy.busy.as_deref(), Some("image_import win"));
    assert!(busy.orphans.is_empty());
    site.operations.job_cancel(job).await.unwrap();
    let found = site.operations.garbage().await.unwrap();
    assert_eq!(
        found.orphans[0].what,
        OrphanKind::Version { version: stray }
    );
}
