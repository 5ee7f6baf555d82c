//! Why the daemon cannot run.

use std::io;
use std::path::PathBuf;

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A directory cannot be made.
    #[error("cannot make the directory {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A socket cannot be bound.
    #[error("cannot bind the socket {}; may this user write to its directory?", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The event socket failed.
    #[error("the event socket {} failed", path.display())]
    Events {
        /// The socket.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
}
