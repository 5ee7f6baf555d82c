//! `dess client wake`

use std::time::Duration;

use anyhow::{Result, ensure};
use dess_node::operations::{ClientView, Operations};

use crate::output::say;

/// Wakes the clients one after the other, with a pause of `stagger_secs` between them.
pub(super) async fn wake(
    operations: &Operations,
    names: &[String],
    group: Option<&str>,
    stagger_secs: u64,
) -> Result<()> {
    let clients = chosen(operations, names, group).await?;
    for (index, client) in clients.iter().enumerate() {
        if index > 0 {
            tokio::time::sleep(Duration::from_secs(stagger_secs)).await;
        }
        operations.client_wake(client.id).await?;
        say!(
            "{} of {}: sent to {} (seat {}, {})",
            index + 1,
            clients.len(),
            client.name,
            client.seat,
            client.mac
        );
    }
    Ok(())
}

/// All of them, before the first is woken: a wrong name wakes nobody.
async fn chosen(
    operations: &Operations,
    names: &[String],
    group: Option<&str>,
) -> Result<Vec<ClientView>> {
    if let Some(group) = group {
        let groups = operations.group_list().await?;
        ensure!(
            groups.iter().any(|found| found.name == group),
            "there is no group \"{group}\""
        );
        let mut clients = operations.client_list().await?;
        clients.retain(|client| client.group == group);
        return Ok(clients);
    }
    let mut clients = Vec::with_capacity(names.len());
    for name in names {
        clients.push(operations.client_find(name).await?);
    }
    Ok(clients)
}
