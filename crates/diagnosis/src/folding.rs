//! Events in, attempts out.
//!
//! ```text
//!            first DHCP, script or firmware login
//!  (none) ------------------------------------------> InProgress --> Up ------+
//!     ^                                               |  ^    |               | no session for
//!     |                                       failure |  |    | quiet for     | SESSION_GRACE_MS,
//!     |                                               v  |    | ABANDON_...   | or a new power-on
//!     |                                retry by iPXE Failed   v               v
//!     +------------------------------------------------------ ended <---------+
//! ```
//!
//! What tells a power-on from a retry: a DHCP exchange of an earlier phase than the attempt has
//! reached, or of the same phase when that phase was complete some seconds ago.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use dess_boot::advice;
use dess_model::{
    AttemptId, BootStage, ClientId, DhcpPhase, Event, EventKind, LoginKind, MacAddr, SessionEnd,
    SessionStatus, Timestamp,
};

use crate::rules::{
    LOGOUT_GRACE_MS, SESSION_GRACE_MS, UP_BY_IO_MS, expired, firmware_again, firmware_login,
    ipxe_again, os_dhcp, os_login,
};
use crate::wording::{acknowledged, ended_because, offered, transferred};
use crate::{Attempt, BootOutcome, Change, Stage, Step};

/// Attempts of unregistered network cards kept in mind: whoever can send on the network can
/// invent network cards.
const STRANGERS_MAX: usize = 4096;
/// Code of a script that was refused because an address asked that is not the client's.
const FOREIGN_ADDRESS: &str = "E31";
/// Most addresses kept in mind.
const ADDRESSES_MAX: usize = 65_536;

/// The boot attempts under way, and what is needed to tell whose an event is.
#[derive(Debug, Default)]
pub struct Folding {
    attempts: HashMap<MacAddr, Attempt>,
    macs: HashMap<ClientId, MacAddr>,
    clients: HashMap<MacAddr, ClientId>,
    addresses: HashMap<IpAddr, MacAddr>,
}

impl Folding {
    /// Nothing known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells which clients are registered, with their network cards.
    pub fn clients_set(&mut self, clients: impl IntoIterator<Item = (ClientId, MacAddr)>) {
        self.macs = clients.into_iter().collect();
        self.clients = self.macs.iter().map(|(&id, &mac)| (mac, id)).collect();
        for attempt in self.attempts.values_mut() {
            attempt.client = self.clients.get(&attempt.mac).copied();
        }
    }

    /// Tells of one more registered client.
    pub fn client_add(&mut self, client: ClientId, mac: MacAddr) {
        self.macs.insert(client, mac);
        self.clients.insert(mac, client);
        if let Some(attempt) = self.attempts.get_mut(&mac) {
            attempt.client = Some(client);
        }
    }

    /// Takes up an attempt of before a restart. An attempt already under way wins.
    pub fn restore(&mut self, attempt: Attempt) {
        self.attempts.entry(attempt.mac).or_insert(attempt);
    }

    /// The newest attempt of a network card.
    pub fn attempt(&self, mac: MacAddr) -> Option<&Attempt> {
        self.attempts.get(&mac)
    }

    /// Whose an event is, as far as that is known.
    pub fn client_of(&self, event: &Event) -> Option<ClientId> {
        let of_mac = |mac: &MacAddr| self.clients.get(mac).copied();
        match &event.kind {
            EventKind::DhcpOffer { mac, .. }
            | EventKind::DhcpAck { mac, .. }
            | EventKind::Script { mac, .. }
            | EventKind::BootFailure { mac, .. } => of_mac(mac),
            EventKind::TftpTransfer { peer, .. } | EventKind::HttpFile { peer, .. } => {
                self.addresses.get(peer).and_then(of_mac)
            }
            EventKind::DiskReady { client, .. }
            | EventKind::Login { client, .. }
            | EventKind::SessionProgress { client, .. }
            | EventKind::SessionEnded { client, .. }
            | EventKind::DiskError { client, .. } => Some(*client),
            EventKind::LoginRefused { client, .. } => *client,
            EventKind::UnknownClient { .. }
            | EventKind::RogueDhcp { .. }
            | EventKind::AddressConflict { .. }
            | EventKind::NoFreeAddress { .. }
            | EventKind::Malformed { .. } => None,
        }
    }

