//! Something that was seen once or more.

use dess_model::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signal<T> {
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    pub(crate) times: u64,
    /// As it was the last time.
    pub(crate) what: T,
}

/// A signal that was away for so long begins anew, in milliseconds.
const ANEW_MS: u64 = 60 * 60 * 1000;

impl<T> Signal<T> {
    /// Seen once more, or for the first time.
    pub(crate) fn renew(signal: &mut Option<Self>, at: Timestamp, what: T) {
        match signal {
            Some(known) if at.millis_since(known.last) < ANEW_MS => {
                known.last = known.last.max(at);
                known.times += 1;
                known.what = what;
            }
            _ => {
                *signal = Some(Self {
                    first: at,
                    last: at,
                    times: 1,
                    what,
                });
            }
        }
    }

    /// True if it was seen within the last `quiet_ms` milliseconds.
    pub(crate) fn is_fresh(&self, now: Timestamp, quiet_ms: u64) -> bool {
        now.millis_since(self.last) < quiet_ms
    }
}
