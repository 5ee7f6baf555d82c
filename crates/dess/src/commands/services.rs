//! `dess service`

use std::process::ExitCode;

use anyhow::Result;
use dess_model::host::{Paths, request};
use dess_model::{LoginKind, ProbeFailure, ProbeReport, TargetReply, TargetRequest, Timestamp};
use dess_node::operations::Operations;
use dess_node::services;
use dess_node::supervisor::protocol::{ServiceName, ServiceState, ServiceStatus};

use super::{ABNORMAL, confirmed};
use crate::arguments::ServiceCommand;
use crate::config::Config;
use crate::output::{self, ago, say, table};

pub(super) async fn service(
    config: &Config,
    operations: &Operations,
    command: ServiceCommand,
    json: bool,
) -> Result<ExitCode> {
    let paths = operations.paths();
    match command {
        ServiceCommand::Status => {
            let services = services::list(paths).await?;
            if json {
                output::json(&services)?;
            } else {
                print(&services);
            }
            Ok(exit_code(&services))
        }
        ServiceCommand::Probe { service } => {
            let reports = probe(config, service).await;
            if json {
                output::json(&reports)?;
            } else {
                print_reports(&reports);
            }
            Ok(match reports.iter().all(ProbeReport::works) {
                true => ExitCode::SUCCESS,
                false => ExitCode::from(ABNORMAL),
            })
        }
        ServiceCommand::Restart { service, yes } => {
            if !confirmed(&question(paths, service).await, yes)? {
                return Ok(ExitCode::SUCCESS);
            }
            let status = services::restart(paths, service).await?;
            if json {
                output::json(&status)?;
            } else {
                say!("{service} is in service again");
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Probes by `node`, which keeps what is found; without it by this process.
async fn probe(config: &Config, service: Option<ServiceName>) -> Vec<ProbeReport> {
    if let Some(reports) = services::probe(&config.paths(), service).await
        && !reports.is_empty()
    {
        return reports;
    }
    let endpoints = config.endpoints();
    let mut reports = Vec::new();
    for name in ServiceName::START_ORDER {
        if service.is_none_or(|only| only == name) {
            reports.push(dess_probe::probe(&endpoints, name, None).await);
        }
    }
    reports
}

fn print_reports(reports: &[ProbeReport]) {
    let mut rows = table(&["service", "works", "since", "took", "reason"]);
    for report in reports {
        rows.add_row([
            report.service.to_string(),
            if report.works() { "yes" } else { "NO" }.to_owned(),
            ago(report.since),
            format!("{} ms", report.duration_ms),
            output::or_dash(report.failure.as_ref()),
        ]);
    }
    say!("{rows}");
}

/// Prints the services, each abnormal one with its last words.
pub(super) fn print(services: &[ServiceStatus]) {
    let mut rows = table(&["service", "state", "since", "restarts", "last exit"]);
    for service in services {
        rows.add_row([
            service.name.to_string(),
            word(service).to_owned(),
            ago(since(service)),
            service.restarts.to_string(),
            output::or_dash(service.last_exit.as_ref()),
        ]);
    }
    say!("{rows}");
    for service in services.iter().filter(|service| !service.works()) {
        say!("\n{} is {}; its last lines:", service.name, word(service));
        if let Some(failure) = failure(service) {
            say!("  it does not do its work: {failure}");
        }
        for line in service.log_tail.iter().rev().take(5).rev() {
            say!("  {line}");
        }
    }
}

/// 3 if a service is abnormal.
pub(super) fn exit_code(services: &[ServiceStatus]) -> ExitCode {
    match services.iter().all(ServiceStatus::works) {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(ABNORMAL),
    }
}

/// Why a service whose process is ready does not work.
fn failure(service: &ServiceStatus) -> Option<&ProbeFailure> {
    service.probe.as_ref()?.failure.as_ref()
}

/// Since when it is as it is: a service that stopped working is so since the first probe that failed.
fn since(service: &ServiceStatus) -> Timestamp {
    let failing = service.probe.as_ref().filter(|probe| !probe.works());
    failing.map_or(service.since, |probe| probe.since.max(service.since))
}

fn word(service: &ServiceStatus) -> &'static str {
    match service.state {
        ServiceState::Starting => "starting",
        ServiceState::Ready if service.works() => "normal",
        ServiceState::Ready | ServiceState::Backoff => "ABNORMAL",
        ServiceState::Stopped => "stopped",
    }
}

/// What a restart means for the room. Only the iSCSI service carries running clients.
async fn question(paths: &Paths, service: ServiceName) -> String {
    if service != ServiceName::Iscsi {
        return format!("Restart {service}? Running clients are not touched.");
    }
    match running_clients(paths).await {
        Some(0) => "Restart iscsi? No client runs.".to_owned(),
        Some(count) => format!(
            "Restart iscsi? {count} clients run; their disks pause for some seconds and go on."
        ),
        None => "Restart iscsi? It does not say how many clients run.".to_owned(),
    }
}

async fn running_clients(paths: &Paths) -> Option<usize> {
    let limit = std::time::Duration::from_secs(2);
    match request(&paths.target_control(), &TargetRequest::Status, limit)
        .await
        .ok()?
    {
        TargetReply::Status { sessions, .. } => {
            let mut clients: Vec<_> = sessions
                .iter()
                .filter(|session| session.kind == LoginKind::Os)
                .map(|session| session.client)
                .collect();
            clients.sort_unstable();
            clients.dedup();
            Some(clients.len())
        }
        _ => None,
    }
}
