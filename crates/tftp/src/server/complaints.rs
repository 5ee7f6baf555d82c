//! What any peer can provoke: logged and told once per peer and minute.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use dess_model::{PeerTally, Timestamp};

/// Counts of what went wrong, by peer.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    refused: Mutex<PeerTally>,
    failed: Mutex<PeerTally>,
}

impl Complaints {
    /// Counts a request that was refused; logs it and answers true if it is time to tell of one.
    pub(super) fn refused(&self, peer: IpAddr, what: &str) -> bool {
        log(&self.refused, peer, what)
    }

    /// Counts a transfer that failed under way, likewise.
    pub(super) fn failed(&self, peer: IpAddr, what: &str) -> bool {
        log(&self.failed, peer, what)
    }
}

fn log(tally: &Mutex<PeerTally>, peer: IpAddr, what: &str) -> bool {
    let told = tally.lock().unwrap_or_else(PoisonError::into_inner).record(
        Timestamp::now(),
        &peer.to_string(),
        what,
    );
    let Some(told) = told else {
        return false;
    };
    tracing::warn!(
        client.address = told.peer,
        count = told.count,
        "{peer} {}",
        told.reason
    );
    true
}
