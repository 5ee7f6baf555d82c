//! `dess status`

use std::process::ExitCode;

use anyhow::Result;
use dess_node::operations::{CaseView, DataPathView, NoticeView, Overview, SiteView};
use dess_node::supervisor::protocol::ServiceStatus;
use serde::Serialize;

use super::services;
use super::{ABNORMAL, case, client};
use crate::control::Control;
use crate::output::{self, ago, say};

/// Notices of the last hour are shown.
const NOTICES_WITHIN_MS: u32 = 3_600_000;

#[derive(Serialize)]
struct Status {
    services: Vec<ServiceStatus>,
    services_error: Option<String>,
    site: Option<SiteView>,
    /// The clients in numbers, and those with a fault.
    clients: Overview,
    notices: Vec<NoticeView>,
    /// The open ones, the worst first; none of another server, which does not tell them.
    #[serde(skip_serializing_if = "Option::is_none")]
    cases: Option<Vec<CaseView>>,
    /// What the iSCSI service tells; none if it is down.
    data_path: Option<DataPathView>,
    database_error: Option<String>,
}

pub(super) async fn status(control: &impl Control, json: bool) -> Result<ExitCode> {
    let status = collect(control).await;
    if json {
        output::json(&status)?;
    } else {
        print(&status);
    }
    let broken = status.services_error.is_some() || status.database_error.is_some();
    Ok(if broken {
        ExitCode::from(ABNORMAL)
    } else {
        services::exit_code(&status.services)
    })
}

/// Everything that can be found out, also with the database or the supervisor away.
async fn collect(control: &impl Control) -> Status {
    let (services, services_error) = match control.services().await {
        Ok(services) => (services, None),
        Err(error) => (Vec::new(), Some(format!("{error:#}"))),
    };
    let mut status = Status {
        services,
        services_error,
        site: None,
        clients: Overview::default(),
        notices: Vec::new(),
        cases: None,
        data_path: control.data_path().await.ok().flatten(),
        database_error: None,
    };
    if let Err(error) = read_site(control, &mut status).await {
        status.database_error = Some(format!("{error:#}"));
    }
    status
}

async fn read_site(control: &impl Control, status: &mut Status) -> Result<()> {
    status.site = control.site().await?;
    status.clients = control.overview().await?;
    status.notices = control.notice_list(NOTICES_WITHIN_MS).await?;
    if let Ok(operations) = control.local() {
        status.cases = Some(operations.case_list().await?);
    }
    Ok(())
}

fn print(status: &Status) {
    match &status.site {
        Some(site) => say!("site {}, server {}\n", site.name, site.server.address),
        None => say!("the site is not set up yet; run `dess init`\n"),
    }
    match &status.services_error {
        Some(error) => say!("services: {error}; start them with `dess up`"),
        None => services::print(&status.services),
    }
    if let Some(error) = &status.database_error {
        say!("\ndatabase: {error}");
    }
    print_clients(&status.clients);
    case::print_open(status.cases.as_deref().unwrap_or_default());
    for notice in &status.notices {
        say!(
            "\n{:?}: {} {} ({} ago)",
            notice.kind,
            notice.subject,
            notice.detail,
            ago(notice.last_seen)
        );
    }
}

/// How many are in which state, and every fault.
fn print_clients(clients: &Overview) {
    say!(
        "\n{} clients: {} running, {} booting, {} off, {} waiting for approval, {} with a fault",
        clients.clients,
        clients.running,
        clients.booting,
        clients.off,
        clients.pending,
        clients.fault,
    );
    for one in &clients.faults {
        say!(
            "  seat {} ({}): {}",
            one.seat,
            one.name,
            client::state(&one.state)
        );
    }
}
