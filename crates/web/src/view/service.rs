//! The five services in words.

use dess_node::supervisor::protocol::{ServiceName, ServiceState, ServiceStatus};

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
    pub(crate) pid: String,
    pub(crate) log: Vec<String>,
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
    let (health, state_key, state, next) = match status.map(|status| status.state) {
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
    ServiceRow {
        key: name.as_str(),
        name: service_name(t, name),
        health,
        state_key,
        state,
        since: status.map(|status| words.moment(status.since)),
        job: job(t, name),
        harm: (health == "bad").then(|| harm(t, name)),
        next,
        restarts: status.map_or(0, |status| status.restarts),
        last_exit: status
            .and_then(|status| status.last_exit.clone())
            .unwrap_or_else(|| t.last_exit_never.into()),
        pid: status
            .and_then(|status| status.pid)
            .map_or_else(|| "–".into(), |pid| pid.to_string()),
        log: status.map_or_else(Vec::new, |status| {
            status.log_tail.iter().map(|line| readable(line)).collect()
        }),
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
    use super::*;

    #[test]
    fn a_log_line_loses_its_terminal_colours() {
        assert_eq!(
            readable("\u{1b}[2m12:00\u{1b}[0m \u{1b}[32m INFO\u{1b}[0m ok\u{7}"),
            "12:00  INFO ok"
        );
        assert_eq!(readable("\u{1b}["), "");
    }
}
