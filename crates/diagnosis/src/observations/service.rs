//! What is seen of one service.

use dess_model::Timestamp;

use crate::case::limits::CRASHES_WITHIN_MS;

/// How a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceCondition {
    /// It does not run, by nobody's wish.
    Down,
    /// It runs and is not ready yet.
    Starting,
    /// It says that it works.
    Ready,
    /// Somebody stopped it.
    Stopped,
}

/// One service, looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSeen {
    /// Its name, e.g. `dhcp`.
    pub name: String,
    /// How it is.
    pub condition: ServiceCondition,
    /// How often it was started again after it ended by itself.
    pub restarts: u32,
    /// How it ended the last time, in English.
    pub last_exit: Option<String>,
    /// Its last probe: when, and why it failed, in English; none if it was not probed.
    pub probe: Option<(Timestamp, Option<String>)>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct ServiceFacts {
    /// As it was seen last; none before the first look.
    pub(crate) seen: Option<ServiceSeen>,
    /// Since when it is not ready.
    pub(crate) unready_since: Option<Timestamp>,
    /// True if it ended by itself since it was ready last.
    pub(crate) crashed: bool,
    /// When it was seen to have ended though it worked. Tries to start it that fail are part of the
    /// same outage.
    pub(crate) crashes: Vec<Timestamp>,
    /// Since when its probe fails.
    pub(crate) fails_since: Option<Timestamp>,
}

impl ServiceFacts {
    pub(super) fn observe(&mut self, now: Timestamp, seen: ServiceSeen) {
        let before = self
            .seen
            .as_ref()
            .map_or(seen.restarts, |seen| seen.restarts);
        let again = seen.restarts > before;
        self.crashes
            .retain(|at| now.millis_since(*at) < CRASHES_WITHIN_MS);
        let ended = seen.condition == ServiceCondition::Down || again;
        if ended && !self.crashed {
            self.crashes.push(now);
            self.crashed = true;
        }
        if seen.condition == ServiceCondition::Ready {
            self.unready_since = None;
            self.crashed = false;
        } else {
            self.unready_since.get_or_insert(now);
        }
        match &seen.probe {
            Some((at, Some(_))) => {
                self.fails_since.get_or_insert(*at);
            }
            Some((_, None)) | None => self.fails_since = None,
        }
        self.seen = Some(seen);
    }
}
