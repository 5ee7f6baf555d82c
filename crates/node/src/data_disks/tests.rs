use dess_model::{GroupId, MacAddr, Timestamp};
use uuid::Uuid;

use super::*;
use crate::registration;

fn image(number: u128) -> ImageId {
    ImageId(Uuid::from_u128(number))
}

fn version(image: ImageId, number: u32) -> VersionRecord {
    VersionRecord {
        version: VersionRef { image, number },
        directory: String::new(),
        size_bytes: 0,
        parent: None,
        comment: String::new(),
        author: String::new(),
        layer_bytes: None,
        created: Timestamp(0),
    }
}

fn disk(holder: Holder, lun: u8, content: Option<(ImageId, Option<u32>)>) -> DataDiskRecord {
    DataDiskRecord {
        holder,
        lun,
        content: content.map(|(image, version)| DataContent {
            image,
            version,
            access: DataAccess::ReadOnly,
        }),
    }
}

fn client(group: GroupId) -> ClientRecord {
    registration::client(MacAddr([2, 0, 0, 0, 0, 1]), 1, group, Timestamp(0))
}

fn seen(disks: &DataDisks, client: &ClientRecord) -> Vec<(u8, u128, u32, bool)> {
    let seen = disks.of_client(client, None).into_iter();
    seen.map(|disk| {
        let VersionRef { image, number } = disk.version;
        (disk.lun, image.0.as_u128(), number, disk.inherited)
    })
    .collect()
}

#[test]
fn a_client_has_its_groups_disks_but_for_those_that_it_has_of_its_own() {
    let id = GroupId(Uuid::from_u128(9));
    let group = Holder::Group(id);
    let (own, other) = (client(id), client(id));
    let mine = Holder::Client(own.id);
    let records = vec![
        disk(group, 1, Some((image(1), None))),
        disk(group, 2, Some((image(2), Some(1)))),
        disk(group, 3, Some((image(3), None))),
        disk(group, 4, Some((image(4), None))),
        disk(mine, 1, Some((image(1), Some(1)))),
        disk(mine, 2, None),
        // Its group has the image under another number: one of the two would be the other's twin.
        disk(mine, 5, Some((image(3), None))),
    ];
    let versions = [(1, 1), (1, 2), (2, 1), (2, 3), (3, 1)];
    let versions: Vec<_> = versions
        .into_iter()
        .map(|(id, number)| version(image(id), number))
        .collect();
    let disks = DataDisks::new(records, &versions);
    assert_eq!(
        seen(&disks, &other),
        [(1, 1, 2, true), (2, 2, 1, true), (3, 3, 1, true)],
        "of image 4 there is no version"
    );
    assert_eq!(seen(&disks, &own), [(1, 1, 1, false), (5, 3, 1, false)]);
}

#[test]
fn a_disk_that_is_maintained_is_lent_whatever_is_assigned() {
    let group = GroupId(Uuid::from_u128(9));
    let client = client(group);
    let records = vec![
        disk(Holder::Group(group), 1, Some((image(1), None))),
        disk(Holder::Client(client.id), 2, Some((image(2), None))),
    ];
    let versions = [
        version(image(1), 1),
        version(image(1), 2),
        version(image(2), 1),
    ];
    let disks = DataDisks::new(records, &versions);
    let maintenance = MaintenanceRecord {
        client: client.id,
        version: versions[0].version,
        data_lun: Some(2),
        actor: String::new(),
        created: Timestamp(0),
    };
    let seen = disks.entries(&client, Some(&maintenance));
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!((seen[0].lun, seen[0].access), (2, DataAccess::Maintenance));
    assert_eq!(seen[0].version, versions[0].version);
    assert_eq!(seen[0].disk, client.disk.data_disk(image(1)));
}
