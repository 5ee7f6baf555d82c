//! What is seen of one seat: its last boots, and what went wrong with its disk.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;

use dess_model::{
    Architecture, AttemptId, DhcpPhase, EventKind, LoginKind, TftpFailure, Timestamp, VersionRef,
};

use super::{SeatEntry, Signal};
use crate::case::limits::BOOTS_KEPT;
use crate::{Attempt, Fault, Stage};

#[derive(Clone, Debug, Default)]
pub(crate) struct SeatFacts {
    entry: Option<SeatEntry>,
    /// Oldest first.
    pub(crate) boots: VecDeque<BootFacts>,
    /// When an operating system of it logged in last.
    pub(crate) os_login: Option<Timestamp>,
    /// When an operating system of it was up last.
    pub(crate) up: Option<Timestamp>,
    pub(crate) disk_error: Option<Signal<String>>,
    pub(crate) refused: Option<Signal<Refusal>>,
}

/// A login that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) peer: IpAddr,
    pub(crate) initiator: String,
    pub(crate) status: u16,
}

/// One boot of a seat.
#[derive(Clone, Debug)]
pub(crate) struct BootFacts {
    pub(crate) id: AttemptId,
    pub(crate) started: Timestamp,
    pub(crate) last_event: Timestamp,
    pub(crate) stage: Stage,
    pub(crate) ended: Option<Timestamp>,
    pub(crate) up: Option<Timestamp>,
    /// What it booted, by its assignment at power-on.
    pub(crate) version: Option<VersionRef>,
    pub(crate) fault: Option<Fault>,
    /// iPXE's error number and when it was reported last.
    pub(crate) errno: Option<(Timestamp, String)>,
    pub(crate) uefi: bool,
    /// First and last offer, and how many.
    pub(crate) offers: Option<(Timestamp, Timestamp, u32)>,
    pub(crate) acknowledged: bool,
    /// A boot loader that was fetched whole.
    pub(crate) loader: Option<(Timestamp, String)>,
    /// A boot file that could not be fetched.
    pub(crate) file_failed: Option<(Timestamp, String, TftpFailure)>,
    /// When a script that names a disk was answered last.
    pub(crate) script: Option<Timestamp>,
    pub(crate) firmware_login: Option<Timestamp>,
    pub(crate) os_login: Option<Timestamp>,
    /// Open sessions of firmware.
    open: BTreeSet<u64>,
    /// Most reads of one session of firmware, and when the last one ended.
    pub(crate) reads: u64,
    pub(crate) firmware_ended: Option<Timestamp>,
}

impl SeatFacts {
    pub(super) fn adopt(&mut self, entry: SeatEntry) {
        self.entry = Some(entry);
    }

    /// What it boots.
    pub(crate) fn version(&self) -> Option<VersionRef> {
        self.entry.and_then(|entry| entry.version)
    }

    /// True if a fresh disk differs from the one that it has.
    pub(crate) fn keeps_writes(&self) -> bool {
        self.entry
            .is_some_and(|entry| entry.keeps_writes && !entry.maintains)
    }

    /// Its newest boot.
    pub(crate) fn boot(&self) -> Option<&BootFacts> {
        self.boots.back()
    }

    /// Takes the state of a boot, as folded.
    pub(super) fn attempt_seen(&mut self, attempt: &Attempt) {
        self.up = self.up.max(attempt.up);
        let version = self.version();
        if let Some(boot) = self.boots.iter_mut().find(|boot| boot.id == attempt.id) {
            boot.take(attempt);
            return;
        }
        let newest = self.boots.back().map(|boot| boot.started);
        if newest.is_some_and(|newest| attempt.started < newest) {
            return;
        }
        self.boots.push_back(BootFacts::new(attempt, version));
        if self.boots.len() > BOOTS_KEPT {
            self.boots.pop_front();
        }
    }

