//! Counting what a connection does, a batch at a time: nothing is shared while a batch goes on.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Account, Operation};

/// What a connection has done since its account was brought up to date.
#[derive(Debug)]
pub(crate) struct Meter {
    /// When the commands came that are carried out now.
    arrived: Instant,
    /// Commands that were answered without waiting for anything.
    done: [u64; Operation::ALL.len()],
    bytes: [u64; Operation::ALL.len()],
    depth_max: u64,
    /// Commands under way, as the account has it.
    depth: u64,
}

impl Meter {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            arrived: now,
            done: [0; Operation::ALL.len()],
            bytes: [0; Operation::ALL.len()],
            depth_max: 0,
            depth: 0,
        }
    }

    /// Commands have come, and so many are under way with them.
    pub(crate) fn handle_arrival(&mut self, now: Instant, depth: usize) {
        self.arrived = now;
        self.depth_max = self.depth_max.max(depth as u64);
    }

    /// When the commands came that are carried out now.
    pub(crate) fn arrived(&self) -> Instant {
        self.arrived
    }

    /// The commands that are carried out next came earlier.
    pub(crate) fn set_arrived(&mut self, arrived: Instant) {
        self.arrived = arrived;
    }

    /// A command begins that moves so many bytes.
    pub(crate) fn count_bytes(&mut self, operation: Operation, bytes: u64) {
        self.bytes[operation as usize] += bytes;
    }

    /// A command was answered at once.
    pub(crate) fn count_done(&mut self, operation: Operation) {
        self.done[operation as usize] += 1;
    }

    /// Brings the account up to date; `depth` commands are under way now. The answers are on their
    /// way.
    pub(crate) fn settle(&mut self, account: &Account, depth: usize) {
        if self.done.iter().any(|done| *done > 0) {
            let latency = self.arrived.elapsed();
            for (tally, done) in account.operations.iter().zip(&mut self.done) {
                if *done > 0 {
                    tally.latency.add(latency, std::mem::take(done));
                }
            }
        }
        for (tally, bytes) in account.operations.iter().zip(&mut self.bytes) {
            if *bytes > 0 {
                let bytes = std::mem::take(bytes);
                tally.bytes.fetch_add(bytes, Ordering::Relaxed);
            }
        }
        let depth = depth as u64;
        if depth != self.depth {
            // Wraps round: the sum over all connections is right whatever the order.
            let change = depth.wrapping_sub(std::mem::replace(&mut self.depth, depth));
            account.depth.fetch_add(change, Ordering::Relaxed);
        }
        if self.depth_max > 0 {
            let depth_max = std::mem::take(&mut self.depth_max);
            account.depth_max.fetch_max(depth_max, Ordering::Relaxed);
        }
    }
}

impl Account {
    /// Counts a command that had to wait for a disk or a limit.
    pub(crate) fn count(&self, operation: Operation, latency: Duration) {
        self.tally(operation).latency.add(latency, 1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dess_iscsi::Budget;

    use super::*;

    #[test]
    fn an_account_sums_up_its_connections_and_forgets_those_that_end() {
        let account = Account::new(&Arc::new(Budget::new(0)));
        let now = Instant::now();
        let (mut one, mut two) = (Meter::new(now), Meter::new(now));
        one.handle_arrival(now, 5);
        one.count_bytes(Operation::Read, 4096);
        one.count_done(Operation::Read);
        one.settle(&account, 3);
        two.handle_arrival(now, 32);
        two.settle(&account, 2);
        assert_eq!((account.depth(), account.depth_max()), (5, 32));
        one.settle(&account, 0);
        two.settle(&account, 0);
        assert_eq!((account.depth(), account.depth_max()), (0, 32));
        assert_eq!(account.bytes(Operation::Read), 4096);
        assert_eq!(account.latency(Operation::Read).summary().count, 1);
        assert_eq!(account.latency(Operation::Write).summary().count, 0);
    }
}
