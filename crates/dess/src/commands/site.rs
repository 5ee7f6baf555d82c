//! `dess site`

use std::process::ExitCode;

use anyhow::{Context, Result};
use dess_model::BootPolicy;
use dess_node::operations::Operations;

use super::confirmed;
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
        pool,
        yes,
    } = command
    {
        if policy == Some(BootPolicy::Volatile) && !may_drop_writes(operations, yes).await? {
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(registration) = registration {
            operations.registration_set(registration).await?;
        }
        if pool.is_some() {
            operations.pool_set(pool.change()?).await?;
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
        "space         warn at {} %, slow down at {} % (all together {}/s), no new overlays at {} %",
        site.pool.warn_percent,
        site.pool.throttle_percent,
        output::bytes(site.pool.throttle_bytes_per_sec),
        site.pool.stop_percent
    );
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

/// Asks if clients keep their writes by the default policy: they lose them without it.
async fn may_drop_writes(operations: &Operations, yes: bool) -> Result<bool> {
    let clients = operations.client_list().await?;
    let keeping = clients
        .iter()
        .filter(|client| client.policy_inherited && client.policy == BootPolicy::Persistent)
        .count();
    let question =
        format!("At their next power-on {keeping} clients lose everything written on them. Go on?");
    Ok(keeping == 0 || confirmed(&question, yes)?)
}
