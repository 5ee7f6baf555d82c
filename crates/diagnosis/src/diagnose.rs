//! Observations and open cases in, changed cases out.

use dess_model::{CaseId, Timestamp};

use crate::Observations;
use crate::case::limits::EVIDENCE_MAX;
use crate::case::{Case, Closing, Evidence, Finding, Subject};
use crate::findings::findings;
use crate::observations::SeatFacts;

/// What is wrong now, compared with the cases that are open.
///
/// The answer holds the cases that were opened (with identities of `fresh`), that changed, or
/// that are over. What was not looked at is neither opened nor closed. The same input always gives
/// the same answer.
pub fn diagnose(
    seen: &Observations,
    open: &[Case],
    now: Timestamp,
    mut fresh: impl FnMut() -> CaseId,
) -> Vec<Case> {
    let found = findings(seen, now);
    let mut changed = Vec::new();
    for finding in &found {
        let mut known = open.iter().filter(|case| case.is_open());
        let known = known.find(|case| is_about(case, finding));
        match known {
            Some(case) => changed.extend(updated(case, finding)),
            None => changed.push(opened(finding, now, fresh())),
        }
    }
    for case in open.iter().filter(|case| case.is_open()) {
        let still = found.iter().any(|finding| is_about(case, finding));
        if !still && is_over(seen, case, now) {
            let mut case = case.clone();
            case.resolved = Some(now);
            changed.push(case);
        }
    }
    changed
}

fn is_about(case: &Case, finding: &Finding) -> bool {
    case.code == finding.code && case.subject == finding.subject
}

fn opened(finding: &Finding, now: Timestamp, id: CaseId) -> Case {
    let mut evidence = Vec::new();
    merge(&mut evidence, &finding.evidence);
    Case {
        id,
        code: finding.code,
        subject: finding.subject.clone(),
        severity: finding.severity,
        cause: finding.cause.clone(),
        evidence,
        confidence: finding.confidence,
        action: finding.action.clone(),
        opened: now,
        last_seen: finding.seen,
        resolved: None,
    }
}

/// The case with what is new; none if nothing is.
fn updated(case: &Case, finding: &Finding) -> Option<Case> {
    let mut next = case.clone();
    next.severity = finding.severity;
    next.cause.clone_from(&finding.cause);
    next.confidence = finding.confidence;
    next.action.clone_from(&finding.action);
    next.last_seen = case.last_seen.max(finding.seen);
    merge(&mut next.evidence, &finding.evidence);
    (next != *case).then_some(next)
}

/// Adds facts that are new. Of too many the first and the newest stay.
fn merge(kept: &mut Vec<Evidence>, seen: &[Evidence]) {
    for evidence in seen {
        if kept.contains(evidence) {
            continue;
        }
        if kept.len() >= EVIDENCE_MAX {
            kept.remove(1);
        }
        kept.push(evidence.clone());
    }
}

/// True if a case whose signature is gone is over, and not only out of sight.
fn is_over(seen: &Observations, case: &Case, now: Timestamp) -> bool {
    if let Subject::Seat { client } = case.subject {
        let known = seen.seats.as_ref();
        if known.is_some_and(|seats| !seats.contains_key(&client)) {
            return true;
        }
    }
    let seat = match case.subject {
        Subject::Seat { client } => seen.seat(client),
        _ => None,
    };
    let since = |at: fn(&SeatFacts) -> Option<Timestamp>| {
        seat.and_then(at).is_some_and(|at| at > case.last_seen)
    };
    match case.code.closing(&case.subject) {
        Closing::Absent => is_observed(seen, case),
        Closing::Quiet(quiet_ms) => now.millis_since(case.last_seen.max(seen.since)) >= quiet_ms,
        Closing::OsLogin => since(|facts| facts.os_login.max(facts.up)),
        Closing::Up => since(|facts| facts.up),
    }
}

/// True if that was looked at which the case is about.
fn is_observed(seen: &Observations, case: &Case) -> bool {
    match &case.subject {
        Subject::Service { service } => {
            let services = seen.services.as_ref();
            services.is_some_and(|services| services.contains_key(service))
        }
        Subject::Server { part } => {
            let links = seen.links.as_ref();
            links.is_some_and(|links| links.contains_key(part))
        }
        Subject::Version { version } => {
            if seen.seats.is_none() {
                return false;
            }
            let mut seats = seen.seats_of(*version).peekable();
            // Nobody boots it any more, or it came up after all.
            seats.peek().is_none()
                || seats.any(|(_, facts)| {
                    let newest = facts.boot().filter(|boot| boot.version == Some(*version));
                    let up = newest.and_then(|boot| boot.up);
                    up.is_some_and(|up| up > case.last_seen)
                })
        }
        Subject::Seat { client } => {
            let newest = seen.seat(*client).and_then(SeatFacts::boot);
            newest.is_some_and(|boot| boot.up.is_some_and(|up| up > case.last_seen))
        }
        Subject::Address { .. } => true,
        Subject::Site => match case.code {
            crate::Code::E21 => seen.traffic.looked_at().is_some(),
            _ => seen.pool.is_some(),
        },
    }
}

#[cfg(test)]
mod tests;
