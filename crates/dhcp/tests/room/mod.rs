//! A switch and machines around it, as network namespaces, and the real service in one of them.

pub(crate) mod crowd;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use dess_dhcp::Binding;
use dess_dhcp::record::read_journal;
use dess_dhcp::server::{DhcpOptions, serve};
use dess_model::host::{EventReceiver, Paths, write_snapshot};
use dess_model::{
    AddressRange, DhcpMode, EventKind, Registration, SNAPSHOT_FORMAT, ServerEntry, SiteSnapshot,
    Subnet, Timestamp,
};
use tokio::runtime::Runtime;

/// Tells a copy of the test program that it is the server: its state and runtime directory.
const SERVER_ROLE: &str = "DESS_DHCP_TEST_DIRECTORY";
/// Upper bound of every wait.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);

/// Ends the program as server if it was started as one.
pub(crate) fn serve_if_told() {
    let Some(directory) = std::env::var_os(SERVER_ROLE).map(PathBuf::from) else {
        return;
    };
    let runtime = Runtime::new().unwrap();
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    runtime.spawn(async move {
        is_ready.await.unwrap();
        println!("ready");
    });
    let options = DhcpOptions::new(Paths {
        state: directory.clone(),
        runtime: directory,
    });
    let cancel = tokio_util::sync::CancellationToken::new();
    runtime.block_on(serve(options, ready, cancel)).unwrap();
}

pub(crate) struct Room {
    prefix: String,
    nodes: Vec<String>,
    pub(crate) directory: tempfile::TempDir,
}

impl Room {
    /// Machines with an interface `eth0` on a common switch. The names must be unique per test.
    pub(crate) fn new(test: &str, nodes: &[&str]) -> Self {
        let prefix = format!("dt{test}{}", std::process::id());
        let mut room = Self {
            nodes: vec![],
            directory: tempfile::tempdir().unwrap(),
            prefix,
        };
        room.add("switch");
        let switch = room.namespace("switch");
        run(&["ip", "-n", &switch, "link", "add", "br0", "type", "bridge"]);
        run(&["ip", "-n", &switch, "link", "set", "br0", "up"]);
        for (index, node) in nodes.iter().enumerate() {
            room.add(node);
            let namespace = room.namespace(node);
            let port = format!("port{index}");
            run(&[
                "ip", "-n", &switch, "link", "add", &port, "type", "veth", "peer", "name", "eth0",
                "netns", &namespace,
            ]);
            run(&[
                "ip", "-n", &switch, "link", "set", &port, "master", "br0", "up",
            ]);
            let mac = format!("52:54:00:99:00:{:02x}", index + 1);
            run(&[
                "ip", "-n", &namespace, "link", "set", "eth0", "address", &mac,
            ]);
            run(&["ip", "-n", &namespace, "link", "set", "eth0", "up"]);
            run(&["ip", "-n", &namespace, "link", "set", "lo", "up"]);
        }
        room
    }

    fn add(&mut self, node: &str) {
        let namespace = self.namespace(node);
        run(&["ip", "netns", "add", &namespace]);
        self.nodes.push(namespace);
    }

    pub(crate) fn namespace(&self, node: &str) -> String {
        format!("{}{node}", self.prefix)
    }

