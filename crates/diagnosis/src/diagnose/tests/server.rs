//! Faults of the server and of the network.

use std::net::Ipv4Addr;

use dess_model::{ClientCounters, OperationCounters, PoolLevel};

use super::*;
use crate::Severity::{Bad, Warn};

fn iscsi() -> Subject {
    Subject::Service {
        service: "iscsi".into(),
    }
}

#[test]
fn a_crashed_service_is_told_within_three_seconds_and_over_when_it_works() {
    let mut room = Room::new();
    room.services(service("iscsi", ServiceCondition::Ready));
    let down = ServiceSeen {
        last_exit: Some("was killed by SIGKILL".into()),
        ..service("iscsi", ServiceCondition::Down)
    };
    let died = room.now;
    room.services(down.clone());
    for _ in 0..2 {
        room.wait(1_000).services(down.clone());
    }
    assert_eq!(room.open(), [(Code::E11, iscsi())]);
    assert!(room.now - died <= 3_000);
    room.wait(1_000)
        .services(service("iscsi", ServiceCondition::Ready));
    assert_eq!(room.open(), []);
}

#[test]
fn a_planned_restart_is_no_fault_and_one_that_never_ends_is() {
    let mut room = Room::new();
    room.services(service("iscsi", ServiceCondition::Ready));
    for _ in 0..19 {
        room.services(service("iscsi", ServiceCondition::Starting))
            .wait(1_000);
    }
    assert_eq!(room.open(), []);
    room.wait(2_000)
        .services(service("iscsi", ServiceCondition::Starting));
    assert_eq!(room.open(), [(Code::E11, iscsi())]);
}

#[test]
fn a_service_that_crashes_again_and_again_is_told_although_it_comes_back() {
    let mut room = Room::new();
    for restarts in 0..=3 {
        room.services(ServiceSeen {
            restarts,
            ..service("iscsi", ServiceCondition::Ready)
        });
        room.wait(20_000);
    }
    let cause = Cause::ServiceCrashes {
        service: "iscsi".into(),
        times: 3,
    };
    assert_eq!(room.case(Code::E11).cause, cause);
}

#[test]
fn tries_to_start_a_service_that_fail_are_one_outage_and_over_with_it() {
    let mut room = Room::new();
    room.services(service("iscsi", ServiceCondition::Ready));
    for restarts in 0..6 {
        for condition in [ServiceCondition::Down, ServiceCondition::Starting] {
            room.wait(1_000).services(ServiceSeen {
                restarts,
                ..service("iscsi", condition)
            });
        }
    }
    let cause = Cause::ServiceDown {
        service: "iscsi".into(),
    };
    assert_eq!(room.case(Code::E11).cause, cause);
    room.wait(1_000).services(ServiceSeen {
        restarts: 6,
        ..service("iscsi", ServiceCondition::Ready)
    });
    assert_eq!(room.open(), []);
}

#[test]
fn a_service_that_runs_and_fails_its_probe_is_to_be_restarted() {
    let mut room = Room::new();
    let probed = |why: Option<&str>, at| ServiceSeen {
        probe: Some((Timestamp(at), why.map(str::to_owned))),
        ..service("dhcp", ServiceCondition::Ready)
    };
    let all = |dhcp| Some(vec![dhcp, service("iscsi", ServiceCondition::Ready)]);
    let why = Some("no offer within 2 s");
    room.seen.services_seen(Timestamp(0), all(probed(why, 0)));
    room.diagnose();
    let action = Action::RestartService {
        service: "dhcp".into(),
    };
    assert_eq!(room.case(Code::E11).action, Some(action));
    room.wait(60_000);
    let now = room.now;
    room.seen
        .services_seen(Timestamp(now), all(probed(None, now)));
    room.diagnose();
    assert_eq!(room.open(), []);
}

#[test]
fn services_of_which_nobody_tells_are_neither_well_nor_broken() {
    let mut room = Room::new();
    let down = service("iscsi", ServiceCondition::Down);
    room.services(down.clone());
    room.wait(2_000).services(down);
    assert_eq!(room.open().len(), 1);
    room.seen.services_seen(Timestamp(room.now), None);
    room.wait(600_000);
    assert_eq!(room.open().len(), 1);
}

