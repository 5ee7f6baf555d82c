//! What tells a power-on from a retry, silence from the end, and what single events mean.

use std::net::IpAddr;

use dess_model::Timestamp;

use crate::{Attempt, BootOutcome, Stage, Step};

/// A boot of which nothing is heard for so long was switched off.
pub const ABANDON_AFTER_MS: u64 = 5 * 60 * 1000;
/// A running client without any session for so long is off. Initiators come back within seconds
/// after a restart of the service; Microsoft's holds its I/O for 60 s.
pub const SESSION_GRACE_MS: u64 = 90 * 1000;
/// The same after a Logout: nobody comes back from that but by booting.
pub(crate) const LOGOUT_GRACE_MS: u64 = 10 * 1000;
/// I/O that goes on for so long after the operating system's login means that it is up, even if
/// it never asks for an address (it may keep the firmware's).
pub(crate) const UP_BY_IO_MS: u64 = 20 * 1000;
/// A new DISCOVER of firmware that was answered so long ago is a new power-on.
const FIRMWARE_AGAIN_MS: u64 = 15 * 1000;
/// The same for iPXE, which goes on at once when it is answered.
const IPXE_AGAIN_MS: u64 = 3 * 1000;
/// When the attempt ended, if it is over by silence.
pub(crate) fn expired(attempt: &Attempt, now: Timestamp) -> Option<Timestamp> {
    if let Some(since) = attempt.memory.quiet_since {
        return (now.millis_since(since) >= SESSION_GRACE_MS).then_some(attempt.last_event);
    }
    let silent = now.millis_since(attempt.last_event) >= ABANDON_AFTER_MS;
    let working = attempt.outcome == BootOutcome::Up || !attempt.memory.os_sessions.is_empty();
    (silent && !working).then_some(attempt.last_event)
}

/// True if a firmware's DHCP exchange means that the PC was powered on anew.
pub(crate) fn firmware_again(attempt: &Attempt, at: Timestamp, acknowledged: bool) -> bool {
    if attempt.stage > Stage::Loader || attempt.memory.loader_done {
        return true;
    }
    let answered = attempt.memory.firmware_ack;
    !acknowledged && answered.is_some_and(|ack| at.millis_since(ack) >= FIRMWARE_AGAIN_MS)
}

/// True if iPXE's DHCP exchange means that the PC was powered on anew.
pub(crate) fn ipxe_again(attempt: &Attempt, at: Timestamp, acknowledged: bool) -> bool {
    if attempt.stage > Stage::Ipxe || attempt.outcome == BootOutcome::Failed {
        return true;
    }
    let answered = attempt.memory.ipxe_ack;
    !acknowledged && answered.is_some_and(|ack| at.millis_since(ack) >= IPXE_AGAIN_MS)
}

pub(crate) fn os_dhcp(
    attempt: &mut Attempt,
    at: Timestamp,
    detail: &str,
    acknowledged: bool,
) -> Vec<Step> {
    if attempt.memory.os_login.is_none() {
        return attempt.note(at, Stage::OsDhcp, detail);
    }
    let mut steps = attempt.reach(at, Stage::OsDhcp, detail);
    if acknowledged && attempt.up.is_none() {
        steps.extend(attempt.come_up(at, "the operating system is up"));
    }
    steps
}

pub(crate) fn firmware_login(attempt: &mut Attempt, at: Timestamp, peer: IpAddr) -> Vec<Step> {
    // BIOS clients log in twice: the boot loader resets the drive.
    let detail = if attempt.stage == Stage::FirmwareLogin {
        format!("logged in again from {peer}")
    } else {
        format!("logged in from {peer}")
    };
    attempt.reach(at, Stage::FirmwareLogin, detail)
}

pub(crate) fn os_login(
    attempt: &mut Attempt,
    at: Timestamp,
    peer: IpAddr,
    session: u64,
) -> Vec<Step> {
    let first = attempt.memory.os_login.is_none();
    attempt.resume();
    attempt.memory.os_login.get_or_insert(at);
    attempt.memory.quiet_since = None;
    attempt.memory.os_sessions.insert(session);
    attempt.count_new(session);
    if first {
        return attempt.reach(at, Stage::OsLogin, format!("logged in from {peer}"));
    }
    attempt.note(at, Stage::OsLogin, format!("logged in again from {peer}"))
}
