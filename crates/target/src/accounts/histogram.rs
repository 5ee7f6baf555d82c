//! Latencies, counted in buckets whose width grows with the latency.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Four buckets for each power of two of microseconds: a quantile read off is at most a quarter too
/// high. Adding is a few instructions without a lock.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_micros: AtomicU64,
}

/// A histogram in a few numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) count: u64,
    pub(crate) mean_us: u64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
}

/// Up to 67 s; all that took longer is in the last one.
const BUCKETS: usize = 104;

/// Upper bounds of the buckets that are published, in microseconds: 64 µs to 17 s.
pub(crate) const LE_MICROS: [u64; 10] = {
    let mut bounds = [0; 10];
    let mut at = 0;
    while at < bounds.len() {
        bounds[at] = 1 << (2 * at + 6);
        at += 1;
    }
    bounds
};

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            sum_micros: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// Counts `count` commands that took `latency` each.
    pub(crate) fn add(&self, latency: Duration, count: u64) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(micros)].fetch_add(count, Ordering::Relaxed);
        self.sum_micros
            .fetch_add(micros.saturating_mul(count), Ordering::Relaxed);
    }

    /// The sum of all latencies.
    pub(crate) fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_micros.load(Ordering::Relaxed))
    }

    /// How many were below each of [`LE_MICROS`], and how many there are.
    pub(crate) fn cumulative(&self) -> ([u64; LE_MICROS.len()], u64) {
        let mut below = [0; LE_MICROS.len()];
        let mut count = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            for (below, bound) in below.iter_mut().zip(LE_MICROS) {
                if upper_bound(index) <= bound {
                    *below = count;
                }
            }
        }
        (below, count)
    }

    pub(crate) fn summary(&self) -> Summary {
        let counts: Vec<u64> = self
            .buckets
            .iter()
            .map(|bucket| bucket.load(Ordering::Relaxed))
            .collect();
        let count: u64 = counts.iter().sum();
        let quantile = |percent: u64| {
            let rank = (count * percent).div_ceil(100);
            let mut seen = 0;
            let found = counts.iter().position(|bucket| {
                seen += bucket;
                seen >= rank
            });
            found.filter(|_| count > 0).map_or(0, upper_bound)
        };
        Summary {
            count,
            mean_us: self
                .sum_micros
                .load(Ordering::Relaxed)
                .checked_div(count)
                .unwrap_or(0),
            p50_us: quantile(50),
            p99_us: quantile(99),
        }
    }
}

fn bucket_of(micros: u64) -> usize {
    if micros < 4 {
        return micros as usize;
    }
    let power = micros.ilog2() as usize;
    let quarter = (micros >> (power - 2)) as usize & 3;
    ((power - 1) * 4 + quarter).min(BUCKETS - 1)
}

/// The least number of microseconds that is above a bucket.
fn upper_bound(bucket: usize) -> u64 {
    if bucket < 4 {
        return bucket as u64 + 1;
    }
    let power = bucket / 4 + 1;
    (5 + bucket as u64 % 4) << (power - 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_latency_is_in_the_bucket_that_ends_at_most_a_quarter_above(micros in 0u64..67_000_000) {
            let bucket = bucket_of(micros);
            prop_assert!(micros < upper_bound(bucket));
            prop_assert!(upper_bound(bucket) <= micros + micros / 4 + 1);
            prop_assert!(bucket == 0 || upper_bound(bucket - 1) <= micros);
        }
    }

    #[test]
    fn quantiles_and_the_mean_are_of_all_that_was_counted() {
        let histogram = Histogram::default();
        assert_eq!(histogram.summary().p99_us, 0);
        histogram.add(Duration::from_micros(100), 98);
        histogram.add(Duration::from_millis(10), 2);
        let summary = histogram.summary();
        assert_eq!((summary.count, summary.mean_us), (100, 298));
        assert_eq!(summary.p50_us, 112);
        assert!((10_000..=12_500).contains(&summary.p99_us), "{summary:?}");
        let (below, count) = histogram.cumulative();
        assert_eq!((below[0], below[1], count), (0, 98, 100));
        assert_eq!(below[9], 100);
    }

    #[test]
    fn what_takes_for_ever_is_counted_too() {
        let histogram = Histogram::default();
        histogram.add(Duration::MAX, 1);
        let (below, count) = histogram.cumulative();
        assert_eq!((below[9], count), (0, 1));
    }
}
