//! The memory of the service, measured in a process of its own.

#![expect(
    clippy::unwrap_used,
    reason = "a failure of a test's set-up is a failure of the test"
)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dess_target::{Geometry, StandaloneOptions, serve_file};
use support::initiator::{Initiator, Login, cdb_10};
use support::service::use_all_files;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

const IMAGE: &str = "DESS_TEST_IMAGE";
const IQN: &str = "iqn.2026-01.test:file";
const KIB: u64 = 1024;
/// What an idle session may cost.
const IDLE_BYTES_MAX: u64 = 64 * KIB;
/// The same after work: it holds no more itself, but the allocator does not give all back to the
/// system.
const IDLE_AFTER_WORK_BYTES_MAX: u64 = 160 * KIB;
/// The memory of work is given back within seconds; the rest is for a busy machine.
const IDLE_WITHIN: Duration = Duration::from_secs(40);

/// Not a test: the service itself, in a process that a test starts.
#[test]
fn child_that_serves_a_file() {
    let Some(image) = std::env::var_os(IMAGE) else {
        return;
    };
    use_all_files();
    let options = StandaloneOptions {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        image: image.into(),
        overlay: None,
        read_only: false,
        geometry: Geometry::Native,
        iqn: IQN.into(),
        thin: true,
        chap: None,
        disk_threads: 2,
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (ready, bound) = oneshot::channel();
    runtime.spawn(async move {
        let bound: Vec<SocketAddr> = bound.await.unwrap();
        println!("\nready {}", bound[0]);
    });
    runtime
        .block_on(serve_file(options, ready, CancellationToken::new()))
        .unwrap();
}

struct Server {
    child: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("disk.raw");
        fs::write(&image, vec![0x11; 64 << 20]).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_serves_a_file", "--nocapture"])
            .env(IMAGE, &image)
            .envs(dess_model::host::ALLOCATOR_ENVIRONMENT)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("ready ")?.parse().ok())
            .expect("the service says where it listens");
        Self {
            child,
            address,
            _directory: directory,
        }
    }

    fn login(&self, number: u16) -> Initiator {
        let login = Login {
            portal: self.address,
            initiator: "iqn.2026-01.test:initiator".into(),
            target: IQN.into(),
            isid: [0x80, 0, 0, 0, (number >> 8) as u8, number as u8],
            chap: None,
        };
        let mut session = Initiator::login(&login).unwrap();
        session.become_ready().unwrap();
        session
    }

    fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * KIB
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `count` idle sessions cost less than the bound each; memory of work is given back
/// after a while.
fn assert_idle(server: &Server, before: u64, (count, max): (u16, u64), when: &str) {
    let deadline = Instant::now() + IDLE_WITHIN;
    loop {
        let each = server.resident_bytes().saturating_sub(before) / u64::from(count);
        if each < max {
            println!("{} KiB per session {when}", each / KIB);
            return;
        }
        let late = Instant::now() >= deadline;
        assert!(!late, "{} KiB per session {when}", each / KIB);
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_thousand_idle_sessions_cost_under_64_kib_each() {
    use_all_files();
    let server = Server::start();
    let before = server.resident_bytes();
    let count = 1000;
    let mut sessions: Vec<_> = (0..count).map(|number| server.login(number)).collect();
    assert_idle(&server, before, (count, IDLE_BYTES_MAX), "after the login");

    for session in &mut sessions {
        session.read(0, 128).unwrap();
        session.write(0, &[1; 65536]).unwrap();
        session.read(0, 2048).unwrap();
    }
    let after_work = (count, IDLE_AFTER_WORK_BYTES_MAX);
    assert_idle(&server, before, after_work, "after reads and writes");

    // All of them at once, with a queue each, as after a power cut.
    let small = cdb_10(0x28, 8, 8);
    let large = cdb_10(0x28, 0, 512);
    let write = (&cdb_10(0x2a, 64, 8)[..], &[2; 4096][..], 4096);
    for session in &mut sessions {
        let mut queue = vec![(&small[..], &[][..], 4096); 16];
        queue.push((&large, &[], 512 * 512));
        queue.push(write);
        session.start_together(&queue).unwrap();
    }
    for session in &mut sessions {
        for _ in 0..18 {
            assert_eq!(session.finish().unwrap().status, 0);
        }
    }
    assert_idle(&server, before, after_work, "after all worked at once");
}

#[test]
fn a_peer_that_does_not_read_its_answers_costs_bounded_memory_and_nobody_elses_time() {
    let server = Server::start();
    let mut other = server.login(1);
    let mut greedy = server.login(2);
    let before = server.resident_bytes();
    // 400 MiB in all.
    for _ in 0..100 {
        greedy
            .start(&cdb_10(0x28, 0, 8192), &[], 8192 * 512)
            .unwrap();
    }
    for _ in 0..200 {
        let ended = other.read(8, 8).unwrap();
        assert_eq!(ended.data, [0x11; 4096]);
    }
    let grown = server.resident_bytes().saturating_sub(before);
    println!("{} KiB for a peer that does not read", grown / KIB);
    assert!(grown < 32 * 1024 * KIB, "{} KiB", grown / KIB);
    // It gets all of it when it reads at last.
    for _ in 0..100 {
        assert_eq!(greedy.finish().unwrap().data.len(), 8192 * 512);
    }
}
