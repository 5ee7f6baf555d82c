//! Data disks of groups and clients.

use dess_model::{DataAccess, ImageId, VersionRef};
use dess_store::{ImageRecord, VersionRecord};

use super::*;

/// An image with so many versions, as the daemon would have made it.
async fn image(site: &Site, name: &str, versions: u32) -> ImageId {
    let id = ImageId(Uuid::now_v7());
    let store = site.operations.store().await.unwrap();
    store
        .transact(|mut tx| async move {
            tx.image_insert(&ImageRecord {
                id,
                name: name.into(),
                last_version: 0,
                created: Timestamp(1),
            })
            .await?;
            for number in 1..=versions {
                tx.version_insert(&VersionRecord {
                    version: VersionRef { image: id, number },
                    directory: format!("{}/{number}", id.simple()),
                    size_bytes: 1 << 20,
                    parent: None,
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
    id
}

fn disk(lun: u8, image: &str, access: DataAccess) -> DataDiskChange {
    let image = image.into();
    let to = DataDiskChoice::Image { image, access };
    DataDiskChange { lun, to }
}

fn no_disk(lun: u8, to: DataDiskChoice) -> DataDiskChange {
    DataDiskChange { lun, to }
}

pub(super) async fn a_group_gives_data_disks_and_a_client_may_have_others() {
    let site = site().await;
    let operations = &site.operations;
    let (games, course) = (
        image(&site, "games", 2).await,
        image(&site, "course", 1).await,
    );
    let one = operations.client_add(new_client(1)).await.unwrap().id;
    let other = operations.client_add(new_client(2)).await.unwrap().id;
    let wanted = [
        disk(1, "games", DataAccess::ReadOnly),
        disk(3, "course@1", DataAccess::Volatile),
    ];
    let group = operations
        .group_data_disks("default", &wanted)
        .await
        .unwrap();
    assert_eq!(group.data_disks.len(), 2);
    let own = [
        disk(1, "games@1", DataAccess::Persistent),
        no_disk(3, DataDiskChoice::Nothing),
    ];
    let view = operations.client_data_disks(one, &own).await.unwrap();
    let labels: Vec<_> = view
        .data_disks
        .iter()
        .map(|disk| (disk.lun, disk.label.clone().unwrap(), disk.inherited))
        .collect();
    assert_eq!(labels, [(1, "games@1".into(), false)]);

    let entry = site.entry(one);
    assert_eq!(entry.data_disks.len(), 1);
    assert_eq!(entry.data_disks[0].access, DataAccess::Persistent);
    assert_eq!(entry.data_disks[0].disk, entry.disk.data_disk(games));
    let seen: Vec<_> = site
        .entry(other)
        .data_disks
        .iter()
        .map(|disk| (disk.lun, disk.version.image, disk.version.number))
        .collect();
    assert_eq!(seen, [(1, games, 2), (3, course, 1)]);

    let back = [
        no_disk(1, DataDiskChoice::Inherit),
        no_disk(3, DataDiskChoice::Inherit),
    ];
    operations.client_data_disks(one, &back).await.unwrap();
    assert_eq!(site.entry(one).data_disks.len(), 2);
    let none = [no_disk(1, DataDiskChoice::Nothing)];
    operations.group_data_disks("default", &none).await.unwrap();
    assert_eq!(site.entry(one).data_disks.len(), 1);
    assert!(
        site.actions()
            .await
            .contains(&"group.data_disks".to_owned())
    );
}

pub(super) async fn what_cannot_be_a_data_disk_is_refused() {
    let site = site().await;
    let operations = &site.operations;
    image(&site, "games", 1).await;
    let ro = DataAccess::ReadOnly;
    for (changes, reason) in [
        (vec![disk(0, "games", ro)], "0 is the system disk"),
        (vec![disk(32, "games", ro)], "not in 1 to 31"),
        (vec![disk(1, "nothing", ro)], "no image \"nothing\""),
        (vec![disk(1, "games@2", ro)], "no image \"games@2\""),
        (
            vec![disk(1, "games", DataAccess::Maintenance)],
            "dess image maintain",
        ),
        (
            vec![disk(1, "games", ro), disk(2, "games@1", ro)],
            "games is data disk 1 already",
        ),
    ] {
        let refused = text(operations.group_data_disks("default", &changes).await);
        assert!(refused.contains(reason), "{refused}");
    }
    let groups = operations.group_list().await.unwrap();
    assert_eq!(groups[0].data_disks, [], "nothing of it was done");
}

pub(super) async fn an_image_that_is_a_data_disk_is_not_removed_and_is_maintained_there() {
    let site = site().await;
    let operations = &site.operations;
    let games = image(&site, "games", 2).await;
    let client = operations.client_add(new_client(1)).await.unwrap().id;
    let wanted = [disk(2, "games", DataAccess::ReadOnly)];
    operations
        .group_data_disks("default", &wanted)
        .await
        .unwrap();
    let own = [disk(1, "games@1", DataAccess::ReadOnly)];
    operations.client_data_disks(client, &own).await.unwrap();
    let _target = played_target(&site);
    for (version, user) in [
        ("games@2", "data disk 2 of the group default"),
        ("games@1", "data disk 1 of seat 1 (PC-01)"),
    ] {
        let refused = text(operations.version_remove(version).await);
        assert!(refused.contains(user), "{refused}");
    }
    operations.image_maintain("games", client).await.unwrap();
    let entry = site.entry(client);
    assert_eq!(entry.version, None, "it boots what it did");
    assert_ne!(entry.policy, BootPolicy::Maintenance);
    let lent: Vec<_> = entry
        .data_disks
        .iter()
        .map(|disk| (disk.lun, disk.version.number, disk.access))
        .collect();
    assert_eq!(lent, [(1, 2, DataAccess::Maintenance)]);
    assert_eq!(
        entry.maintenance_disk(),
        Some(entry.disk.data_disk(games).id)
    );
}

pub(super) async fn a_version_that_a_running_client_reads_as_a_data_disk_is_in_use() {
    let site = site().await;
    let operations = &site.operations;
    let games = image(&site, "games", 2).await;
    let version = |number| VersionRef {
        image: games,
        number,
    };
    let client = operations.client_add(new_client(1)).await.unwrap().id;
    let wanted = [disk(1, "games", DataAccess::ReadOnly)];
    operations
        .group_data_disks("default", &wanted)
        .await
        .unwrap();
    // It was switched on before games@2 came.
    let served = DiskStatus {
        client,
        lun: 1,
        state: DiskState::Ready,
        size_bytes: 1 << 20,
        overlay_bytes: 0,
        generation: 0,
        version: Some(version(1)),
        fresh: false,
    };
    let _target = target_that_says(&site, vec![session(client)], vec![served]);
    let refused = text(operations.version_remove("games@1").await);
    let user = "the disk of seat 1 (PC-01) is based on it";
    assert!(refused.contains(user), "{refused}");
    let (label, users) = operations.version_dependents(version(1)).await.unwrap();
    assert_eq!((&*label, users), ("games@1", vec![user.to_owned()]));
    let (_, users) = operations.version_dependents(version(2)).await.unwrap();
    assert_eq!(users, ["data disk 1 of the group default"]);

    let data_disk = site.entry(client).disk.data_disk(games).id;
    let named = operations.disk_labels(vec![data_disk]).await.unwrap();
    assert_eq!(named[0].label, "seat 1 (PC-01), data disk games");
    assert_eq!(named[0].client, Some(client));
}

/// An iSCSI service without sessions.
fn played_target(site: &Site) -> tokio::task::JoinHandle<()> {
    target_that_says(site, vec![], vec![])
}

fn target_that_says(
    site: &Site,
    sessions: Vec<SessionStatus>,
    disks: Vec<DiskStatus>,
) -> tokio::task::JoinHandle<()> {
    let listener = bind_control(&site.paths.target_control()).unwrap();
    tokio::spawn(serve_control(
        listener,
        move |_: TargetRequest| {
            std::future::ready(TargetReply::Status {
                sessions: sessions.clone(),
                disks: disks.clone(),
                clients: vec![],
                boot_profiles: vec![],
            })
        },
        |message| TargetReply::Error(ControlError::Malformed { message }),
    ))
}
