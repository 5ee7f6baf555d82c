//! How much of the storage a client or a group may use.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Limits of one client, or of all clients of a group together. What is not set is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct IoLimits {
    /// Of commands that take data off the disk.
    pub read: RateLimits,
    /// Of commands that change the disk. Flushes are never held back.
    pub write: RateLimits,
    /// How much may be used at once after a pause, as the milliseconds in which it comes at the
    /// limited rate; without it [`BURST_DEFAULT`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst_ms: Option<u32>,
}

/// Limits in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct RateLimits {
    /// Bytes per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_sec: Option<u64>,
    /// Commands per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iops: Option<u64>,
}

/// Burst where none is set.
pub const BURST_DEFAULT: Duration = Duration::from_secs(1);

/// Longest burst that can be set, in milliseconds: one minute.
pub const BURST_MS_MAX: u32 = 60_000;

impl IoLimits {
    /// True if nothing is limited.
    pub fn is_none(&self) -> bool {
        let free = |limits: &RateLimits| limits.bytes_per_sec.is_none() && limits.iops.is_none();
        free(&self.read) && free(&self.write)
    }

    /// How much may be used at once after a pause, as the time in which it comes.
    pub fn burst(&self) -> Duration {
        self.burst_ms.map_or(BURST_DEFAULT, |ms| {
            Duration::from_millis(u64::from(ms.min(BURST_MS_MAX)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_an_older_release_mean_no_limits() {
        let limits: IoLimits = serde_json::from_str("{}").unwrap();
        assert!(limits.is_none());
        assert_eq!(limits.burst(), BURST_DEFAULT);
    }

    #[test]
    fn one_limit_is_enough_to_be_limited() {
        let limits: IoLimits = serde_json::from_str(r#"{"write": {"iops": 5}}"#).unwrap();
        assert!(!limits.is_none());
        let text = serde_json::to_string(&limits).unwrap();
        assert_eq!(serde_json::from_str::<IoLimits>(&text).unwrap(), limits);
    }
}
