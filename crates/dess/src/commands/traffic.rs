//! What the iSCSI service counts for one client.

use dess_model::{ClientCounters, OperationCounters, SessionStatus};
use dess_node::operations::{ClientView, DataPathView};
use serde::Serialize;

use crate::output::bytes;

/// A client's open sessions and counters.
#[derive(Serialize)]
pub(super) struct ClientTraffic {
    sessions: Vec<SessionStatus>,
    /// Since the iSCSI service started; none if the client had no session since.
    counters: Option<ClientCounters>,
}

impl ClientTraffic {
    pub(super) fn of(client: &ClientView, all: DataPathView) -> Self {
        let (sessions, counters) = (all.sessions.into_iter(), all.clients.into_iter());
        Self {
            sessions: sessions.filter(|one| one.client == client.id).collect(),
            counters: counters.into_iter().find(|one| one.client == client.id),
        }
    }

    /// A line for each fact.
    pub(super) fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = Vec::new();
        if let Some(counters) = &self.counters {
            let queue = (counters.queue_depth, counters.queue_depth_max);
            facts.extend([
                ("reads", operation(&counters.read)),
                ("writes", operation(&counters.write)),
                ("flushes", operation(&counters.flush)),
                ("unmaps", operation(&counters.unmap)),
                ("queue", format!("{} now, {} at most", queue.0, queue.1)),
                (
                    "held back",
                    format!(
                        "{} commands, {} ms in all",
                        counters.throttled,
                        counters.throttled_us / 1000
                    ),
                ),
            ]);
        }
        for session in &self.sessions {
            let tcp = session.tcp.map_or_else(
                || "not observed".to_owned(),
                |tcp| {
                    let rtt_ms = f64::from(tcp.rtt_us) / 1000.0;
                    format!(
                        "round trip {rtt_ms:.2} ms, {} segments sent again",
                        tcp.retransmits
                    )
                },
            );
            facts.push(("connection", format!("{}: {tcp}", session.peer)));
        }
        facts
    }
}

/// `1200, 4.5 MiB, half within 0.1 ms, 99 % within 2.5 ms`.
fn operation(counters: &OperationCounters) -> String {
    if counters.count == 0 {
        return "0".to_owned();
    }
    let ms = |micros: u64| micros as f64 / 1000.0;
    format!(
        "{}, {}, half within {:.2} ms, 99 % within {:.2} ms",
        counters.count,
        bytes(counters.bytes),
        ms(counters.p50_us),
        ms(counters.p99_us),
    )
}