    pub(crate) fn add_address(&self, node: &str, address: &str) {
        let namespace = self.namespace(node);
        run(&[
            "ip", "-n", &namespace, "addr", "add", address, "dev", "eth0",
        ]);
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A program on a machine.
    pub(crate) fn on(&self, node: &str, program: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(node)]);
        command.args(program);
        command
    }

    /// Runs a program on a machine to its end.
    pub(crate) fn run_on(&self, node: &str, program: &[&str]) -> Output {
        self.on(node, program).output().unwrap()
    }

    pub(crate) fn paths(&self) -> Paths {
        Paths {
            state: self.directory.path().to_owned(),
            runtime: self.directory.path().to_owned(),
        }
    }

    pub(crate) fn publish(&self, snapshot: &SiteSnapshot) {
        write_snapshot(&self.paths().snapshot(), snapshot).unwrap();
    }

    /// Starts the service on machine `server`; `test` is the calling test's name.
    pub(crate) fn start(&self, test: &str) -> Server {
        let program = std::env::current_exe().unwrap();
        let program = program.to_str().unwrap();
        let mut child = self
            .on("server", &[program, "--exact", test, "--nocapture"])
            .env(SERVER_ROLE, self.directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.ends_with("ready\n") {
            line.clear();
            let length = output.read_line(&mut line).unwrap();
            assert!(length > 0, "the server ended before it was ready");
        }
        Server {
            child,
            _output: output,
        }
    }

    /// What the lease journal holds now.
    pub(crate) fn journal(&self) -> Vec<Binding> {
        read_journal(&fs::read(self.paths().leases()).unwrap()).records
    }

    /// One run of busybox udhcpc; what it learned, as environment of its script.
    pub(crate) fn udhcpc(&self, node: &str, options: &[&str]) -> Option<Lease> {
        let script = self.file("udhcpc.sh");
        let seen = self.file("udhcpc.env");
        let _ = fs::remove_file(&seen);
        let text = format!(
            "#!/bin/sh\n[ \"$1\" = bound ] && env > {}\nexit 0\n",
            seen.display()
        );
        fs::write(&script, text).unwrap();
        make_executable(&script);
        let script = script.to_str().unwrap();
        let fixed = [
            "busybox", "udhcpc", "-i", "eth0", "-f", "-n", "-q", "-t", "5", "-T", "1",
        ];
        let mut program = fixed.to_vec();
        program.extend(["-s", script]);
        program.extend(options);
        self.run_on(node, &program);
        fs::read_to_string(seen).ok().map(Lease)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        for namespace in &self.nodes {
            let _ = Command::new("ip")
                .args(["netns", "del", namespace])
                .status();
        }
    }
}

/// What a client learned.
pub(crate) struct Lease(String);

impl Lease {
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.0
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    }
}

/// The running service; killed when dropped, as by `kill -9`.
pub(crate) struct Server {
    child: Child,
    /// Held, so that it does not die of a broken pipe.
    _output: BufReader<ChildStdout>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn make_executable(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Waits until the condition gives a value.
pub(crate) fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The first event that `pick` takes, if it comes in time.
pub(crate) fn event<T>(
    runtime: &Runtime,
    events: &mut EventReceiver,
    limit: Duration,
    pick: impl Fn(&EventKind) -> Option<T>,
) -> Option<T> {
    let search = async {
        loop {
            if let Some(found) = pick(&events.recv().await.unwrap().kind) {
                return found;
            }
        }
    };
    runtime.block_on(async { tokio::time::timeout(limit, search).await.ok() })
}

pub(crate) fn run(program: &[&str]) {
    let status = Command::new(program[0])
        .args(&program[1..])
        .status()
        .unwrap();
    assert!(
        status.success(),
        "{program:?} failed (these tests need root)"
    );
}

/// 10.99.0.0/24 with the pool .100 to .199 and nobody registered.
pub(crate) fn site(mode: DhcpMode) -> SiteSnapshot {
    let last = |last| Ipv4Addr::new(10, 99, 0, last);
    SiteSnapshot {
        format: SNAPSHOT_FORMAT,
        revision: 1,
        compiled_at: Timestamp(0),
        site_name: "test".into(),
        registration: Registration::Auto,
        server: ServerEntry {
            address: SERVER,
            interfaces: vec!["eth0".into()],
            http_port: 80,
            portals: vec![SocketAddrV4::new(SERVER, 3260)],
        },
        subnets: vec![Subnet {
            network: "10.99.0.0/24".parse().unwrap(),
            mode,
            pool: (mode == DhcpMode::Server).then_some(AddressRange {
                first: last(100),
                last: last(199),
            }),
            router: Some(last(254)),
            dns: vec![last(53)],
            lease_secs: 600,
        }],
        clients: vec![],
        versions: vec![],
        groups: vec![],
        pool: Default::default(),
    }
}
