use super::*;
use crate::plan::tests::{MAC, site};
use dess_model::host::{EventReceiver, bind_control, serve_control, write_snapshot};
use dess_model::{
    BootStage, ControlError, DiskState, DiskStatus, MacAddr, SiteSnapshot, TargetReply,
    TargetRequest,
};
use std::path::Path;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

const SCRIPT: &str = "/boot/52-54-00-77-00-10.ipxe";
const BOUND: Duration = Duration::from_secs(10);

/// A running service on the loopback, with the receiving end of its events.
struct Room {
    directory: tempfile::TempDir,
    address: SocketAddr,
    events: EventReceiver,
    cancel: CancellationToken,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Room {
    async fn new(snapshot: Option<&SiteSnapshot>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths {
            state: directory.path().join("state"),
            runtime: directory.path().join("run"),
        };
        std::fs::create_dir_all(paths.boot_files()).unwrap();
        std::fs::create_dir_all(&paths.runtime).unwrap();
        if let Some(snapshot) = snapshot {
            write_snapshot(&paths.snapshot(), snapshot).unwrap();
        }
        let events = EventReceiver::bind(&paths.events()).unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let mut options = BootOptions::new(address, paths);
        options.power_on_limit = Duration::from_millis(300);
        let (ready, is_ready) = oneshot::channel();
        let cancel = CancellationToken::new();
        let task = tokio::spawn(serve(options, ready, cancel.clone()));
        is_ready.await.unwrap();
        Self {
            directory,
            address,
            events,
            cancel,
            task,
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn boot_file(&self, name: &str, content: &[u8]) {
        std::fs::write(self.path("state/boot").join(name), content).unwrap();
    }

    /// Head and body of the answer.
    async fn ask(&self, request: &str) -> (String, Vec<u8>) {
        let request = format!("{request}\r\nConnection: close\r\n\r\n");
        let answer = tokio::time::timeout(BOUND, self.raw(&request)).await;
        let answer = answer.unwrap();
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        (head.to_lowercase(), answer[end + 4..].to_vec())
    }

    async fn get(&self, path: &str) -> (String, String) {
        let (head, body) = self.ask(&format!("GET {path} HTTP/1.1\r\nHost: x")).await;
        (head, String::from_utf8(body).unwrap())
    }

    async fn raw(&self, bytes: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is as good as its end.
        let _ = stream.read_to_end(&mut answer).await;
        answer
    }

    async fn event(&mut self) -> EventKind {
        let received = tokio::time::timeout(BOUND, self.events.recv()).await;
        received.unwrap().unwrap().kind
    }

    /// The service stops on request, and soon.
    async fn stop(self) {
        self.cancel.cancel();
        let stopped = tokio::time::timeout(BOUND, self.task).await;
        stopped.unwrap().unwrap().unwrap();
    }
}

/// A client on the loopback whose address is not reserved.
fn loopback_site() -> SiteSnapshot {
    let mut site = site();
    site.clients[0].address = None;
    site
}

/// Stands in for the iSCSI service: counts the power-ons and answers them all alike.
fn disk_service(path: &Path, reply: TargetReply) -> (JoinHandle<()>, Arc<Mutex<u32>>) {
    let asked = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&asked);
    let listener = bind_control(path).unwrap();
    let task = tokio::spawn(async move {
        let answer = move |question: TargetRequest| {
            let ours: IpAddr = [127, 0, 0, 1].into();
            assert!(matches!(question, TargetRequest::PowerOn { peer, .. } if peer == ours));
            *counter.lock().unwrap() += 1;
            let reply = reply.clone();
            async move { reply }
        };
        let malformed = |message| TargetReply::Error(ControlError::Malformed { message });
        serve_control(listener, answer, malformed).await;
    });
    (task, asked)
}

fn ready_disk() -> TargetReply {
    TargetReply::Disk(DiskStatus {
        client: site().clients[0].id,
        lun: 0,
        state: DiskState::Ready,
        size_bytes: 1 << 30,
        overlay_bytes: 0,
        generation: 1,
        version: None,
        fresh: true,
    })
}

#[tokio::test]
async fn the_disk_is_announced_before_the_script_is_answered() {
    let mut room = Room::new(Some(&loopback_site())).await;
    let (_service, asked) = disk_service(&room.path("run/iscsi.sock"), ready_disk());
    let (head, script) = room.get(SCRIPT).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(
        script.contains("sanboot --drive 0x80 iscsi:10.77.0.1::3260:0:"),
        "{script}"
    );
    assert_eq!(*asked.lock().unwrap(), 1);
    let told = EventKind::Script {
        mac: MAC,
        bootable: true,
        code: None,
    };
    assert_eq!(room.event().await, told);
    let (head, body) = room
        .ask(&format!("HEAD {SCRIPT} HTTP/1.1\r\nHost: x"))
        .await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(body, b"");
    assert_eq!(*asked.lock().unwrap(), 1, "HEAD made a disk");
    room.stop().await;
}

#[tokio::test]
async fn a_disk_service_that_is_down_or_hangs_shows_e11_in_time() {
    let mut room = Room::new(Some(&loopback_site())).await;
    for hangs in [false, true] {
        let socket = room.path("run/iscsi.sock");
        let _silent = hangs.then(|| bind_control(&socket).unwrap());
        let started = Instant::now();
        let (_, script) = room.get(SCRIPT).await;
        assert!(started.elapsed() < Duration::from_secs(5));
        assert!(script.contains("echo E11: "), "{script}");
        assert!(!script.contains("password"), "{script}");
        let told = EventKind::Script {
            mac: MAC,
            bootable: false,
            code: Some("E11".into()),
        };
        assert_eq!(room.event().await, told);
    }
    room.stop().await;
}

#[tokio::test]
async fn a_disk_that_cannot_be_made_shows_e22_with_the_cause() {
    let room = Room::new(Some(&loopback_site())).await;
    let client = site().clients[0].id;
    let message = "no space left in /var/lib/dess".to_owned();
    let reply = TargetReply::Error(ControlError::Disk { client, message });
    let (_service, _) = disk_service(&room.path("run/iscsi.sock"), reply);
    let (_, script) = room.get(SCRIPT).await;
    assert!(script.contains("echo E22: "), "{script}");
    assert!(
        script.contains("no space left in /var/lib/dess"),
        "{script}"
    );
    room.stop().await;
}

#[tokio::test]
async fn a_pc_that_gets_no_overlay_is_told_that_the_storage_is_full() {
    let mut room = Room::new(Some(&loopback_site())).await;
    let client = site().clients[0].id;
    let reply = TargetReply::Error(ControlError::NoRoom {
        client,
        used_percent: 96,
    });
    let (_service, _) = disk_service(&room.path("run/iscsi.sock"), reply);
    let (_, script) = room.get(SCRIPT).await;
    assert!(script.contains("echo E51: "), "{script}");
    assert!(script.contains("full to 96 percent"), "{script}");
    assert!(script.contains("goto again"), "{script}");
    let told = EventKind::Script {
        mac: site().clients[0].mac,
        bootable: false,
        code: Some("E51".into()),
    };
    assert_eq!(room.event().await, told);
    room.stop().await;
}

#[tokio::test]
async fn a_pc_whose_system_runs_waits_and_tries_again() {
    let room = Room::new(Some(&loopback_site())).await;
    let client = site().clients[0].id;
    let reply = TargetReply::Error(ControlError::Running {
        client,
        sessions: 1,
    });
    let (_service, asked) = disk_service(&room.path("run/iscsi.sock"), reply);
    let (_, script) = room.get(SCRIPT).await;
    assert!(script.contains("seems to be running"), "{script}");
    assert!(script.contains("sleep 5\n"), "{script}");
    assert!(!script.contains("password"), "{script}");
    assert_eq!(*asked.lock().unwrap(), 1);
    room.stop().await;
}

#[tokio::test]
async fn scripts_asked_for_from_a_foreign_address_are_told_once_a_minute() {
    let mut room = Room::new(Some(&site())).await;
    for _ in 0..20 {
        let (_, script) = room.get(SCRIPT).await;
        assert!(script.contains("E31"), "{script}");
    }
    room.get("/boot/02-00-00-00-99-01.ipxe").await;
    let first = room.event().await;
    assert!(
        matches!(&first, EventKind::Script { bootable: false, code: Some(code), .. } if code == "E31"),
        "{first:?}"
    );
    let next = room.event().await;
    assert!(
        !matches!(&next, EventKind::Script { code: Some(code), .. } if code == "E31"),
        "{next:?}"
    );
    room.stop().await;
}

#[tokio::test]
async fn nobody_is_left_without_a_screen() {
    let room = Room::new(None).await;
    let (_, script) = room.get(SCRIPT).await;
    assert!(
        script.contains("echo E11: The server is not set up"),
        "{script}"
    );
    let url = format!("chain --replace --autofree http://{}{SCRIPT}", room.address);
    assert!(script.contains(&url), "{script}");
    // The snapshot appears; the address of the client is reserved, and this is not it.
    write_snapshot(&room.path("state/site.json"), &site()).unwrap();
    let (_, script) = room.get(SCRIPT).await;
    assert!(
        script.contains("another address than 10.77.0.12"),
        "{script}"
    );
    assert!(!script.contains("password"), "{script}");
    let (_, script) = room.get("/boot/02-00-00-00-00-01.ipxe").await;
    assert!(
        script.contains("being registered") && script.contains("sleep 2\n"),
        "{script}"
    );
    for name in [
        "/boot/nonsense.ipxe",
        "/boot/ff-ff-ff-ff-ff-ff.ipxe",
        "/boot/",
        "/",
    ] {
        let (head, _) = room.get(name).await;
        assert!(head.starts_with("http/1.1 404"), "{name}: {head}");
    }
    room.stop().await;
}

#[tokio::test]
async fn an_unknown_client_of_a_served_subnet_is_told_to_node_while_it_waits() {
    let stranger = MacAddr([2, 0, 0, 0, 0, 1]);
    for (network, served) in [("10.77.0.0/24", false), ("127.0.0.0/8", true)] {
        let mut site = site();
        site.subnets[0].network = network.parse().unwrap();
        let mut room = Room::new(Some(&site)).await;
        room.get("/boot/02-00-00-00-00-01.ipxe").await;
        if served {
            let EventKind::UnknownClient { mac, address, .. } = room.event().await else {
                panic!("wrong event");
            };
            assert_eq!((mac, address), (stranger, None));
        }
        let told = EventKind::Script {
            mac: stranger,
            bootable: false,
            code: None,
        };
        assert_eq!(room.event().await, told);
        room.stop().await;
    }
}

#[tokio::test]
async fn a_failure_report_becomes_an_event_and_an_explanation() {
    let mut room = Room::new(Some(&loopback_site())).await;
    let report = "/report/52-54-00-77-00-10?stage=sanboot&errno=0f0a6039";
    let (head, script) = room.get(report).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(script.starts_with("#!ipxe\necho E11: "), "{script}");
    let told = EventKind::BootFailure {
        mac: MAC,
        stage: BootStage::Sanboot,
        errno: "0x0f0a6039".into(),
    };
    assert_eq!(room.event().await, told);
    for bad in [
        "/report/52-54-00-77-00-10",
        "/report/52-54-00-77-00-10?stage=sanboot",
        "/report/52-54-00-77-00-10?stage=sanboot&errno=zzz",
        "/report/x?stage=sanboot&errno=1",
    ] {
        let (head, _) = room.get(bad).await;
        assert!(head.starts_with("http/1.1 400"), "{bad}: {head}");
    }
    // All of them from one peer: one event.
    assert!(matches!(
        room.event().await,
        EventKind::Malformed { count: 1, .. }
    ));
    // Not registered: explained, but no event of it.
    let (head, _) = room
        .get("/report/02-00-00-00-00-01?stage=script&errno=1")
        .await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    room.get("/files/absent").await;
    room.boot_file("a", b"x");
    room.get("/files/a").await;
    assert!(matches!(room.event().await, EventKind::HttpFile { .. }));
    room.stop().await;
}

#[tokio::test]
async fn boot_files_go_out_whole_or_in_part() {
    let mut room = Room::new(None).await;
    let content: Vec<u8> = (0..700_000u32).map(|n| n.to_le_bytes()[1]).collect();
    room.boot_file("loader.efi", &content);
    let path = "/files/loader.efi HTTP/1.1\r\nHost: x";
    let (head, body) = room.ask(&format!("HEAD {path}\r\nRange: bytes=0-1")).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("content-length: 700000"), "{head}");
    assert!(head.contains("accept-ranges: bytes"), "{head}");
    assert!(head.contains("content-type: application/efi"), "{head}");
    assert!(body.is_empty());
    let (head, body) = room.ask(&format!("GET {path}")).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(body == content);
    for (range, start, end) in [
        ("bytes=0-0", 0, 1),
        ("bytes=300000-599999", 300_000, 600_000),
        ("bytes=-10", 699_990, 700_000),
        ("bytes=699999-", 699_999, 700_000),
    ] {
        let (head, body) = room.ask(&format!("GET {path}\r\nRange: {range}")).await;
        assert!(head.starts_with("http/1.1 206"), "{head}");
        let told = format!("content-range: bytes {start}-{}/700000", end - 1);
        assert!(head.contains(&told), "{head}");
        assert!(body == content[start..end], "{range}");
    }
    let (head, body) = room
        .ask(&format!("GET {path}\r\nRange: bytes=700000-"))
        .await;
    assert!(head.starts_with("http/1.1 416"), "{head}");
    assert!(head.contains("content-range: bytes */700000"), "{head}");
    assert!(body.is_empty());
    let (head, body) = room
        .ask(&format!("GET {path}\r\nRange: bytes=0-1,5-9"))
        .await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(body.len(), content.len());
    let told = EventKind::HttpFile {
        peer: [127, 0, 0, 1].into(),
        file: "loader.efi".into(),
        bytes: 700_000,
    };
    assert_eq!(room.event().await, told);
    room.stop().await;
}

#[tokio::test]
async fn large_files_are_streamed_from_the_disk() {
    let room = Room::new(None).await;
    let content: Vec<u8> = (0..5_000_000u32).map(|n| n.to_le_bytes()[2]).collect();
    room.boot_file("large.wim", &content);
    let (head, body) = room.ask("GET /files/large.wim HTTP/1.1\r\nHost: x").await;
    assert!(head.contains("content-length: 5000000"), "{head}");
    assert!(body == content);
    room.stop().await;
}

#[tokio::test]
async fn no_url_leads_out_of_the_boot_files() {
    let room = Room::new(None).await;
    std::fs::write(room.path("state/secret"), b"top secret").unwrap();
    std::os::unix::fs::symlink(room.path("state/secret"), room.path("state/boot/link")).unwrap();
    std::fs::create_dir(room.path("state/boot/sub")).unwrap();
    for path in [
        "/files/../secret",
        "/files/%2e%2e/secret",
        "/files/..%2fsecret",
        "/files/sub/..%5c..%5csecret",
        "/files/link",
        "/files/sub",
        "/files/",
        "/files//etc/passwd",
        "/files/%00",
        "/files/%ff",
        "/files/a%00b",
        "/secret",
        "/site.json",
    ] {
        let (head, body) = room.get(path).await;
        assert!(head.starts_with("http/1.1 4"), "{path}: {head}");
        assert!(!body.contains("secret"), "{path}");
    }
    room.stop().await;
}

#[tokio::test]
async fn garbage_is_refused_counted_and_reported_once() {
    let mut room = Room::new(None).await;
    for _ in 0..3 {
        let garbage = room.raw("\x16\x03\x01 not http\r\n\r\n");
        let answer = tokio::time::timeout(BOUND, garbage).await.unwrap();
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
    }
    let EventKind::Malformed { protocol, peer, .. } = room.event().await else {
        panic!("wrong event");
    };
    assert_eq!((protocol.as_str(), peer.as_str()), ("http", "127.0.0.1"));
    let huge = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(100_000));
    let answer = tokio::time::timeout(BOUND, room.raw(&huge)).await.unwrap();
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    let headers = "X: y\r\n".repeat(200);
    let many = format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
    let answer = tokio::time::timeout(BOUND, room.raw(&many)).await.unwrap();
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    let (head, body) = room.get("/healthz").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(body, "ok\n");
    room.stop().await;
}

