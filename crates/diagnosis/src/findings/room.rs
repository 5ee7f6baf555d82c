//! Faults of the server and of the room's network.

use dess_model::{PoolLevel, Timestamp};

use crate::Observations;
use crate::case::limits::{
    CONFLICT_QUIET_MS, CRASHES_MAX, NO_ADDRESS_QUIET_MS, ROGUE_QUIET_MS, SERVICE_DOWN_MS,
    SERVICE_START_MS,
};
use crate::case::{Action, Cause, Code, Fact, Finding, Severity, Subject};
use crate::observations::{ServiceCondition, ServiceFacts};

/// E11: services that are down, crash, or do not do what they should.
pub(super) fn services(seen: &Observations, now: Timestamp) -> Vec<Finding> {
    let mut found: Vec<Finding> = seen
        .services
        .iter()
        .flatten()
        .filter_map(|(name, facts)| service(name, facts, now))
        .collect();
    // What a client found counts as long as nothing better is known of the service.
    let known = found
        .iter()
        .any(|one| one.subject == about("iscsi") && one.code == Code::E11);
    if let Some(refusing) = seen
        .refusing
        .as_ref()
        .filter(|signal| !known && signal.is_fresh(now, REFUSING_MS))
    {
        let service = "iscsi".to_owned();
        let cause = Cause::ServiceRefuses { service };
        let fact = Fact::SeatToo {
            client: refusing.what,
        };
        let finding = Finding::new(Code::E11, about("iscsi"), cause, refusing.first);
        found.push(
            finding
                .seen(refusing.last)
                .sure(70)
                .with(refusing.last, fact),
        );
    }
    found
}

/// How long a client's word about the disk service counts: it asks again within half a minute.
const REFUSING_MS: u64 = 60 * 1000;

fn about(service: &str) -> Subject {
    Subject::Service {
        service: service.to_owned(),
    }
}

fn service(name: &str, facts: &ServiceFacts, now: Timestamp) -> Option<Finding> {
    let seen = facts.seen.as_ref()?;
    let service = name.to_owned();
    let new = |cause, at| Finding::new(Code::E11, about(name), cause, at);
    let ended = |finding: Finding| match &seen.last_exit {
        Some(how) => finding.with(now, Fact::ServiceEnded { how: how.clone() }),
        None => finding,
    };
    if let Some(since) = facts.unready_since
        && seen.condition != ServiceCondition::Stopped
    {
        let limit = match facts.crashed {
            true => SERVICE_DOWN_MS,
            false => SERVICE_START_MS,
        };
        if now.millis_since(since) >= limit {
            return Some(ended(new(Cause::ServiceDown { service }, since)));
        }
    }
    let crashes = u32::try_from(facts.crashes.len()).unwrap_or(u32::MAX);
    if let Some(&first) = facts.crashes.first()
        && crashes >= CRASHES_MAX
    {
        let times = crashes;
        return Some(ended(new(Cause::ServiceCrashes { service, times }, first)));
    }
    let (at, why) = seen.probe.as_ref()?;
    let why = why.clone()?;
    let since = facts.fails_since.unwrap_or(*at);
    let action = Action::RestartService {
        service: name.to_owned(),
    };
    let finding = new(Cause::ServiceFails { service }, since).seen(*at);
    Some(
        finding
            .with(*at, Fact::ProbeFailed { why })
            .proposing(action),
    )
}

/// E23: the server's own cable.
pub(super) fn links(seen: &Observations) -> Vec<Finding> {
    let links = seen.links.iter().flatten();
    links
        .filter_map(|(interface, down)| {
            let interface = interface.clone();
            let subject = Subject::Server {
                part: interface.clone(),
            };
            let since = (*down)?;
            Some(Finding::new(
                Code::E23,
                subject,
                Cause::CarrierLost { interface },
                since,
            ))
        })
        .collect()
}

/// E32, E33, E52: addresses, and who else gives them.
pub(super) fn network(seen: &Observations, now: Timestamp) -> Vec<Finding> {
    let mut found = Vec::new();
    for (&server, signal) in &seen.rogues {
        if signal.is_fresh(now, ROGUE_QUIET_MS) {
            let (mac, interface) = signal.what.clone();
            let cause = Cause::RogueDhcp {
                server,
                mac,
                interface,
            };
            let subject = Subject::Address { address: server };
            found.push(Finding::new(Code::E52, subject, cause, signal.first).seen(signal.last));
        }
    }
    for (&address, signal) in &seen.conflicts {
        if signal.is_fresh(now, CONFLICT_QUIET_MS) {
            let by = signal.what;
            let cause = Cause::AddressTaken { address, by };
            let subject = Subject::Address { address };
            found.push(Finding::new(Code::E32, subject, cause, signal.first).seen(signal.last));
        }
    }
    for (network, signal) in &seen.exhausted {
        if signal.is_fresh(now, NO_ADDRESS_QUIET_MS) {
            let network = network.clone();
            let subject = Subject::Server {
                part: network.clone(),
            };
            let cause = Cause::NoAddress { network };
            found.push(Finding::new(Code::E33, subject, cause, signal.first).seen(signal.last));
        }
    }
    found
}

/// E51: the space for clients' writes.
pub(super) fn pool(seen: &Observations) -> Option<Finding> {
    let (since, pool) = seen.pool?;
    let severity = match pool.level {
        PoolLevel::Normal => return None,
        PoolLevel::Warn => Severity::Warn,
        PoolLevel::Throttle | PoolLevel::Stop => Severity::Bad,
    };
    let cause = Cause::PoolFills {
        level: pool.level,
        used_percent: pool.used_percent,
    };
    let finding = Finding::new(Code::E51, Subject::Site, cause, since);
    Some(Finding {
        severity,
        ..finding
    })
}