    /// Takes the next event. `fresh` names the attempt if the event starts one.
    pub fn handle(&mut self, event: &Event, fresh: AttemptId) -> Vec<Change> {
        let at = event.at;
        match &event.kind {
            EventKind::DhcpOffer {
                mac,
                phase,
                address,
                boot_file,
                ..
            } => {
                self.learn(*address, *mac);
                let detail = offered(*address, boot_file.as_deref());
                self.dhcp(at, fresh, *mac, *phase, &detail, false)
            }
            EventKind::DhcpAck {
                mac,
                phase,
                address,
                renewal,
            } => {
                self.learn(*address, *mac);
                if *renewal {
                    return Vec::new();
                }
                self.dhcp(at, fresh, *mac, *phase, &acknowledged(*address), true)
            }
            EventKind::TftpTransfer {
                peer,
                file,
                bytes,
                duration_ms,
                error,
                ..
            } => {
                let detail = transferred(file, *bytes, *duration_ms, error.as_deref());
                self.loader(at, *peer, detail, error.is_none())
            }
            EventKind::HttpFile { peer, file, bytes } => {
                self.loader(at, *peer, format!("HTTP {file}, {bytes} bytes"), true)
            }
            EventKind::Script {
                mac,
                bootable,
                code,
            } => self.script(at, fresh, *mac, *bootable, code.as_deref()),
            EventKind::BootFailure { mac, stage, errno } => {
                self.failure(at, fresh, *mac, *stage, errno)
            }
            EventKind::UnknownClient { mac, address, .. } => {
                self.learn(*address, *mac);
                Vec::new()
            }
            kind => self.handle_disk(at, fresh, kind),
        }
    }

    /// The events of the iSCSI service.
    fn handle_disk(&mut self, at: Timestamp, fresh: AttemptId, kind: &EventKind) -> Vec<Change> {
        match kind {
            EventKind::DiskReady {
                client,
                fresh: new,
                duration_us,
            } => self.disk_ready(at, fresh, *client, *new, *duration_us),
            EventKind::Login {
                client,
                kind,
                peer,
                session,
            } => self.login(at, fresh, *client, *kind, *peer, *session),
            EventKind::LoginRefused {
                client: Some(client),
                status,
                ..
            } => self.login_refused(at, *client, *status),
            EventKind::SessionProgress {
                client,
                session,
                read_bytes,
                written_bytes,
                ..
            } => self.progress(at, *client, *session, (*read_bytes, *written_bytes)),
            EventKind::SessionEnded {
                client,
                session,
                reason,
                read_bytes,
                written_bytes,
                ..
            } => self.session_ended(
                at,
                *client,
                *session,
                *reason,
                (*read_bytes, *written_bytes),
            ),
            // Nothing of a boot.
            _ => Vec::new(),
        }
    }

    /// Ends what was not heard of for too long.
    pub fn handle_timeout(&mut self, now: Timestamp) -> Vec<Change> {
        let mut changes = Vec::new();
        for attempt in self
            .attempts
            .values_mut()
            .filter(|attempt| attempt.is_open())
        {
            if let Some(since) = expired(attempt, now) {
                attempt.end(since);
                changes.push(changed(attempt, Vec::new()));
            }
        }
        let clients = &self.clients;
        self.attempts
            .retain(|mac, attempt| attempt.is_open() || clients.contains_key(mac));
        changes
    }

