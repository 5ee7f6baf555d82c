//! The admin page over a room of 24 seats in all states, without a network: a real database and
//! the real daemon, fed with the events of boots; the supervisor is played.
//!
//! `cargo run -p dess-web --example room -- 127.0.0.1:8080 [iscsi]` shows the room; a service
//! named after the address is down. Log in as `admin` with the password `dess-room`. With `empty`
//! instead of a service, it is the first start: no account, no seat.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::PasswordHasher;
use dess_model::host::{Paths, bind_control, serve_control};
use dess_model::{
    AddressRange, Architecture, BootStage, ClientId, DhcpMode, DhcpPhase, Event, EventKind,
    LoginKind, MacAddr, Registration, Timestamp,
};
use dess_node::operations::{
    ClientAdd, FloorPlan, ImageImport, Operations, SeatPlace, SiteSetup, Zone,
};
use dess_node::supervisor::protocol::{
    LastExit, ServiceName, ServiceState, ServiceStatus, SupervisorReply, SupervisorRequest,
};
use dess_node::{NodeOptions, ScrubOptions, serve as serve_node};
use dess_web::{WebOptions, serve, setup_code};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Seats that are registered by the operator; two more wait for approval.
const SEATS: u8 = 22;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let listen: SocketAddr = arguments
        .next()
        .unwrap_or_else(|| "127.0.0.1:8080".into())
        .parse()?;
    let what = arguments.next();
    let empty = what.as_deref() == Some("empty");
    let down = what
        .filter(|_| !empty)
        .map(|name| name.parse())
        .transpose()?;
    let directory = tempfile::tempdir()?;
    let paths = Paths {
        state: directory.path().join("state"),
        runtime: directory.path().join("run"),
    };
    std::fs::create_dir_all(&paths.runtime)?;
    let operations = Operations::new(paths.clone()).acting_as("example");
    operations.site_init(site()).await?;
    let hash = Argon2::default().hash_password(b"dess-room")?.to_string();
    if !empty {
        operations.user_create_first("admin", &hash).await?;
    }

    let cancel = CancellationToken::new();
    let (ready, is_ready) = oneshot::channel();
    let options = NodeOptions {
        probed: None,
        paths: paths.clone(),
        scrub: ScrubOptions::OFF,
        database: operations.database().clone(),
        backups_kept: 0,
        retention: dess_node::Retention::default(),
    };
    let node = tokio::spawn(serve_node(options, ready, cancel.clone()));
    is_ready.await?;
    let supervisor = tokio::spawn(play_supervisor(paths.clone(), down));
    if !empty {
        furnish(&operations, &paths).await?;
    }

    let (ready, is_ready) = oneshot::channel();
    let options = WebOptions {
        operations: operations.acting_as("web"),
        listen,
    };
    let web = tokio::spawn(serve(options, ready, cancel.clone()));
    is_ready.await?;
    if let Some(code) = setup_code(&paths)? {
        println!("set-up code {code}");
    }
    println!("the room is on http://{listen}/, user admin, password dess-room");
    tokio::signal::ctrl_c().await?;
    cancel.cancel();
    web.await??;
    node.await??;
    supervisor.abort();
    Ok(())
}

fn site() -> SiteSetup {
    SiteSetup {
        name: "코리아 PC방".into(),
        server_address: [10, 77, 0, 1].into(),
        interfaces: vec!["eth0".into()],
        subnet: "10.77.0.0/24".parse().expect("a network"),
        mode: DhcpMode::Server,
        pool: Some(AddressRange {
            first: [10, 77, 0, 100].into(),
            last: [10, 77, 0, 199].into(),
        }),
        router: None,
        dns: vec![],
        lease_secs: 600,
        http_port: 80,
        portals: vec![],
        registration: Registration::Hold,
    }
}

fn address(seat: u8) -> Ipv4Addr {
    [10, 77, 0, 100 + seat].into()
}

fn mac(seat: u8) -> MacAddr {
    MacAddr([0x52, 0x54, 0, 0x77, 0, seat])
}

