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

/// Environment in which services run, so that glibc gives the memory of work back to the system: one arena, large blocks
/// mapped, the heap's end trimmed (mallopt(3)).
pub const ALLOCATOR_ENVIRONMENT: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "1"),
    ("MALLOC_MMAP_THRESHOLD_", "65536"),
    ("MALLOC_TRIM_THRESHOLD_", "131072"),
];
