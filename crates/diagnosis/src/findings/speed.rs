//! Slowness: of the storage, of a link, of one seat beside the others.

use dess_model::{ClientId, Timestamp};

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

/// E61 and E62.
pub(super) fn of_seat(
    seen: &Observations,
    client: ClientId,
    facts: &SeatFacts,
    now: Timestamp,
) -> Vec<Finding> {
    let lossy = seen.traffic.lossy.get(&client);
    let lossy = lossy.filter(|(at, _)| now.millis_since(*at) < LINK_QUIET_MS);
    let lossy = lossy.map(|&(at, permille)| {
        Finding::seat(Code::E61, client, Cause::PacketsLost { permille }, at).sure(80)
    });
    lossy.into_iter().chain(slow(seen, client, facts)).collect()
}

/// A seat whose last boots took much longer than the others' with the same version.
fn slow(seen: &Observations, client: ClientId, facts: &SeatFacts) -> Option<Finding> {
    let version = facts.version()?;
    let times = |facts: &SeatFacts| -> Vec<(Timestamp, u64)> {
        let newest = facts.boots.iter().rev();
        newest
            .filter(|boot| boot.version == Some(version))
            .filter_map(|boot| Some((boot.up?, boot.up?.millis_since(boot.started))))
            .take(SLOW_BOOTS)
            .collect()
    };
    let own = times(facts);
    let mut others: Vec<u64> = seen
        .seats_of(version)
        .filter(|(other, _)| *other != client)
        .filter_map(|(_, facts)| times(facts).first().map(|(_, took)| *took))
        .collect();
    if own.len() < SLOW_BOOTS || others.len() < SLOW_OTHERS {
        return None;
    }
    others.sort_unstable();
    let others_ms = others[others.len() / 2];
    let limit = (others_ms.saturating_mul(SLOW_TIMES)).max(others_ms + SLOW_BY_MS);
    let (at, boot_ms) = own[0];
    if own.iter().any(|(_, took)| *took < limit) {
        return None;
    }
    let cause = Cause::BootSlow { boot_ms, others_ms };
    Some(Finding::seat(Code::E62, client, cause, at).sure(75))
}
