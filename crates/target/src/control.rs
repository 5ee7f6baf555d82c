//! Orders of the other services over the control socket.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dess_disk::{DiskError, DiskInfo, PoweredDisk};
use dess_model::host::serve_control;
use dess_model::{
    ClientEntry, ClientId, ControlError, DataAccess, DiskId, DiskState, DiskStatus, SessionEnd,
    SiteSnapshot, TargetReply, TargetRequest,
};
use tokio::net::UnixListener;

use crate::maintenance;
use crate::power::{expect, power_on};
use crate::service::{Service, on_thread};
use crate::site::{Room, Site, chain};
use crate::snapshots;
use crate::space;

/// How often a new site snapshot is looked for.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(1);

/// Answers requests until the future is dropped.
pub(crate) async fn serve(service: &Arc<Service>, listener: UnixListener) {
    let service = Arc::clone(service);
    let handle = move |request| {
        let service = Arc::clone(&service);
        async move {
            handle(&service, request)
                .await
                .unwrap_or_else(TargetReply::Error)
        }
    };
    let malformed = |message| TargetReply::Error(ControlError::Malformed { message });
    serve_control(listener, handle, malformed).await;
}

async fn handle(
    service: &Arc<Service>,
    request: TargetRequest,
) -> Result<TargetReply, ControlError> {
    match request {
        TargetRequest::PowerOn { client, peer } => power_on(service, client, peer).await,
        TargetRequest::Reset {
            client,
            force,
            epoch,
        } => reset(service, client, force, epoch).await,
        TargetRequest::Remove { client, force } => remove(service, client, force).await,
        TargetRequest::Seal { client } => maintenance::seal(service, client).await,
        TargetRequest::Unseal { client } => maintenance::unseal(service, client).await,
        TargetRequest::Release { client } => maintenance::release(service, client).await,
        TargetRequest::Discard { client, force } => {
            maintenance::discard(service, client, force).await
        }
        TargetRequest::Snapshot { client, order } => snapshots::order(service, client, order).await,
        TargetRequest::Expect { client } => expect(service, client).await,
        TargetRequest::Disconnect { client } => {
            end_sessions(service, client, SessionEnd::Administrative).await?;
            Ok(TargetReply::Done)
        }
        TargetRequest::Status => status(service).await,
        TargetRequest::Pool => space::status(service).await,
        TargetRequest::Collect { disk } => collect(service, disk).await,
    }
}

/// Ends all sessions of a client and waits until nothing of them runs.
pub(crate) async fn end_sessions(
    service: &Service,
    client: ClientId,
    reason: SessionEnd,
) -> Result<usize, ControlError> {
    service
        .sessions
        .end(reason, |session| session.client == Some(client))
        .await
        .map_err(|error| ControlError::Disk {
            client,
            message: error.to_string(),
        })
}

/// The client and the snapshot that it is in.
pub(crate) fn client_of(
    room: &Room,
    client: ClientId,
) -> Result<(Arc<SiteSnapshot>, ClientEntry), ControlError> {
    let unknown = ControlError::UnknownClient { client };
    let snapshot = room.snapshots.current().ok_or(unknown.clone())?;
    let entry = snapshot.client_by_id(client).cloned().ok_or(unknown)?;
    Ok((snapshot, entry))
}

/// Ends the client's sessions if `force` allows it; refused if it does not. The caller holds the
/// gate of its target.
pub(crate) async fn take_from_service(
    service: &Service,
    entry: &ClientEntry,
    force: bool,
) -> Result<(), ControlError> {
    if !force {
        refuse_if_expected(service, entry)?;
    }
    let client = entry.id;
    let sessions = service
        .sessions
        .matching(|session| session.client == Some(client))
        .len();
    if sessions > 0 && !force {
        let sessions = u32::try_from(sessions).unwrap_or(u32::MAX);
        return Err(ControlError::Running { client, sessions });
    }
    end_sessions(service, client, SessionEnd::Administrative).await?;
    service.forget_units(&entry.iscsi.target_iqn);
    Ok(())
}

/// After a restart of the service, a system that used the disk counts as running until it had time to come back.
pub(crate) fn refuse_if_expected(
    service: &Service,
    entry: &ClientEntry,
) -> Result<(), ControlError> {
    let client = entry.id;
    let Site::Room(room) = service.site.as_ref() else {
        return Err(ControlError::UnknownClient { client });
    };
    match room.returning.expected_until(entry.disk.id) {
        Some(_) => Err(ControlError::Running {
            client,
            sessions: 1,
        }),
        None => Ok(()),
    }
}

