//! Faults of one PC's boot.

use std::collections::BTreeMap;

use dess_model::{ClientId, TftpFailure, Timestamp, VersionRef};

use crate::case::limits::{
    CHAIN_WITHIN_MS, DISK_QUIET_MS, EMPTY_AFTER_MS, EMPTY_READS_MAX, LOADER_SILENCE_MS, LOOP_BOOTS,
    LOOP_WITHIN_MS, OFFERS_IGNORED, OFFERS_WITHIN_MS, SCRIPT_SILENCE_MS, VERSION_SEATS,
};
use crate::case::{Action, Cause, Code, Fact, Finding, Subject};
use crate::observations::{BootFacts, SeatFacts};
use crate::{Observations, Stage};

/// The faults of a seat. Its newest boot alone counts: what an earlier one met is over, or met
/// again.
pub(super) fn of_seat(
    seen: &Observations,
    client: ClientId,
    facts: &SeatFacts,
    now: Timestamp,
) -> Vec<Finding> {
    let storage = storage_fails(client, facts, now);
    let Some(boot) = facts.boot().filter(|boot| is_stuck(boot)) else {
        return storage.into_iter().collect();
    };
    let looping = reboot_loop(client, facts, boot).or_else(|| chain_loop(client, facts, boot));
    // A failing storage explains what iPXE reports, and so on down.
    let first = storage
        .or_else(|| login_refused(client, facts, boot))
        .or_else(|| no_boot_device(client, facts, boot, now))
        .or_else(|| cut_off(seen, client, boot, now))
        .or_else(|| wrong_address(client, boot))
        .or_else(|| boot_file(client, boot));
    let quiet = || loader_refused(client, boot, now).or_else(|| offers_ignored(client, boot));
    match (first, looping) {
        (None, None) => quiet().into_iter().collect(),
        (first, looping) => first.into_iter().chain(looping).collect(),
    }
}

/// True for a boot that is not up yet. One that was ended while its operating system started was
/// switched off, as far as it alone can tell.
fn is_stuck(boot: &BootFacts) -> bool {
    boot.up.is_none() && (boot.os_login.is_none() || boot.ended.is_none())
}

/// E21: a read failed in the store. Also while the operating system runs.
fn storage_fails(client: ClientId, facts: &SeatFacts, now: Timestamp) -> Option<Finding> {
    let signal = facts.disk_error.as_ref()?;
    if !signal.is_fresh(now, DISK_QUIET_MS) {
        return None;
    }
    // A disk that could not be made ready is another matter.
    if facts.boot().and_then(script_fault).is_some() {
        return None;
    }
    let fact = Fact::DiskError {
        message: signal.what.clone(),
        times: signal.times,
    };
    let finding = Finding::seat(Code::E21, client, Cause::StorageFails, signal.first);
    Some(finding.seen(signal.last).with(signal.last, fact))
}

/// Code of a screen that was sent instead of a script that boots.
fn script_fault(boot: &BootFacts) -> Option<&str> {
    let fault = boot.fault.as_ref()?;
    (boot.errno.is_none() && boot.script.is_none()).then_some(fault.code.as_str())
}

/// E28: the name or the secret is wrong.
fn login_refused(client: ClientId, facts: &SeatFacts, boot: &BootFacts) -> Option<Finding> {
    let signal = facts.refused.as_ref()?;
    let refusal = &signal.what;
    if signal.last < boot.started || !matches!(refusal.status, AUTHENTICATION | AUTHORIZATION) {
        return None;
    }
    let peer = refusal.peer;
    let fact = Fact::LoginStatus {
        status: refusal.status,
        initiator: refusal.initiator.clone(),
    };
    let at = signal.first.max(boot.started);
    let finding = Finding::seat(Code::E28, client, Cause::LoginRefused { peer }, at);
    Some(finding.seen(signal.last).with(signal.last, fact))
}

/// Login status (RFC 7143 §11.13.5): authentication failure.
const AUTHENTICATION: u16 = 0x0201;
/// Login status: authorization failure.
const AUTHORIZATION: u16 = 0x0202;
/// Login status: target not found.
const NOT_FOUND: u16 = 0x0203;

