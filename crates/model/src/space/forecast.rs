//! When the pool will be full, from how fast it filled over the last minutes.

use std::collections::VecDeque;

use crate::{PoolFigures, Timestamp};

/// How far back is looked, in milliseconds.
const WINDOW_MS: u64 = 10 * 60 * 1000;
/// What must have been seen at least before anything is said, in milliseconds.
const SPAN_MS_MIN: u64 = 60 * 1000;
/// Least time between two samples that are kept, in milliseconds.
const SAMPLE_MS: u64 = 5000;
/// A fall by more than this part of the pool is a clearing-up, not a trend: what was before it says nothing any more.
const FALL_PART: u64 = 1000;
/// What lies further ahead is not said: nothing stays as it is for so long. Seconds.
const HORIZON_SECS: u64 = 30 * 24 * 3600;

/// The use of a pool over the last minutes. A value: looks come in with their time.
#[derive(Clone, Debug, Default)]
pub struct Forecast {
    samples: VecDeque<(Timestamp, u64)>,
    latest: Option<(Timestamp, PoolFigures)>,
}

impl Forecast {
    /// A look at the pool.
    pub fn observe(&mut self, now: Timestamp, pool: PoolFigures) {
        let fell = self.latest.is_some_and(|(at, before)| {
            // A clock that was set back is no history either.
            let fall = before.used_bytes.saturating_sub(pool.used_bytes);
            fall > pool.total_bytes / FALL_PART || now < at
        });
        if fell
            || self
                .latest
                .is_some_and(|(_, before)| before.total_bytes != pool.total_bytes)
        {
            self.samples.clear();
        }
        self.latest = Some((now, pool));
        let due = |last: &(Timestamp, u64)| now.millis_since(last.0) >= SAMPLE_MS;
        if self.samples.back().is_none_or(due) {
            self.samples.push_back((now, pool.used_bytes));
        }
        // The last one that is older stays, so that the window is always covered.
        while self.samples.len() > 2 && now.millis_since(self.samples[1].0) >= WINDOW_MS {
            self.samples.pop_front();
        }
    }

    /// Bytes per second by which the use grows; none if it has not been watched for long enough.
    pub fn growth_bytes_per_sec(&self) -> Option<i64> {
        let &(since, used_then) = self.samples.front()?;
        let (now, pool) = self.latest?;
        let span_ms = now.millis_since(since);
        if span_ms < SPAN_MS_MIN {
            return None;
        }
        let grown = i128::from(pool.used_bytes) - i128::from(used_then);
        i64::try_from(grown * 1000 / i128::from(span_ms)).ok()
    }

    /// Seconds until clients' writes fail at this rate; none if the use does not grow, or not so that it matters within a month.
    pub fn full_in_secs(&self) -> Option<u64> {
        let growth = u64::try_from(self.growth_bytes_per_sec()?).ok()?;
        let (_, pool) = self.latest?;
        let secs = pool.room_bytes().checked_div(growth)?;
        (secs <= HORIZON_SECS).then_some(secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const MIB: u64 = 1 << 20;

    fn pool(used_bytes: u64) -> PoolFigures {
        PoolFigures {
            total_bytes: 200 * GIB,
            used_bytes,
            available_bytes: 200 * GIB - used_bytes,
        }
    }

    /// One look per second, with the use as a function of the second.
    fn watched(secs: std::ops::Range<i64>, used: impl Fn(u64) -> u64) -> Forecast {
        let mut forecast = Forecast::default();
        for second in secs {
            let at = Timestamp(second * 1000);
            forecast.observe(at, pool(used(second.unsigned_abs())));
        }
        forecast
    }

    #[test]
    fn a_steady_rate_gives_the_minute() {
        // 100 MiB/s from 60 GiB on: after 100 s, 139 GiB less what was written are left.
        let forecast = watched(0..101, |second| 60 * GIB + second * 100 * MIB);
        assert_eq!(forecast.growth_bytes_per_sec(), Some(100 * MIB as i64));
        let left = 200 * GIB - (60 * GIB + 100 * 100 * MIB) - GIB;
        assert_eq!(forecast.full_in_secs(), Some(left / (100 * MIB)));
    }

    #[test]
    fn nothing_is_said_in_the_first_minute_nor_of_a_pool_that_does_not_grow() {
        let young = watched(0..60, |second| second * GIB);
        assert_eq!(
            (young.growth_bytes_per_sec(), young.full_in_secs()),
            (None, None)
        );
        let still = watched(0..300, |_| 5 * GIB);
        assert_eq!(still.growth_bytes_per_sec(), Some(0));
        assert_eq!(still.full_in_secs(), None);
        let slow = watched(0..300, |second| 5 * GIB + second);
        assert_eq!(slow.full_in_secs(), None);
    }

    #[test]
    fn only_the_last_ten_minutes_count() {
        // An hour of 20 MiB/s, then 10 minutes and a little more of nothing.
        let forecast = watched(0..4210, |second| second.min(3600) * 20 * MIB);
        assert_eq!(forecast.growth_bytes_per_sec(), Some(0));
        assert!(forecast.samples.len() < 130);
    }

    #[test]
    fn what_was_cleared_up_does_not_hide_the_rate_for_long() {
        let grows = |second: u64| {
            let cleared = if second >= 300 { 50 * GIB } else { 0 };
            100 * GIB + second * 50 * MIB - cleared
        };
        let forecast = watched(0..301, grows);
        assert_eq!(forecast.growth_bytes_per_sec(), None);
        let forecast = watched(0..370, grows);
        assert_eq!(forecast.growth_bytes_per_sec(), Some(50 * MIB as i64));
    }

    #[test]
    fn a_clock_that_is_set_back_starts_anew() {
        let mut forecast = watched(1000..1100, |second| second * MIB);
        forecast.observe(Timestamp(5000), pool(GIB));
        assert_eq!(forecast.growth_bytes_per_sec(), None);
    }
}
