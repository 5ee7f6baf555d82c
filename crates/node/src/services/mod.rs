//! The services of this server as people see them: who runs them, how each is, whether it works.
//!
//! A [`ServiceManager`] knows the processes; what the probes of `node` found tells whether they work. Both together are a
//! [`ServiceStatus`], and only one that [works](ServiceStatus::works) is *up*.

mod supervised;
mod systemd;

use std::collections::HashMap;
use std::io::ErrorKind;
use std::time::Duration;

use dess_model::host::{Paths, RequestError, request};
use dess_model::{ProbeFailure, ProbeReport, ProbeStep, ServiceName, Timestamp};

use crate::supervisor::ServiceRequestError;
use crate::supervisor::protocol::ServiceStatus;
use crate::{NodeReply, NodeRequest};
pub use supervised::Supervised;
pub use systemd::Systemd;

/// How long `node` may take to tell what its probes found.
const REPORTS_WAIT: Duration = Duration::from_secs(2);
/// How long `node` may take to probe all services by order: each has several steps.
const PROBE_WAIT: Duration = Duration::from_secs(60);
/// What a probe found counts no longer, in milliseconds: the next one is overdue.
const REPORT_VALID_MS: u64 = 3 * 60 * 1000;

/// Whoever starts and watches the processes of the services.
pub trait ServiceManager {
    /// The condition of all services.
    ///
    /// # Errors
    /// If it does not run or does not answer.
    fn list(&self) -> impl Future<Output = Result<Vec<ServiceStatus>, ServiceRequestError>> + Send;

    /// Restarts a service and waits until it is ready again.
    ///
    /// # Errors
    /// If it does not run, or the service did not become ready.
    fn restart(
        &self,
        service: ServiceName,
    ) -> impl Future<Output = Result<ServiceStatus, ServiceRequestError>> + Send;
}

/// The services with what the last probes found.
///
/// # Errors
/// If nobody runs the services here.
pub async fn list(paths: &Paths) -> Result<Vec<ServiceStatus>, ServiceRequestError> {
    let (services, reports) = tokio::join!(of_manager(paths), reports(paths));
    let mut services = services?;
    let reports: HashMap<_, _> = reports
        .into_iter()
        .map(|report| (report.service, report))
        .collect();
    let now = Timestamp::now();
    for service in &mut services {
        let report = reports.get(&service.name);
        service.probe = report.filter(|one| counts(service, one, now)).cloned();
    }
    Ok(services)
}

/// Restarts a service and waits until it is ready again.
///
/// # Errors
/// If nobody runs the services here, or the service did not become ready.
pub async fn restart(
    paths: &Paths,
    service: ServiceName,
) -> Result<ServiceStatus, ServiceRequestError> {
    match manager(paths).await {
        Manager::Supervised(supervised) => supervised.restart(service).await,
        Manager::Systemd(systemd) => systemd.restart(service).await,
    }
}

/// Whoever runs the services here.
enum Manager<'a> {
    Supervised(Supervised<'a>),
    Systemd(Systemd),
}

/// The supervisor if there is one in this runtime directory; else systemd, if it has our units.
async fn manager(paths: &Paths) -> Manager<'_> {
    let systemd = Systemd::new();
    match paths.supervisor_control().exists() || !systemd.runs_us().await {
        true => Manager::Supervised(Supervised::new(paths)),
        false => Manager::Systemd(systemd),
    }
}

async fn of_manager(paths: &Paths) -> Result<Vec<ServiceStatus>, ServiceRequestError> {
    match manager(paths).await {
        Manager::Supervised(supervised) => supervised.list().await,
        Manager::Systemd(systemd) => systemd.list().await,
    }
}

/// Probes a service, or all, now. None if `node`, which keeps what is found, does not answer.
pub async fn probe(paths: &Paths, service: Option<ServiceName>) -> Option<Vec<ProbeReport>> {
    let question = NodeRequest::Probe { service };
    match request(&paths.node_control(), &question, PROBE_WAIT).await {
        Ok(NodeReply::Probes { reports }) => Some(reports),
        _ => None,
    }
}

/// True if a report is about this run of the service, and of late.
fn counts(service: &ServiceStatus, report: &ProbeReport, now: Timestamp) -> bool {
    report.at >= service.since && now.millis_since(report.at) < REPORT_VALID_MS
}

/// What the last probes found. That `node` does not answer is itself a finding.
async fn reports(paths: &Paths) -> Vec<ProbeReport> {
    let socket = paths.node_control();
    let at = socket.display().to_string();
    let failure = match request(&socket, &NodeRequest::Probes, REPORTS_WAIT).await {
        Ok(NodeReply::Probes { reports }) => return reports,
        Ok(_) => ProbeFailure::Unusable {
            at,
            step: ProbeStep::Control,
            detail: "another answer".to_owned(),
        },
        Err(RequestError::TimedOut { limit, .. }) => ProbeFailure::Silent {
            at,
            limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
            step: ProbeStep::Control,
        },
        // It was never bound here: whoever runs the services tells whether the daemon does.
        Err(RequestError::Connect { source, .. }) if source.kind() == ErrorKind::NotFound => {
            return Vec::new();
        }
        Err(RequestError::Connect { .. }) => ProbeFailure::Refused { at },
        Err(error @ (RequestError::Io { .. } | RequestError::Malformed { .. })) => {
            ProbeFailure::Broken {
                at,
                detail: error.to_string(),
            }
        }
    };
    let now = Timestamp::now();
    vec![ProbeReport {
        service: ServiceName::Node,
        failure: Some(failure),
        at: now,
        since: now,
        duration_ms: 0,
    }]
}

#[cfg(test)]
mod tests;