/// An image of two versions.
async fn import(operations: &Operations, paths: &Paths) -> Result<(), Failure> {
    let source = paths.state.join("windows.raw");
    std::fs::write(&source, vec![0x5a; 8 << 20])?;
    for _ in 0..2 {
        let import = ImageImport {
            source: source.clone(),
            name: "windows11".into(),
        };
        let job = operations.image_import_start(import).await?;
        while !operations.job_get(job).await?.state.is_final() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// An image, the seats, and what they do.
async fn furnish(operations: &Operations, paths: &Paths) -> Result<(), Failure> {
    import(operations, paths).await?;
    let socket = UnixDatagram::unbound()?;
    let send = |seconds_ago: f64, kind: EventKind| -> Result<(), Failure> {
        let at = Timestamp(Timestamp::now().0 - (seconds_ago * 1000.0) as i64);
        let event = serde_json::to_vec(&Event { at, kind })?;
        socket.send_to(&event, paths.events())?;
        Ok(())
    };
    for seat in 1..=SEATS {
        let client = ClientAdd {
            mac: mac(seat),
            seat: Some(seat.into()),
            name: None,
            address: Some(address(seat)),
            policy: None,
            image: None,
        };
        let client = operations.client_add(client).await?;
        let reached = match seat {
            3 => 3,
            9 => 9,
            7 => 7,
            12 | 20..=22 => 0,
            _ => usize::MAX,
        };
        let started = if reached == usize::MAX {
            600.0 + 130.0 * f64::from(seat)
        } else {
            24.0
        };
        for (offset, kind) in boot(client.id, seat).into_iter().take(reached) {
            send(started - offset, kind)?;
        }
        if seat == 7 {
            let failure = EventKind::BootFailure {
                mac: mac(seat),
                stage: BootStage::Sanboot,
                errno: "0x2c0d603b".into(),
            };
            send(8.0, failure)?;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for seat in [23, 24] {
        send(5.0, newcomer(seat))?;
    }
    let mut waiting = 0;
    while operations.client_list().await?.len() < usize::from(SEATS) + 2 && waiting < 100 {
        waiting += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    arrange(operations).await
}

/// A PC that nobody registered.
fn newcomer(seat: u8) -> EventKind {
    EventKind::UnknownClient {
        mac: mac(seat),
        architecture: Some(Architecture::UefiX64),
        uuid: None,
        address: None,
    }
}

/// The room as it stands: two blocks of seats with an aisle between them, the counter apart.
async fn arrange(operations: &Operations) -> Result<(), Failure> {
    let seats = operations.client_list().await?;
    let place = |(at, client): (u16, ClientId)| {
        let (block, within) = (at / 12, at % 12);
        SeatPlace {
            client,
            column: 1 + within % 6 + within % 6 / 3,
            row: 1 + block * 2 + within / 6,
        }
    };
    let zone = |name: &str, column, row, width| Zone {
        name: name.into(),
        column,
        row,
        width,
        height: 2,
    };
    let plan = FloorPlan {
        seats: (0..)
            .zip(seats.iter().map(|seat| seat.id))
            .map(place)
            .collect(),
        zones: vec![
            zone("창가석", 1, 1, 3),
            zone("일반석", 5, 1, 3),
            zone("커플석", 1, 3, 3),
            zone("게임석", 5, 3, 3),
        ],
    };
    operations.floor_plan_set(plan).await?;
    Ok(())
}

/// The events of a whole boot, with seconds since power-on.
fn boot(client: ClientId, seat: u8) -> Vec<(f64, EventKind)> {
    let offer = |phase| EventKind::DhcpOffer {
        mac: mac(seat),
        phase,
        address: Some(address(seat)),
        architecture: Some(if seat.is_multiple_of(3) {
            Architecture::Bios
        } else {
            Architecture::UefiX64
        }),
        boot_file: None,
    };
    let ack = |phase| EventKind::DhcpAck {
        mac: mac(seat),
        phase,
        address: Some(address(seat)),
        renewal: false,
    };
    let login = |kind, session| EventKind::Login {
        client,
        kind,
        peer: address(seat).into(),
        session: u64::from(seat) * 10 + session,
    };
    let file = EventKind::TftpTransfer {
        peer: address(seat).into(),
        file: "snponly.efi".into(),
        bytes: 174_000,
        duration_ms: 180,
        error: None,
        failure: None,
    };
    let disk = EventKind::DiskReady {
        client,
        fresh: true,
        duration_us: 900,
    };
    let script = EventKind::Script {
        mac: mac(seat),
        bootable: true,
        code: None,
    };
    let progress = EventKind::SessionProgress {
        client,
        session: u64::from(seat) * 10 + 2,
        read_bytes: 900_000_000 + u64::from(seat) * 91_000_000,
        written_bytes: 80_000_000,
        reads: 50_000,
        writes: 9_000,
    };
    vec![
        (0.0, offer(DhcpPhase::Firmware)),
        (0.1, ack(DhcpPhase::Firmware)),
        (0.42, file),
        (2.1, ack(DhcpPhase::Ipxe)),
        (2.26, disk),
        (2.31, script),
        (2.65, login(LoginKind::Firmware, 1)),
        (9.8, login(LoginKind::Os, 2)),
        (10.2, progress),
        (14.2, ack(DhcpPhase::Os)),
    ]
}

/// Answers as the supervisor would.
async fn play_supervisor(paths: Paths, down: Option<ServiceName>) -> Result<(), Failure> {
    let started = Timestamp(Timestamp::now().0 - 3 * 3_600_000);
    let failed = Timestamp::now();
    let status = move |name| {
        let is_down = down == Some(name);
        ServiceStatus {
            probe: None,
            name,
            state: if is_down {
                ServiceState::Backoff
            } else {
                ServiceState::Ready
            },
            pid: (!is_down).then_some(4711),
            since: if is_down { failed } else { started },
            restarts: if is_down { 3 } else { 0 },
            last_exit: is_down.then(|| LastExit::Killed {
                signal: "SIGKILL".into(),
            }),
            log_tail: vec![
                format!("2026-11-22T11:58:03Z  INFO dess_{name}: listening on 10.77.0.1"),
                format!(
                    "2026-11-22T11:58:04Z  INFO dess_{name}: site snapshot loaded snapshot.revision=12"
                ),
            ],
        }
    };
    let listener = bind_control(&paths.supervisor_control())?;
    let answer = move |question: SupervisorRequest| async move {
        match question {
            SupervisorRequest::List => SupervisorReply::Services {
                services: ServiceName::START_ORDER.into_iter().map(status).collect(),
            },
            SupervisorRequest::Restart { service } => SupervisorReply::Restarted {
                service: status(service),
            },
        }
    };
    serve_control(listener, answer, |message| SupervisorReply::Error {
        message,
    })
    .await;
    Ok(())
}
