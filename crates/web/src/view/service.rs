//! The five services in words.

use dess_model::ProbeReport;
use dess_node::supervisor::protocol::{LastExit, ServiceName, ServiceState, ServiceStatus};

use super::probe::failure_words;
use crate::catalog::{Catalog, Phrase};
use crate::wording::{Moment, Wording};

/// The order in which people meet them: along the boot, then the management.
const SHOWN_ORDER: [ServiceName; 5] = [
    ServiceName::Dhcp,
    ServiceName::Boot,
    ServiceName::Iscsi,
    ServiceName::Node,
    ServiceName::Web,
];

/// One service on the page.
#[derive(Clone, Debug)]
pub(crate) struct ServiceRow {
    pub(crate) key: &'static str,
    pub(crate) name: Phrase,
    /// `good`, `warn`, `bad` or `unknown`.
    pub(crate) health: &'static str,
    pub(crate) state_key: &'static str,
    pub(crate) state: Phrase,
    pub(crate) since: Option<Moment>,
    pub(crate) job: Phrase,
    /// What its failure means.
    pub(crate) harm: Option<Phrase>,
    /// What to do.
    pub(crate) next: Option<Phrase>,
    pub(crate) restarts: u32,
    pub(crate) last_exit: String,
    pub(crate) probe: Option<ProbeRow>,
    pub(crate) pid: String,
    pub(crate) log: Vec<String>,
}

/// What the last probe found.
#[derive(Clone, Debug)]
pub(crate) struct ProbeRow {
    /// Why it does not work.
    pub(crate) failure: Option<String>,
    pub(crate) at: Moment,
    pub(crate) took: String,
}

pub(crate) fn service_name(t: &Catalog, name: ServiceName) -> Phrase {
    match name {
        ServiceName::Dhcp => t.service_dhcp,
        ServiceName::Boot => t.service_boot,
        ServiceName::Iscsi => t.service_iscsi,
        ServiceName::Node => t.service_node,
        ServiceName::Web => t.service_web,
    }
}

/// All five, also those of which nothing is known.
pub(crate) fn service_rows(words: &Wording, seen: Option<&[ServiceStatus]>) -> Vec<ServiceRow> {
    SHOWN_ORDER
        .into_iter()
        .map(|name| {
            let status = seen
                .unwrap_or_default()
                .iter()
                .find(|status| status.name == name);
            service_row(words, name, status)
        })
        .collect()
}

fn service_row(words: &Wording, name: ServiceName, status: Option<&ServiceStatus>) -> ServiceRow {
    let t = words.t;
    let failing = status.and_then(|status| status.probe.as_ref());
    let failing = failing.filter(|probe| !probe.works());
    let (health, state_key, state, next) = match status.map(|status| status.state) {
        Some(ServiceState::Ready) if failing.is_some() => {
            ("bad", "failing", t.state_failing, Some(t.next_failing))
        }
        Some(ServiceState::Ready) => ("good", "ready", t.state_ready, None),
        Some(ServiceState::Starting) => ("warn", "starting", t.state_starting, None),
        Some(ServiceState::Backoff) => ("bad", "backoff", t.state_backoff, Some(t.next_backoff)),
        Some(ServiceState::Stopped) => ("bad", "stopped", t.state_stopped, Some(t.next_stopped)),
        None => (
            "unknown",
            "unknown",
            t.state_unknown,
            Some(t.supervisor_lost_next),
        ),
    };
    let since = status.map(|status| failing.map_or(status.since, |probe| probe.since));
    ServiceRow {
        key: name.as_str(),
        name: service_name(t, name),
        health,
        state_key,
        state,
        since: since.map(|since| words.moment(since)),
        job: job(t, name),
        harm: (health == "bad").then(|| harm(t, name)),
        next,
        restarts: status.map_or(0, |status| status.restarts),
        last_exit: status
            .and_then(|status| status.last_exit.as_ref())
            .map_or_else(|| t.last_exit_never.into(), |exit| exit_words(t, exit)),
        probe: status
            .and_then(|status| status.probe.as_ref())
            .map(|report| probe_row(words, report)),
        pid: status
            .and_then(|status| status.pid)
            .map_or_else(|| "–".into(), |pid| pid.to_string()),
        log: status.map_or_else(Vec::new, |status| {
            status.log_tail.iter().map(|line| readable(line)).collect()
        }),
    }
}

