//! Slowness: of the storage, of a link, of one seat beside the others.

use std::collections::BTreeMap;

use dess_model::{ClientId, Timestamp, VersionRef};

use crate::Observations;
use crate::case::limits::{
    LINK_QUIET_MS, READ_SLOW_LOOKS, SLOW_BOOTS, SLOW_BY_MS, SLOW_OTHERS, SLOW_TIMES,
};
use crate::case::{Cause, Code, Fact, Finding, Severity, Subject};
use crate::observations::SeatFacts;

/// E21: reads take so long that clients feel it, with who moves most.
pub(super) fn storage(seen: &Observations) -> Option<Finding> {
    let (looks, since, mean_us) = seen.traffic.slow?;
    if looks < READ_SLOW_LOOKS {
        return None;
    }
    let read_ms = mean_us / 1000;
    let cause = Cause::StorageSlow { read_ms };
    let at = seen.traffic.looked_at().unwrap_or(since);
    let mut finding = Finding::new(Code::E21, Subject::Site, cause, since).seen(at);
    for &(client, bytes_per_sec) in &seen.traffic.talkers {
        let fact = Fact::Talker {
            client,
            bytes_per_sec,
        };
        finding = finding.with(at, fact);
    }
    Some(Finding {
        severity: Severity::Warn,
        ..finding
    })
}

/// How long the last boots of the seats of each version took, in milliseconds, shortest first.
pub(super) type BootTimes = BTreeMap<VersionRef, Vec<u64>>;

/// The times of all versions.
pub(super) fn boot_times(seen: &Observations) -> BootTimes {
    let mut times = BootTimes::new();
    for facts in seen.seats.iter().flat_map(BTreeMap::values) {
        if let (Some(version), Some((_, took))) = (facts.version(), last_boots(facts).next()) {
            times.entry(version).or_default().push(took);
        }
    }
    times.values_mut().for_each(|times| times.sort_unstable());
    times
}

/// The boots of a seat with the version that it boots now: when each was up, and after how long;
/// newest first.
fn last_boots(facts: &SeatFacts) -> impl Iterator<Item = (Timestamp, u64)> {
    let newest = facts.boots.iter().rev();
    newest
        .filter(|boot| boot.version.is_some() && boot.version == facts.version())
        .filter_map(|boot| Some((boot.up?, boot.up?.millis_since(boot.started))))
        .take(SLOW_BOOTS)
}

/// E61 and E62.
pub(super) fn of_seat(
    seen: &Observations,
    times: &BootTimes,
    client: ClientId,
    facts: &SeatFacts,
    now: Timestamp,
) -> Vec<Finding> {
    let lossy = seen.traffic.lossy.get(&client);
    let lossy = lossy.filter(|(at, _)| now.millis_since(*at) < LINK_QUIET_MS);
    let lossy = lossy.map(|&(at, permille)| {
        Finding::seat(Code::E61, client, Cause::PacketsLost { permille }, at).sure(80)
    });
    let slow = slow(times, client, facts);
    lossy.into_iter().chain(slow).collect()
}

/// A seat whose last boots took much longer than the median with the same version.
fn slow(times: &BootTimes, client: ClientId, facts: &SeatFacts) -> Option<Finding> {
    let all = times.get(&facts.version()?)?;
    let others_ms = *all.get(all.len() / 2)?;
    let own: Vec<(Timestamp, u64)> = last_boots(facts).collect();
    if own.len() < SLOW_BOOTS || all.len() <= SLOW_OTHERS {
        return None;
    }
    let limit = (others_ms.saturating_mul(SLOW_TIMES)).max(others_ms + SLOW_BY_MS);
    let (at, boot_ms) = own[0];
    if own.iter().any(|(_, took)| *took < limit) {
        return None;
    }
    let cause = Cause::BootSlow { boot_ms, others_ms };
    Some(Finding::seat(Code::E62, client, cause, at).sure(75))
}
