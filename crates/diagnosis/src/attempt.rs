//! One boot attempt: from power-on until the client is up, failed or gone.

use std::collections::{BTreeMap, BTreeSet};

use dess_model::{AttemptId, ClientId, MacAddr, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{BootOutcome, Fault, Stage};

/// One boot attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Identity.
    pub id: AttemptId,
    /// Network card that boots.
    pub mac: MacAddr,
    /// The client, if it is registered.
    pub client: Option<ClientId>,
    /// When it powered on.
    pub started: Timestamp,
    /// When something was heard of it last.
    pub last_event: Timestamp,
    /// When its operating system was up.
    pub up: Option<Timestamp>,
    /// When it was abandoned, or the running client was switched off or powered on anew. A
    /// failed one ends when nothing more is heard of it.
    pub ended: Option<Timestamp>,
    /// What it came to so far.
    pub outcome: BootOutcome,
    /// The stage reached last.
    pub stage: Stage,
    /// Why it failed.
    pub fault: Option<Fault>,
    /// Bytes read since power-on.
    pub read_bytes: u64,
    /// Bytes written since power-on.
    pub written_bytes: u64,
    /// How many steps it has.
    pub steps: u32,
    /// What folding remembers beside.
    pub(crate) memory: Memory,
}

/// What is known of an attempt only while it is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// The last step, so that a repeated one is not noted again.
    pub(crate) last_step: Option<(Stage, String)>,
    /// When firmware got its last acknowledgement.
    pub(crate) firmware_ack: Option<Timestamp>,
    /// When iPXE got its last acknowledgement.
    pub(crate) ipxe_ack: Option<Timestamp>,
    /// True when the boot loader was fetched whole.
    pub(crate) loader_done: bool,
    /// First login of the operating system.
    pub(crate) os_login: Option<Timestamp>,
    /// Open sessions of the operating system.
    pub(crate) os_sessions: BTreeSet<u64>,
    /// Since when it has none, although it had.
    pub(crate) quiet_since: Option<Timestamp>,
    /// Bytes read and written per session.
    pub(crate) traffic: BTreeMap<u64, (u64, u64)>,
    /// Bytes of sessions that are over.
    pub(crate) traffic_before: (u64, u64),
}

/// One step of a timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Counts the attempt's steps from 0.
    pub position: u32,
    /// When.
    pub at: Timestamp,
    /// The stage that it belongs to.
    pub stage: Stage,
    /// Details for people, in English.
    pub detail: String,
}

/// What one event changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The attempt as it is now.
    pub attempt: Attempt,
    /// Its new steps.
    pub steps: Vec<Step>,
}

/// Most steps of one attempt: a client that retries for days must not fill the database.
const STEPS_MAX: u32 = 500;
/// Sessions whose traffic is counted apart; the oldest are then summed up.
const SESSIONS_MAX: usize = 64;

impl Attempt {
    /// A new attempt that starts now.
    pub fn new(id: AttemptId, mac: MacAddr, client: Option<ClientId>, at: Timestamp) -> Self {
        Self {
            id,
            mac,
            client,
            started: at,
            last_event: at,
            up: None,
            ended: None,
            outcome: BootOutcome::InProgress,
            stage: Stage::Dhcp,
            fault: None,
            read_bytes: 0,
            written_bytes: 0,
            steps: 0,
            memory: Memory::default(),
        }
    }

    /// The attempt as it was known before a restart of the daemon, with its number of steps.
    /// `os_login` is when the operating system logged in, if it did.
    #[must_use]
    pub fn restored(mut self, steps: u32, os_login: Option<Timestamp>) -> Self {
        self.steps = steps;
        self.memory.os_login = os_login.or(self.up);
        self.memory.loader_done = self.stage >= Stage::Ipxe;
        self.memory.ipxe_ack = (self.stage >= Stage::Ipxe).then_some(self.last_event);
        self.memory.firmware_ack = (self.stage <= Stage::Loader).then_some(self.last_event);
        self
    }