    /// Compares with the sessions that the iSCSI service has now: those that ended unseen (the
    /// service was killed, or this daemon was) are forgotten, those unknown are learnt.
    pub fn sessions_seen(&mut self, now: Timestamp, sessions: &[SessionStatus]) -> Vec<Change> {
        let mut changes = Vec::new();
        let macs = &self.macs;
        for attempt in self.attempts.values_mut() {
            let open: Vec<&SessionStatus> = sessions
                .iter()
                .filter(|session| {
                    session.kind == LoginKind::Os
                        && session.since >= attempt.started
                        && macs.get(&session.client) == Some(&attempt.mac)
                })
                .collect();
            // An ended attempt whose session is still there was ended too early.
            if attempt.ended.is_some() && (attempt.up.is_none() || open.is_empty()) {
                continue;
            }
            let before = (attempt.ended, attempt.read_bytes, attempt.written_bytes);
            attempt.memory.os_sessions = open.iter().map(|session| session.session).collect();
            for session in &open {
                if !attempt.memory.traffic.contains_key(&session.session) {
                    attempt.count_new(session.session);
                }
                attempt.count(session.session, session.read_bytes, session.written_bytes);
            }
            if open.is_empty() {
                if attempt.memory.os_login.is_some() {
                    attempt.memory.quiet_since.get_or_insert(now);
                }
            } else {
                attempt.memory.quiet_since = None;
                attempt.memory.os_login.get_or_insert(open[0].since);
                attempt.ended = None;
            }
            if before != (attempt.ended, attempt.read_bytes, attempt.written_bytes) {
                changes.push(changed(attempt, Vec::new()));
            }
        }
        changes
    }

    fn learn(&mut self, address: Option<Ipv4Addr>, mac: MacAddr) {
        if let Some(address) = address {
            self.learn_peer(address.into(), mac);
        }
    }

    fn learn_peer(&mut self, address: IpAddr, mac: MacAddr) {
        if self.addresses.len() >= ADDRESSES_MAX && !self.addresses.contains_key(&address) {
            self.addresses.clear();
        }
        self.addresses.insert(address, mac);
    }

    /// Ends the present attempt and starts a new one.
    fn power_on(&mut self, at: Timestamp, fresh: AttemptId, mac: MacAddr) -> Vec<Change> {
        let mut changes = Vec::new();
        let stranger = !self.clients.contains_key(&mac) && !self.attempts.contains_key(&mac);
        if stranger && self.attempts.len() >= self.clients.len() + STRANGERS_MAX {
            return changes;
        }
        if let Some(before) = self.attempts.get_mut(&mac)
            && before.is_open()
        {
            before.end(at);
            changes.push(changed(before, Vec::new()));
        }
        let client = self.clients.get(&mac).copied();
        self.attempts
            .insert(mac, Attempt::new(fresh, mac, client, at));
        changes
    }

    /// Applies `step` to the attempt of `mac`, after starting a new one if `anew` says so.
    fn advance(
        &mut self,
        at: Timestamp,
        fresh: AttemptId,
        mac: MacAddr,
        anew: impl FnOnce(&Attempt) -> bool,
        step: impl FnOnce(&mut Attempt) -> Vec<Step>,
    ) -> Vec<Change> {
        let open = self.attempts.get(&mac).filter(|attempt| attempt.is_open());
        let mut changes = match open {
            Some(attempt) if !anew(attempt) => Vec::new(),
            _ => self.power_on(at, fresh, mac),
        };
        if let Some(attempt) = self.attempts.get_mut(&mac) {
            let steps = step(attempt);
            changes.push(changed(attempt, steps));
        }
        changes
    }

    /// Applies `step` to the open attempt of `mac`, if there is one.
    fn amend(
        &mut self,
        mac: Option<MacAddr>,
        step: impl FnOnce(&mut Attempt) -> Vec<Step>,
    ) -> Vec<Change> {
        let attempt = mac.and_then(|mac| self.attempts.get_mut(&mac));
        match attempt.filter(|attempt| attempt.is_open()) {
            Some(attempt) => {
                let steps = step(attempt);
                vec![changed(attempt, steps)]
            }
            None => Vec::new(),
        }
    }

