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

use dess_target::{Geometry, StandaloneOptions, serve_file};
use support::initiator::{Initiator, Login, cdb_10};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

const IMAGE: &str = "DESS_TEST_IMAGE";
const IQN: &str = "iqn.2026-01.test:file";
const KIB: u64 = 1024;

/// Not a test: the service itself, in a process that a test starts.
#[test]
fn child_that_serves_a_file() {
    let Some(image) = std::env::var_os(IMAGE) else {
        return;
    };
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

#[test]
fn an_idle_session_costs_under_256_kib() {
    let server = Server::start();
    let before = server.resident_bytes();
    let count = 200;
    let sessions: Vec<_> = (0..count)
        .map(|number| {
            let mut session = server.login(number);
            // Each did some work before it became idle.
            session.read(0, 128).unwrap();
            session.write(0, &[1; 65536]).unwrap();
            session
        })
        .collect();
    let each = server.resident_bytes().saturating_sub(before) / u64::from(count);
    println!("{} KiB per session", each / KIB);
    assert!(each < 256 * KIB, "{} KiB each", each / KIB);
    drop(sessions);
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
