//! What was seen within a window of time; bounded, because peers choose the keys.

use std::collections::HashMap;
use std::hash::Hash;

use dess_model::Timestamp;

/// Most keys remembered.
const KEYS_MAX: usize = 4096;

/// Keys with the time at which they were last noted.
#[derive(Clone, Debug)]
pub(crate) struct Recent<K> {
    window_ms: i64,
    seen: HashMap<K, Timestamp>,
}

impl<K: Eq + Hash> Recent<K> {
    pub(crate) fn new(window_ms: i64) -> Self {
        Self {
            window_ms,
            seen: HashMap::new(),
        }
    }

    /// True if the key was not noted within the window; it is now. False as well when too many
    /// keys are remembered.
    pub(crate) fn is_first(&mut self, key: K, now: Timestamp) -> bool {
        !self.contains(&key, now) && self.note(key, now)
    }

    /// Notes the key at this time. False if too many keys are remembered.
    pub(crate) fn note(&mut self, key: K, now: Timestamp) -> bool {
        if self.seen.len() >= KEYS_MAX && !self.seen.contains_key(&key) {
            let window_ms = self.window_ms;
            self.seen.retain(|_, at| now.0 - at.0 < window_ms);
            if self.seen.len() >= KEYS_MAX {
                return false;
            }
        }
        self.seen.insert(key, now);
        true
    }

    /// True if the key was noted within the window.
    pub(crate) fn contains(&self, key: &K, now: Timestamp) -> bool {
        self.seen
            .get(key)
            .is_some_and(|at| now.0 - at.0 < self.window_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_first_once_per_window_and_a_flood_of_keys_is_bounded() {
        let mut recent = Recent::new(1000);
        assert!(recent.is_first(0, Timestamp(0)));
        assert!(!recent.is_first(0, Timestamp(999)));
        assert!(recent.is_first(0, Timestamp(1000)));
        for key in 1..100_000 {
            recent.is_first(key, Timestamp(1500));
        }
        assert_eq!(recent.seen.len(), KEYS_MAX);
        assert!(recent.is_first(200_000, Timestamp(9000)));
        assert_eq!(recent.seen.len(), 1);
    }
}