    fn dhcp(
        &mut self,
        at: Timestamp,
        fresh: AttemptId,
        mac: MacAddr,
        phase: DhcpPhase,
        detail: &str,
        acknowledged: bool,
    ) -> Vec<Change> {
        match phase {
            DhcpPhase::Firmware => self.advance(
                at,
                fresh,
                mac,
                |attempt| firmware_again(attempt, at, acknowledged),
                |attempt| {
                    attempt.resume();
                    if acknowledged {
                        attempt.memory.firmware_ack = Some(at);
                    }
                    attempt.reach(at, Stage::Dhcp, detail)
                },
            ),
            DhcpPhase::Ipxe => self.advance(
                at,
                fresh,
                mac,
                |attempt| ipxe_again(attempt, at, acknowledged),
                |attempt| {
                    if acknowledged {
                        attempt.memory.ipxe_ack = Some(at);
                    }
                    attempt.reach(at, Stage::Ipxe, detail)
                },
            ),
            DhcpPhase::Os => self.amend(Some(mac), |attempt| {
                os_dhcp(attempt, at, detail, acknowledged)
            }),
        }
    }

    fn loader(&mut self, at: Timestamp, peer: IpAddr, detail: String, whole: bool) -> Vec<Change> {
        let mac = self.addresses.get(&peer).copied();
        self.amend(mac, |attempt| {
            if attempt.stage > Stage::Loader {
                return attempt.note(at, Stage::Loader, detail);
            }
            attempt.memory.loader_done |= whole;
            attempt.reach(at, Stage::Loader, detail)
        })
    }

    fn script(
        &mut self,
        at: Timestamp,
        fresh: AttemptId,
        mac: MacAddr,
        bootable: bool,
        code: Option<&str>,
    ) -> Vec<Change> {
        if !bootable && !self.may_be_refused(mac, code) {
            return Vec::new();
        }
        // iPXE asks for its script again after a failure; an operating system never does.
        let anew = |attempt: &Attempt| attempt.memory.os_login.is_some();
        self.advance(at, fresh, mac, anew, |attempt| match (bootable, code) {
            (true, _) => {
                attempt.resume();
                attempt.reach(at, Stage::Script, "boot script sent")
            }
            (false, Some(code)) => {
                attempt.stage = Stage::Script;
                attempt.fail(at, code, String::new())
            }
            (false, None) => {
                attempt.resume();
                attempt.reach(at, Stage::Script, "waiting screen sent")
            }
        })
    }

    /// True if a refused script can be that of the PC itself. Whoever reaches the server can ask
    /// for any PC's: that must neither end a boot that went on to its disk, nor start one.
    fn may_be_refused(&self, mac: MacAddr, code: Option<&str>) -> bool {
        let attempt = self.attempts.get(&mac);
        match attempt.filter(|attempt| attempt.is_open()) {
            Some(attempt) => {
                attempt.memory.os_login.is_none()
                    && (attempt.stage <= Stage::Script || attempt.outcome == BootOutcome::Failed)
            }
            // Asked from a foreign address, and the PC has not been heard of.
            None => code != Some(FOREIGN_ADDRESS),
        }
    }

    fn disk_ready(
        &mut self,
        at: Timestamp,
        fresh: AttemptId,
        client: ClientId,
        new: bool,
        duration_us: u64,
    ) -> Vec<Change> {
        let Some(&mac) = self.macs.get(&client) else {
            return Vec::new();
        };
        let kind = if new { "fresh overlay" } else { "kept overlay" };
        let detail = format!(
            "{kind} in {}.{} ms",
            duration_us / 1000,
            duration_us % 1000 / 100
        );
        let anew = |attempt: &Attempt| attempt.memory.os_login.is_some();
        self.advance(at, fresh, mac, anew, |attempt| {
            attempt.reach(at, Stage::Disk, detail)
        })
    }

