//! Bounded waits that Ctrl-C ends early.

use std::time::{Duration, Instant};

use crate::interrupt;

/// How long one look at a condition is apart from the next.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Looks at `condition` until it yields a value, for at most `limit`.
///
/// `Ok(None)` = the limit passed. Fails when the condition fails or the person pressed Ctrl-C.
pub(crate) fn until<T>(
    limit: Duration,
    mut condition: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<Option<T>> {
    let deadline = Instant::now() + limit;
    loop {
        interrupt::check()?;
        if let Some(value) = condition()? {
            return Ok(Some(value));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}
