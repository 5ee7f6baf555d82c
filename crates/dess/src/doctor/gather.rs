//! Looks at everything, with whatever is dead. What cannot be looked at is left out.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dess_boot::files::BootFiles;
use dess_dhcp::LeaseTable;
use dess_dhcp::record::read_journal;
use dess_disk::Version;
use dess_model::host::Paths;
use dess_model::{ServiceName, SiteSnapshot, Timestamp};
use dess_node::operations::Operations;
use dess_node::services;
use dess_store::DatabaseLocation;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrIn;
use nix::sys::statvfs::statvfs;

use super::observation::{
    DatabaseSeen, FileSeen, FileState, LinkSeen, Observation, RogueSeen, SnapshotSeen, SpaceSeen,
    VersionSeen,
};
use super::ports;
use crate::config::Config;

/// How long the database may take to tell of the site.
const DATABASE_WAIT: Duration = Duration::from_secs(10);

/// Looks at everything.
pub(crate) async fn gather(config: &Config) -> Observation {
    let paths = config.paths();
    let snapshot = snapshot(&paths);
    let site = match &snapshot {
        SnapshotSeen::Read(site) => Some(site.as_ref()),
        _ => None,
    };
    let running = services::list(&paths).await.ok();
    let mut seen = Observation {
        now: Timestamp::now(),
        is_root: nix::unistd::geteuid().is_root(),
        database: database(config).await,
        newest: newest(&paths, site),
        links: links(),
        space: space(&paths),
        files: files(config),
        missing_loaders: missing_loaders(&paths),
        leases: leases(&paths),
        ..Observation::default()
    };
    if let Some(site) = site {
        seen.broken_versions = broken_versions(&paths, site);
        seen.taken = ports::taken(config, site);
        let rogues = dess_probe::foreign_dhcp_servers(site).await;
        seen.rogues = rogues
            .into_iter()
            .map(|rogue| RogueSeen {
                interface: rogue.interface,
                server: rogue.server,
                mac: rogue.mac,
            })
            .collect();
    }
    if running.is_some() {
        let endpoints = config.endpoints();
        for service in ServiceName::START_ORDER {
            seen.probes
                .push(dess_probe::probe(&endpoints, service, None).await);
        }
    }
    seen.services = running;
    seen.snapshot = snapshot;
    seen
}

