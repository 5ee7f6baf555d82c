//! The rules: what of the observations is a fault now.

mod boot;
mod room;
mod speed;

use dess_model::Timestamp;

use crate::Observations;
use crate::case::Finding;

/// All faults whose signature is there now.
pub(crate) fn findings(seen: &Observations, now: Timestamp) -> Vec<Finding> {
    let mut found = room::services(seen, now);
    found.extend(room::links(seen));
    found.extend(room::network(seen, now));
    found.extend(room::pool(seen));
    found.extend(speed::storage(seen));
    let times = speed::boot_times(seen);
    for (&client, facts) in seen.seats.iter().flatten() {
        found.extend(boot::of_seat(seen, client, facts, now));
        found.extend(speed::of_seat(seen, &times, client, facts, now));
    }
    found.extend(boot::of_versions(seen, &found));
    found
}
