//! Orders of an operator about the snapshots of a client's disk.

use std::sync::Arc;

use dess_disk::{DiskError, DiskStore};
use dess_model::{
    ClientId, ControlError, DiskId, SnapshotOrder, SnapshotStatus, TargetReply, Timestamp,
};

use crate::control::{client_of, take_from_service, with_store};
use crate::service::Service;
use crate::site::Site;

/// Carries an order out; answers the snapshots that there are then. A client that runs is left alone: its system has writes in memory, so
/// what its disk holds at any moment is not what it would hold after a shutdown.
pub(crate) async fn order(
    service: &Arc<Service>,
    client: ClientId,
    order: SnapshotOrder,
) -> Result<TargetReply, ControlError> {
    let Site::Room(room) = service.site.as_ref() else {
        return Err(ControlError::UnknownClient { client });
    };
    let (_, entry) = client_of(room, client)?;
    let gate = service.gate(&entry.iscsi.target_iqn);
    let _entered = gate.lock().await;
    if order != SnapshotOrder::List {
        take_from_service(service, &entry, false).await?;
    }
    let (disk, epoch) = (entry.disk.id, entry.reset_epoch);
    let snapshots = with_store(service, client, move |room| {
        let snapshots = carry_out(&room.store, disk, epoch, &order)?;
        if let SnapshotOrder::Restore { .. } = order {
            room.boots.dropped(disk);
        }
        Ok(snapshots)
    })
    .await?;
    Ok(TargetReply::Snapshots { snapshots })
}

fn carry_out(
    store: &DiskStore,
    disk: DiskId,
    epoch: u32,
    order: &SnapshotOrder,
) -> Result<Vec<SnapshotStatus>, DiskError> {
    match order {
        SnapshotOrder::List => {}
        SnapshotOrder::Create { name } => {
            store.snapshot_create(disk, name, Timestamp::now())?;
        }
        SnapshotOrder::Restore { name } => {
            store.snapshot_restore(disk, name, epoch)?;
        }
        SnapshotOrder::Remove { name } => store.snapshot_remove(disk, name)?,
    }
    let snapshots = store.snapshot_list(disk)?.into_iter();
    Ok(snapshots
        .map(|info| SnapshotStatus {
            name: info.name,
            created: info.created,
            version: info.descriptor.base,
            allocated_bytes: info.allocated_bytes,
        })
        .collect())
}
