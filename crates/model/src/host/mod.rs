//! Channels between the services of one machine.

mod control;
mod events;
mod paths;
mod snapshot_file;

pub use control::{RequestError, bind_control, request, serve_control};
pub use events::{EventReceiver, EventSender};
pub use paths::Paths;
pub use snapshot_file::{SnapshotReader, write_snapshot};

use std::time::{SystemTime, UNIX_EPOCH};

use crate::Timestamp;

impl Timestamp {
    /// The wall clock now.
    pub fn now() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}
