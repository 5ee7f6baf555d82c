//! A token bucket, without a clock: time is passed in.

use std::time::{Duration, Instant};

/// Tokens that come at a steady rate and are saved up to a limit.
///
/// Within any time `t` at most `rate * t + max(burst, largest take)` tokens are taken: a take that is
/// larger than the bucket is let through when the bucket is full, and paid back before the next one.
#[derive(Clone, Debug)]
pub(crate) struct TokenBucket {
    /// Tokens per second, at least 1.
    rate: u64,
    /// Most tokens that are saved, at least 1.
    burst: u64,
    /// Billionths of a token, so that no rounding adds up; negative while a large take is paid back.
    level: i128,
    /// When `level` was right.
    at: Instant,
}

const NANOS: i128 = 1_000_000_000;

impl TokenBucket {
    /// A full bucket. A rate or burst of 0 counts as 1.
    pub(crate) fn new(now: Instant, rate: u64, burst: u64) -> Self {
        let burst = burst.max(1);
        Self {
            rate: rate.max(1),
            burst,
            level: i128::from(burst) * NANOS,
            at: now,
        }
    }

    /// Changes rate and size; what was saved stays as far as it fits.
    pub(crate) fn set(&mut self, now: Instant, rate: u64, burst: u64) {
        self.refill(now);
        self.rate = rate.max(1);
        self.burst = burst.max(1);
        self.level = self.level.min(self.capacity());
    }

    /// How long until `ahead` and then `tokens` more can be taken; zero if they can be taken now.
    pub(crate) fn wait(&mut self, now: Instant, ahead: u64, tokens: u64) -> Duration {
        self.refill(now);
        let own = i128::from(tokens.min(self.burst)) * NANOS;
        let missing = i128::from(ahead) * NANOS + own - self.level;
        if missing <= 0 {
            return Duration::ZERO;
        }
        let nanos = (missing + i128::from(self.rate) - 1) / i128::from(self.rate);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Takes tokens, after [`wait`](Self::wait) said that they are there.
    pub(crate) fn take(&mut self, tokens: u64) {
        self.level -= i128::from(tokens) * NANOS;
    }

    fn refill(&mut self, now: Instant) {
        // A clock that is read by several threads may seem to go back a little.
        let passed = now.saturating_duration_since(self.at);
        let nanos = i128::try_from(passed.as_nanos()).unwrap_or(i128::MAX);
        let added = nanos.saturating_mul(i128::from(self.rate));
        self.level = self.level.saturating_add(added).min(self.capacity());
        self.at = self.at.max(now);
    }

    fn capacity(&self) -> i128 {
        i128::from(self.burst) * NANOS
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Takes `tokens` at `now` if the bucket lets it.
    fn try_take(bucket: &mut TokenBucket, now: Instant, tokens: u64) -> bool {
        let may = bucket.wait(now, 0, tokens).is_zero();
        if may {
            bucket.take(tokens);
        }
        may
    }

    #[test]
    fn a_take_larger_than_the_bucket_is_let_through_and_paid_back() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(start, 100, 50);
        assert!(try_take(&mut bucket, start, 250));
        // 200 are owed, and 10 are wanted.
        assert_eq!(bucket.wait(start, 0, 10), Duration::from_millis(2100));
        assert!(!try_take(
            &mut bucket,
            start + Duration::from_millis(2099),
            10
        ));
        assert!(try_take(
            &mut bucket,
            start + Duration::from_millis(2100),
            10
        ));
    }

    #[test]
    fn nothing_is_lost_by_asking_often() {
        // 3 per second, asked every nanosecond third: a rounded refill would lose it all.
        let start = Instant::now();
        let mut bucket = TokenBucket::new(start, 3, 1);
        assert!(try_take(&mut bucket, start, 1));
        let mut now = start;
        for _ in 0..1000 {
            now += Duration::from_nanos(333_333);
            bucket.wait(now, 0, 1);
        }
        assert!(try_take(
            &mut bucket,
            start + Duration::from_nanos(333_333_334),
            1
        ));
    }

    #[test]
    fn a_new_rate_counts_from_the_change_on() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(start, 10, 10);
        assert!(try_take(&mut bucket, start, 10));
        let later = start + Duration::from_millis(500);
        bucket.set(later, 1000, 2000);
        // 5 came at the old rate.
        assert!(!try_take(&mut bucket, later, 6));
        assert!(try_take(&mut bucket, later + Duration::from_millis(1), 6));
        bucket.set(later, 1000, 1);
        assert!(!bucket.wait(later, 0, 1).is_zero() || bucket.level <= NANOS);
    }

    proptest! {
        /// In every stretch of time, whatever is asked when: never more than the rate, the burst
        /// and (if it is larger than the burst) one take.
        #[test]
        fn never_more_than_rate_and_burst(
            rate in 1u64..2_000_000,
            burst in 1u64..1_000_000,
            asks in vec((0u64..50_000_000, 1u64..2_000_000), 1..200),
        ) {
            let start = Instant::now();
            let mut bucket = TokenBucket::new(start, rate, burst);
            let mut now = start;
            let mut taken: Vec<(Instant, u64)> = Vec::new();
            for (pause, tokens) in asks {
                now += Duration::from_nanos(pause);
                if try_take(&mut bucket, now, tokens) {
                    taken.push((now, tokens));
                }
            }
            for first in 0..taken.len() {
                let mut sum = 0u128;
                let mut largest = 0;
                for &(at, tokens) in &taken[first..] {
                    sum += u128::from(tokens);
                    largest = largest.max(tokens);
                    let nanos = at.duration_since(taken[first].0).as_nanos();
                    let most = nanos * u128::from(rate) / 1_000_000_000 + 1
                        + u128::from(burst.max(largest));
                    prop_assert!(sum <= most, "{sum} tokens, {most} are allowed");
                }
            }
        }

        /// Who waits as long as told gets through when the rate allows it: later by no more than one
        /// nanosecond for each take that needed the bucket full to the brim.
        #[test]
        fn a_greedy_taker_gets_exactly_the_rate(
            rate in 1u64..2_000_000_000,
            burst in 1u64..1_000_000,
            takes in vec(1u64..2_000_000, 1..200),
        ) {
            let start = Instant::now();
            let mut bucket = TokenBucket::new(start, rate, burst);
            let mut now = start;
            let mut before = 0u128;
            let mut brims = 0;
            for tokens in takes {
                brims += u128::from(tokens >= burst);
                now += bucket.wait(now, 0, tokens);
                prop_assert!(try_take(&mut bucket, now, tokens));
                // What was taken before plus what must be there for this one, less the burst.
                let need = (before + u128::from(tokens.min(burst))).saturating_sub(u128::from(burst));
                let exact = (need * 1_000_000_000).div_ceil(u128::from(rate));
                let passed = now.duration_since(start).as_nanos();
                prop_assert!((exact..=exact + brims).contains(&passed), "{passed}, not {exact}");
                before += u128::from(tokens);
            }
        }
    }
}
