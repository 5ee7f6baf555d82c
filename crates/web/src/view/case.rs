//! Cases in the reader's words.

use dess_diagnosis::{Cause, Fact, Severity, Subject};
use dess_model::{ClientId, PoolLevel, Timestamp};
use dess_node::operations::{CaseView, ClientView};
use dess_node::supervisor::protocol::ServiceName;

use super::service_name;
use crate::catalog::{Catalog, Filled, Language, Phrase};
use crate::wording::{Moment, Wording};

/// A case in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseWords {
    /// What is wrong, with the name of what it is about.
    pub what: String,
    /// What a person should do.
    pub next: String,
    /// What was seen, and when.
    pub evidence: Vec<(Timestamp, String)>,
}

/// A case in Korean or English.
pub fn case_words(case: &CaseView, korean: bool) -> CaseWords {
    let language = match korean {
        true => Language::Korean,
        false => Language::English,
    };
    words(language.catalog(), case, &[])
}

/// A row or the head of a case.
#[derive(Clone, Debug)]
pub(crate) struct CaseRow {
    pub(crate) id: String,
    pub(crate) code: &'static str,
    /// `bad`, `warn` or, when it is over, `good`.
    pub(crate) severity: &'static str,
    pub(crate) severity_word: Phrase,
    pub(crate) what: String,
    pub(crate) next: String,
    pub(crate) opened: Moment,
    pub(crate) last_seen: Moment,
    pub(crate) resolved: Option<Moment>,
    pub(crate) acknowledged: Option<String>,
    pub(crate) confidence: String,
    pub(crate) evidence: Vec<(Moment, String)>,
    /// Page of the seat.
    pub(crate) seat: Option<String>,
}

impl CaseRow {
    pub(crate) fn new(wording: &Wording, case: &CaseView, clients: &[ClientView]) -> Self {
        let t = wording.t;
        let said = words(t, case, clients);
        let (severity, severity_word) = match case.severity {
            _ if case.resolved.is_some() => ("good", t.cases.over),
            Severity::Bad => ("bad", t.cases.bad),
            Severity::Warn => ("warn", t.cases.warn),
        };
        let by = case.acknowledged_by.as_ref();
        Self {
            id: case.id.to_string(),
            code: case.code.as_str(),
            severity,
            severity_word,
            what: said.what,
            next: said.next,
            opened: wording.moment(case.opened),
            last_seen: wording.moment(case.last_seen),
            resolved: case.resolved.map(|at| wording.moment(at)),
            acknowledged: by.map(|by| t.cases.noted.with("name", by).into()),
            confidence: t.cases.confidence.with("n", case.confidence).into(),
            evidence: said
                .evidence
                .into_iter()
                .map(|(at, fact)| (wording.moment(at), fact))
                .collect(),
            seat: match &case.subject {
                Subject::Seat { client } => Some(format!("/clients/{client}")),
                _ => None,
            },
        }
    }
}

/// An open case on the page of its seat.
#[derive(Clone, Debug)]
pub(crate) struct CaseLink {
    pub(crate) url: String,
    pub(crate) text: String,
}

impl CaseLink {
    /// Those of a seat among the open cases.
    pub(crate) fn of_seat(t: &Catalog, cases: &[CaseView], client: ClientId) -> Vec<Self> {
        let subject = Subject::Seat { client };
        let of_seat = cases.iter().filter(|case| case.subject == subject);
        let link = |case: &CaseView| Self {
            url: format!("/cases/{}", case.id),
            text: format!("{} · {}", case.code, cause_words(t, case).0),
        };
        of_seat.map(link).collect()
    }
}

/// What is wrong, with the seat, and what to do.
pub(crate) fn case_line(t: &'static Catalog, case: &CaseView) -> (String, String) {
    let said = words(t, case, &[]);
    (said.what, said.next)
}

fn words(t: &'static Catalog, case: &CaseView, clients: &[ClientView]) -> CaseWords {
    let (what, next) = cause_words(t, case);
    let what = match case.seat {
        Some(seat) => t.cases.of_seat.with("seat", seat).with("what", what).into(),
        None => what,
    };
    CaseWords {
        what,
        next: next.into(),
        evidence: case
            .evidence
            .iter()
            .map(|seen| (seen.at, fact_words(t, &seen.fact, clients)))
            .collect(),
    }
}

fn service(t: &Catalog, name: &str) -> String {
    let known: Result<ServiceName, _> = name.parse();
    known.map_or_else(|_| name.to_owned(), |name| service_name(t, name).into())
}

