//! `dess init`

use std::process::ExitCode;

use anyhow::Result;
use dess_node::operations::{Operations, SiteSetup};

use crate::arguments::InitArguments;
use crate::output::{self, say};

pub(super) async fn init(
    operations: &Operations,
    arguments: InitArguments,
    json: bool,
) -> Result<ExitCode> {
    let site = operations
        .site_init(SiteSetup {
            name: arguments.name,
            server_address: arguments.address,
            interfaces: arguments.interfaces,
            subnet: arguments.subnet,
            mode: arguments.mode,
            pool: arguments.pool,
            router: arguments.router,
            dns: arguments.dns,
            lease_secs: arguments.lease_secs,
            http_port: arguments.http_port,
            portals: arguments.portal,
            registration: arguments.registration,
        })
        .await?;
    if json {
        output::json(&site)?;
    } else {
        say!(
            "site \"{}\" is set up; next: dess up, then dess image import FILE",
            site.name
        );
    }
    Ok(ExitCode::SUCCESS)
}