#[test]
fn a_foreign_dhcp_server_is_told_at_its_first_offer() {
    let mut room = Room::new();
    let server = Ipv4Addr::new(10, 77, 0, 66);
    let rogue = EventKind::RogueDhcp {
        server,
        mac: Some(mac(66)),
        interface: "eth0".into(),
    };
    room.event(rogue.clone());
    let subject = Subject::Address { address: server };
    assert_eq!(room.open(), [(Code::E52, subject)]);
    room.wait(60_000).event(rogue).wait(599_000);
    assert_eq!(room.open().len(), 1, "told once a minute at most");
    room.wait(1_000);
    assert_eq!(room.open(), []);
    assert_eq!(room.cases.len(), 1);
}

#[test]
fn addresses_that_collide_or_run_out_are_told() {
    let mut room = Room::new();
    let taken = Ipv4Addr::new(10, 77, 0, 105);
    room.event(EventKind::AddressConflict {
        address: taken,
        found_by: Some(mac(1)),
        used_by: None,
    });
    room.event(EventKind::NoFreeAddress {
        mac: mac(2),
        network: "10.77.0.0/24".into(),
    });
    let codes: Vec<Code> = room.open().into_iter().map(|(code, _)| code).collect();
    assert_eq!(codes, [Code::E32, Code::E33]);
    room.wait(3_600_000);
    assert_eq!(room.open(), []);
}

#[test]
fn the_servers_own_cable_counts() {
    let mut room = Room::new();
    let link = |room: &mut Room, up| {
        let now = Timestamp(room.now);
        room.seen.links_seen(now, [("eth0".to_owned(), up)]);
        room.diagnose();
    };
    link(&mut room, true);
    assert_eq!(room.open(), []);
    link(&mut room, false);
    let part = "eth0".to_owned();
    assert_eq!(room.open(), [(Code::E23, Subject::Server { part })]);
    link(&mut room, true);
    assert_eq!(room.open(), []);
}

#[test]
fn a_full_pool_gets_worse_and_better() {
    let mut room = Room::new();
    let mut severities = Vec::new();
    for level in [PoolLevel::Warn, PoolLevel::Stop, PoolLevel::Normal] {
        let pool = PoolSeen {
            level,
            used_percent: 92,
        };
        room.seen.pool_seen(Timestamp(room.now), Some(pool));
        room.diagnose();
        severities.push(room.case(Code::E51).severity);
    }
    assert_eq!(severities, [Warn, Bad, Bad]);
    assert_eq!(room.open(), []);
}

fn counted(seat: u8, count: u64, mean_us: u64) -> ClientCounters {
    ClientCounters {
        client: client(seat),
        read: OperationCounters {
            count,
            bytes: count * 65_536,
            mean_us,
            ..OperationCounters::default()
        },
        write: OperationCounters::default(),
        flush: OperationCounters::default(),
        unmap: OperationCounters::default(),
        queue_depth: 0,
        queue_depth_max: 0,
        throttled: 0,
        throttled_us: 0,
    }
}

#[test]
fn slow_storage_is_told_within_ten_seconds_with_who_moves_most() {
    let mut room = Room::new();
    let look = |room: &mut Room, greedy: u64, mean_us| {
        room.wait(5_000);
        let counters = [counted(1, 100, 900), counted(2, greedy, mean_us)];
        room.seen.disks_seen(Timestamp(room.now), &[], &counters);
        room.diagnose();
    };
    look(&mut room, 1_000, 1_000);
    look(&mut room, 2_000, 200_000);
    assert_eq!(room.open(), []);
    look(&mut room, 3_000, 300_000);
    assert_eq!(room.open(), [(Code::E21, Subject::Site)]);
    let case = room.case(Code::E21);
    assert_eq!(case.cause, Cause::StorageSlow { read_ms: 500 });
    let talker = Fact::Talker {
        client: client(2),
        bytes_per_sec: 1_000 * 65_536 / 5,
    };
    assert!(case.evidence.iter().any(|one| one.fact == talker));
    look(&mut room, 4_000, 226_000);
    assert_eq!(room.open().len(), 1, "quiet for a while first");
    for more in 0..120 {
        look(&mut room, 4_001 + more, 226_000);
    }
    assert_eq!(room.open(), []);
}

#[test]
fn a_port_that_clients_find_closed_is_a_fault_of_the_disk_service() {
    let mut room = Room::new();
    room.services(service("iscsi", ServiceCondition::Ready));
    room.power_on(1).wait(200).sanboot_failed(1, "0x0f0a6039");
    let cause = Cause::ServiceRefuses {
        service: "iscsi".into(),
    };
    assert_eq!(room.open(), [(Code::E11, iscsi())]);
    assert_eq!(room.case(Code::E11).cause, cause);
    room.wait(61_000)
        .services(service("iscsi", ServiceCondition::Ready));
    room.wait(1_000);
    assert_eq!(room.open(), []);
}
