//! What a connection tells the rest of the site.

use std::io;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dess_iscsi::LoginRefused;
use dess_model::{EventKind, SessionEnd, Timestamp};

use super::ConnectionTask;
use crate::engine::Fault;
use crate::service::Service;
use crate::sessions::Session;

/// How often the counters of a working session are reported.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// How often a session's failures of the store are reported.
const FAULT_EVERY: Duration = Duration::from_secs(5);
/// Commands after which a session is reported for the first time: enough to tell a boot that
/// works from an empty disk.
const FIRST_PROGRESS_COMMANDS: u64 = 10;

/// When to report a session's counters next.
pub(super) struct Progress {
    next: Instant,
    reported: u64,
    fault_reported: Option<Instant>,
}

impl Progress {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            next: now + PROGRESS_EVERY,
            reported: 0,
            fault_reported: None,
        }
    }

    fn may_report_fault(&mut self, now: Instant) -> bool {
        let due = self
            .fault_reported
            .is_none_or(|last| now.saturating_duration_since(last) >= FAULT_EVERY);
        if due {
            self.fault_reported = Some(now);
        }
        due
    }

    /// The next time at which something is to be done.
    pub(super) fn next(&self, other: Option<Instant>) -> Instant {
        other.map_or(self.next, |other| other.min(self.next))
    }
}

/// Why a session ended whose socket failed.
pub(super) fn end_of(error: &io::Error) -> SessionEnd {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable => SessionEnd::Dead,
        _ => SessionEnd::Closed,
    }
}

pub(super) fn session_ended(service: &Service, session: &Session, reason: SessionEnd) {
    if session.logged.is_some() {
        tracing::info!(
            session.id,
            session.initiator = session.port.name,
            session.target,
            session.end = ?reason,
            "session of {} ended",
            session.peer
        );
    }
    let Some(client) = session.client else {
        return;
    };
    service.report(EventKind::SessionEnded {
        client,
        session: session.id,
        reason,
        read_bytes: session.counters.read_bytes.load(Ordering::Relaxed),
        written_bytes: session.counters.written_bytes.load(Ordering::Relaxed),
        reads: session.counters.reads.load(Ordering::Relaxed),
    });
}

impl ConnectionTask {
    /// Counts a command that was carried out, and reports the first few at once.
    pub(super) fn report_first_commands(&mut self) {
        let Some(logged_in) = &self.logged_in else {
            return;
        };
        if self.progress.reported == 0
            && logged_in.session.counters.commands() >= FIRST_PROGRESS_COMMANDS
        {
            self.send_progress();
        }
    }

    pub(super) fn report_progress(&mut self, now: Instant) {
        if now < self.progress.next {
            return;
        }
        self.progress.next = now + PROGRESS_EVERY;
        let Some(logged_in) = &self.logged_in else {
            return;
        };
        if logged_in.session.counters.commands() > self.progress.reported {
            self.send_progress();
        }
    }

    fn send_progress(&mut self) {
        let Some(logged_in) = &self.logged_in else {
            return;
        };
        let session = &logged_in.session;
        self.progress.reported = session.counters.commands();
        if let Some(client) = session.client {
            self.service.report(EventKind::SessionProgress {
                client,
                session: session.id,
                read_bytes: session.counters.read_bytes.load(Ordering::Relaxed),
                written_bytes: session.counters.written_bytes.load(Ordering::Relaxed),
                reads: session.counters.reads.load(Ordering::Relaxed),
                writes: session.counters.writes.load(Ordering::Relaxed),
            });
        }
    }

    pub(super) fn report_refusal(&self, refused: &LoginRefused) {
        let identity = refused.identity.as_ref();
        let initiator = identity.map_or("", |identity| &identity.initiator_name);
        let target = identity.and_then(|identity| identity.target_name.as_deref());
        let client = target.and_then(|target| self.service.site.client_of(target));
        let peer = self.peer.ip().to_canonical();
        // Told apart by client and status too: both are bounded, unlike the names that peers make
        // up, and each is another fault of the room.
        let status = refused.status.code();
        let of = client.map_or_else(String::new, |client| client.to_string());
        let who = format!("{peer} {of} {status}");
        let mut refusals = self
            .service
            .refusals
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let told = refusals.record(Timestamp::now(), &who, "");
        drop(refusals);
        let Some(told) = told else {
            return;
        };
        tracing::warn!(
            login.initiator = initiator,
            login.target = target,
            login.status = ?refused.status,
            login.count = told.count,
            "login from {peer} was refused"
        );
        self.service.report(EventKind::LoginRefused {
            client,
            peer,
            initiator: initiator.to_owned(),
            status,
        });
    }

    /// Somebody connected and did not log in in time: a machine that lost its power then, or
    /// nobody who means to.
    pub(super) fn report_late_login(&self) {
        let peer = self.peer.ip().to_canonical();
        let mut late = self
            .service
            .late_logins
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let told = late.record(Timestamp::now(), &peer.to_string(), "");
        drop(late);
        if let Some(told) = told {
            tracing::warn!(
                login.count = told.count,
                "{peer} connected and did not log in within {} s",
                self.service.limits.login_timeout.as_secs()
            );
        }
    }

    pub(super) fn report_malformed(&self, error: &(dyn std::error::Error + 'static)) {
        let peer = self.peer.ip().to_canonical();
        let mut malformed = self
            .service
            .malformed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let told = malformed.record(Timestamp::now(), &peer.to_string(), &error.to_string());
        drop(malformed);
        let Some(event) = told else {
            return;
        };
        if let EventKind::Malformed { count, .. } = &event {
            let count = *count;
            tracing::warn!(
                error,
                malformed.count = count,
                "malformed input from {peer}"
            );
        }
        self.service.report(event);
    }

    /// A store that fails does so for many commands: at most one report in a while per session.
    pub(super) fn report_fault(&mut self, fault: &Fault) {
        let Some(logged_in) = &self.logged_in else {
            return;
        };
        if !fault.is_failure() || !self.progress.may_report_fault(Instant::now()) {
            return;
        }
        tracing::error!(
            error = fault as &dyn std::error::Error,
            session.id = logged_in.session.id,
            session.target = logged_in.session.target,
            "a disk command failed"
        );
        let Some(client) = logged_in.session.client else {
            return;
        };
        let mut message = fault.to_string();
        if let Some(source) = std::error::Error::source(fault) {
            message = format!("{message}: {source}");
        }
        self.service
            .report(EventKind::DiskError { client, message });
    }
}
