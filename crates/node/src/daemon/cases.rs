//! The open cases: what was observed is diagnosed, and what changed is written.

use dess_diagnosis::{
    Case, Change, Observations, PoolSeen, SeatEntry, ServiceCondition, ServiceSeen, diagnose,
};
use dess_model::{
    BootPolicy, CaseId, ClientCounters, ClientId, Event, SessionStatus, SiteSnapshot, Timestamp,
};
use dess_store::CaseRecord;
use uuid::Uuid;

use crate::case_record::case_of;
use crate::supervisor::protocol::{ServiceState, ServiceStatus};

/// What a look at the server found; what nobody told is none.
#[derive(Debug)]
pub(super) enum Look {
    /// The sessions and counters of the iSCSI service.
    Disks {
        sessions: Vec<SessionStatus>,
        clients: Vec<ClientCounters>,
        pool: Option<PoolSeen>,
    },
    /// The services, and whether each network card has a link.
    Server {
        services: Option<Vec<ServiceStatus>>,
        links: Vec<(String, bool)>,
    },
}

#[derive(Debug)]
pub(super) struct Cases {
    seen: Observations,
    open: Vec<Case>,
    /// True when the cases of before the start were taken up; until then none is opened.
    restored: bool,
}

impl Cases {
    pub(super) fn new() -> Self {
        Self {
            seen: Observations::new(Timestamp::now()),
            open: Vec::new(),
            restored: false,
        }
    }

    /// Takes up the cases that were open when the daemon stopped.
    pub(super) fn restore(&mut self, records: &[CaseRecord]) {
        self.open = records.iter().filter_map(case_of).collect();
        self.restored = true;
    }

    pub(super) fn snapshot_seen(&mut self, snapshot: &SiteSnapshot) {
        let clients = snapshot.clients.iter().filter(|client| client.approved);
        self.seen.seats_set(clients.map(|client| SeatEntry {
            client: client.id,
            version: client.version,
            keeps_writes: client.policy == BootPolicy::Persistent,
            maintains: client.maintenance_disk().is_some(),
        }));
    }

    pub(super) fn changes_seen(&mut self, changes: &[Change]) {
        self.seen.changes_seen(changes);
    }

    pub(super) fn event_seen(&mut self, event: &Event, client: Option<ClientId>) {
        self.seen.event_seen(event, client);
    }

    pub(super) fn look_seen(&mut self, now: Timestamp, look: &Look) {
        match look {
            Look::Disks {
                sessions,
                clients,
                pool,
            } => {
                self.seen.disks_seen(now, sessions, clients);
                self.seen.pool_seen(now, *pool);
            }
            Look::Server { services, links } => {
                let services = services.as_ref();
                let services = services.map(|all| all.iter().map(service_seen).collect());
                self.seen.services_seen(now, services);
                self.seen.links_seen(now, links.iter().cloned());
            }
        }
    }

    /// The cases that were opened, that changed, or that are over now.
    pub(super) fn diagnose(&mut self, now: Timestamp) -> Vec<Case> {
        if !self.restored {
            return Vec::new();
        }
        let changed = diagnose(&self.seen, &self.open, now, || CaseId(Uuid::now_v7()));
        for case in &changed {
            tell(case, self.open.iter().any(|known| known.id == case.id));
            self.open.retain(|known| known.id != case.id);
            if case.is_open() {
                self.open.push(case.clone());
            }
        }
        changed
    }
}

/// Logs a case when it is found and when it is over.
fn tell(case: &Case, known: bool) {
    let code = case.code.as_str();
    if !case.is_open() {
        tracing::info!(case.id = %case.id, case.code = code, "{code} of {} is over", case.subject);
    } else if !known {
        tracing::warn!(
            case.id = %case.id, case.code = code, case.cause = ?case.cause,
            case.confidence = case.confidence,
            "{code}: {}", case.subject
        );
    }
}

fn service_seen(status: &ServiceStatus) -> ServiceSeen {
    ServiceSeen {
        name: status.name.to_string(),
        condition: match status.state {
            ServiceState::Ready => ServiceCondition::Ready,
            ServiceState::Starting => ServiceCondition::Starting,
            ServiceState::Backoff => ServiceCondition::Down,
            ServiceState::Stopped => ServiceCondition::Stopped,
        },
        restarts: status.restarts,
        last_exit: status.last_exit.as_ref().map(ToString::to_string),
        probe: status.probe.as_ref().map(|report| {
            let failure = report.failure.as_ref();
            (report.at, failure.map(ToString::to_string))
        }),
    }
}