    /// The attempt, ended by a newer power-on at `at`.
    #[must_use]
    pub fn ended_by(mut self, at: Timestamp) -> Self {
        self.end(at);
        self
    }

    /// Milliseconds from power-on to the operating system being up.
    pub fn up_after_ms(&self) -> Option<u64> {
        self.up.map(|up| up.millis_since(self.started))
    }

    pub(crate) fn is_open(&self) -> bool {
        self.ended.is_none()
    }

    /// Notes a step, unless it only repeats the last one.
    pub(crate) fn note(
        &mut self,
        at: Timestamp,
        stage: Stage,
        detail: impl Into<String>,
    ) -> Vec<Step> {
        let detail = detail.into();
        self.last_event = self.last_event.max(at);
        let same =
            matches!(&self.memory.last_step, Some(last) if last.0 == stage && last.1 == detail);
        if same || self.steps >= STEPS_MAX {
            return Vec::new();
        }
        self.memory.last_step = Some((stage, detail.clone()));
        let position = self.steps;
        self.steps += 1;
        vec![Step {
            position,
            at,
            stage,
            detail,
        }]
    }

    /// Notes a step that brings the boot forward.
    pub(crate) fn reach(
        &mut self,
        at: Timestamp,
        stage: Stage,
        detail: impl Into<String>,
    ) -> Vec<Step> {
        if self.up.is_none() {
            self.stage = stage;
        }
        self.note(at, stage, detail)
    }

    /// A failed boot that goes on after all (iPXE retries).
    pub(crate) fn resume(&mut self) {
        if self.outcome == BootOutcome::Failed {
            self.outcome = BootOutcome::InProgress;
            self.fault = None;
        }
    }

    pub(crate) fn fail(&mut self, at: Timestamp, code: &str, text: String) -> Vec<Step> {
        let detail = if text.is_empty() {
            code.to_owned()
        } else {
            format!("{code}: {text}")
        };
        self.outcome = BootOutcome::Failed;
        self.fault = Some(Fault {
            code: code.to_owned(),
            text,
        });
        self.note(at, Stage::Failed, detail)
    }

    pub(crate) fn come_up(&mut self, at: Timestamp, detail: &str) -> Vec<Step> {
        self.resume();
        self.outcome = BootOutcome::Up;
        self.stage = Stage::Up;
        self.up = Some(at);
        self.note(at, Stage::Up, detail)
    }

    pub(crate) fn end(&mut self, at: Timestamp) {
        self.ended = Some(at.max(self.started));
        if self.outcome == BootOutcome::InProgress {
            self.outcome = BootOutcome::Abandoned;
        }
    }

    /// Starts to count a new session's traffic. A restarted service gives old numbers again.
    pub(crate) fn count_new(&mut self, session: u64) {
        let mut over = self.memory.traffic.insert(session, (0, 0));
        if self.memory.traffic.len() > SESSIONS_MAX {
            over = self.memory.traffic.pop_first().map(|oldest| oldest.1);
        }
        let (read, written) = over.unwrap_or_default();
        let before = &mut self.memory.traffic_before;
        before.0 = before.0.saturating_add(read);
        before.1 = before.1.saturating_add(written);
    }

    /// Takes the counters of a session of this attempt; true if they grew.
    pub(crate) fn count(&mut self, session: u64, read: u64, written: u64) -> bool {
        // One of an earlier power-on may end late.
        let Some(counters) = self.memory.traffic.get_mut(&session) else {
            return false;
        };
        let grew = *counters != (read, written);
        *counters = (read, written);
        let (read, written) = self
            .memory
            .traffic
            .values()
            .fold(self.memory.traffic_before, |sum, one| {
                (sum.0.saturating_add(one.0), sum.1.saturating_add(one.1))
            });
        self.read_bytes = self.read_bytes.max(read);
        self.written_bytes = self.written_bytes.max(written);
        grew
    }
}
