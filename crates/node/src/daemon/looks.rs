//! Looks at the server now and then: its services, its network cards, its disks.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dess_diagnosis::PoolSeen;
use dess_model::host::{SnapshotReader, request};
use dess_model::{PoolStatus, TargetReply, TargetRequest};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::cases::Look;
use super::publish;
use super::shared::Shared;
use crate::services;

/// How often the iSCSI service is asked for its sessions: a cable that is pulled is known by two
/// looks at them.
const DISKS_EVERY: Duration = Duration::from_secs(5);
/// How long it may take to answer.
const DISKS_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the services and network cards are looked at: an outage is to be told within 3 s.
const SERVER_EVERY: Duration = Duration::from_millis(750);
/// Where the kernel tells whether a network card has a link.
const NETWORK_CARDS: &str = "/sys/class/net";

/// Looks until nobody takes what was found.
pub(super) async fn watch(shared: Arc<Shared>, looks: mpsc::Sender<Look>) {
    tokio::join!(
        watch_disks(Arc::clone(&shared), looks.clone()),
        watch_server(shared, looks)
    );
}

/// Asks the iSCSI service for its sessions; what it does not answer is not known.
async fn watch_disks(shared: Arc<Shared>, looks: mpsc::Sender<Look>) {
    let mut ticks = interval(DISKS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let socket = shared.paths.target_control();
    loop {
        ticks.tick().await;
        let reply = request(&socket, &TargetRequest::Status, DISKS_TIMEOUT).await;
        match reply {
            Ok(TargetReply::Status {
                sessions,
                disks,
                clients,
                ..
            }) => {
                shared.load.observe(Instant::now(), &clients);
                publish::reconcile(&shared, &disks).await;
                let pool = request(&socket, &TargetRequest::Pool, DISKS_TIMEOUT).await;
                let pool = match pool {
                    Ok(TargetReply::Pool(status)) => Some(pool_seen(&status)),
                    _ => None,
                };
                let look = Look::Disks {
                    sessions,
                    clients,
                    pool,
                };
                if looks.send(look).await.is_err() {
                    return;
                }
            }
            Ok(other) => tracing::debug!(?other, "unexpected answer of the iSCSI service"),
            Err(error) => tracing::debug!(%error, "the iSCSI service does not answer"),
        }
    }
}

fn pool_seen(status: &PoolStatus) -> PoolSeen {
    PoolSeen {
        level: status.level,
        used_percent: u8::try_from(status.figures.used_permille() / 10).unwrap_or(100),
    }
}

/// Looks at the services and at the network cards that serve clients.
async fn watch_server(shared: Arc<Shared>, looks: mpsc::Sender<Look>) {
    let mut ticks = interval(SERVER_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let snapshot = SnapshotReader::new(shared.paths.snapshot());
    loop {
        ticks.tick().await;
        let services = services::list(&shared.paths).await.ok();
        let interfaces = snapshot
            .current()
            .map(|snapshot| snapshot.server.interfaces.clone())
            .unwrap_or_default();
        let links = interfaces
            .into_iter()
            .filter_map(|name| carrier(&name).map(|up| (name, up)))
            .collect();
        if looks.send(Look::Server { services, links }).await.is_err() {
            return;
        }
    }
}

/// Whether a network card has a link; none if there is no such card, or it is switched off (the
/// kernel then gives an error).
fn carrier(interface: &str) -> Option<bool> {
    let path = Path::new(NETWORK_CARDS).join(interface).join("carrier");
    let text = std::fs::read_to_string(path).ok()?;
    match text.trim() {
        "1" => Some(true),
        "0" => Some(false),
        _ => None,
    }
}
