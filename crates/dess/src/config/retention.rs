//! `[retention]`: how long the history is kept.

use std::time::Duration;

use dess_node::Retention;
use serde::Deserialize;

/// `[retention]`, in days; 0 for ever. What is older is removed by the management daemon, within
/// the hour and a few rows at a time.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RetentionSection {
    /// Boot attempts with their steps. Each client's last one stays in any case. Default 183.
    boots_days: u32,
    /// Boot attempts of network cards that were never registered. Default 1.
    unknown_boots_days: u32,
    /// Lines of the audit log. Default 730.
    audit_days: u32,
    /// Jobs that have ended. Default 90.
    jobs_days: u32,
    /// Notices (a foreign DHCP server, a refused login), after they were seen last. Default 30.
    notices_days: u32,
}

impl Default for RetentionSection {
    fn default() -> Self {
        Self {
            boots_days: 183,
            unknown_boots_days: 1,
            audit_days: 730,
            jobs_days: 90,
            notices_days: 30,
        }
    }
}

impl RetentionSection {
    pub(crate) fn retention(&self) -> Retention {
        Retention {
            boots: days(self.boots_days),
            unknown_boots: days(self.unknown_boots_days),
            audit: days(self.audit_days),
            jobs: days(self.jobs_days),
            notices: days(self.notices_days),
        }
    }
}

fn days(days: u32) -> Option<Duration> {
    (days > 0).then(|| Duration::from_secs(u64::from(days) * 24 * 3600))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_days_mean_for_ever_and_the_rest_has_defaults() {
        let section: RetentionSection = toml::from_str("boots_days = 0\njobs_days = 2").unwrap();
        let kept = section.retention();
        assert_eq!(kept.boots, None);
        assert_eq!(kept.jobs, Some(Duration::from_secs(2 * 86_400)));
        assert_eq!(kept.audit, Some(Duration::from_secs(730 * 86_400)));
    }
}
