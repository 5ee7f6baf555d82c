//! Watches the pool of the overlays and the soft limits of the disks. What follows from a level holds from the next look on: kept
//! overlays give way, clients write slower, new overlays are refused; and it ends by itself when there is room again.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dess_disk::DiskError;
use dess_model::{
    ClientEntry, ClientId, ControlError, DiskId, Forecast, LoginKind, PoolFigures, PoolLevel,
    PoolSettings, PoolStatus, TargetReply, Timestamp, WRITE_RATE_MIN,
};
use dess_scsi::Sense;

use crate::service::{Service, on_thread};
use crate::site::{Room, Site, chain};

/// How often the pool is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A disk above its soft limit is told again when it was this part below it in between.
const SOFT_HYSTERESIS_PART: u64 = 20;

/// What was seen of the pool.
#[derive(Default)]
pub(crate) struct Space {
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    figures: Option<PoolFigures>,
    level: PoolLevel,
    since: Option<Timestamp>,
    forecast: Forecast,
    /// What each client may write per second.
    client_rate: Option<u64>,
    /// Disks above their soft limit whose initiators were told.
    over_soft: HashSet<DiskId>,
}

impl Space {
    /// The pool at the last look; none before the first.
    pub(crate) fn status(&self) -> Option<PoolStatus> {
        let seen = self.lock();
        Some(PoolStatus {
            figures: seen.figures?,
            level: seen.level,
            since: seen.since,
            growth_bytes_per_sec: seen.forecast.growth_bytes_per_sec(),
            full_in_secs: seen.forecast.full_in_secs(),
            client_write_bytes_per_sec: seen.client_rate,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at the pool until dropped.
pub(crate) async fn watch(service: &Arc<Service>) {
    if let Site::Single(_) = service.site.as_ref() {
        return std::future::pending().await;
    }
    let mut fails = false;
    loop {
        let looked = look(service).await;
        if let Err(error) = &looked
            && !fails
        {
            let error = error as &dyn std::error::Error;
            tracing::error!(error, "the space for clients' writes cannot be watched");
        }
        fails = looked.is_err();
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The answer to [`TargetRequest::Pool`](dess_model::TargetRequest::Pool), from a look made now.
pub(crate) async fn status(service: &Arc<Service>) -> Result<TargetReply, ControlError> {
    let looked = look(service).await;
    looked.map_err(|error| ControlError::Malformed {
        message: chain(&error),
    })?;
    let status = service.space.status();
    status
        .map(TargetReply::Pool)
        .ok_or_else(|| ControlError::Malformed {
            message: "there is no store".to_owned(),
        })
}

async fn look(service: &Arc<Service>) -> Result<(), DiskError> {
    let looking = Arc::clone(service);
    on_thread(move || match looking.site.as_ref() {
        Site::Room(room) => look_now(&looking, room),
        Site::Single(_) => Ok(()),
    })
    .await
}

fn look_now(service: &Service, room: &Room) -> Result<(), DiskError> {
    let settings = room.snapshots.current().map(|snapshot| snapshot.pool);
    let settings = settings.unwrap_or_default();
    let figures = make_room(room, &settings)?;
    let mut seen = service.space.lock();
    let now = Timestamp::now();
    seen.figures = Some(figures);
    seen.forecast.observe(now, figures);
    let level = seen.level.after(&figures, &settings);
    if level != seen.level || seen.since.is_none() {
        tell(level, seen.level, &figures);
        (seen.level, seen.since) = (level, Some(now));
    }
    room.store.close_pool(level == PoolLevel::Stop);
    let clients = running(service);
    seen.client_rate = (level >= PoolLevel::Throttle).then(|| share(&settings, clients.len()));
    service.accounts.slow_down(Instant::now(), seen.client_rate);
    follow_soft_limits(service, room, &mut seen.over_soft);
    Ok(())
}

/// Overlays that were put away give way before anybody is slowed down.
fn make_room(room: &Room, settings: &PoolSettings) -> Result<PoolFigures, DiskError> {
    let mut figures = room.store.pool()?;
    while PoolLevel::of(&figures, settings) >= PoolLevel::Throttle && room.store.drop_kept()? {
        figures = room.store.pool()?;
    }
    Ok(figures)
}

/// What each of the running clients may write per second.
fn share(settings: &PoolSettings, clients: usize) -> u64 {
    let clients = u64::try_from(clients.max(1)).unwrap_or(u64::MAX);
    (settings.throttle_bytes_per_sec / clients).max(WRITE_RATE_MIN)
}

fn running(service: &Service) -> HashSet<ClientId> {
    let sessions = service
        .sessions
        .matching(|session| session.client.is_some());
    sessions
        .iter()
        .filter_map(|session| session.client)
        .collect()
}

fn tell(level: PoolLevel, before: PoolLevel, pool: &PoolFigures) {
    let (available_bytes, used_percent) = (pool.available_bytes, pool.used_permille() / 10);
    match level {
        PoolLevel::Normal if before == PoolLevel::Normal => {}
        PoolLevel::Normal => tracing::info!(
            available_bytes,
            "there is room for clients' writes again ({used_percent} % in use)"
        ),
        PoolLevel::Warn => tracing::warn!(
            available_bytes,
            "the space for clients' writes is running short ({used_percent} % in use)"
        ),
        PoolLevel::Throttle => tracing::warn!(
            available_bytes,
            "the space for clients' writes is nearly used up ({used_percent} % in use); clients write slower"
        ),
        PoolLevel::Stop => tracing::error!(
            available_bytes,
            "the space for clients' writes is used up but for a rest ({used_percent} % in use); no client gets a new overlay"
        ),
    }
}

/// Tells the systems of clients of which an overlay has grown above the soft limit.
fn follow_soft_limits(service: &Service, room: &Room, over: &mut HashSet<DiskId>) {
    let Some(snapshot) = room.snapshots.current() else {
        return;
    };
    for client in &snapshot.clients {
        let Some(soft_bytes) = client.overlay_limits.soft_bytes else {
            for disk in snapshot.disks_of(client) {
                over.remove(&disk);
            }
            continue;
        };
        for disk in snapshot.disks_of(client) {
            let Some(fill) = room.store.fill(disk) else {
                continue;
            };
            if fill.allocated_bytes < soft_bytes - soft_bytes / SOFT_HYSTERESIS_PART {
                over.remove(&disk);
            } else if fill.allocated_bytes >= soft_bytes && over.insert(disk) {
                tell_soft_limit(service, client, disk, (fill.allocated_bytes, soft_bytes));
            }
        }
    }
}

/// Tells the systems of one client of one of its disks.
fn tell_soft_limit(
    service: &Service,
    client: &ClientEntry,
    disk: DiskId,
    (overlay_bytes, soft_bytes): (u64, u64),
) {
    tracing::warn!(
        client.id = %client.id,
        disk.id = %disk,
        overlay_bytes,
        soft_bytes,
        "an overlay of {} is larger than its soft limit",
        client.name
    );
    let data = client.data_disks.iter();
    let data = data.map(|data| (data.disk.id, data.lun));
    let lun = std::iter::once((client.disk.id, 0))
        .chain(data)
        .find_map(|(id, lun)| (id == disk).then_some(lun));
    // A data disk that the client is not given any more has no one to tell.
    let Some(lun) = lun else { return };
    // Firmware would take it for a failed read.
    let systems = service
        .sessions
        .matching(|session| session.client == Some(client.id) && session.kind == LoginKind::Os);
    for session in systems {
        session.add_attention(lun, Sense::SOFT_THRESHOLD);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_shared_but_never_too_small_to_live_on() {
        let settings = PoolSettings::default();
        assert_eq!(share(&settings, 0), 32 << 20);
        assert_eq!(share(&settings, 4), 8 << 20);
        assert_eq!(share(&settings, 500), WRITE_RATE_MIN);
    }
}