/// E22: no disk, or nothing on it that starts.
fn no_boot_device(
    client: ClientId,
    facts: &SeatFacts,
    boot: &BootFacts,
    now: Timestamp,
) -> Option<Finding> {
    if script_fault(boot) == Some("E22") {
        let finding = Finding::seat(Code::E22, client, Cause::DiskFailed, boot.last_event);
        let error = facts.disk_error.as_ref();
        return Some(match error.filter(|error| error.last >= boot.started) {
            Some(error) => {
                let (message, times) = (error.what.clone(), error.times);
                finding.with(error.last, Fact::DiskError { message, times })
            }
            None => finding,
        });
    }
    let refused = facts.refused.as_ref();
    let missing =
        refused.filter(|signal| signal.last >= boot.started && signal.what.status == NOT_FOUND);
    if let Some(signal) = missing {
        let finding = Finding::seat(Code::E22, client, Cause::DiskMissing, signal.last);
        return Some(proposing_reset(finding, client, facts, boot));
    }
    if let Some((at, errno)) = &boot.errno
        && boot.fault.as_ref().is_some_and(|fault| fault.code == "E22")
    {
        let cause = match boot.firmware_login {
            Some(_) => Cause::DiskEmpty,
            None => Cause::DiskMissing,
        };
        let errno = errno.clone();
        let finding = Finding::seat(Code::E22, client, cause, *at);
        let finding = finding.with(*at, Fact::IpxeError { errno });
        return Some(proposing_reset(finding, client, facts, boot));
    }
    // Firmware that boots by itself reports nothing: few good reads, then it goes.
    let ended = boot.firmware_ended?;
    let gone = now.millis_since(ended) >= EMPTY_AFTER_MS && boot.stage == Stage::FirmwareLogin;
    if !gone || boot.reads > EMPTY_READS_MAX || boot.os_login.is_some() {
        return None;
    }
    let finding = Finding::seat(Code::E22, client, Cause::DiskEmpty, ended).sure(80);
    let finding = finding.with(ended, Fact::FewReads { reads: boot.reads });
    Some(proposing_reset(finding, client, facts, boot))
}

/// A fresh disk helps only a PC that keeps what it writes: the others get one at every power-on.
fn proposing_reset(
    finding: Finding,
    client: ClientId,
    facts: &SeatFacts,
    boot: &BootFacts,
) -> Finding {
    let finding = with_version(finding, boot);
    match facts.keeps_writes() {
        true => finding.proposing(Action::ResetDisk { client }),
        false => finding,
    }
}

fn with_version(finding: Finding, boot: &BootFacts) -> Finding {
    match boot.version {
        Some(version) => finding.with(boot.started, Fact::Version { version }),
        None => finding,
    }
}

/// E23: the link went while it started, or the server cannot be reached.
fn cut_off(
    seen: &Observations,
    client: ClientId,
    boot: &BootFacts,
    now: Timestamp,
) -> Option<Finding> {
    if let Some((at, errno)) = &boot.errno
        && boot.fault.as_ref().is_some_and(|fault| fault.code == "E23")
    {
        let errno = errno.clone();
        let finding = Finding::seat(Code::E23, client, Cause::ServerUnreachable, *at);
        return Some(finding.with(*at, Fact::IpxeError { errno }));
    }
    if let Some(&(since, times)) = seen.traffic.stalled.get(&client)
        && boot.holds_disk()
    {
        let finding = Finding::seat(Code::E23, client, Cause::LinkLost, since).sure(90);
        return Some(finding.with(since, Fact::Retransmits { times }));
    }
    let script = boot.script?;
    let silent = now.millis_since(script) >= SCRIPT_SILENCE_MS
        && boot.last_event == script
        && boot.fault.is_none();
    if !silent || boot.firmware_login.is_some_and(|login| login >= script) {
        return None;
    }
    let secs = SCRIPT_SILENCE_MS / 1000;
    let finding = Finding::seat(Code::E23, client, Cause::LinkLost, script).sure(60);
    Some(finding.with(script, Fact::Silence { secs }))
}

/// E31: the script was refused to an address that is not the PC's.
fn wrong_address(client: ClientId, boot: &BootFacts) -> Option<Finding> {
    let foreign = script_fault(boot) == Some("E31");
    foreign.then(|| Finding::seat(Code::E31, client, Cause::ForeignAddress, boot.last_event))
}

/// E12, E13: the boot file.
fn boot_file(client: ClientId, boot: &BootFacts) -> Option<Finding> {
    let (at, file, failure) = boot.file_failed.as_ref()?;
    if boot.stage > Stage::Loader || boot.loader.is_some() {
        return None;
    }
    let file = file.clone();
    match failure {
        TftpFailure::Refused => {
            let cause = Cause::BootFileMissing { file };
            Some(Finding::seat(Code::E13, client, cause, *at))
        }
        TftpFailure::Silent => {
            let cause = Cause::BootFileUnanswered { file };
            Some(Finding::seat(Code::E12, client, cause, *at).sure(80))
        }
        TftpFailure::Ended => None,
    }
}

