//! Snapshots of persistent disks.

use std::time::Duration;

use dess_model::host::{RequestError, request};
use dess_model::{ClientId, SnapshotOrder, SnapshotStatus, TargetReply, TargetRequest};
use serde_json::json;

use super::maintenance::target_is_down;
use super::{Operations, Result};

/// How long the iSCSI service may take: it copies what the client has written.
const COPY_TIMEOUT: Duration = Duration::from_secs(3600);

impl Operations {
    /// Carries out an order about the snapshots of a client's disk, and answers those that there are then.
    ///
    /// # Errors
    /// If the client runs, the iSCSI service does not, there is no such client or snapshot, or it cannot be carried out.
    pub async fn disk_snapshot(
        &self,
        client: ClientId,
        order: SnapshotOrder,
    ) -> Result<Vec<SnapshotStatus>> {
        let disk = self.disk_named(&client.to_string()).await?;
        let socket = self.paths.target_control();
        let question = TargetRequest::Snapshot {
            client,
            order: order.clone(),
        };
        let snapshots = match request(&socket, &question, COPY_TIMEOUT).await {
            Ok(TargetReply::Snapshots { snapshots }) => snapshots,
            Ok(TargetReply::Error(error)) => return Err(error.into()),
            Ok(_) | Err(RequestError::Connect { .. }) => {
                return Err(target_is_down("only it may touch the disks"));
            }
            Err(error) => return Err(error.into()),
        };
        if order != SnapshotOrder::List {
            self.audit_append("disk.snapshot", &disk.label, json!(order))
                .await?;
        }
        Ok(snapshots)
    }
}