/// Makes no fresh disk: that belongs to the next boot. A system that still runs would write what
/// it holds in memory over it.
async fn reset(
    service: &Arc<Service>,
    client: ClientId,
    force: bool,
    epoch: u32,
) -> Result<TargetReply, ControlError> {
    let Site::Room(room) = service.site.as_ref() else {
        return Err(ControlError::UnknownClient { client });
    };
    let (snapshot, entry) = client_of(room, client)?;
    let gate = service.gate(&entry.iscsi.target_iqn);
    let _entered = gate.lock().await;
    take_from_service(service, &entry, force).await?;
    let disk = entry.disk.id;
    let disks: Vec<DiskId> = snapshot.disks_of(&entry).collect();
    let reset = move |room: &Room| {
        let generation = room.store.reset(disk, epoch)?;
        for data in disks.into_iter().filter(|data| *data != disk) {
            if room.store.holds(data) {
                room.store.reset(data, epoch)?;
            }
        }
        Ok(generation)
    };
    let generation = with_store(service, client, reset).await?;
    room.boots.dropped(disk);
    room.returning.gone(disk);
    tracing::info!(client.id = %client, "disk of {} was reset", entry.name);
    let version = entry.version.and_then(|version| snapshot.version(version));
    let assigned = version.map(|version| version.version);
    Ok(TargetReply::Disk(DiskStatus {
        client,
        lun: 0,
        state: DiskState::Ready,
        size_bytes: version.map_or(0, |version| version.size_bytes),
        overlay_bytes: 0,
        generation,
        version: assigned,
        fresh: true,
    }))
}

async fn remove(
    service: &Arc<Service>,
    client: ClientId,
    force: bool,
) -> Result<TargetReply, ControlError> {
    let Site::Room(room) = service.site.as_ref() else {
        return Err(ControlError::UnknownClient { client });
    };
    let (snapshot, entry) = client_of(room, client)?;
    let gate = service.gate(&entry.iscsi.target_iqn);
    let _entered = gate.lock().await;
    take_from_service(service, &entry, force).await?;
    let disks: Vec<DiskId> = snapshot.disks_of(&entry).collect();
    let remove = move |room: &Room| {
        disks
            .into_iter()
            .try_for_each(|disk| room.store.remove(disk))
    };
    with_store(service, client, remove).await?;
    room.boots.removed(entry.disk.id);
    room.returning.gone(entry.disk.id);
    tracing::info!(client.id = %client, "disk of {} was removed", entry.name);
    Ok(TargetReply::Done)
}

/// Removes a disk that no client has any more.
async fn collect(service: &Arc<Service>, disk: DiskId) -> Result<TargetReply, ControlError> {
    let failed = |message: String| ControlError::Malformed { message };
    let service = Arc::clone(service);
    let removed = on_thread(move || {
        let Site::Room(room) = service.site.as_ref() else {
            return Err(failed("there is no store".to_owned()));
        };
        // Without a snapshot nobody knows whose it is.
        let snapshot = room.snapshots.current();
        let snapshot = snapshot.ok_or_else(|| failed("there is no site snapshot".to_owned()))?;
        let owner = snapshot
            .clients
            .iter()
            .find(|client| client.disk.id == disk);
        if let Some(owner) = owner {
            return Err(ControlError::InUse {
                disk,
                client: owner.id,
            });
        }
        room.boots.removed(disk);
        room.store
            .remove(disk)
            .map_err(|error| failed(chain(&error)))
    });
    removed.await?;
    tracing::info!(disk.id = %disk, "disk {disk} belonged to no client and was removed");
    Ok(TargetReply::Done)
}

async fn status(service: &Arc<Service>) -> Result<TargetReply, ControlError> {
    service.observe_tcp().await;
    let clients = service
        .accounts
        .all()
        .into_iter()
        .filter(|(_, account)| account.depth_max() > 0)
        .map(|(client, account)| account.counters(client))
        .collect();
    let sessions = service
        .sessions
        .matching(|_| true)
        .iter()
        .filter_map(|session| session.status())
        .collect();
    Ok(TargetReply::Status {
        sessions,
        disks: disks(service).await,
        clients,
        boot_profiles: service
            .profiles()
            .map_or_else(Vec::new, |profiles| profiles.status()),
    })
}

/// The state of all disks.
pub(crate) async fn disks(service: &Arc<Service>) -> Vec<DiskStatus> {
    let service = Arc::clone(service);
    on_thread(move || match service.site.as_ref() {
        Site::Room(room) => known_disks(&service, room),
        Site::Single(_) => Vec::new(),
    })
    .await
}

