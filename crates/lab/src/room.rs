//! The room: a server, a switch and whoever is plugged into it.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::client::{Client, ClientOptions};
use crate::namespace::Namespace;
use crate::process::Process;
use crate::{command, interrupt, wait};

/// The server's IPv4 address in every room.
pub const SERVER_ADDRESS: &str = "10.77.0.1";
/// The room's IPv4 network.
pub const SUBNET: &str = "10.77.0.0/24";
/// The server's interface in every room.
pub const SERVER_INTERFACE: &str = "eth0";

/// How a room is made.
#[derive(Debug, Clone, Default)]
pub struct RoomOptions {
    /// Keep the room's directory (logs, serial consoles, screenshots) when the room goes away.
    pub keep_files: bool,
}

/// A virtual room; everything in it ends when the last handle (room, client, process) is dropped.
///
/// ```text
/// <id>-server: eth0 10.77.0.1/24, fd77::1/64 ─┐
/// <id>-<peer>: eth0 ──────────────────────────┤ br0 in <id>-switch
/// QEMU clients: tap0, tap1, ... ──────────────┘
/// ```
#[derive(Debug)]
pub struct Room {
    inner: Arc<Inner>,
    server: Namespace,
    switch: Namespace,
    next_tap: AtomicU32,
}

impl Room {
    /// Makes a room, after sweeping what dead processes left behind.
    ///
    /// # Errors
    /// Without root, or when the kernel refuses namespaces, bridges or veths.
    pub fn create(options: RoomOptions) -> anyhow::Result<Self> {
        anyhow::ensure!(
            nix::unistd::geteuid().is_root(),
            "the virtual room needs root (network namespaces and taps): run this with sudo"
        );
        interrupt::install();
        interrupt::check()?;
        Self::sweep();
        let inner = Arc::new(Inner::create(options)?);
        let switch = Namespace::create(&inner, "switch")?;
        switch.ip(&[
            "link",
            "add",
            "br0",
            "type",
            "bridge",
            "mcast_snooping",
            "0",
        ])?;
        switch.ip(&["link", "set", "br0", "up"])?;
        let server = Namespace::create(&inner, "server")?;
        let room = Self {
            inner,
            server,
            switch,
            next_tap: AtomicU32::new(0),
        };
        room.plug(&room.server, "server")?;
        room.server
            .ip(&["addr", "add", "10.77.0.1/24", "dev", SERVER_INTERFACE])?;
        room.server.ip(&[
            "addr",
            "add",
            "fd77::1/64",
            "dev",
            SERVER_INTERFACE,
            "nodad",
        ])?;
        Ok(room)
    }

    /// Removes rooms (namespaces, processes, directories) whose owner no longer runs.
    pub fn sweep() {
        for id in room_ids().into_iter().filter(|id| !owner_runs(id)) {
            tracing::info!("removing the dead room {id}");
            remove(&id, false);
        }
    }

    /// Room id; every namespace of the room starts with it.
    pub fn id(&self) -> &str {
        self.inner.id()
    }

    /// Directory of the room's files (logs, serial consoles, screenshots).
    pub fn directory(&self) -> &Path {
        &self.inner.directory
    }

    /// The server's namespace: `eth0` with 10.77.0.1/24 and fd77::1/64.
    pub fn server(&self) -> &Namespace {
        &self.server
    }

    /// Starts a command of [`Room::server`] that stays, logged to `<name>.log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn_server(&self, name: &str, command: &mut Command) -> anyhow::Result<Process> {
        self.server.spawn(name, command)
    }

    /// Adds a host with `eth0` on the bridge, with `address` (`10.77.0.2/24`) when given.
    ///
    /// # Errors
    /// When the namespace or its cable cannot be made (say the name is taken).
    pub fn peer(&self, name: &str, address: Option<&str>) -> anyhow::Result<Namespace> {
        let peer = Namespace::create(&self.inner, name)?;
        self.plug(&peer, name)?;
        if let Some(address) = address {
            peer.ip(&["addr", "add", address, "dev", "eth0"])?;
        }
        Ok(peer)
    }

    /// Plugs in a QEMU client and powers it on.
    ///
    /// # Errors
    /// When the tap or QEMU cannot be started.
    pub fn client(&self, options: ClientOptions) -> anyhow::Result<Client> {
        let tap = format!("tap{}", self.next_tap.fetch_add(1, Ordering::Relaxed));
        self.switch
            .ip(&["tuntap", "add", "dev", &tap, "mode", "tap"])?;
        self.switch
            .ip(&["link", "set", &tap, "master", "br0", "up"])?;
        Client::power_on(&self.inner, &self.switch, &tap, options)
    }

    /// Pulls or plugs the cable between the switch and a host (`server` or a peer's name).
    ///
    /// # Errors
    /// When there is no such host.
    pub fn set_cable(&self, host: &str, plugged: bool) -> anyhow::Result<()> {
        let state = if plugged { "up" } else { "down" };
        self.switch.ip(&["link", "set", &port_name(host)?, state])
    }

    /// A veth pair from `host`'s `eth0` to the bridge.
    fn plug(&self, host: &Namespace, name: &str) -> anyhow::Result<()> {
        let port = port_name(name)?;
        self.switch.ip(&[
            "link",
            "add",
            &port,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            host.name(),
        ])?;
        // Addresses work at once: nobody else in this room can have them.
        host.shell("echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad")?;
        host.ip(&["link", "set", "eth0", "up"])?;
        self.switch
            .ip(&["link", "set", &port, "master", "br0", "up"])
    }
}

