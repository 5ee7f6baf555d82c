//! A client powers on: its disk is made ready, and what is left of its former life ends.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dess_disk::{DiskError, PoweredDisk};
use dess_model::{
    ClientEntry, ClientId, ControlError, DiskId, EventKind, LoginKind, SessionEnd, SiteSnapshot,
    TargetReply, Timestamp,
};

use crate::boot_profiles;
use crate::control::{client_of, disk_status, end_sessions, with_store};
use crate::data_disks::{ClientDisks, DataSpec};
use crate::presence;
use crate::service::Service;
use crate::sessions::Session;
use crate::site::{Room, Site};

/// A system elsewhere that acknowledges nothing, and said nothing for this long, does not run any more.
const ELSEWHERE_SILENT: Duration = Duration::from_secs(10);
/// How often it is looked whether a system has come back.
const LOOK_EVERY: Duration = Duration::from_millis(100);

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
    let looked = Timestamp::now();
    let mut sessions = running(service, client, entry.disk.id, peer).await;
    let gate = service.gate(&entry.iscsi.target_iqn);
    let _entered = gate.lock().await;
    if sessions == 0 {
        // One that came while the others were asked.
        let is_new = |session: &Session| is_system_of(session, client) && session.since > looked;
        sessions = u32::try_from(service.sessions.count(is_new)).unwrap_or(u32::MAX);
    }
    if sessions > 0 {
        tracing::warn!(
            client.id = %client,
            client.address = %peer,
            "{} is asked to power on by {peer}, but its system runs",
            entry.name
        );
        return Err(ControlError::Running { client, sessions });
    }
    let powered = make_ready(service, &snapshot, &entry).await?;
    disk_status(client, &powered).map(TargetReply::Disk)
}

/// How many sessions of a client's operating system are alive, as seen from a firmware at `peer`. One that used the
/// disk before a restart of the service is waited for.
pub(crate) async fn running(
    service: &Arc<Service>,
    client: ClientId,
    disk: DiskId,
    peer: IpAddr,
) -> u32 {
    if let Site::Room(room) = service.site.as_ref() {
        while let Some(until) = room.returning.expected_until(disk) {
            let look = Instant::now() + LOOK_EVERY;
            tokio::time::sleep_until(look.min(until).into()).await;
        }
    }
    let looked = Timestamp::now();
    let peers = presence::ask(service, |session| is_system_of(session, client)).await;
    // The firmware is at work where the system was, so a system there would have answered. Elsewhere it may be cut off.
    let is_cut_off = |session: &&Arc<Session>| {
        let silent_ms = looked.millis_since(session.counters.last_command());
        session.peer.ip().to_canonical() != peer.to_canonical()
            && u128::from(silent_ms) < ELSEWHERE_SILENT.as_millis()
    };
    let cut_off = peers.silent.iter().filter(is_cut_off).count();
    u32::try_from(peers.alive.len() + cut_off).unwrap_or(u32::MAX)
}

fn is_system_of(session: &Session, client: ClientId) -> bool {
    session.client == Some(client) && session.kind == LoginKind::Os
}

/// The client was switched on: what its boots read is read ahead, while it is still with its firmware. A client that
/// is unknown, or boots nothing, is none of ours.
pub(crate) async fn expect(
    service: &Arc<Service>,
    client: ClientId,
) -> Result<TargetReply, ControlError> {
    let Site::Room(room) = service.site.as_ref() else {
        return Err(ControlError::UnknownClient { client });
    };
    let (snapshot, entry) = client_of(room, client)?;
    let spec = room.disk_spec(&snapshot, &entry)?;
    let opened = with_store(service, client, move |room| {
        let opened = room.store.version(spec.version, &spec.version_dir);
        opened.map_err(|source| DiskError::Base {
            disk: spec.disk,
            version: spec.version,
            source,
        })
    });
    boot_profiles::read_ahead(service, &room.profiles, &opened.await?, None);
    Ok(TargetReply::Done)
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
    service.forget_units(&entry.iscsi.target_iqn);
    let data = DataSpec::of(snapshot, entry);
    let make = move |room: &Room| room.power_on(&spec, &data);
    let ClientDisks {
        system: powered,
        data,
        missing,
    } = with_store(service, client, make).await?;
    let now = Instant::now();
    room.boots.powered_on(disk, now);
    room.returning.gone(disk);
    let over = room.profiles.begin(disk, powered.disk.base(), now);
    let version = powered.disk.base_version();
    boot_profiles::read_ahead(service, &room.profiles, version, over);
    for message in missing {
        tracing::error!(client.id = %client, "{} boots without: {message}", entry.name);
        service.report(EventKind::DiskError { client, message });
    }
    let duration_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    tracing::info!(
        client.id = %client,
        disk.fresh = powered.fresh,
        disk.generation = powered.generation,
        disks.data = data.len(),
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
