//! Progress of long work, reported now and then.

use std::time::{Duration, Instant};

/// Shortest time between two reports.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// How far long work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes done: of the disk, or of the source if that is a stream.
    pub done_bytes: u64,
    /// Bytes in all; 0 if that is not known.
    pub total_bytes: u64,
}

/// Passes on at most about ten reports a second, and the first and the last one.
pub(crate) struct Throttle<'a> {
    report: &'a mut dyn FnMut(Progress),
    total_bytes: u64,
    last: Option<Instant>,
}

impl<'a> Throttle<'a> {
    pub(crate) fn new(report: &'a mut dyn FnMut(Progress), total_bytes: u64) -> Self {
        report(Progress {
            done_bytes: 0,
            total_bytes,
        });
        Self {
            report,
            total_bytes,
            last: None,
        }
    }

    pub(crate) fn done(&mut self, done_bytes: u64) {
        let now = Instant::now();
        let due = self
            .last
            .is_none_or(|last| now.duration_since(last) >= REPORT_EVERY);
        if due && (done_bytes < self.total_bytes || self.total_bytes == 0) {
            self.last = Some(now);
            (self.report)(Progress {
                done_bytes,
                total_bytes: self.total_bytes,
            });
        }
    }

    pub(crate) fn finish(self) {
        (self.report)(Progress {
            done_bytes: self.total_bytes,
            total_bytes: self.total_bytes,
        });
    }
}
