//! The space for clients' writes in words.

use dess_model::{PoolLevel, PoolStatus};
use dess_node::operations::SpaceView;

use crate::wording::Wording;

/// Users that are named.
const NAMED_MAX: usize = 5;
const HOUR_SECS: u64 = 3600;

/// The panel.
#[derive(Clone, Debug)]
pub(crate) struct SpacePanel {
    /// `good`, `warn` or `bad`.
    pub(crate) health: &'static str,
    /// The name of the level, for machines.
    pub(crate) level: &'static str,
    pub(crate) state: String,
    pub(crate) permille: u64,
    pub(crate) amount: String,
    pub(crate) forecast: String,
    pub(crate) users: Vec<SpaceUser>,
}

/// One of those who use most.
#[derive(Clone, Debug)]
pub(crate) struct SpaceUser {
    pub(crate) name: String,
    pub(crate) size: String,
}

pub(crate) fn space_panel(words: &Wording, space: &SpaceView) -> SpacePanel {
    let t = words.t;
    let figures = &space.pool.figures;
    let (health, state) = match space.pool.level {
        PoolLevel::Normal => ("good", t.space_normal.into()),
        PoolLevel::Warn => ("warn", t.space_warn.into()),
        PoolLevel::Throttle => ("warn", slow(words, &space.pool)),
        PoolLevel::Stop => ("bad", t.space_stop.into()),
    };
    let permille = figures.used_permille();
    SpacePanel {
        health,
        level: space.pool.level.name(),
        state,
        permille,
        amount: t
            .space_amount
            .with("percent", permille / 10)
            .with("used", words.bytes(figures.used_bytes))
            .with("left", words.bytes(figures.available_bytes))
            .into(),
        forecast: forecast(words, &space.pool),
        users: users(words, space),
    }
}

fn slow(words: &Wording, pool: &PoolStatus) -> String {
    match pool.client_write_bytes_per_sec {
        Some(rate) => words
            .t
            .space_throttle
            .with("rate", words.bytes(rate))
            .into(),
        None => words.t.space_slow.into(),
    }
}

fn forecast(words: &Wording, pool: &PoolStatus) -> String {
    let t = words.t;
    match (pool.full_in_secs, pool.growth_bytes_per_sec) {
        (Some(secs), _) => t.space_full_in.with("time", span(words, secs)).into(),
        (None, Some(_)) => t.space_steady.into(),
        (None, None) => t.space_unknown.into(),
    }
}

fn span(words: &Wording, secs: u64) -> String {
    let t = words.t;
    match secs {
        0..100 => t.ago_seconds.with("n", secs),
        100..6000 => t.ago_minutes.with("n", secs / 60),
        6000..172_800 => t.ago_hours.with("n", secs / HOUR_SECS),
        _ => t.ago_days.with("n", secs / HOUR_SECS / 24),
    }
    .into()
}

/// Clients' overlays, what is kept of earlier ones, versions, unfinished imports and the rest: those that use most.
fn users(words: &Wording, space: &SpaceView) -> Vec<SpaceUser> {
    let t = words.t;
    let mut users: Vec<(String, u64)> = Vec::new();
    for disk in &space.disks {
        let bytes = disk.usage.overlay_bytes + disk.usage.aside_bytes;
        let name = match (&disk.name, disk.seat) {
            (Some(name), Some(seat)) => t.space_client.with("seat", seat).with("name", name).into(),
            _ => t.space_nobody.into(),
        };
        users.push((name, bytes));
    }
    let kept = space.disks.iter().map(|disk| disk.usage.kept_bytes).sum();
    users.push((t.space_kept.into(), kept));
    for version in &space.versions {
        users.push((
            t.space_image.with("name", &version.label).into(),
            version.bytes,
        ));
    }
    users.push((t.space_unfinished.into(), space.unfinished_bytes));
    users.push((t.space_other.into(), space.other_bytes));
    users.retain(|(_, bytes)| *bytes > 0);
    users.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    users.truncate(NAMED_MAX);
    let user = |(name, bytes)| SpaceUser {
        name,
        size: words.bytes(bytes),
    };
    users.into_iter().map(user).collect()
}

#[cfg(test)]
mod tests {
    use dess_model::{PoolFigures, PoolSettings, Timestamp};
    use jiff::tz::TimeZone;

    use super::*;
    use crate::catalog::Language;

    fn panel(language: Language, pool: PoolStatus) -> SpacePanel {
        let words = Wording::new(language, TimeZone::UTC, Timestamp(0));
        let space = SpaceView {
            pool,
            settings: PoolSettings::default(),
            images_pool: None,
            disks: vec![],
            versions: vec![],
            unfinished_bytes: 0,
            leaving_bytes: 0,
            other_bytes: 5 << 30,
        };
        space_panel(&words, &space)
    }

    fn pool(level: PoolLevel, full_in_secs: Option<u64>) -> PoolStatus {
        PoolStatus {
            figures: PoolFigures {
                total_bytes: 100 << 30,
                used_bytes: 91 << 30,
                available_bytes: 9 << 30,
            },
            level,
            since: None,
            growth_bytes_per_sec: full_in_secs.map(|_| 1 << 20),
            full_in_secs,
            client_write_bytes_per_sec: Some(4 << 20),
        }
    }

    #[test]
    fn the_panel_says_in_words_how_full_it_is_and_when_it_will_be() {
        let pool = pool(PoolLevel::Throttle, Some(22 * 60));
        let en = panel(Language::English, pool);
        assert!(
            en.forecast.contains("22 min") && en.amount.contains("91%"),
            "{en:?}"
        );
        assert!(en.state.contains("4 MB"), "{}", en.state);
        let ko = panel(Language::Korean, pool);
        assert!(
            ko.forecast.contains("22분") && ko.amount.contains("91%"),
            "{ko:?}"
        );
        assert_eq!((ko.health, ko.permille), ("warn", 910));
        assert_eq!(ko.users.len(), 1);
    }

    #[test]
    fn a_pool_that_is_not_watched_has_no_forecast() {
        let unknown = panel(Language::English, pool(PoolLevel::Stop, None));
        assert_eq!(unknown.health, "bad");
        assert!(
            unknown.forecast.contains("not known"),
            "{}",
            unknown.forecast
        );
    }
}
