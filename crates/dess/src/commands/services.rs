//! `dess service`

use std::process::ExitCode;

use anyhow::Result;
use dess_model::host::{Paths, request};
use dess_model::{LoginKind, TargetReply, TargetRequest};
use dess_node::operations::Operations;
use dess_node::supervisor;
use dess_node::supervisor::protocol::{ServiceName, ServiceState, ServiceStatus};

use super::{ABNORMAL, confirmed};
use crate::arguments::ServiceCommand;
use crate::output::{self, ago, say, table};

pub(super) async fn service(
    operations: &Operations,
    command: ServiceCommand,
    json: bool,
) -> Result<ExitCode> {
    let paths = operations.paths();
    match command {
        ServiceCommand::Status => {
            let services = supervisor::services(paths).await?;
            if json {
                output::json(&services)?;
            } else {
                print(&services);
            }
            Ok(exit_code(&services))
        }
        ServiceCommand::Restart { service, yes } => {
            if !confirmed(&question(paths, service).await, yes)? {
                return Ok(ExitCode::SUCCESS);
            }
            let status = supervisor::restart(paths, service).await?;
            if json {
                output::json(&status)?;
            } else {
                say!("{service} is in service again");
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Prints the services, each abnormal one with its last words.
pub(super) fn print(services: &[ServiceStatus]) {
    let mut rows = table(&["service", "state", "since", "restarts", "last exit"]);
    for service in services {
        rows.add_row([
            service.name.to_string(),
            word(service.state).to_owned(),
            ago(service.since),
            service.restarts.to_string(),
            output::or_dash(service.last_exit.as_ref()),
        ]);
    }
    say!("{rows}");
    for service in services.iter().filter(|service| !is_normal(service)) {
        say!(
            "\n{} is {}; its last lines:",
            service.name,
            word(service.state)
        );
        for line in service.log_tail.iter().rev().take(5).rev() {
            say!("  {line}");
        }
    }
}

/// 3 if a service is abnormal.
pub(super) fn exit_code(services: &[ServiceStatus]) -> ExitCode {
    match services.iter().all(is_normal) {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(ABNORMAL),
    }
}

fn is_normal(service: &ServiceStatus) -> bool {
    service.state == ServiceState::Ready
}

fn word(state: ServiceState) -> &'static str {
    match state {
        ServiceState::Starting => "starting",
        ServiceState::Ready => "normal",
        ServiceState::Backoff => "ABNORMAL",
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
