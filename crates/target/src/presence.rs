//! Whether systems still run that use a disk. A PC that loses its power says no goodbye, and a system with nothing to
//! do may be silent for long: what tells them apart is whether the peer's TCP answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dess_model::Timestamp;

use crate::listener::{SILENT_FOUND_GONE, Vigilance};
use crate::service::Service;
use crate::sessions::Session;

/// How often it is looked whether a peer has answered, or is gone.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Sessions whose peers were asked, and that are still open.
#[derive(Default)]
pub(crate) struct Peers {
    /// These peers are there.
    pub(crate) alive: Vec<Arc<Session>>,
    /// These did not answer. If they owe an acknowledgement from before, the kernel does not give them up yet.
    pub(crate) silent: Vec<Arc<Session>>,
}

/// Asks the peers of the matching sessions by TCP (keep-alive probes), until one has answered or all are gone, at most
/// for [`SILENT_FOUND_GONE`]. A firmware that took over the address of a system answers for it: it knows nothing of
/// the connection (RST), and the session ends at once.
pub(crate) async fn ask(service: &Arc<Service>, wanted: impl Fn(&Session) -> bool) -> Peers {
    let looked = Timestamp::now();
    let is_heard = |session: &Arc<Session>| session.was_heard_since(looked);
    watch(service, &wanted, Vigilance::Silent);
    let deadline = Instant::now() + SILENT_FOUND_GONE;
    let open = loop {
        let open = service.sessions.matching(&wanted);
        if open.is_empty() {
            return Peers::default();
        }
        service.observe_tcp().await;
        if open.iter().any(is_heard) || Instant::now() >= deadline {
            break open;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    watch(service, &wanted, Vigilance::Usual);
    // If the kernel does not tell: it would have ended the connection of a peer that is gone.
    let is_there = |session: &Arc<Session>| is_heard(session) || !session.was_told_since(looked);
    let (alive, silent) = open.into_iter().partition(is_there);
    Peers { alive, silent }
}

/// Gives peers that owe an acknowledgement a last chance: the sessions that are left.
pub(crate) async fn insist(
    service: &Arc<Service>,
    wanted: impl Fn(&Session) -> bool,
    limit: Duration,
) -> usize {
    watch(service, &wanted, Vigilance::Unacknowledged);
    let deadline = Instant::now() + limit;
    while service.sessions.count(&wanted) > 0 && Instant::now() < deadline {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    watch(service, &wanted, Vigilance::Usual);
    service.sessions.count(&wanted)
}

fn watch(service: &Service, wanted: &impl Fn(&Session) -> bool, vigilance: Vigilance) {
    for session in service.sessions.matching(wanted) {
        session.watch_peer(vigilance);
    }
}
