//! UDP sockets that belong to one interface.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::ServeError;

/// Receive buffer asked for, in bytes: a whole room powering on at once waits in it.
const RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// As [`RECEIVE_BUFFER_BYTES`], for a socket that only listens along and may miss things.
const SHARED_BUFFER_BYTES: usize = 256 * 1024;
/// Send buffer asked for, in bytes: all answers of one sync leave at once.
const SEND_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Whether the port may be shared with other programs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Another program on the port is an error: it would answer our clients.
    Exclusive,
    /// Only listens along.
    Shared,
}

/// Binds a port on one interface; broadcasts can be sent.
pub(crate) fn bind(interface: &str, port: u16, sharing: Sharing) -> Result<UdpSocket, ServeError> {
    open(interface, port, sharing).map_err(|source| explain(interface, port, source))
}

fn open(interface: &str, port: u16, sharing: Sharing) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_broadcast(true)?;
    let receive_buffer_bytes = match sharing {
        Sharing::Exclusive => RECEIVE_BUFFER_BYTES,
        Sharing::Shared => {
            socket.set_reuse_address(true)?;
            SHARED_BUFFER_BYTES
        }
    };
    // Past net.core.rmem_max and wmem_max only with CAP_NET_ADMIN; without it, what the kernel grants must do.
    if setsockopt(&socket, sockopt::RcvBufForce, &receive_buffer_bytes).is_err() {
        socket.set_recv_buffer_size(receive_buffer_bytes)?;
    }
    if setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER_BYTES).is_err() {
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    }
    let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
    socket.bind(&any.into())?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket.into())
}

fn explain(interface: &str, port: u16, source: io::Error) -> ServeError {
    let interface = interface.to_owned();
    match source.kind() {
        io::ErrorKind::AddrInUse => ServeError::PortTaken {
            port,
            interface,
            holder: holder_of(port),
        },
        io::ErrorKind::PermissionDenied => ServeError::NotPermitted { port, interface },
        _ => ServeError::Bind {
            port,
            interface,
            source,
        },
    }
}

/// Process that has the UDP port open, as `name (pid 123)`, found the way `ss -p` does.
fn holder_of(port: u16) -> Option<String> {
    let table = fs::read_to_string("/proc/net/udp").ok()?;
    let wanted = format!(":{port:04X}");
    let inodes: Vec<String> = table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut columns = line.split_whitespace();
            let local = columns.nth(1)?;
            let inode = columns.nth(7)?;
            local
                .ends_with(&wanted)
                .then(|| format!("socket:[{inode}]"))
        })
        .collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    for process in processes {
        let Ok(open_files) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let mut targets = open_files
            .flatten()
            .filter_map(|fd| fs::read_link(fd.path()).ok());
        if targets.any(|target| {
            inodes
                .iter()
                .any(|inode| target.as_os_str() == inode.as_str())
        }) {
            let name = fs::read_to_string(process.path().join("comm")).ok()?;
            let pid = process.file_name();
            return Some(format!("{} (pid {})", name.trim(), pid.display()));
        }
    }
    None
}
