//! Space for what clients write: limits, marks of the pool, levels, and when it will be full.

mod forecast;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

pub use forecast::Forecast;

/// How large a client's overlay may get. What is not set is not limited; a limit of the client wins over that of its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct OverlayLimits {
    /// Above it the initiator and the page are told, and nothing else happens. Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soft_bytes: Option<u64>,
    /// Writes that would take more space than this are refused. Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hard_bytes: Option<u64>,
}

impl OverlayLimits {
    /// True if nothing is limited.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// These, and where one is not set that of `group`.
    #[must_use]
    pub fn or(self, group: Self) -> Self {
        Self {
            soft_bytes: self.soft_bytes.or(group.soft_bytes),
            hard_bytes: self.hard_bytes.or(group.hard_bytes),
        }
    }
}

/// Marks of the pool: the file system that holds the overlays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct PoolSettings {
    /// Percent in use above which people are warned.
    pub warn_percent: u8,
    /// Percent in use above which clients write slower, and overlays that were kept for forensics give way.
    pub throttle_percent: u8,
    /// Percent in use above which no client gets a new overlay.
    pub stop_percent: u8,
    /// What all clients may write together while they are slowed down, in bytes per second. It is shared out evenly, but no client
    /// gets less than [`WRITE_RATE_MIN`].
    pub throttle_bytes_per_sec: u64,
}

/// Least that a client may write while the pool is nearly full, in bytes per second: with less, an initiator takes its disk for dead.
pub const WRITE_RATE_MIN: u64 = 1 << 20;
/// A level is left when the use has fallen this many percent below its mark.
pub const HYSTERESIS_PERCENT: u64 = 2;
/// Most that is held back of the pool, in bytes.
const RESERVE_BYTES_MAX: u64 = 1 << 30;

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            warn_percent: 80,
            throttle_percent: 90,
            stop_percent: 95,
            throttle_bytes_per_sec: 32 << 20,
        }
    }
}

/// How full the pool is, by its marks.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PoolLevel {
    /// There is room.
    #[default]
    Normal,
    /// People are warned.
    Warn,
    /// Clients write slower.
    Throttle,
    /// No client gets a new overlay.
    Stop,
}

impl PoolLevel {
    /// All levels, the lowest first.
    pub const ALL: [Self; 4] = [Self::Normal, Self::Warn, Self::Throttle, Self::Stop];

    /// The level after a look at the pool: up as soon as a mark is reached, down when the use is clearly below it.
    #[must_use]
    pub fn after(self, pool: &PoolFigures, settings: &PoolSettings) -> Self {
        let reached = |level: Self, slack: u64| {
            level.mark(settings).is_none_or(|percent| {
                let mark = u64::from(percent).saturating_sub(slack);
                pool.used_permille() >= mark * 10
            })
        };
        let highest = |slack: u64| {
            let mut falling = Self::ALL.into_iter().rev();
            falling
                .find(|level| reached(*level, slack))
                .unwrap_or_default()
        };
        let (up, down) = (highest(0), highest(HYSTERESIS_PERCENT));
        self.clamp(up, down)
    }

    /// The level without a past.
    pub fn of(pool: &PoolFigures, settings: &PoolSettings) -> Self {
        Self::default().after(pool, settings)
    }

    /// Percent in use from which on it holds; none for the normal one.
    pub fn mark(self, settings: &PoolSettings) -> Option<u8> {
        match self {
            Self::Normal => None,
            Self::Warn => Some(settings.warn_percent),
            Self::Throttle => Some(settings.throttle_percent),
            Self::Stop => Some(settings.stop_percent),
        }
    }

    /// Its name in JSON and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Warn => "warn",
            Self::Throttle => "throttle",
            Self::Stop => "stop",
        }
    }
}

/// Size of a file system and what of it may still be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PoolFigures {
    /// Bytes that it can hold.
    pub total_bytes: u64,
    /// Bytes that are in use.
    pub used_bytes: u64,
    /// Bytes that may be written.
    pub available_bytes: u64,
}

