//! Why the server cannot run.

use std::io;
use std::net::SocketAddr;

/// Why the server did not start or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket cannot be bound.
    #[error("cannot listen for TFTP on UDP {address}: {}", remedy(source))]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The listening socket broke.
    #[error("the TFTP socket on UDP {address} broke")]
    Receive {
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
            "another program has the port; stop it (\"ss -lunp 'sport = :69'\" names it, often tftpd-hpa or dnsmasq)"
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
