//! Why the DHCP service cannot run.

use std::io;
use std::path::PathBuf;

/// The service cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A configured interface does not exist.
    #[error("interface {interface} does not exist; this machine has: {}", existing.join(", "))]
    NoInterface {
        /// As configured.
        interface: String,
        /// What there is.
        existing: Vec<String>,
    },
    /// No interface is configured.
    #[error("no network interface is configured for DHCP; this machine has: {}", existing.join(", "))]
    NoInterfaces {
        /// What there is.
        existing: Vec<String>,
    },
    /// Another program has the port.
    #[error(
        "UDP port {port} on {interface} is taken{}; stop the other DHCP or PXE server on this machine",
        holder.as_ref().map(|name| format!(" by {name}")).unwrap_or_default()
    )]
    PortTaken {
        /// The port.
        port: u16,
        /// The interface.
        interface: String,
        /// Process that has it, as `name (pid)`, if it can be told.
        holder: Option<String>,
    },
    /// The right to bind is missing.
    #[error(
        "no permission to bind UDP port {port} on {interface}; run as root or with CAP_NET_BIND_SERVICE and CAP_NET_RAW"
    )]
    NotPermitted {
        /// The port.
        port: u16,
        /// The interface.
        interface: String,
    },
    /// A socket cannot be made for another reason.
    #[error("cannot bind UDP port {port} on {interface}")]
    Bind {
        /// The port.
        port: u16,
        /// The interface.
        interface: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The machine's interfaces cannot be listed.
    #[error("cannot list the network interfaces")]
    Interfaces(#[source] io::Error),
    /// The machine gives no thread for the lease journal.
    #[error("cannot start the thread of the lease journal")]
    Thread(#[source] io::Error),
    /// A task of the service panicked: a defect.
    #[error("a task of the DHCP service panicked")]
    Task(#[source] tokio::task::JoinError),
    /// The lease journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A socket failed while in use.
    #[error("cannot receive on {interface}")]
    Receive {
        /// The interface.
        interface: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

/// The lease journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process has it.
    #[error("the lease file {} is in use by another DHCP service", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot {attempt} the lease file {}", path.display())]
    Io {
        /// What was tried.
        attempt: &'static str,
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
}