/// The disks of the snapshot's clients; one that cannot be read is left out and logged.
fn known_disks(service: &Service, room: &Room) -> Vec<DiskStatus> {
    let Some(snapshot) = room.snapshots.current() else {
        return Vec::new();
    };
    let mut disks = Vec::new();
    for client in &snapshot.clients {
        let data = client.data_disks.iter();
        let data = data.filter(|data| data.access != DataAccess::ReadOnly);
        let data = data.map(|data| (data.lun, data.disk.id));
        for (lun, disk) in std::iter::once((0, client.disk.id)).chain(data) {
            match room.store.status(disk) {
                Ok(Some(info)) => disks.push(known_disk(client.id, lun, &info)),
                Ok(None) => {}
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    client.id = %client.id,
                    "cannot read the state of a disk"
                ),
            }
        }
        let units = service.known_units(&client.iscsi.target_iqn);
        let shared = units.iter().flat_map(|units| units.shared());
        disks.extend(shared.map(|(lun, version, size_bytes)| DiskStatus {
            client: client.id,
            lun,
            state: DiskState::Ready,
            size_bytes,
            overlay_bytes: 0,
            generation: 0,
            version: Some(version),
            fresh: false,
        }));
    }
    disks
}

fn known_disk(client: ClientId, lun: u8, info: &DiskInfo) -> DiskStatus {
    DiskStatus {
        client,
        lun,
        state: match (&info.open, info.sealed) {
            (_, true) => DiskState::Sealed,
            (Some(open), false) => open.state,
            (None, false) => DiskState::Ready,
        },
        size_bytes: info.descriptor.size_bytes,
        overlay_bytes: info.allocated_bytes,
        generation: info.descriptor.generation,
        version: Some(info.descriptor.base),
        fresh: false,
    }
}

pub(crate) fn disk_status(
    client: ClientId,
    powered: &PoweredDisk,
) -> Result<DiskStatus, ControlError> {
    let figures = powered.disk.figures().map_err(|error| ControlError::Disk {
        client,
        message: error.to_string(),
    })?;
    Ok(DiskStatus {
        client,
        lun: 0,
        state: figures.state,
        size_bytes: figures.size_bytes,
        overlay_bytes: figures.allocated_bytes,
        generation: powered.generation,
        version: Some(powered.disk.base()),
        fresh: powered.fresh,
    })
}

/// Runs a call of the store where it may wait.
pub(crate) async fn with_store<T: Send + 'static>(
    service: &Arc<Service>,
    client: ClientId,
    call: impl FnOnce(&Room) -> Result<T, DiskError> + Send + 'static,
) -> Result<T, ControlError> {
    let service = Arc::clone(service);
    on_thread(move || match service.site.as_ref() {
        Site::Room(room) => call(room).map_err(|error| {
            if let DiskError::NoRoom { used_percent, .. } = error {
                return ControlError::NoRoom {
                    client,
                    used_percent,
                };
            }
            tracing::error!(
                error = &error as &dyn std::error::Error,
                client.id = %client,
                "the disk cannot be used"
            );
            ControlError::Disk {
                client,
                message: chain(&error),
            }
        }),
        Site::Single(_) => Err(ControlError::UnknownClient { client }),
    })
    .await
}

/// Takes over what each new snapshot says: limits hold at once, and sessions of clients that were
/// removed or lost their approval end. Runs until dropped.
pub(crate) async fn follow_snapshot(service: &Arc<Service>) {
    let Site::Room(room) = service.site.as_ref() else {
        return std::future::pending().await;
    };
    let mut revision = None;
    loop {
        let snapshot = room.snapshots.current();
        let Some(snapshot) = snapshot.filter(|new| revision != Some(new.revision)) else {
            tokio::time::sleep(SNAPSHOT_EVERY).await;
            continue;
        };
        revision = Some(snapshot.revision);
        service.accounts.follow(Instant::now(), &snapshot);
        for client in &snapshot.clients {
            for disk in snapshot.disks_of(client) {
                room.store.limit(disk, client.overlay_limits);
            }
        }
        let ended = service
            .sessions
            .end(SessionEnd::Administrative, |session| {
                let client = session.client.and_then(|id| snapshot.client_by_id(id));
                session.client.is_some() && !client.is_some_and(|client| client.approved)
            })
            .await;
        if let Err(error) = ended {
            tracing::warn!(%error, "sessions of removed clients are slow to end");
        }
    }
}
