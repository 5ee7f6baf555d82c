//! Clients that were switched on just now: the iSCSI service hears of them while they are still with their firmware.

use std::sync::Arc;
use std::time::Duration;

use dess_model::host::request;
use dess_model::{ClientId, TargetReply, TargetRequest};
use tokio::sync::mpsc;

use super::shared::Shared;

/// Clients that may wait to be told of; more are not told of, and boot all the same.
pub(super) const WAITING_MAX: usize = 16;
/// How long the iSCSI service may take to open a version.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Tells the iSCSI service of each client, one after the other. Runs until nobody sends any more.
pub(super) async fn tell(shared: Arc<Shared>, mut clients: mpsc::Receiver<ClientId>) {
    let socket = shared.paths.target_control();
    while let Some(client) = clients.recv().await {
        let reply = request(&socket, &TargetRequest::Expect { client }, TIMEOUT).await;
        match reply {
            Ok(TargetReply::Done) => {}
            Ok(reply) => tracing::debug!(client.id = %client, ?reply, "nothing is read ahead"),
            Err(error) => tracing::debug!(%error, "the iSCSI service does not answer"),
        }
    }
}