fn probe_row(words: &Wording, report: &ProbeReport) -> ProbeRow {
    let took = words.t.probe_took;
    ProbeRow {
        failure: report
            .failure
            .as_ref()
            .map(|failure| failure_words(words.t, failure)),
        at: words.moment(report.at),
        took: took.with("n", words.duration(report.duration_ms)).into(),
    }
}

fn exit_words(t: &Catalog, exit: &LastExit) -> String {
    match exit {
        LastExit::Exited { code } => t.exit_code.with("code", code).into(),
        LastExit::Killed { signal } => t.exit_signal.with("signal", signal).into(),
        LastExit::NotStarted { detail } => t.exit_not_started.with("detail", detail).into(),
        LastExit::Ended { result } => t.exit_ended.with("result", result).into(),
    }
}

fn job(t: &Catalog, name: ServiceName) -> Phrase {
    match name {
        ServiceName::Dhcp => t.job_dhcp,
        ServiceName::Boot => t.job_boot,
        ServiceName::Iscsi => t.job_iscsi,
        ServiceName::Node => t.job_node,
        ServiceName::Web => t.job_web,
    }
}

fn harm(t: &Catalog, name: ServiceName) -> Phrase {
    match name {
        ServiceName::Dhcp => t.harm_dhcp,
        ServiceName::Boot => t.harm_boot,
        ServiceName::Iscsi => t.harm_iscsi,
        ServiceName::Node => t.harm_node,
        ServiceName::Web => t.harm_web,
    }
}

/// A log line without terminal colours and other control characters.
fn readable(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        if letter == '\u{1b}' {
            // CSI sequence (ECMA-48 §5.4): up to its final byte.
            for letter in letters.by_ref() {
                if letter.is_ascii_alphabetic() {
                    break;
                }
            }
        } else if !letter.is_control() || letter == '\t' {
            text.push(letter);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use dess_model::{ProbeFailure, ProbeStep, Timestamp};
    use jiff::tz::TimeZone;

    use super::*;
    use crate::catalog::Language;

    fn shown(language: Language, probe: Option<ProbeReport>) -> ServiceRow {
        let status = ServiceStatus {
            name: ServiceName::Boot,
            state: ServiceState::Ready,
            pid: Some(7),
            since: Timestamp(0),
            restarts: 1,
            last_exit: Some(LastExit::Exited { code: 3 }),
            log_tail: vec![],
            probe,
        };
        let words = Wording::new(language, TimeZone::UTC, Timestamp(60_000));
        service_row(&words, ServiceName::Boot, Some(&status))
    }

    fn silent() -> ProbeReport {
        ProbeReport {
            service: ServiceName::Boot,
            failure: Some(ProbeFailure::Silent {
                at: "10.0.0.1:69".into(),
                limit_ms: 5000,
                step: ProbeStep::Tftp,
            }),
            at: Timestamp(50_000),
            since: Timestamp(40_000),
            duration_ms: 5001,
        }
    }

    #[test]
    fn a_service_that_runs_and_does_not_work_is_bad_with_its_reason_in_the_readers_language() {
        let row = shown(Language::Korean, Some(silent()));
        assert_eq!((row.health, row.state_key), ("bad", "failing"));
        let since = row.since.map(|moment| moment.ms);
        assert_eq!(since, Some(40_000), "since the first failure");
        let reason = row.probe.and_then(|probe| probe.failure);
        assert_eq!(
            reason.as_deref(),
            Some("TFTP로 부팅 파일 받기: 10.0.0.1:69에서 5 s 안에 응답이 없습니다.")
        );
        assert_eq!(row.last_exit, "종료 코드 3로 끝남");
        let row = shown(Language::English, Some(silent()));
        assert_eq!(row.last_exit, "Ended with exit code 3");
    }

    #[test]
    fn a_service_that_works_or_was_not_probed_yet_is_good() {
        let works = ProbeReport {
            failure: None,
            ..silent()
        };
        assert_eq!(shown(Language::English, Some(works)).health, "good");
        assert_eq!(shown(Language::English, None).health, "good");
    }

    #[test]
    fn a_log_line_loses_its_terminal_colours() {
        assert_eq!(
            readable("\u{1b}[2m12:00\u{1b}[0m \u{1b}[32m INFO\u{1b}[0m ok\u{7}"),
            "12:00  INFO ok"
        );
        assert_eq!(readable("\u{1b}["), "");
    }
}