    fn failure(
        &mut self,
        at: Timestamp,
        fresh: AttemptId,
        mac: MacAddr,
        stage: BootStage,
        errno: &str,
    ) -> Vec<Change> {
        // The same words and code as on the client's screen.
        let digits = errno.strip_prefix("0x").unwrap_or(errno);
        let advice = advice(u32::from_str_radix(digits, 16).unwrap_or(0));
        let (code, what) = match stage {
            BootStage::Script => ("E23", "The boot script could not be fetched."),
            BootStage::Sanboot => (advice.code, advice.problem),
        };
        let anew = |attempt: &Attempt| attempt.memory.os_login.is_some();
        self.advance(at, fresh, mac, anew, |attempt| {
            attempt.fail(at, code, format!("{what} (iPXE error {errno})"))
        })
    }

    fn login(
        &mut self,
        at: Timestamp,
        fresh: AttemptId,
        client: ClientId,
        kind: LoginKind,
        peer: IpAddr,
        session: u64,
    ) -> Vec<Change> {
        let Some(&mac) = self.macs.get(&client) else {
            return Vec::new();
        };
        self.learn_peer(peer, mac);
        match kind {
            LoginKind::Firmware => {
                let anew = |attempt: &Attempt| attempt.memory.os_login.is_some();
                self.advance(at, fresh, mac, anew, |attempt| {
                    attempt.resume();
                    attempt.count_new(session);
                    firmware_login(attempt, at, peer)
                })
            }
            LoginKind::Os => {
                // A running client whose session came back was never off.
                if let Some(attempt) = self.attempts.get_mut(&mac)
                    && attempt.memory.os_login.is_some()
                {
                    attempt.ended = None;
                }
                self.advance(
                    at,
                    fresh,
                    mac,
                    |_| false,
                    |attempt| os_login(attempt, at, peer, session),
                )
            }
        }
    }

    fn login_refused(&mut self, at: Timestamp, client: ClientId, status: u16) -> Vec<Change> {
        let mac = self.macs.get(&client).copied();
        self.amend(mac, |attempt| {
            let text = format!("the disk refused the login (iSCSI status {status:#06x})");
            if attempt.up.is_some() {
                attempt.note(at, Stage::OsLogin, text)
            } else {
                attempt.fail(at, refusal_code(status), text)
            }
        })
    }

    fn progress(
        &mut self,
        at: Timestamp,
        client: ClientId,
        session: u64,
        (read, written): (u64, u64),
    ) -> Vec<Change> {
        let mac = self.macs.get(&client).copied();
        self.amend(mac, |attempt| {
            let grew = attempt.count(session, read, written);
            attempt.last_event = attempt.last_event.max(at);
            let old_enough = attempt
                .memory
                .os_login
                .is_some_and(|login| at.millis_since(login) >= UP_BY_IO_MS);
            let of_os = attempt.memory.os_sessions.contains(&session);
            if attempt.up.is_none() && grew && old_enough && of_os {
                return attempt.come_up(at, "the operating system works on its disk");
            }
            Vec::new()
        })
    }

    fn session_ended(
        &mut self,
        at: Timestamp,
        client: ClientId,
        session: u64,
        reason: SessionEnd,
        (read, written): (u64, u64),
    ) -> Vec<Change> {
        let mac = self.macs.get(&client).copied();
        self.amend(mac, |attempt| {
            attempt.count(session, read, written);
            if !attempt.memory.os_sessions.remove(&session) {
                return Vec::new();
            }
            if attempt.memory.os_sessions.is_empty() {
                // After a Logout the rest of the grace is short.
                let head_start = match reason {
                    SessionEnd::Logout => SESSION_GRACE_MS - LOGOUT_GRACE_MS,
                    _ => 0,
                };
                let since = Timestamp(at.0.saturating_sub_unsigned(head_start));
                attempt.memory.quiet_since = Some(since);
            }
            attempt.note(at, Stage::SessionEnded, ended_because(reason))
        })
    }
}

/// The code of a refused login (RFC 7143 §11.13.5): wrong name or secret, or no such disk.
fn refusal_code(status: u16) -> &'static str {
    match status {
        0x0201 | 0x0202 => "E28",
        _ => "E22",
    }
}

fn changed(attempt: &Attempt, steps: Vec<Step>) -> Change {
    Change {
        attempt: attempt.clone(),
        steps,
    }
}
