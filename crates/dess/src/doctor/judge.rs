//! From what is seen to what is wrong: a value in, values out.

use dess_model::{DhcpMode, ProbeReport, SiteSnapshot, Subnet};
use dess_node::supervisor::protocol::ServiceState;

use super::finding::Finding;
use super::observation::{
    DatabaseSeen, FileSeen, FileState, LinkSeen, Observation, SnapshotSeen, SpaceSeen,
};

/// A clock may lag so much behind what was written: others may have written it.
const CLOCK_SLACK_MS: i64 = 2 * 60 * 1000;
/// No server that runs this program can be before 2025-01-01.
const CLOCK_MIN_MS: i64 = 1_735_689_600_000;
/// Below this speed a room of disk-less PCs is slow.
const LINK_MBIT_MIN: u32 = 1000;
/// Free space is low below this share and this size, both.
const SPACE_LOW: (u64, u64) = (10, 20 << 30);
/// So little space is as good as none, whatever the size.
const SPACE_NONE_PERCENT: u64 = 2;

/// Everything that is wrong, causes before their consequences.
pub(crate) fn judge(seen: &Observation) -> Vec<Finding> {
    let mut found = Vec::new();
    if !seen.is_root {
        found.push(Finding::NotRoot);
    }
    clock(seen, &mut found);
    files(&seen.files, &mut found);
    found.extend(seen.space.iter().filter_map(space));
    database(seen, &mut found);
    if let SnapshotSeen::Read(snapshot) = &seen.snapshot {
        links(snapshot, &seen.links, &mut found);
        leases(seen, snapshot, &mut found);
    }
    let missing = seen.missing_loaders.iter().cloned();
    found.extend(missing.map(|file| Finding::LoaderMissing { file }));
    found.extend(
        seen.broken_versions
            .iter()
            .map(|version| Finding::ImageUnreadable {
                image: version.image.clone(),
                directory: version.directory.clone(),
                detail: version.detail.clone(),
            }),
    );
    found.extend(seen.rogues.iter().map(|rogue| Finding::RogueDhcp {
        interface: rogue.interface.clone(),
        server: rogue.server,
        mac: rogue.mac,
    }));
    found.extend(seen.taken.iter().map(|port| Finding::PortTaken {
        protocol: port.protocol,
        port: port.port,
        holder: port.holder.clone(),
    }));
    services(seen, &mut found);
    found
}

fn clock(seen: &Observation, found: &mut Vec<Finding>) {
    if seen.now.0 < CLOCK_MIN_MS {
        found.push(Finding::ClockUnset);
    } else if let Some(newest) = seen.newest {
        let behind = newest.0 - seen.now.0;
        if behind > CLOCK_SLACK_MS {
            let by_secs = behind / 1000;
            found.push(Finding::ClockBehind { by_secs });
        }
    }
}

fn files(files: &[FileSeen], found: &mut Vec<Finding>) {
    for file in files {
        let path = file.path.clone();
        match file.state {
            FileState::Missing => found.push(Finding::DirectoryMissing { path }),
            FileState::There {
                mode,
                foreign_owner,
                is_directory,
            } => {
                let forbidden = if file.is_secret { 0o077 } else { 0o022 };
                if foreign_owner.is_some() || mode & forbidden != 0 {
                    found.push(Finding::WrongRights {
                        path,
                        mode,
                        foreign_owner,
                        is_directory,
                    });
                }
            }
        }
    }
}

fn space(space: &SpaceSeen) -> Option<Finding> {
    let percent = (space.free_bytes * 100).checked_div(space.total_bytes)?;
    let (low_percent, low_bytes) = SPACE_LOW;
    let low = percent < low_percent && space.free_bytes < low_bytes;
    (percent < SPACE_NONE_PERCENT || low).then(|| Finding::SpaceLow {
        path: space.path.clone(),
        free_bytes: space.free_bytes,
        free_percent: u8::try_from(percent).unwrap_or(100),
    })
}

