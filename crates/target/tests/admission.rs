//! Limits and counters, over TCP with an initiator of the test's own.

#![expect(
    clippy::unwrap_used,
    reason = "a failure of a test's set-up is a failure of the test"
)]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use dess_model::{
    ClientCounters, GroupEntry, GroupId, IoLimits, RateLimits, TargetReply, TargetRequest,
};
use support::initiator::{Initiator, cdb_10};
use support::room::{Running, Site, client_id};

const PATIENCE: Duration = Duration::from_secs(20);

/// Nothing gets through but what the bucket holds at first: the next command in the year 2060.
fn next_to_nothing() -> IoLimits {
    IoLimits {
        read: RateLimits {
            bytes_per_sec: Some(1),
            iops: None,
        },
        ..IoLimits::default()
    }
}

fn ready(site: &Site, seat: u32) -> Initiator {
    let mut session = Initiator::login(&site.login(seat)).unwrap();
    session.become_ready().unwrap();
    session
}

/// Waits until the service's counters of a client are as wanted.
fn wait_for(running: &Running, site: &Site, seat: u32, wanted: impl Fn(&ClientCounters) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let reply = running.ask(site, &TargetRequest::Status);
        let TargetReply::Status { clients, .. } = reply else {
            panic!("{reply:?}");
        };
        let found = clients
            .into_iter()
            .find(|one| one.client == client_id(seat));
        if found.as_ref().is_some_and(&wanted) {
            return;
        }
        assert!(Instant::now() < deadline, "{found:?}");
        std::thread::yield_now();
    }
}

#[test]
fn what_waits_for_a_limit_holds_up_nothing_else_and_goes_when_the_limit_goes() {
    let mut site = Site::new();
    site.publish(|snapshot| snapshot.clients[0].limits = next_to_nothing());
    let running = site.start();
    running.power_on(&site, 1);
    let mut session = ready(&site, 1);
    // The first read empties the bucket.
    assert_eq!(session.read(0, 8).unwrap().status, 0);
    let tags: Vec<u32> = (1..=3)
        .map(|at| {
            let cdb = cdb_10(0x28, at * 8, 8);
            session.start(&cdb, &[], 4096).unwrap()
        })
        .collect();
    wait_for(&running, &site, 1, |counters| counters.queue_depth == 3);
    // Pings, writes and task management are answered, and none of the reads before them.
    let ping = session.ping().unwrap();
    let answer = session.receive().unwrap();
    assert_eq!(
        (answer.bhs[0], &answer.bhs[16..20]),
        (0x20, &ping.to_be_bytes()[..])
    );
    assert_eq!(session.write(800, &[7; 512]).unwrap().status, 0);
    let abort = session.abort(tags[1]).unwrap();
    let answer = session.receive().unwrap();
    assert_eq!(
        (answer.bhs[0], &answer.bhs[16..20]),
        (0x22, &abort.to_be_bytes()[..])
    );
    assert_eq!(answer.bhs[2], 0, "function complete");

    site.publish(|snapshot| snapshot.clients[0].limits = IoLimits::default());
    for (at, tag) in [(1, tags[0]), (3, tags[2])] {
        let answer = session.receive().unwrap();
        assert_eq!(
            (answer.bhs[0], &answer.bhs[16..20]),
            (0x25, &tag.to_be_bytes()[..])
        );
        assert!(answer.data == site.image[at * 4096..][..4096]);
    }
    wait_for(&running, &site, 1, |counters| {
        (
            counters.queue_depth,
            counters.queue_depth_max,
            counters.throttled,
        ) == (0, 4, 2)
            && counters.throttled_us > 0
            && counters.read.count == 3
    });
    running.stop();
}

#[test]
fn the_clients_of_a_group_share_its_limit_and_a_session_that_ends_leaves_the_line() {
    let mut site = Site::new();
    let group: GroupId = "00000000-0000-7000-8000-000000000900".parse().unwrap();
    site.publish(|snapshot| {
        snapshot.groups.push(GroupEntry {
            id: group,
            name: "room".into(),
            limits: next_to_nothing(),
        });
        snapshot.clients[0].group = Some(group);
        snapshot.clients[1].group = Some(group);
    });
    let running = site.start();
    let mut sessions: Vec<_> = [1, 2]
        .into_iter()
        .map(|seat| {
            running.power_on(&site, seat);
            ready(&site, seat)
        })
        .collect();
    let mut second = sessions.pop().unwrap();
    let mut first = sessions.pop().unwrap();
    assert_eq!(first.read(0, 8).unwrap().status, 0);
    for session in [&mut first, &mut second] {
        session.start(&cdb_10(0x28, 8, 8), &[], 4096).unwrap();
    }
    for seat in [1, 2] {
        wait_for(&running, &site, seat, |counters| counters.queue_depth == 1);
    }
    drop(first);
    wait_for(&running, &site, 1, |counters| counters.queue_depth == 0);
    site.publish(|snapshot| snapshot.groups[0].limits = IoLimits::default());
    assert_eq!(second.finish().unwrap().status, 0);
    running.stop();
}

#[test]
fn prometheus_reads_counters_and_the_kernel_tells_of_the_connection() {
    let site = Site::new();
    // A port that was free a moment ago: nobody else on this machine has a reason to take it.
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let running = site.start_with(|options| options.metrics = vec![address]);
    running.power_on(&site, 2);
    let mut session = ready(&site, 2);
    for _ in 0..5 {
        assert_eq!(session.read(0, 8).unwrap().status, 0);
    }
    assert_eq!(session.write(64, &[1; 1024]).unwrap().status, 0);
    let flush = session.command(&cdb_10(0x35, 0, 0), &[], 0).unwrap();
    assert_eq!(flush.status, 0);
    wait_for(&running, &site, 2, |counters| {
        counters.flush.count == 1 && counters.flush.p99_us > 0
    });

    // By then the pool was looked at.
    running.ask(&site, &TargetRequest::Pool);
    let get = |path: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let answer = get("/metrics");
    let client = format!("client=\"{}\",name=\"pc-2\",seat=\"2\"", client_id(2));
    let value = |name: &str, labels: &str| {
        let start = format!("{name}{{{client}{labels}}} ");
        let line = answer.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("no {start} in {answer}"))
            .parse::<f64>()
            .unwrap()
    };
    let read = ",operation=\"read\"";
    assert_eq!(value("dess_iscsi_client_bytes_total", read), 20480.0);
    let name = "dess_iscsi_client_command_duration_seconds";
    assert_eq!(value(&format!("{name}_count"), read), 5.0);
    let infinite = format!("{read},le=\"+Inf\"");
    assert_eq!(value(&format!("{name}_bucket"), &infinite), 5.0);
    assert_eq!(value(&format!("{name}_count"), ",operation=\"flush\""), 1.0);
    assert_eq!(value("dess_iscsi_client_sessions", ""), 1.0);
    assert!(value("dess_iscsi_client_tcp_rtt_seconds", "") > 0.0);
    assert_eq!(value("dess_iscsi_client_tcp_retransmits_total", ""), 0.0);
    assert!(value("dess_client_overlay_bytes", ",lun=\"0\"") >= 4096.0);
    assert_eq!(answer.matches("\ndess_pool_bytes{").count(), 3, "{answer}");
    assert_eq!(answer.matches("\ndess_pool_level{").count(), 4, "{answer}");
    assert!(get("/").starts_with("HTTP/1.1 404"));
    running.stop();
}