fn snapshot(paths: &Paths) -> SnapshotSeen {
    match fs::read(paths.snapshot()) {
        Ok(text) => match SiteSnapshot::from_json(&text) {
            Ok(snapshot) => SnapshotSeen::Read(Box::new(snapshot)),
            Err(error) => SnapshotSeen::Unreadable(error.to_string()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => SnapshotSeen::Absent,
        Err(error) => SnapshotSeen::Unreadable(error.to_string()),
    }
}

async fn database(config: &Config) -> DatabaseSeen {
    let database = match config.database() {
        Ok(database) => database,
        Err(error) => return DatabaseSeen::Fails(format!("{error:#}")),
    };
    if let DatabaseLocation::File(file) = database.location()
        && !file.exists()
    {
        return DatabaseSeen::Absent;
    }
    let operations = Operations::with_database(config.paths(), database);
    let site = tokio::time::timeout(DATABASE_WAIT, operations.site()).await;
    let seen = match site {
        Ok(Ok(site)) => DatabaseSeen::Works(site.map(|site| site.revision)),
        Ok(Err(error)) => DatabaseSeen::Fails(format!("{:#}", anyhow::Error::from(error))),
        Err(_) => DatabaseSeen::Fails(format!("no answer within {} s", DATABASE_WAIT.as_secs())),
    };
    operations.close().await;
    seen
}

/// The latest time that the snapshot or a file of the state directory tells.
fn newest(paths: &Paths, site: Option<&SiteSnapshot>) -> Option<Timestamp> {
    let written = [paths.snapshot(), paths.database(), paths.leases()];
    let files = written.iter().filter_map(|path| {
        let seconds = fs::metadata(path).ok()?.mtime();
        Some(Timestamp(seconds.saturating_mul(1000)))
    });
    files.chain(site.map(|site| site.compiled_at)).max()
}

/// Every interface but the loopback.
fn links() -> Vec<LinkSeen> {
    let mut links: Vec<LinkSeen> = Vec::new();
    for entry in getifaddrs().into_iter().flatten() {
        let name = entry.interface_name;
        if name == "lo" {
            continue;
        }
        let address: Option<Ipv4Addr> = entry
            .address
            .and_then(|address| address.as_sockaddr_in().map(SockaddrIn::ip));
        match links.iter_mut().find(|link| link.name == name) {
            Some(link) => link.addresses.extend(address),
            None => links.push(LinkSeen {
                carrier: class(&name, "carrier").map(|text| text == "1"),
                mbit: class(&name, "speed").and_then(|text| text.parse().ok()),
                addresses: address.into_iter().collect(),
                name,
            }),
        }
    }
    links
}

/// What the kernel tells of an interface; none while it is down.
fn class(interface: &str, attribute: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/sys/class/net/{interface}/{attribute}")).ok()?;
    Some(text.trim().to_owned())
}

fn space(paths: &Paths) -> Vec<SpaceSeen> {
    let mut seen = Vec::new();
    let mut devices = Vec::new();
    for path in [
        &paths.state,
        &paths.overlays(),
        &paths.images(),
        &paths.runtime,
    ] {
        let Some((device, figures)) = fs::metadata(path).ok().zip(statvfs(path).ok()) else {
            continue;
        };
        if devices.contains(&device.dev()) {
            continue;
        }
        devices.push(device.dev());
        let unit = figures.fragment_size();
        seen.push(SpaceSeen {
            path: path.clone(),
            total_bytes: figures.blocks() * unit,
            free_bytes: figures.blocks_available() * unit,
        });
    }
    seen
}

/// The files whose rights matter, and the directories that must be there.
fn files(config: &Config) -> Vec<FileSeen> {
    let paths = config.paths();
    let directories = [
        paths.state.clone(),
        paths.runtime.clone(),
        paths.images(),
        paths.overlays(),
        paths.boot_files(),
    ];
    let secrets = [paths.snapshot(), paths.database(), paths.leases()];
    let of = |path: &Path, is_secret| FileSeen {
        path: path.to_owned(),
        state: state_of(path),
        is_secret,
    };
    let directories = directories.iter().map(|path| of(path, false));
    let secrets = secrets.iter().map(|path| of(path, true));
    // Whether the database and the snapshot are there is told elsewhere, with more sense.
    let secrets = secrets.filter(|file| !matches!(file.state, FileState::Missing));
    directories.chain(secrets).collect()
}

fn state_of(path: &Path) -> FileState {
    let Ok(meta) = fs::metadata(path) else {
        return FileState::Missing;
    };
    let own = nix::unistd::geteuid().as_raw();
    FileState::There {
        mode: meta.mode() & 0o7777,
        foreign_owner: (meta.uid() != own).then_some(meta.uid()),
        is_directory: meta.is_dir(),
    }
}

fn missing_loaders(paths: &Paths) -> Vec<String> {
    let files = BootFiles::new(paths.boot_files());
    let missing = files.missing_loaders().into_iter();
    missing.map(str::to_owned).collect()
}

fn leases(paths: &Paths) -> Vec<dess_dhcp::Binding> {
    let Ok(bytes) = fs::read(paths.leases()) else {
        return Vec::new();
    };
    let table = LeaseTable::from_records(read_journal(&bytes).records);
    table.iter().copied().collect()
}

fn broken_versions(paths: &Paths, site: &SiteSnapshot) -> Vec<VersionSeen> {
    let mut broken = Vec::new();
    for version in &site.versions {
        let directory: PathBuf = paths.images().join(&version.directory);
        if let Err(error) = Version::open(&directory) {
            broken.push(VersionSeen {
                image: format!("{}@{}", version.image_name, version.version.number),
                directory,
                detail: format!("{:#}", anyhow::Error::from(error)),
            });
        }
    }
    broken
}