/// E24: power-ons in a row that reached the disk and no operating system.
fn reboot_loop(client: ClientId, facts: &SeatFacts, boot: &BootFacts) -> Option<Finding> {
    let failed = |one: &&BootFacts| {
        one.up.is_none()
            && one.fault.is_none()
            && one.version == boot.version
            && boot.started.millis_since(one.started) < LOOP_WITHIN_MS
            // The present one may still be on its way there.
            && (one.id == boot.id || one.reached_disk())
    };
    let times = facts.boots.iter().rev().take_while(failed).count();
    if times < LOOP_BOOTS {
        return None;
    }
    let cause = Cause::RebootLoop { times };
    let mut finding = Finding::seat(Code::E24, client, cause, boot.started).sure(90);
    for one in facts.boots.iter().rev().take(times).rev() {
        finding = finding.with(one.started, Fact::PowerOn);
    }
    Some(proposing_reset(finding, client, facts, boot))
}

/// E25: power-ons in a row that fetched a boot loader and never asked for a script.
fn chain_loop(client: ClientId, facts: &SeatFacts, boot: &BootFacts) -> Option<Finding> {
    let stuck = |one: &&BootFacts| {
        one.loader.is_some()
            && one.script.is_none()
            && !one.reached_disk()
            && one.fault.is_none()
            && boot.started.millis_since(one.started) < CHAIN_WITHIN_MS
    };
    let turns: Vec<&BootFacts> = facts.boots.iter().rev().take_while(stuck).collect();
    if turns.len() < LOOP_BOOTS {
        return None;
    }
    let cause = Cause::ChainLoop { times: turns.len() };
    let mut finding = Finding::seat(Code::E25, client, cause, boot.started);
    for (at, file) in turns.iter().rev().filter_map(|one| one.loader.as_ref()) {
        let file = file.clone();
        finding = finding.with(*at, Fact::LoaderFetched { file });
    }
    Some(finding)
}

/// E26: the loader was fetched whole, and nothing follows.
fn loader_refused(client: ClientId, boot: &BootFacts, now: Timestamp) -> Option<Finding> {
    let (at, file) = boot.loader.as_ref()?;
    let silent = boot.stage <= Stage::Loader && now.millis_since(*at) >= LOADER_SILENCE_MS;
    // Who speaks iPXE took the file, e.g. a script or a kernel.
    if !silent || boot.last_event > *at {
        return None;
    }
    let cause = Cause::LoaderRefused {
        file: file.clone(),
        uefi: boot.uefi,
    };
    let secs = LOADER_SILENCE_MS / 1000;
    let finding = Finding::seat(Code::E26, client, cause, *at).sure(60);
    Some(finding.with(*at, Fact::Silence { secs }))
}

/// E27: offers that nobody takes.
fn offers_ignored(client: ClientId, boot: &BootFacts) -> Option<Finding> {
    let (first, last, times) = boot.offers?;
    let spread = last.millis_since(first) >= OFFERS_WITHIN_MS;
    let ignored = !boot.acknowledged && boot.loader.is_none() && boot.stage == Stage::Dhcp;
    if times < OFFERS_IGNORED || !spread || !ignored || boot.file_failed.is_some() {
        return None;
    }
    let cause = Cause::OffersIgnored { times };
    Some(
        Finding::seat(Code::E27, client, cause, first)
            .seen(last)
            .sure(70),
    )
}

/// E22 and E24 of a version: several of its seats fail alike.
pub(super) fn of_versions(seen: &Observations, found: &[Finding]) -> Vec<Finding> {
    let mut alike: BTreeMap<(Code, VersionRef), Vec<(ClientId, &Finding)>> = BTreeMap::new();
    for finding in found {
        let fits = matches!(finding.cause, Cause::DiskEmpty | Cause::RebootLoop { .. });
        let (true, Subject::Seat { client }) = (fits, &finding.subject) else {
            continue;
        };
        let facts = seen.seat(*client);
        let booted = facts
            .and_then(SeatFacts::boot)
            .and_then(|boot| boot.version);
        // Not what was assigned since: that one may be well.
        let assigned = facts.and_then(SeatFacts::version);
        if let Some(version) = booted.filter(|_| booted == assigned) {
            let key = (finding.code, version);
            alike.entry(key).or_default().push((*client, finding));
        }
    }
    alike.retain(|_, seats| seats.len() >= VERSION_SEATS);
    alike
        .into_iter()
        .map(|((code, version), alike)| blame(code, version, &alike))
        .collect()
}

fn blame(code: Code, version: VersionRef, alike: &[(ClientId, &Finding)]) -> Finding {
    let seats = alike.len();
    let cause = match code {
        Code::E24 => Cause::VersionLoops { seats },
        _ => Cause::VersionNotBootable { seats },
    };
    let since = alike.iter().map(|(_, one)| one.since).min();
    let seen = alike.iter().map(|(_, one)| one.seen).max();
    let subject = Subject::Version { version };
    let mut finding = Finding::new(code, subject, cause, since.unwrap_or_default())
        .seen(seen.unwrap_or_default())
        .sure(85);
    for (client, one) in alike {
        let client = *client;
        finding = finding.with(one.since, Fact::SeatToo { client });
    }
    finding.proposing(Action::RollBack { version })
}