#[tokio::test]
async fn connections_of_one_peer_are_limited_and_the_service_still_stops() {
    let room = Room::new(None).await;
    let mut held = Vec::new();
    for _ in 0..dess_http::CONNECTIONS_PER_PEER_MAX {
        held.push(TcpStream::connect(room.address).await.unwrap());
    }
    let request = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let refused = tokio::time::timeout(BOUND, async {
        while room.raw(request).await.starts_with(b"HTTP/1.1 200") {}
    });
    refused.await.unwrap();
    held.clear();
    let served = tokio::time::timeout(BOUND, async {
        while !room.raw(request).await.starts_with(b"HTTP/1.1 200") {}
    });
    served.await.unwrap();
    let _idle = TcpStream::connect(room.address).await.unwrap();
    room.stop().await;
}

#[tokio::test]
async fn a_taken_port_is_explained() {
    let room = Room::new(None).await;
    let paths = Paths {
        state: room.path("state"),
        runtime: room.path("run"),
    };
    let options = BootOptions::new(room.address, paths);
    let (ready, _) = oneshot::channel();
    let error = serve(options, ready, CancellationToken::new()).await;
    let text = error.unwrap_err().to_string();
    assert!(text.contains(&room.address.to_string()), "{text}");
    assert!(text.contains("another program has the port"), "{text}");
    room.stop().await;
}
