use std::net::{Ipv4Addr, SocketAddrV4};

use dess_model::{
    AddressRange, ProbeFailure, Registration, SNAPSHOT_FORMAT, ServerEntry, ServiceName, Timestamp,
};
use dess_node::supervisor::protocol::ServiceStatus;

use super::*;
use crate::doctor::observation::PortSeen;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const NOW: Timestamp = Timestamp(1_795_348_800_000);

fn snapshot() -> SiteSnapshot {
    SiteSnapshot {
        format: SNAPSHOT_FORMAT,
        revision: 7,
        compiled_at: NOW,
        site_name: "test".into(),
        registration: Registration::Auto,
        server: ServerEntry {
            address: ADDRESS,
            interfaces: vec!["eth0".into()],
            http_port: 80,
            portals: vec![SocketAddrV4::new(ADDRESS, 3260)],
        },
        subnets: vec![Subnet {
            network: "10.77.0.0/24".parse().unwrap(),
            mode: DhcpMode::Server,
            pool: Some(AddressRange {
                first: Ipv4Addr::new(10, 77, 0, 100),
                last: Ipv4Addr::new(10, 77, 0, 101),
            }),
            router: None,
            dns: vec![],
            lease_secs: 3600,
        }],
        clients: vec![],
        versions: vec![],
        groups: vec![],
        pool: Default::default(),
    }
}

fn service(name: ServiceName) -> ServiceStatus {
    ServiceStatus {
        name,
        state: ServiceState::Ready,
        pid: Some(1),
        since: NOW,
        restarts: 0,
        last_exit: None,
        log_tail: vec![],
        probe: None,
    }
}

/// A server with which nothing is wrong.
fn healthy() -> Observation {
    Observation {
        now: NOW,
        is_root: true,
        services: Some(ServiceName::START_ORDER.map(service).to_vec()),
        snapshot: SnapshotSeen::Read(Box::new(snapshot())),
        database: DatabaseSeen::Works(Some(7)),
        newest: Some(NOW),
        links: vec![LinkSeen {
            name: "eth0".into(),
            carrier: Some(true),
            mbit: Some(1000),
            addresses: vec![ADDRESS],
        }],
        space: vec![SpaceSeen {
            path: "/var/lib/dess".into(),
            total_bytes: 100 << 30,
            free_bytes: 50 << 30,
        }],
        ..Observation::default()
    }
}

#[test]
fn a_healthy_server_has_no_findings() {
    assert_eq!(judge(&healthy()), []);
}

#[test]
fn a_service_that_runs_and_fails_its_probe_is_told_with_the_reason() {
    let mut seen = healthy();
    let failure = ProbeFailure::NoSite;
    seen.probes = vec![ProbeReport {
        service: ServiceName::Boot,
        failure: Some(failure.clone()),
        at: NOW,
        since: NOW,
        duration_ms: 1,
    }];
    let service = ServiceName::Boot;
    assert_eq!(judge(&seen), [Finding::ServiceFails { service, failure }]);
}

#[test]
fn the_cause_comes_before_its_consequence() {
    let mut seen = healthy();
    seen.taken = vec![PortSeen {
        protocol: "tcp",
        port: 3260,
        holder: "tgtd (pid 7)".into(),
    }];
    let services = seen.services.as_mut().unwrap();
    services[1].state = ServiceState::Backoff;
    let found = judge(&seen);
    assert!(matches!(found[0], Finding::PortTaken { port: 3260, .. }));
    assert!(matches!(found[1], Finding::ServiceDown { .. }));
}

#[test]
fn a_clock_behind_what_is_written_is_told_and_a_little_lag_is_not() {
    let mut seen = healthy();
    seen.newest = Some(Timestamp(NOW.0 + 60_000));
    assert_eq!(judge(&seen), []);
    seen.newest = Some(Timestamp(NOW.0 + 3_600_000));
    assert_eq!(judge(&seen), [Finding::ClockBehind { by_secs: 3600 }]);
    seen.now = Timestamp(0);
    assert_eq!(judge(&seen), [Finding::ClockUnset]);
}

#[test]
fn space_is_low_by_share_and_size_and_none_at_any_size() {
    let low = |free_bytes, total_bytes| {
        let path = "/x".into();
        space(&SpaceSeen {
            path,
            total_bytes,
            free_bytes,
        })
        .is_some()
    };
    assert!(low(5 << 30, 100 << 30));
    assert!(!low(900 << 30, 10_000 << 30), "9 % of 10 TB is a lot");
    assert!(low(100 << 30, 10_000 << 30), "1 % is not");
    assert!(!low(0, 0), "no file system");
}

#[test]
fn a_missing_database_is_no_site_before_the_first_snapshot_and_a_loss_after_it() {
    let mut seen = healthy();
    seen.database = DatabaseSeen::Absent;
    assert!(matches!(judge(&seen)[..], [Finding::DatabaseGone { .. }]));
    seen.snapshot = SnapshotSeen::Absent;
    assert_eq!(judge(&seen), [Finding::NoSite]);
}

#[test]
fn an_interface_that_is_down_has_no_link() {
    let mut seen = healthy();
    seen.links[0].carrier = None;
    assert!(matches!(judge(&seen)[..], [Finding::LinkDown { .. }]));
    seen.links[0].carrier = Some(true);
    seen.links[0].mbit = Some(100);
    assert!(matches!(
        judge(&seen)[..],
        [Finding::LinkSlow { mbit: 100, .. }]
    ));
}

#[test]
fn others_may_not_write_any_file_nor_read_a_secret() {
    let mut seen = healthy();
    let file = |mode, is_secret| FileSeen {
        path: "/x".into(),
        is_secret,
        state: FileState::There {
            mode,
            foreign_owner: None,
            is_directory: false,
        },
    };
    seen.files = vec![file(0o755, false), file(0o600, true)];
    assert_eq!(judge(&seen), []);
    seen.files = vec![file(0o775, false), file(0o640, true)];
    assert_eq!(judge(&seen).len(), 2);
}