/// What is wrong and what to do.
fn cause_words(t: &Catalog, case: &CaseView) -> (String, Phrase) {
    let said = |what: Filled, next| (String::from(what), next);
    let name = &case.name;
    let c = &t.cases;
    match &case.cause {
        Cause::ServiceDown { .. }
        | Cause::ServiceCrashes { .. }
        | Cause::ServiceFails { .. }
        | Cause::ServiceRefuses { .. }
        | Cause::StorageSlow { .. }
        | Cause::CarrierLost { .. }
        | Cause::AddressTaken { .. }
        | Cause::NoAddress { .. }
        | Cause::PoolFills { .. }
        | Cause::RogueDhcp { .. } => server_words(t, &case.cause),
        Cause::BootFileUnanswered { file } => {
            said(c.file_unanswered.with("file", file), c.file_unanswered_next)
        }
        Cause::BootFileMissing { file } => {
            said(c.file_missing.with("file", file), c.file_missing_next)
        }
        Cause::StorageFails => (c.storage_fails.into(), c.storage_fails_next),
        Cause::DiskEmpty => (c.disk_empty.into(), c.disk_empty_next),
        Cause::DiskMissing => (c.disk_missing.into(), c.disk_missing_next),
        Cause::DiskFailed => (c.disk_failed.into(), c.disk_failed_next),
        Cause::VersionNotBootable { seats } => {
            let what = c.version_dead.with("n", seats).with("name", name);
            said(what, c.version_next)
        }
        Cause::VersionLoops { seats } => {
            let what = c.version_loops.with("n", seats).with("name", name);
            said(what, c.version_next)
        }
        Cause::LinkLost => (c.link_lost.into(), c.link_lost_next),
        Cause::ServerUnreachable => (c.unreachable.into(), c.unreachable_next),
        Cause::RebootLoop { times } => said(c.reboot_loop.with("n", times), c.reboot_loop_next),
        Cause::ChainLoop { times } => said(c.chain_loop.with("n", times), c.chain_loop_next),
        Cause::LoaderRefused { file, uefi } => {
            let next = match uefi {
                true => c.loader_refused_uefi_next,
                false => c.loader_refused_next,
            };
            said(c.loader_refused.with("file", file), next)
        }
        Cause::OffersIgnored { times } => {
            said(c.offers_ignored.with("n", times), c.offers_ignored_next)
        }
        Cause::LoginRefused { peer } => {
            said(c.login_refused.with("name", peer), c.login_refused_next)
        }
        Cause::ForeignAddress => (c.foreign_address.into(), t.fault_e31_next),
        Cause::PacketsLost { permille } => {
            let percent = format!("{}.{}", permille / 10, permille % 10);
            said(c.packets_lost.with("n", percent), c.packets_lost_next)
        }
        Cause::BootSlow { boot_ms, others_ms } => {
            let what = c.boot_slow.with("n", boot_ms / 1000);
            said(what.with("m", others_ms / 1000), c.boot_slow_next)
        }
    }
}

/// The same of what concerns the server or the network.
fn server_words(t: &Catalog, cause: &Cause) -> (String, Phrase) {
    let (what, next): (Filled, Phrase) = match cause {
        Cause::ServiceDown { service: name } => (
            t.cases.service_down.with("name", service(t, name)),
            t.cases.service_down_next,
        ),
        Cause::ServiceCrashes {
            service: name,
            times,
        } => (
            t.cases
                .service_crashes
                .with("n", times)
                .with("name", service(t, name)),
            t.cases.service_down_next,
        ),
        Cause::ServiceFails { service: name } => (
            t.cases.service_fails.with("name", service(t, name)),
            t.cases.service_fails_next,
        ),
        Cause::ServiceRefuses { service: name } => (
            t.cases.service_refuses.with("name", service(t, name)),
            t.cases.service_fails_next,
        ),
        Cause::StorageSlow { read_ms } => (
            t.cases.storage_slow.with("n", read_ms),
            t.cases.storage_slow_next,
        ),
        Cause::CarrierLost { interface } => (
            t.cases.carrier_lost.with("name", interface),
            t.cases.carrier_lost_next,
        ),
        Cause::AddressTaken { address, .. } => (
            t.cases.address_taken.with("name", address),
            t.cases.address_taken_next,
        ),
        Cause::NoAddress { network } => (
            t.cases.no_address.with("name", network),
            t.cases.no_address_next,
        ),
        Cause::PoolFills {
            level,
            used_percent,
        } => (
            t.cases.pool_fills.with("n", used_percent),
            match level {
                PoolLevel::Stop => t.cases.pool_stop_next,
                _ => t.space_next,
            },
        ),
        Cause::RogueDhcp { server, mac, .. } => {
            let mac = mac.map_or_else(|| "?".to_owned(), |mac| mac.to_string());
            let what = t.cases.rogue.with("mac", mac).with("name", server);
            (what, t.rogue_next)
        }
        _ => unreachable!("the caller passes causes of the server only"),
    };
    (what.into(), next)
}

/// What was seen.
fn fact_words(t: &Catalog, fact: &Fact, clients: &[ClientView]) -> String {
    let seat = |client: &ClientId| {
        let found = clients.iter().find(|one| one.id == *client);
        found.map_or_else(|| "?".to_owned(), |one| one.seat.to_string())
    };
    match fact {
        Fact::ServiceEnded { how } => t.cases.fact_ended.with("text", how).into(),
        Fact::ProbeFailed { why } => t.cases.fact_probe.with("text", why).into(),
        Fact::IpxeError { errno } => t.cases.fact_ipxe.with("text", errno).into(),
        Fact::FewReads { reads } => t.cases.fact_reads.with("n", reads).into(),
        Fact::DiskError { message, times } => {
            let said = t.cases.fact_disk_error.with("n", times);
            said.with("text", message).into()
        }
        Fact::Retransmits { times } => t.cases.fact_retransmits.with("n", times).into(),
        Fact::Silence { secs } => t.cases.fact_silence.with("n", secs).into(),
        Fact::PowerOn => t.cases.fact_power_on.into(),
        Fact::LoaderFetched { file } => t.cases.fact_loader.with("text", file).into(),
        Fact::LoginStatus { status, initiator } => {
            let said = t.cases.fact_login.with("n", format_args!("{status:#06x}"));
            said.with("text", initiator).into()
        }
        Fact::Talker {
            client,
            bytes_per_sec,
        } => {
            let said = t.cases.fact_talker.with("n", bytes_per_sec / 1_000_000);
            said.with("seat", seat(client)).into()
        }
        Fact::SeatToo { client } => t.cases.fact_seat_too.with("seat", seat(client)).into(),
        Fact::Version { version } => t.cases.fact_version.with("n", version.number).into(),
    }
}