    /// Takes an event of the seat; true if it found nobody at the disk service's port.
    pub(super) fn event_seen(&mut self, at: Timestamp, kind: &EventKind) -> bool {
        match kind {
            EventKind::DiskError { message, .. } => {
                Signal::renew(&mut self.disk_error, at, message.clone());
            }
            EventKind::LoginRefused {
                peer,
                initiator,
                status,
                ..
            } => {
                let refusal = Refusal {
                    peer: *peer,
                    initiator: initiator.clone(),
                    status: *status,
                };
                Signal::renew(&mut self.refused, at, refusal);
            }
            EventKind::Login {
                kind: LoginKind::Os,
                ..
            } => self.os_login = self.os_login.max(Some(at)),
            _ => {}
        }
        let Some(boot) = self.boots.back_mut() else {
            return false;
        };
        boot.event_seen(at, kind);
        matches!(kind, EventKind::BootFailure { .. })
            && boot.fault.as_ref().is_some_and(|fault| fault.code == "E11")
    }
}

impl BootFacts {
    fn new(attempt: &Attempt, version: Option<VersionRef>) -> Self {
        let mut boot = Self {
            id: attempt.id,
            started: attempt.started,
            last_event: attempt.last_event,
            stage: attempt.stage,
            ended: None,
            up: None,
            version,
            fault: None,
            errno: None,
            uefi: false,
            offers: None,
            acknowledged: false,
            loader: None,
            file_failed: None,
            script: None,
            firmware_login: None,
            os_login: None,
            open: BTreeSet::new(),
            reads: 0,
            firmware_ended: None,
        };
        boot.take(attempt);
        boot
    }

    fn take(&mut self, attempt: &Attempt) {
        self.last_event = attempt.last_event;
        self.stage = self.stage.max(attempt.stage);
        self.ended = attempt.ended;
        self.up = attempt.up;
        self.fault.clone_from(&attempt.fault);
        self.os_login = attempt.memory.os_login;
    }

    /// True if it got as far as its disk.
    pub(crate) fn reached_disk(&self) -> bool {
        self.firmware_login.is_some() || self.os_login.is_some()
    }

    /// True if a session of firmware is open.
    pub(crate) fn holds_disk(&self) -> bool {
        !self.open.is_empty()
    }

    fn event_seen(&mut self, at: Timestamp, kind: &EventKind) {
        match kind {
            EventKind::DhcpOffer {
                phase: DhcpPhase::Firmware,
                architecture,
                ..
            } => {
                self.uefi = architecture.is_some_and(|found| found != Architecture::Bios);
                let (first, _, times) = self.offers.unwrap_or((at, at, 0));
                self.offers = Some((first, at, times + 1));
            }
            EventKind::DhcpAck { .. } => self.acknowledged = true,
            EventKind::TftpTransfer { file, failure, .. } => match failure {
                Some(failure) => self.file_failed = Some((at, file.clone(), *failure)),
                None => self.loader_fetched(at, file),
            },
            EventKind::HttpFile { file, .. } => self.loader_fetched(at, file),
            EventKind::Script { bootable, .. } => self.script = bootable.then_some(at),
            EventKind::BootFailure { errno, .. } => self.errno = Some((at, errno.clone())),
            EventKind::Login {
                kind: LoginKind::Firmware,
                session,
                ..
            } => {
                self.firmware_login.get_or_insert(at);
                self.firmware_ended = None;
                self.open.insert(*session);
                // One boot is bounded, but for a client that logs in for days.
                if self.open.len() > OPEN_MAX {
                    self.open.pop_first();
                }
            }
            EventKind::SessionProgress { session, reads, .. } if self.open.contains(session) => {
                self.reads = self.reads.max(*reads);
            }
            EventKind::SessionEnded { session, reads, .. } if self.open.remove(session) => {
                self.reads = self.reads.max(*reads);
                if self.open.is_empty() {
                    self.firmware_ended = Some(at);
                }
            }
            _ => {}
        }
    }

    fn loader_fetched(&mut self, at: Timestamp, file: &str) {
        self.loader = Some((at, file.to_owned()));
        self.file_failed = None;
    }
}

/// Sessions of firmware that are watched at once.
const OPEN_MAX: usize = 16;
