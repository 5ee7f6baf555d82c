//! `dess site`

use std::process::ExitCode;

use anyhow::{Context, Result};
use dess_node::operations::Operations;

use crate::arguments::SiteCommand;
use crate::output::{self, say};

pub(super) async fn site(
    operations: &Operations,
    command: SiteCommand,
    json: bool,
) -> Result<ExitCode> {
    if let SiteCommand::Set {
        registration,
        policy,
    } = command
    {
        if let Some(registration) = registration {
            operations.registration_set(registration).await?;
        }
        if let Some(policy) = policy {
            operations.default_policy_set(policy).await?;
        }
    }
    let site = operations
        .site()
        .await?
        .context("the site is not set up yet; run `dess init`")?;
    if json {
        output::json(&site)?;
        return Ok(ExitCode::SUCCESS);
    }
    say!("site          {}", site.name);
    say!("unknown PCs   {:?}", site.registration);
    say!(
        "server        {} on {}",
        site.server.address,
        site.server.interfaces.join(", ")
    );
    for subnet in &site.subnets {
        let pool = subnet
            .pool
            .map(|pool| format!("{}-{}", pool.first, pool.last));
        say!(
            "subnet        {} ({:?}), pool {}",
            subnet.network,
            subnet.mode,
            output::or_dash(pool)
        );
    }
    Ok(ExitCode::SUCCESS)
}
