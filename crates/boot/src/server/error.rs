//! Why the service cannot run.

use std::io;
use std::net::SocketAddr;

/// Why the service did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket cannot be bound.
    #[error("cannot listen for HTTP boot on TCP {address}: {}", remedy(source))]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            "another program has the port; stop it (\"ss -ltnp\" names it), or choose another port"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need root or the capability CAP_NET_BIND_SERVICE"
        }
        io::ErrorKind::AddrNotAvailable => {
            "the address is not on this machine; correct the server's address in the configuration"
        }
        _ => "the system refused",
    }
}
