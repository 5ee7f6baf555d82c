//! The server on the loopback, with curl, tftp-hpa and a reader of our own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dess_tftp::server::{
    FileBody, FileSource, Notice, OpenError, ServeError, ServeOptions, TransferReport, serve,
};
use dess_tftp::{ErrorCode, Mode, Packet, Request};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const BOUND: Duration = Duration::from_secs(20);

struct Memory(HashMap<&'static str, Bytes>);

impl FileSource for Memory {
    fn open(&self, name: &str, _: IpAddr) -> Result<Box<dyn FileBody>, OpenError> {
        match (name, self.0.get(name)) {
            (_, Some(bytes)) => Ok(Box::new(bytes.clone())),
            ("forbidden", None) => Err(OpenError::Refused("forbidden is not served".into())),
            (_, None) => Err(OpenError::NotFound(format!("no {name} here"))),
        }
    }
}

struct Server {
    runtime: Runtime,
    address: SocketAddr,
    notices: Arc<Mutex<Vec<Notice>>>,
    cancel: CancellationToken,
    task: Option<JoinHandle<Result<(), ServeError>>>,
}

impl Server {
    fn new(change: impl FnOnce(&mut ServeOptions)) -> Self {
        let free = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let files = HashMap::from([
            ("small", content(700)),
            ("even", content(1024)),
            ("empty", Bytes::new()),
            ("middling", content(300_000)),
            ("large", content(3_000_001)),
            ("text", Bytes::from_static(b"one\ntwo\n")),
        ]);
        let mut options = ServeOptions::new(address, Arc::new(Memory(files)));
        let notices = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&notices);
        options.on_notice = Arc::new(move |notice| kept.lock().unwrap().push(notice));
        change(&mut options);
        let runtime = Runtime::new().unwrap();
        let (ready, is_ready) = oneshot::channel();
        let cancel = CancellationToken::new();
        let task = runtime.spawn(serve(options, ready, cancel.clone()));
        runtime.block_on(is_ready).unwrap();
        Self {
            runtime,
            address,
            notices,
            cancel,
            task: Some(task),
        }
    }

    /// Waits until this many transfers were reported.
    fn reports(&self, count: usize) -> Vec<TransferReport> {
        let started = Instant::now();
        loop {
            let reports: Vec<_> = self
                .notices
                .lock()
                .unwrap()
                .iter()
                .filter_map(|notice| match notice {
                    Notice::Transfer(report) => Some(report.clone()),
                    Notice::Malformed(_) => None,
                })
                .collect();
            if reports.len() >= count {
                assert_eq!(reports.len(), count, "{reports:?}");
                return reports;
            }
            assert!(started.elapsed() < BOUND, "{reports:?}");
            std::thread::yield_now();
        }
    }

    fn stop(mut self) {
        self.cancel.cancel();
        let task = self.task.take().unwrap();
        let stopped = self
            .runtime
            .block_on(async { tokio::time::timeout(BOUND, task).await });
        stopped.unwrap().unwrap().unwrap();
    }

    fn socket(&self) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(BOUND)).unwrap();
        socket
    }

    fn ask(&self, socket: &UdpSocket, file: &str, options: &[(&str, &str)]) {
        let options = options.to_vec();
        let request = Request {
            file,
            mode: Mode::Octet,
            options,
        };
        let packet = Packet::ReadRequest(request).to_vec();
        socket.send_to(&packet, self.address).unwrap();
    }

    /// Reads a whole file as RFC 7440 says; drops every `lose_every`-th block once.
    fn read(&self, file: &str, options: &[(&str, &str)], lose_every: usize) -> Vec<u8> {
        let socket = self.socket();
        self.ask(&socket, file, options);
        let mut buffer = vec![0; 70_000];
        let (mut blksize, mut window) = (512, 1);
        let (mut file, mut next, mut run, mut seen) = (Vec::new(), 1u16, 0, 0);
        loop {
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            let ack = |block: u16| {
                let packet = Packet::Ack { block }.to_vec();
                socket.send_to(&packet, from).unwrap();
            };
            match Packet::decode(&buffer[..length]).unwrap() {
                Packet::OptionAck { options } => {
                    for (name, value) in options {
                        match name {
                            "blksize" => blksize = value.parse().unwrap(),
                            "windowsize" => window = value.parse().unwrap(),
                            _ => {}
                        }
                    }
                    ack(0);
                }
                Packet::Data { block, data } => {
                    seen += 1;
                    if lose_every > 0 && seen % lose_every == 0 {
                        continue;
                    }
                    if block != next {
                        run = 0;
                        ack(next.wrapping_sub(1));
                        continue;
                    }
                    file.extend_from_slice(data);
                    next = next.wrapping_add(1);
                    run += 1;
                    let last = data.len() < blksize;
                    if last || run == window {
                        run = 0;
                        ack(block);
                    }
                    if last {
                        return file;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

fn content(length: u32) -> Bytes {
    (0..length)
        .map(|n| (n / 251 + n % 251).to_le_bytes()[0])
        .collect::<Vec<_>>()
        .into()
}

fn curl(server: &Server, file: &str, options: &[&str]) -> Vec<u8> {
    let output = Command::new("curl")
        .args(["-sS", "-m", "20"])
        .args(options)
        .arg(format!("tftp://{}/{file}", server.address))
        .output()
        .expect("curl is installed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{options:?}: {errors}");
    output.stdout
}

#[test]
fn curl_gets_files_with_every_option_it_has() {
    let server = Server::new(|_| {});
    let cases: [&[&str]; 6] = [
        &[],
        &["--tftp-no-options"],
        &["--tftp-blksize", "8"],
        &["--tftp-blksize", "1468"],
        &["--tftp-blksize", "8192"],
        &["--tftp-blksize", "65464"],
    ];
    for options in cases {
        for (file, length) in [("small", 700), ("even", 1024)] {
            assert!(
                curl(&server, file, options) == content(length),
                "{file} {options:?}"
            );
        }
    }
    assert!(curl(&server, "large", &[]) == content(3_000_001));
    // curl takes the true size of an empty file in the OACK for an error (any server's).
    assert_eq!(curl(&server, "empty", &["--tftp-no-options"]), b"");
    // More than 65535 blocks: the numbers roll over.
    assert!(curl(&server, "large", &["--tftp-blksize", "40"]) == content(3_000_001));
    let reports = server.reports(15);
    assert!(
        reports.iter().all(|report| report.error.is_none()),
        "{reports:?}"
    );
    assert_eq!(reports[14].bytes, 3_000_001);
    server.stop();
}

#[test]
fn tftp_hpa_gets_files_in_both_modes_and_cannot_write() {
    let server = Server::new(|_| {});
    let directory = tempfile::tempdir().unwrap();
    let port = server.address.port().to_string();
    let run = |mode: &str, command: &[&str]| {
        let output = Command::new("tftp")
            .current_dir(directory.path())
            .args(["-4", "-m", mode, "127.0.0.1", &port, "-c"])
            .args(command)
            .output()
            .expect("tftp-hpa is installed");
        String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)
    };
    let said = run("octet", &["get", "large"]);
    let got = std::fs::read(directory.path().join("large")).unwrap();
    assert!(got == content(3_000_001), "{said}");
    // Its own reading of netascii turns CR LF back into LF.
    run("netascii", &["get", "text"]);
    let got = std::fs::read(directory.path().join("text")).unwrap();
    assert_eq!(got, b"one\ntwo\n");
    std::fs::write(directory.path().join("upload"), b"x").unwrap();
    let said = run("octet", &["put", "upload"]);
    assert!(said.contains("read only"), "{said}");
    let said = run("octet", &["get", "absent"]);
    assert!(said.contains("File not found"), "{said}");
    server.stop();
}

#[test]
fn windows_of_every_size_carry_the_file_even_over_a_lossy_network() {
    let server = Server::new(|_| {});
    for window in ["1", "2", "4", "16", "64", "65535"] {
        let options = [("blksize", "1468"), ("windowsize", window), ("tsize", "0")];
        assert!(
            server.read("large", &options, 0) == content(3_000_001),
            "{window}"
        );
    }
    let options = [("blksize", "8192"), ("windowsize", "16")];
    assert!(server.read("large", &options, 29) == content(3_000_001));
    server.stop();
}

#[test]
fn a_size_probe_and_the_request_from_the_same_port_after_it_work() {
    let server = Server::new(|_| {});
    let socket = server.socket();
    let mut buffer = [0; 2048];
    let options = [("tsize", "0"), ("blksize", "1468"), ("windowsize", "4")];
    server.ask(&socket, "small", &options);
    let (length, first) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(
        &buffer[..length],
        b"\0\x06tsize\x00700\0blksize\x001468\0windowsize\x004\0"
    );
    let abort = Packet::Error {
        code: ErrorCode::OptionRefused,
        message: "User aborted the transfer",
    };
    socket.send_to(&abort.to_vec(), first).unwrap();
    // EDK2 asks again at once, perhaps before the abort is read.
    let options = [("blksize", "1468"), ("windowsize", "4")];
    server.ask(&socket, "small", &options);
    let second = loop {
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        if from != first {
            assert_eq!(
                &buffer[..length],
                b"\0\x06blksize\x001468\0windowsize\x004\0"
            );
            break from;
        }
    };
    socket.send_to(&[0, 4, 0, 0], second).unwrap();
    let (length, _) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(length, 704);
    socket.send_to(&[0, 4, 0, 1], second).unwrap();
    let reports = server.reports(1);
    assert!(reports[0].error.is_none(), "{reports:?}");
    server.stop();
}

#[test]
fn the_same_request_right_behind_its_own_abort_is_served() {
    let server = Server::new(|_| {});
    for _ in 0..50 {
        let socket = server.socket();
        let mut buffer = [0; 2048];
        let options = [("tsize", "0"), ("blksize", "1468")];
        server.ask(&socket, "small", &options);
        let (_, first) = socket.recv_from(&mut buffer).unwrap();
        socket.send_to(b"\0\x05\0\x08done\0", first).unwrap();
        server.ask(&socket, "small", &options);
        let started = Instant::now();
        let (_, second) = socket.recv_from(&mut buffer).unwrap();
        assert_ne!(first, second);
        assert!(
            started.elapsed() < Duration::from_millis(900),
            "waited for a timer"
        );
        socket.send_to(b"\0\x05\0\x08done\0", second).unwrap();
    }
    server.stop();
}

#[test]
fn a_repeated_request_gets_one_transfer() {
    let server = Server::new(|_| {});
    let socket = server.socket();
    for _ in 0..5 {
        server.ask(&socket, "small", &[]);
    }
    let mut buffer = [0; 2048];
    let (_, from) = socket.recv_from(&mut buffer).unwrap();
    // The server's own timer repeats block 1 after a second; all copies are of one transfer.
    let (_, again) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(from, again);
    assert_eq!(&buffer[..4], [0, 3, 0, 1]);
    for block in 1..=2 {
        socket.send_to(&[0, 4, 0, block], from).unwrap();
    }
    // The second ACK may overtake the second block, and then means nothing.
    socket.recv_from(&mut buffer).unwrap();
    socket.send_to(&[0, 4, 0, 2], from).unwrap();
    assert_eq!(server.reports(1)[0].bytes, 700);
    server.stop();
}

#[test]
fn refusals_are_errors_with_their_code_and_reported_once_per_peer_and_minute() {
    let server = Server::new(|_| {});
    let mut buffer = [0; 2048];
    for (file, code) in [("absent", 1), ("../../etc/passwd", 1), ("forbidden", 2)] {
        let socket = server.socket();
        server.ask(&socket, file, &[("tsize", "0")]);
        let (length, _) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!(buffer[..4], [0, 5, 0, code], "{file}: {length}");
    }
    // A file that is served shows that all reports are in.
    assert_eq!(curl(&server, "small", &[]).len(), 700);
    let mut reports = server.reports(2);
    reports.sort_by_key(|report| report.error.is_none());
    assert!(reports[1].error.is_none());
    let error = reports[0].error.as_ref().unwrap().to_string();
    assert_eq!(
        (reports[0].file.as_str(), error.as_str()),
        ("absent", "no absent here")
    );
    server.stop();
}

#[test]
fn garbage_is_counted_and_never_answered_with_more_than_it_was() {
    let server = Server::new(|_| {});
    let socket = server.socket();
    for garbage in [
        &b""[..],
        b"\0",
        b"\xff\xff\xff",
        b"\0\x05\0\0x\0",
        b"\0\x04\0\x01",
    ] {
        socket.send_to(garbage, server.address).unwrap();
    }
    socket
        .send_to(b"\0\x01file\0mail\0", server.address)
        .unwrap();
    let mut buffer = [0; 2048];
    let (length, _) = socket.recv_from(&mut buffer).unwrap();
    let answer = Packet::decode(&buffer[..length]).unwrap();
    assert!(matches!(
        answer,
        Packet::Error {
            code: ErrorCode::IllegalOperation,
            ..
        }
    ));
    let notices = server.notices.lock().unwrap();
    assert!(matches!(notices[..], [Notice::Malformed(_)]), "{notices:?}");
    drop(notices);
    server.stop();
}

#[test]
fn transfers_beyond_the_limits_are_refused() {
    let server = Server::new(|options| options.transfers_per_peer_max = 3);
    let held: Vec<_> = (0..3)
        .map(|_| {
            let socket = server.socket();
            server.ask(&socket, "large", &[]);
            let mut buffer = [0; 2048];
            assert_eq!(socket.recv_from(&mut buffer).unwrap().0, 516);
            socket
        })
        .collect();
    let socket = server.socket();
    server.ask(&socket, "small", &[]);
    let mut buffer = [0; 2048];
    let (length, _) = socket.recv_from(&mut buffer).unwrap();
    let answer = Packet::decode(&buffer[..length]).unwrap();
    assert!(matches!(
        answer,
        Packet::Error {
            code: ErrorCode::NotDefined,
            ..
        }
    ));
    drop(held);
    server.stop();
}

#[test]
fn three_hundred_clients_are_served_at_once() {
    let server = Server::new(|options| options.transfers_per_peer_max = 300);
    let expected = content(300_000);
    std::thread::scope(|scope| {
        for _ in 0..300 {
            scope.spawn(|| {
                let options = [("blksize", "1468"), ("windowsize", "4")];
                assert!(server.read("middling", &options, 0) == expected);
            });
        }
    });
    let reports = server.reports(300);
    assert!(reports.iter().all(|report| report.error.is_none()));
    server.stop();
}

#[test]
fn a_stop_tells_the_clients_and_is_prompt() {
    let server = Server::new(|_| {});
    let socket = server.socket();
    server.ask(&socket, "large", &[]);
    let mut buffer = [0; 2048];
    socket.recv_from(&mut buffer).unwrap();
    server.stop();
    loop {
        let (length, _) = socket.recv_from(&mut buffer).unwrap();
        match Packet::decode(&buffer[..length]).unwrap() {
            Packet::Error { message, .. } => break assert_eq!(message, "the server stops"),
            Packet::Data { block: 1, .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_taken_port_is_explained() {
    let server = Server::new(|_| {});
    let source = Arc::new(Memory(HashMap::new()));
    let options = ServeOptions::new(server.address, source);
    let (ready, _) = oneshot::channel();
    let second = serve(options, ready, CancellationToken::new());
    let error = server.runtime.block_on(second).unwrap_err().to_string();
    assert!(error.contains(&server.address.to_string()), "{error}");
    assert!(error.contains("another program has the port"), "{error}");
    server.stop();
}
