//! Slows down password guessing, per address and per user. Time is passed in.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures that cost nothing.
const FREE_FAILURES: u32 = 5;
/// Wait after the first failure beyond; doubled by each further one.
const WAIT_MIN: Duration = Duration::from_secs(15);
/// Longest wait.
const WAIT_MAX: Duration = Duration::from_secs(15 * 60);
/// Failures are forgotten this long after the last one.
const FORGET_AFTER: Duration = Duration::from_secs(60 * 60);
/// Most addresses or users kept; beyond, the one with the oldest failure goes.
const KEPT_MAX: usize = 1024;

/// Failed logins by address (its [`network`]) or by user.
#[derive(Debug)]
pub(crate) struct Throttle<K>(Mutex<HashMap<K, Failures>>);

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Failures {
    fn wait(self) -> Duration {
        match self.count.checked_sub(FREE_FAILURES) {
            None => Duration::ZERO,
            Some(beyond) => (WAIT_MIN * 2_u32.pow(beyond.min(10))).min(WAIT_MAX),
        }
    }
}

impl<K> Default for Throttle<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash> Throttle<K> {
    /// How long this one has to wait before the next try; none if it may try now.
    pub(crate) fn locked_for(&self, now: Instant, key: &K) -> Option<Duration> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = kept.get(key)?;
        let left = failures
            .wait()
            .checked_sub(now.saturating_duration_since(failures.last))?;
        (!left.is_zero()).then_some(left)
    }

    /// Counts a failure.
    pub(crate) fn failed(&self, now: Instant, key: &K) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, failures| now.saturating_duration_since(failures.last) < FORGET_AFTER);
        if kept.len() >= KEPT_MAX
            && let Some(oldest) = kept
                .iter()
                .min_by_key(|(_, failures)| failures.last)
                .map(|(key, _)| key.clone())
        {
            kept.remove(&oldest);
        }
        let failures = kept.entry(key.clone()).or_insert(Failures {
            count: 0,
            last: now,
        });
        failures.count = failures.count.saturating_add(1);
        failures.last = now;
    }

    /// Forgets the failures after a good login.
    pub(crate) fn succeeded(&self, key: &K) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(key);
    }
}

/// An IPv6 host owns its whole /64, so that is what counts.
pub(crate) fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let upper = u128::from(address) >> 64 << 64;
            IpAddr::V6(upper.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guessing_gets_slower_and_a_good_login_forgives() {
        let throttle = Throttle::default();
        let start = Instant::now();
        let peer: IpAddr = "192.0.2.7".parse().unwrap();
        for _ in 0..FREE_FAILURES - 1 {
            throttle.failed(start, &peer);
        }
        assert_eq!(throttle.locked_for(start, &peer), None);
        throttle.failed(start, &peer);
        assert_eq!(throttle.locked_for(start, &peer), Some(WAIT_MIN));
        assert_eq!(throttle.locked_for(start + WAIT_MIN, &peer), None);
        throttle.failed(start + WAIT_MIN, &peer);
        assert_eq!(
            throttle.locked_for(start + WAIT_MIN, &peer),
            Some(WAIT_MIN * 2)
        );
        for _ in 0..100 {
            throttle.failed(start, &peer);
        }
        assert_eq!(throttle.locked_for(start, &peer), Some(WAIT_MAX));
        let other: IpAddr = "192.0.2.8".parse().unwrap();
        assert_eq!(throttle.locked_for(start, &other), None);
        throttle.succeeded(&peer);
        assert_eq!(throttle.locked_for(start, &peer), None);
    }

    #[test]
    fn a_flood_of_addresses_takes_no_endless_memory() {
        let throttle = Throttle::default();
        let now = Instant::now();
        for number in 0..5000_u32 {
            throttle.failed(now, &number);
        }
        assert!(throttle.0.lock().unwrap().len() <= KEPT_MAX);
    }
}
