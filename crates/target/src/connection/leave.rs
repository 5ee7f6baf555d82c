//! A planned stop: initiators are asked to come back later, and what runs is answered.

use std::time::{Duration, Instant};

use dess_model::SessionEnd;

use super::ConnectionTask;

/// How long an initiator may take to log out after it was asked; it is served meanwhile. The wire
/// knows whole seconds only, so it may think that it has one.
const LOGOUT_WITHIN: Duration = Duration::from_millis(400);
/// How long commands that run may take to be answered after that.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// Seconds after which an initiator may try again whose session the operator ended (Time2Wait): mostly in vain, so not
/// at once.
const BARRED_SECS: u16 = 5;

/// How far a connection is on its way out.
///
/// `Staying` -> `Asked` (only initiators that understand it) -> `Draining` -> end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// It serves as usual.
    Staying,
    /// The initiator was asked to log out by this time, and is served meanwhile.
    Asked(Instant),
    /// No more commands are taken; those that run are answered until this time.
    Draining(Instant),
}

impl Leave {
    /// False if no more commands are taken.
    pub(super) fn takes_commands(self) -> bool {
        !matches!(self, Self::Draining(_))
    }

    /// When to look again.
    pub(super) fn deadline(self) -> Option<Instant> {
        match self {
            Self::Staying => None,
            Self::Asked(deadline) | Self::Draining(deadline) => Some(deadline),
        }
    }
}

impl ConnectionTask {
    /// The service stops: a session that understands it is asked to log out (RFC 7143 §11.9.1,
    /// event 1). Firmware would close on the message; its commands are answered, then it ends.
    pub(super) fn begin_leave(&mut self, now: Instant) {
        if self.logged_in.is_none() {
            self.end = Some(SessionEnd::Shutdown);
            return;
        }
        let asked = self.connection.request_logout(Duration::from_secs(1));
        self.leave = match asked {
            true => Leave::Asked(now + LOGOUT_WITHIN),
            false => Leave::Draining(now + ANSWERS_WITHIN),
        };
    }

    /// Tells an initiator whose session we end that it ends, and when it may be back.
    pub(super) fn say_farewell(&mut self, end: SessionEnd) {
        match end {
            // One that was asked to log out knows already; it is told that we do not wait any longer.
            SessionEnd::Shutdown | SessionEnd::TargetReset => self.connection.announce_drop(1),
            SessionEnd::Administrative => self.connection.announce_drop(BARRED_SECS),
            SessionEnd::Logout
            | SessionEnd::Closed
            | SessionEnd::Reinstated
            | SessionEnd::Dead
            | SessionEnd::PowerOn
            | SessionEnd::Protocol => false,
        };
    }

    /// Takes the next step if it is time.
    pub(super) fn go_on_leaving(&mut self, now: Instant) {
        if let Leave::Asked(deadline) = self.leave
            && now >= deadline
        {
            self.leave = Leave::Draining(now + ANSWERS_WITHIN);
        }
        if let Leave::Draining(deadline) = self.leave {
            let answered = self.running.is_empty() && self.connection.output_bytes() == 0;
            if answered || now >= deadline {
                self.end.get_or_insert(SessionEnd::Shutdown);
            }
        }
    }
}