/// Removes every room of this process, whoever still holds it.
pub(crate) fn remove_own() {
    let own = format!("{PREFIX}{}-", std::process::id());
    for id in room_ids().into_iter().filter(|id| id.starts_with(&own)) {
        remove(&id, false);
    }
}

/// What the handles of a room share: its id, its directory, and the duty to clean up.
#[derive(Debug)]
pub(crate) struct Inner {
    id: String,
    directory: PathBuf,
    keep_files: bool,
    next_file: AtomicU32,
}

impl Inner {
    fn create(options: RoomOptions) -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = format!("{PREFIX}{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(&id);
        std::fs::create_dir(&directory)
            .with_context(|| format!("cannot make the room's directory {directory:?}"))?;
        Ok(Self {
            id,
            directory,
            keep_files: options.keep_files,
            next_file: AtomicU32::new(0),
        })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// A new path in the room's directory: `<number>-<name>.<extension>`.
    pub(crate) fn new_file(&self, name: &str, extension: &str) -> PathBuf {
        let number = self.next_file.fetch_add(1, Ordering::Relaxed);
        self.directory
            .join(format!("{number:02}-{name}.{extension}"))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        remove(&self.id, self.keep_files);
    }
}

/// Kills what runs in the room's namespaces, then removes them and the directory.
fn remove(id: &str, keep_files: bool) {
    let own = format!("{id}-");
    for name in namespaces().into_iter().filter(|n| n.starts_with(&own)) {
        // A process may start another one while we look: look again until there is none.
        let empty = wait_until_empty(&name);
        if !empty {
            tracing::warn!("processes in namespace {name} do not die");
        }
        if let Err(error) = command::run("ip", ["netns", "del", &name]) {
            tracing::warn!("cannot remove namespace {name}: {error:#}");
        }
    }
    if !keep_files {
        // Someone else may have removed it first.
        let _ = std::fs::remove_dir_all(std::env::temp_dir().join(id));
    }
}

fn wait_until_empty(namespace: &str) -> bool {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        let pids = processes(namespace);
        if pids.is_empty() {
            return true;
        }
        if std::time::Instant::now() > deadline {
            return false;
        }
        for pid in pids {
            // Fails only when it has just ended.
            let _ = kill(pid, Signal::SIGKILL);
        }
        std::thread::sleep(wait::LOOK_INTERVAL);
    }
}

/// Live processes of a namespace (zombies left out: their end is their parent's to notice).
fn processes(namespace: &str) -> Vec<Pid> {
    let Ok(own) = std::fs::metadata(Path::new("/run/netns").join(namespace)) else {
        return Vec::new();
    };
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            // Zombies have no readable namespace.
            std::fs::metadata(format!("/proc/{pid}/ns/net"))
                .is_ok_and(|net| net.ino() == own.ino() && net.dev() == own.dev())
        })
        .filter(|pid| *pid != std::process::id().cast_signed())
        .map(Pid::from_raw)
        .collect()
}

fn namespaces() -> Vec<String> {
    names_in(Path::new("/run/netns"))
}

/// Ids of all rooms with a namespace or a directory left.
fn room_ids() -> Vec<String> {
    let mut ids: Vec<String> = namespaces()
        .into_iter()
        .chain(names_in(&std::env::temp_dir()))
        .filter_map(|name| {
            let mut parts = name.strip_prefix(PREFIX)?.splitn(3, '-');
            let pid: u32 = parts.next()?.parse().ok()?;
            let number: u32 = parts.next()?.parse().ok()?;
            Some(format!("{PREFIX}{pid}-{number}"))
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn names_in(directory: &Path) -> Vec<String> {
    std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect()
}

fn owner_runs(id: &str) -> bool {
    id.strip_prefix(PREFIX)
        .and_then(|rest| rest.split('-').next())
        .is_some_and(|pid| Path::new("/proc").join(pid).join("exe").read_link().is_ok())
}

/// Interface names hold at most 15 bytes (`IFNAMSIZ`).
fn port_name(host: &str) -> anyhow::Result<String> {
    let name = format!("p-{host}");
    anyhow::ensure!(
        name.len() <= 15,
        "host name {host:?} is longer than 13 bytes"
    );
    Ok(name)
}

/// Start of every name in a room; followed by the owner's pid and a number.
const PREFIX: &str = "dess-room-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_of_dead_owners_are_told_from_living_ones() {
        assert!(owner_runs(&format!("{PREFIX}{}-0", std::process::id())));
        assert!(!owner_runs(&format!("{PREFIX}{}-0", u32::MAX)));
    }
}
