//! Orders of `node` about the disk of a maintenance client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dess_disk::{DiskError, DiskStore};
use dess_model::{
    ClientEntry, ClientId, ControlError, DiskId, LoginKind, SealedStatus, SessionEnd, TargetReply,
    Timestamp,
};

use crate::control::{client_of, end_sessions, take_from_service, with_store};
use crate::listener::{SILENT_FOUND_GONE, Vigilance};
use crate::service::Service;
use crate::sessions::Session;
use crate::site::Site;

/// How long a client that does not acknowledge is waited for: the kernel looks only when it sends again, which becomes
/// rarer the longer the client is off. One that was switched off by force a while ago may count as running for a minute.
const UNACKNOWLEDGED_FOUND_GONE: Duration = Duration::from_secs(5);
/// How often it is looked whether a client says something, or is gone.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Ends the writing of the client's maintenance overlay.
pub(crate) async fn seal(
    service: &Arc<Service>,
    client: ClientId,
) -> Result<TargetReply, ControlError> {
    let entry = entry_of(service, client)?;
    let disk = entry.disk.id;
    let sessions = alive(service, client).await;
    if sessions > 0 {
        return Err(ControlError::Running { client, sessions });
    }
    let gate = service.gate(&entry.iscsi.target_iqn);
    let _entered = gate.lock().await;
    end_sessions(service, client, SessionEnd::Administrative).await?;
    service.forget_unit(&entry.iscsi.target_iqn);
    let sealed = with_store(service, client, move |room| {
        let sealed = room.store.seal(disk)?;
        room.boots.dropped(disk);
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

/// Nobody can be logged in to a sealed overlay, so no session has to end first.
async fn with_sealed(
    service: &Arc<Service>,
    client: ClientId,
    work: fn(&DiskStore, DiskId) -> Result<(), DiskError>,
) -> Result<TargetReply, ControlError> {
    let entry = entry_of(service, client)?;
    let disk = entry.disk.id;
    let gate = service.gate(&entry.iscsi.target_iqn);
    let _entered = gate.lock().await;
    with_store(service, client, move |room| work(&room.store, disk)).await?;
    Ok(TargetReply::Done)
}

/// Drops what the maintenance client wrote.
pub(crate) async fn discard(
    service: &Arc<Service>,
    client: ClientId,
    force: bool,
) -> Result<TargetReply, ControlError> {
    let entry = entry_of(service, client)?;
    let disk = entry.disk.id;
    let gate = service.gate(&entry.iscsi.target_iqn);
    let _entered = gate.lock().await;
    take_from_service(service, &entry, force).await?;
    with_store(service, client, move |room| {
        if room.store.discard(disk)? {
            room.boots.dropped(disk);
        }
        Ok(())
    })
    .await?;
    Ok(TargetReply::Done)
}

fn entry_of(service: &Service, client: ClientId) -> Result<ClientEntry, ControlError> {
    let Site::Room(room) = service.site.as_ref() else {
        return Err(ControlError::UnknownClient { client });
    };
    client_of(room, client).map(|(_, entry)| entry)
}

/// How many sessions of the client are alive. A PC that was switched off leaves its sessions open, and a system that has
/// nothing to do may be silent for long: what tells them apart is whether the peer's TCP answers. Once a system runs,
/// what its firmware left open says nothing.
async fn alive(service: &Service, client: ClientId) -> u32 {
    let matching = |wanted: &dyn Fn(&Session) -> bool| {
        let own = |session: &Session| session.client == Some(client) && wanted(session);
        service.sessions.matching(own)
    };
    let system = !matching(&|session| session.kind == LoginKind::Os).is_empty();
    let counts = |session: &Session| !system || session.kind == LoginKind::Os;
    let looked = Timestamp::now();
    for (vigilance, limit) in [
        (Vigilance::Silent, SILENT_FOUND_GONE),
        (Vigilance::Unacknowledged, UNACKNOWLEDGED_FOUND_GONE),
    ] {
        let deadline = Instant::now() + limit;
        for session in matching(&counts) {
            session.watch_peer(vigilance);
        }
        while Instant::now() < deadline {
            let spoke = |session: &Session| session.counters.last_command() > looked;
            if matching(&counts).is_empty() || !matching(&spoke).is_empty() {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    let left = matching(&counts);
    for session in &left {
        session.watch_peer(Vigilance::Usual);
    }
    u32::try_from(left.len()).unwrap_or(u32::MAX)
}
