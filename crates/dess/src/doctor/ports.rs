//! Who has our ports, found the way `ss -p` does.

use std::fs;
use std::net::SocketAddrV4;
use std::path::Path;

use dess_model::SiteSnapshot;

use super::observation::PortSeen;
use crate::config::Config;

/// Name of our processes, in `/proc/<pid>/comm`.
const OWN_NAME: &str = "dess";
/// State of a listening socket in /proc/net/tcp (`TCP_LISTEN` of the kernel's tcp_states.h).
const LISTENING: &str = "0A";

/// Ports that our services need and other programs have.
pub(crate) fn taken(config: &Config, site: &SiteSnapshot) -> Vec<PortSeen> {
    let udp = [67, 4011, config.boot.tftp_port];
    let mut tcp = vec![site.server.http_port, config.web.listen.port()];
    tcp.extend(site.server.portals.iter().map(SocketAddrV4::port));
    tcp.sort_unstable();
    tcp.dedup();
    let udp = udp.into_iter().map(|port| ("udp", port));
    let tcp = tcp.into_iter().map(|port| ("tcp", port));
    udp.chain(tcp)
        .filter_map(|(protocol, port)| {
            let holder = foreign_holder(&inodes(protocol, port))?;
            Some(PortSeen {
                protocol,
                port,
                holder,
            })
        })
        .collect()
}

/// The sockets that are bound to a port.
fn inodes(protocol: &str, port: u16) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    let mut found = Vec::new();
    for table in [protocol.to_owned(), format!("{protocol}6")] {
        let text = fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let (Some(local), Some(state), Some(inode)) =
                (columns.get(1), columns.get(3), columns.get(9))
            else {
                continue;
            };
            let open = protocol == "udp" || *state == LISTENING;
            if local.ends_with(&suffix) && open {
                found.push(format!("socket:[{inode}]"));
            }
        }
    }
    found
}

/// The first process with one of these sockets that is none of ours, as `name (pid 123)`.
fn foreign_holder(inodes: &[String]) -> Option<String> {
    if inodes.is_empty() {
        return None;
    }
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.into_iter().find_map(|process| {
        let directory = process.path();
        if !holds(&directory, inodes) {
            return None;
        }
        let name = fs::read_to_string(directory.join("comm")).ok()?;
        let pid = process.file_name();
        let name = name.trim();
        (name != OWN_NAME).then(|| format!("{name} (pid {})", pid.display()))
    })
}

fn holds(process: &Path, inodes: &[String]) -> bool {
    let Ok(open) = fs::read_dir(process.join("fd")) else {
        return false;
    };
    let mut targets = open
        .flatten()
        .filter_map(|fd| fs::read_link(fd.path()).ok());
    targets.any(|target| {
        inodes
            .iter()
            .any(|inode| target.as_os_str() == inode.as_str())
    })
}