fn database(seen: &Observation, found: &mut Vec<Finding>) {
    let published = match &seen.snapshot {
        SnapshotSeen::Read(snapshot) => Some(snapshot.revision),
        SnapshotSeen::Absent => None,
        SnapshotSeen::Unreadable(detail) => {
            let detail = detail.clone();
            found.push(Finding::SnapshotUnreadable { detail });
            None
        }
    };
    match (&seen.database, &seen.snapshot) {
        (DatabaseSeen::Fails(detail), _) => found.push(Finding::DatabaseGone {
            detail: detail.clone(),
        }),
        (DatabaseSeen::Absent, SnapshotSeen::Absent) | (DatabaseSeen::Works(None), _) => {
            found.push(Finding::NoSite);
        }
        // There was one: the services still go by it.
        (DatabaseSeen::Absent, _) => found.push(Finding::DatabaseGone {
            detail: "the file is missing".to_owned(),
        }),
        (DatabaseSeen::Works(Some(wanted)), SnapshotSeen::Read(_) | SnapshotSeen::Absent) => {
            let published = published.unwrap_or(0);
            if published != *wanted {
                found.push(Finding::SnapshotStale {
                    published,
                    wanted: *wanted,
                });
            }
        }
        (DatabaseSeen::Works(Some(_)), SnapshotSeen::Unreadable(_)) => {}
    }
}

fn links(snapshot: &SiteSnapshot, links: &[LinkSeen], found: &mut Vec<Finding>) {
    let address = snapshot.server.address;
    let mut of_site = Vec::new();
    for interface in &snapshot.server.interfaces {
        let Some(link) = links.iter().find(|link| link.name == *interface) else {
            found.push(Finding::InterfaceMissing {
                interface: interface.clone(),
                existing: links.iter().map(|link| link.name.clone()).collect(),
            });
            continue;
        };
        if link.carrier != Some(true) {
            let interface = interface.clone();
            found.push(Finding::LinkDown { interface });
        } else if let Some(mbit) = link.mbit.filter(|mbit| *mbit < LINK_MBIT_MIN) {
            let interface = interface.clone();
            found.push(Finding::LinkSlow { interface, mbit });
        }
        of_site.push(link);
    }
    let has_address = links.iter().any(|link| link.addresses.contains(&address));
    if let Some(link) = of_site.first().filter(|_| !has_address) {
        found.push(Finding::AddressChanged {
            wanted: address,
            interface: link.name.clone(),
            found: link.addresses.clone(),
        });
    }
}

fn leases(seen: &Observation, snapshot: &SiteSnapshot, found: &mut Vec<Finding>) {
    let serves = |subnet: &&Subnet| subnet.mode == DhcpMode::Server;
    for subnet in snapshot.subnets.iter().filter(serves) {
        let Some(range) = subnet.pool else {
            continue;
        };
        let reserved = |address| snapshot.client_by_address(address).is_some();
        let addresses = u32::from(range.first)..=u32::from(range.last);
        let addresses: Vec<_> = addresses
            .map(std::net::Ipv4Addr::from)
            .filter(|&address| !reserved(address))
            .collect();
        let live = seen.leases.iter().filter(|lease| lease.is_live(seen.now));
        let held: std::collections::HashSet<_> = live.map(|lease| lease.address).collect();
        let full = addresses.iter().all(|address| held.contains(address));
        if full && !addresses.is_empty() {
            found.push(Finding::NoFreeLeases {
                network: subnet.network.to_string(),
                total: u32::try_from(addresses.len()).unwrap_or(u32::MAX),
            });
        }
    }
}

/// Services that do not run, and those that run and do not work. With nobody to run them nothing is said of each.
fn services(seen: &Observation, found: &mut Vec<Finding>) {
    let Some(services) = &seen.services else {
        found.push(Finding::NothingRuns);
        return;
    };
    for service in services {
        if service.state != ServiceState::Ready {
            found.push(Finding::ServiceDown {
                service: service.name,
                last_exit: service.last_exit.clone(),
                last_line: service.log_tail.last().cloned(),
            });
            continue;
        }
        let fails = |probe: &&ProbeReport| probe.service == service.name && !probe.works();
        let failing = seen.probes.iter().find(fails);
        if let Some(failure) = failing.and_then(|probe| probe.failure.clone()) {
            found.push(Finding::ServiceFails {
                service: service.name,
                failure,
            });
        }
    }
}

#[cfg(test)]
mod tests;