impl PoolFigures {
    /// Thousandths in use, of what may be used: as `df` counts.
    pub fn used_permille(&self) -> u64 {
        let usable = self.used_bytes.saturating_add(self.available_bytes);
        let permille = u128::from(self.used_bytes) * 1000;
        u64::try_from(permille.div_ceil(u128::from(usable).max(1))).unwrap_or(1000)
    }

    /// Bytes that clients' writes leave for the server itself (its database, leases, maps): a hundredth, at most 1 GiB.
    pub fn reserve_bytes(&self) -> u64 {
        (self.total_bytes / 100).min(RESERVE_BYTES_MAX)
    }

    /// Bytes that clients may still write. A file system that does not say how large it is (a tmpfs without a limit) has room.
    pub fn room_bytes(&self) -> u64 {
        match self.total_bytes {
            0 => u64::MAX,
            _ => self.available_bytes.saturating_sub(self.reserve_bytes()),
        }
    }
}

/// The pool as the iSCSI service sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PoolStatus {
    /// Size and use.
    #[serde(flatten)]
    pub figures: PoolFigures,
    /// How full it is.
    pub level: PoolLevel,
    /// Since when that is so; none if nobody watches.
    pub since: Option<Timestamp>,
    /// Bytes per second by which the use grows, over the last minutes; none if that is not known yet.
    pub growth_bytes_per_sec: Option<i64>,
    /// Seconds until clients' writes fail, if it goes on like that; none if it does not grow.
    pub full_in_secs: Option<u64>,
    /// What each client may write per second now; none if it is not slowed down.
    pub client_write_bytes_per_sec: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(percent: u64) -> PoolFigures {
        PoolFigures {
            total_bytes: 1000,
            used_bytes: percent * 10,
            available_bytes: 1000 - percent * 10,
        }
    }

    #[test]
    fn a_level_is_entered_at_its_mark_and_left_clearly_below_it() {
        let settings = PoolSettings::default();
        let mut level = PoolLevel::Normal;
        for (percent, expected) in [
            (79, PoolLevel::Normal),
            (80, PoolLevel::Warn),
            (79, PoolLevel::Warn),
            (77, PoolLevel::Normal),
            (96, PoolLevel::Stop),
            (94, PoolLevel::Stop),
            (93, PoolLevel::Stop),
            (92, PoolLevel::Throttle),
            (88, PoolLevel::Throttle),
            (87, PoolLevel::Warn),
            (90, PoolLevel::Throttle),
            (10, PoolLevel::Normal),
        ] {
            level = level.after(&used(percent), &settings);
            assert_eq!(level, expected, "at {percent} %");
        }
    }

    #[test]
    fn use_is_counted_of_what_may_be_used_and_never_too_low() {
        // 50 of 1000 are kept for root.
        let figures = PoolFigures {
            total_bytes: 1000,
            used_bytes: 900,
            available_bytes: 50,
        };
        assert_eq!(figures.used_permille(), 948);
        assert_eq!(PoolFigures::default().used_permille(), 0);
        assert_eq!(PoolFigures::default().room_bytes(), u64::MAX);
        assert_eq!(figures.reserve_bytes(), 10);
        assert_eq!(figures.room_bytes(), 40);
    }

    #[test]
    fn a_limit_of_the_client_wins_over_that_of_its_group() {
        let group = OverlayLimits {
            soft_bytes: Some(1),
            hard_bytes: Some(2),
        };
        let own = OverlayLimits {
            soft_bytes: None,
            hard_bytes: Some(9),
        };
        let both = own.or(group);
        assert_eq!((both.soft_bytes, both.hard_bytes), (Some(1), Some(9)));
    }

    #[test]
    fn settings_of_an_older_release_are_the_defaults() {
        let settings: PoolSettings = serde_json::from_str("{}").unwrap();
        assert_eq!(settings, PoolSettings::default());
    }
}
