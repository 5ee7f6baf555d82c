//! A client powers on: its disk is made ready, and what is left of its former life ends.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dess_disk::PoweredDisk;
use dess_model::{
    ClientEntry, ClientId, ControlError, EventKind, LoginKind, SessionEnd, SiteSnapshot,
    TargetReply, Timestamp,
};

use crate::control::{client_of, disk_status, end_sessions, with_store};
use crate::service::Service;
use crate::sessions::Session;
use crate::site::Site;

/// A system elsewhere that was silent for this long does not run any more. Initiators that have
/// nothing to do ping more often.
const ELSEWHERE_SILENT: Duration = Duration::from_secs(10);
/// A system at the same address that was silent for this long has given way to the firmware.
const HERE_SILENT: Duration = Duration::from_secs(2);

/// An order to make a client's disk ready, for a firmware at `peer`. Refused while the client's
/// operating system runs: anybody may ask for a script.
pub(crate) async fn power_on(
    service: &Arc<Service>,
    client: ClientId,
    peer: IpAddr,
) -> Result<TargetReply, ControlError> {
    let Site::Room(room) = service.site.as_ref() else {
        return Err(ControlError::UnknownClient { client });
    };
    let (snapshot, entry) = client_of(room, client)?;
    let sessions = running(service, client, peer).await;
    if sessions > 0 {
        tracing::warn!(
            client.id = %client,
            client.address = %peer,
            "{} is asked to power on by {peer}, but its system runs",
            entry.name
        );
        return Err(ControlError::Running { client, sessions });
    }
    let gate = service.gate(&entry.iscsi.target_iqn);
    let _entered = gate.lock().await;
    let powered = make_ready(service, &snapshot, &entry).await?;
    disk_status(client, &powered).map(TargetReply::Disk)
}

/// How many sessions of a client's operating system are alive, as seen from a firmware at `peer`.
/// A PC that runs its firmware cannot use the sessions of its system at the same time, so those
/// from the same address count only if they go on; looking takes at most [`HERE_SILENT`].
pub(crate) async fn running(service: &Service, client: ClientId, peer: IpAddr) -> u32 {
    let count = |alive: &dyn Fn(&Session) -> bool| {
        let sessions = service.sessions.matching(|session| {
            session.client == Some(client) && session.kind == LoginKind::Os && alive(session)
        });
        u32::try_from(sessions.len()).unwrap_or(u32::MAX)
    };
    let looked = Timestamp::now();
    let within = |session: &Session, limit: Duration| {
        u128::from(looked.millis_since(session.counters.last_command())) < limit.as_millis()
    };
    let is_here = |session: &Session| session.peer.ip().to_canonical() == peer.to_canonical();
    let elsewhere = count(&|session| !is_here(session) && within(session, ELSEWHERE_SILENT));
    if elsewhere > 0 || count(&|session| is_here(session) && within(session, HERE_SILENT)) == 0 {
        return elsewhere;
    }
    tokio::time::sleep(HERE_SILENT).await;
    count(&|session| session.counters.last_command() > looked)
}

/// Ends the client's sessions and makes its disk ready. The caller holds the gate of its target.
pub(crate) async fn make_ready(
    service: &Arc<Service>,
    snapshot: &SiteSnapshot,
    entry: &ClientEntry,
) -> Result<PoweredDisk, ControlError> {
    let started = Instant::now();
    let client = entry.id;
    let Site::Room(room) = service.site.as_ref() else {
        return Err(ControlError::UnknownClient { client });
    };
    let spec = room.disk_spec(snapshot, entry)?;
    let disk = spec.disk;
    let ended = end_sessions(service, client, SessionEnd::PowerOn).await?;
    service.forget_unit(&entry.iscsi.target_iqn);
    let powered = with_store(service, client, move |room| room.store.power_on(&spec)).await?;
    room.boots.powered_on(disk, Instant::now());
    let duration_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    tracing::info!(
        client.id = %client,
        disk.fresh = powered.fresh,
        disk.generation = powered.generation,
        sessions.ended = ended,
        duration_us,
        "disk of {} is ready",
        entry.name
    );
    service.report(EventKind::DiskReady {
        client,
        fresh: powered.fresh,
        duration_us,
    });
    Ok(powered)
}
