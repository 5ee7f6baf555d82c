//! Orders of `node` about the disk of a maintenance client.

use std::sync::Arc;
use std::time::Duration;

use dess_disk::{DiskError, DiskStore};
use dess_model::{
    ClientEntry, ClientId, ControlError, DiskId, LoginKind, SealedStatus, SessionEnd, SiteSnapshot,
    TargetReply,
};

use crate::control::{client_of, end_sessions, refuse_if_expected, take_from_service, with_store};
use crate::presence;
use crate::service::Service;
use crate::sessions::Session;
use crate::site::Site;

/// How long a client that does not acknowledge is waited for: the kernel looks only when it sends again, which becomes
/// rarer the longer the client is off. One that was switched off by force a while ago may count as running for a minute.
const UNACKNOWLEDGED_FOUND_GONE: Duration = Duration::from_secs(5);

/// Ends the writing of the client's maintenance overlay.
pub(crate) async fn seal(
    service: &Arc<Service>,
    client: ClientId,
) -> Result<TargetReply, ControlError> {
    let (_, entry) = entry_of(service, client)?;
    let disk = entry.maintenance_disk().unwrap_or(entry.disk.id);
    let system = entry.disk.id;
    refuse_if_expected(service, &entry)?;
    let sessions = alive(service, client).await;
    if sessions > 0 {
        return Err(ControlError::Running { client, sessions });
    }
    let gate = service.gate(&entry.iscsi.target_iqn);
    let _entered = gate.lock().await;
    end_sessions(service, client, SessionEnd::Administrative).await?;
    service.forget_units(&entry.iscsi.target_iqn);
    let sealed = with_store(service, client, move |room| {
        let sealed = room.store.seal(disk)?;
        room.boots.dropped(system);
        Ok(sealed)
    })
    .await?;
    Ok(TargetReply::Sealed(SealedStatus {
        disk,
        generation: sealed.generation,
        base: sealed.base,
        changed_bytes: sealed.changed_bytes,
    }))
}

/// Gives a sealed overlay back.
pub(crate) async fn unseal(
    service: &Arc<Service>,
    client: ClientId,
) -> Result<TargetReply, ControlError> {
    with_sealed(service, client, DiskStore::unseal).await
}

/// Drops a sealed overlay of which a version was made.
pub(crate) async fn release(
    service: &Arc<Service>,
    client: ClientId,
) -> Result<TargetReply, ControlError> {
    with_sealed(service, client, |store, disk| store.release(disk).map(drop)).await
}

/// Nobody can be logged in to a sealed overlay, so no session has to end first. Whether it is one of the system disk or of
/// a data disk, the site snapshot may not say any more.
async fn with_sealed(
    service: &Arc<Service>,
    client: ClientId,
    work: fn(&DiskStore, DiskId) -> Result<(), DiskError>,
) -> Result<TargetReply, ControlError> {
    let (snapshot, entry) = entry_of(service, client)?;
    let gate = service.gate(&entry.iscsi.target_iqn);
    let _entered = gate.lock().await;
    let disks: Vec<DiskId> = snapshot.disks_of(&entry).collect();
    with_store(service, client, move |room| {
        let mut disks = disks.into_iter().filter(|disk| room.store.holds(*disk));
        disks.try_for_each(|disk| work(&room.store, disk))
    })
    .await?;
    Ok(TargetReply::Done)
}

/// Drops what the maintenance client wrote.
pub(crate) async fn discard(
    service: &Arc<Service>,
    client: ClientId,
    force: bool,
) -> Result<TargetReply, ControlError> {
    let (snapshot, entry) = entry_of(service, client)?;
    let gate = service.gate(&entry.iscsi.target_iqn);
    let _entered = gate.lock().await;
    take_from_service(service, &entry, force).await?;
    let system = entry.disk.id;
    let disks: Vec<DiskId> = snapshot.disks_of(&entry).collect();
    with_store(service, client, move |room| {
        for disk in disks.into_iter().filter(|disk| room.store.holds(*disk)) {
            if room.store.discard(disk)? {
                // A system that ran on it must power on, whichever of its disks it was.
                room.boots.dropped(system);
            }
        }
        Ok(())
    })
    .await?;
    Ok(TargetReply::Done)
}

fn entry_of(
    service: &Service,
    client: ClientId,
) -> Result<(Arc<SiteSnapshot>, ClientEntry), ControlError> {
    let Site::Room(room) = service.site.as_ref() else {
        return Err(ControlError::UnknownClient { client });
    };
    client_of(room, client)
}

/// How many sessions of the client are alive. Once a system runs, what its firmware left open says nothing.
async fn alive(service: &Arc<Service>, client: ClientId) -> u32 {
    let is_own = |session: &Session| session.client == Some(client);
    let system = service
        .sessions
        .count(|session| is_own(session) && session.kind == LoginKind::Os);
    let counts =
        |session: &Session| is_own(session) && (system == 0 || session.kind == LoginKind::Os);
    let peers = presence::ask(service, counts).await;
    let left = match peers.alive.len() {
        0 if !peers.silent.is_empty() => {
            presence::insist(service, counts, UNACKNOWLEDGED_FOUND_GONE).await
        }
        alive => alive,
    };
    u32::try_from(left).unwrap_or(u32::MAX)
}
