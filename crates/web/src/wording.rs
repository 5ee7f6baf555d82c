//! Times, sizes and durations in the reader's language and the site's local time.

use dess_model::Timestamp;
use jiff::tz::TimeZone;

use crate::catalog::{Catalog, Language};

/// How one reader is spoken to. "Now" is fixed, so that rendering is a pure function.
#[derive(Clone, Debug)]
pub(crate) struct Wording {
    pub(crate) language: Language,
    pub(crate) t: &'static Catalog,
    pub(crate) zone: TimeZone,
    pub(crate) now: Timestamp,
}

/// A point in time for a `<time>` element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Milliseconds since the epoch.
    pub(crate) ms: i64,
    /// RFC 3339, for machines.
    pub(crate) iso: String,
    /// For people, local time.
    pub(crate) text: String,
}

impl Wording {
    pub(crate) fn new(language: Language, zone: TimeZone, now: Timestamp) -> Self {
        Self {
            language,
            t: language.catalog(),
            zone,
            now,
        }
    }

    /// The time alone for today, with the date otherwise.
    pub(crate) fn moment(&self, at: Timestamp) -> Moment {
        let Ok(instant) = jiff::Timestamp::from_millisecond(at.0) else {
            return Moment {
                ms: at.0,
                iso: String::new(),
                text: "–".into(),
            };
        };
        let local = instant.to_zoned(self.zone.clone());
        let today = jiff::Timestamp::from_millisecond(self.now.0)
            .map(|now| now.to_zoned(self.zone.clone()).date());
        let format = match (today, self.language) {
            (Ok(today), _) if today == local.date() => "%H:%M:%S",
            (Ok(today), Language::Korean) if today.year() == local.year() => "%-m월 %-d일 %H:%M",
            (_, Language::Korean) => "%Y년 %-m월 %-d일 %H:%M",
            (Ok(today), Language::English) if today.year() == local.year() => "%-d %b %H:%M",
            (_, Language::English) => "%-d %b %Y %H:%M",
        };
        Moment {
            ms: at.0,
            iso: instant.to_string(),
            text: local.strftime(format).to_string(),
        }
    }

    /// A measured duration: `840 ms`, `3.2 s`, `2 min 5 s`.
    pub(crate) fn duration(&self, ms: u64) -> String {
        match ms {
            0..1_000 => self.t.millis.with("n", ms).into(),
            1_000..60_000 => {
                let tenths = format!("{}.{}", ms / 1_000, ms % 1_000 / 100);
                self.t.seconds_exact.with("n", tenths).into()
            }
            _ => {
                let minutes = self.t.ago_minutes.with("n", ms / 60_000);
                let seconds = self.t.ago_seconds.with("n", ms % 60_000 / 1_000);
                format!("{minutes} {seconds}")
            }
        }
    }

    /// A size in units of 1024, named as PC users know them: `256 GB`.
    pub(crate) fn bytes(&self, bytes: u64) -> String {
        const UNITS: [&str; 5] = ["KB", "MB", "GB", "TB", "PB"];
        if bytes < 1024 {
            return format!("{bytes} B");
        }
        let mut whole = bytes;
        let mut rest = 0;
        let mut unit = "B";
        for name in UNITS {
            if whole < 1024 {
                break;
            }
            rest = whole % 1024;
            whole /= 1024;
            unit = name;
        }
        let tenth = rest * 10 / 1024;
        if whole >= 100 || tenth == 0 {
            format!("{whole} {unit}")
        } else {
            format!("{whole}.{tenth} {unit}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wording(language: Language) -> Wording {
        let seoul = TimeZone::fixed(jiff::tz::offset(9));
        // 2026-11-22 21:00 in Seoul.
        Wording::new(language, seoul, Timestamp(1_795_348_800_000))
    }

    #[test]
    fn times_are_local_and_as_short_as_they_can_be() {
        let ko = wording(Language::Korean);
        let en = wording(Language::English);
        let today = Timestamp(ko.now.0 - 3_600_000);
        assert_eq!(ko.moment(today).text, "20:00:00");
        assert_eq!(ko.moment(today).iso, "2026-11-22T11:00:00Z");
        let yesterday = Timestamp(ko.now.0 - 86_400_000);
        assert_eq!(ko.moment(yesterday).text, "11월 21일 21:00");
        assert_eq!(en.moment(yesterday).text, "21 Nov 21:00");
        let long_ago = Timestamp(0);
        assert_eq!(en.moment(long_ago).text, "1 Jan 1970 09:00");
        assert_eq!(en.moment(Timestamp(i64::MAX)).text, "–");
    }

    #[test]
    fn durations_and_sizes_are_short() {
        let ko = wording(Language::Korean);
        let en = wording(Language::English);
        assert_eq!(ko.duration(840), "840ms");
        assert_eq!(en.duration(3_270), "3.2 s");
        assert_eq!(ko.duration(125_000), "2분 5초");
        for (bytes, text) in [
            (0, "0 B"),
            (1536, "1.5 KB"),
            (256 << 30, "256 GB"),
            (u64::MAX, "16383 PB"),
        ] {
            assert_eq!(en.bytes(bytes), text);
        }
    }
}
