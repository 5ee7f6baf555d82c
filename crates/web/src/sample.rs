//! A room for tests: 24 seats in all states, some with hostile names.

use dess_diagnosis::{BootOutcome, ClientState, Fault, Stage};
use dess_model::{
    Architecture, AttemptId, BootPolicy, ClientId, GroupId, ImageId, MacAddr, Role, Timestamp,
    VersionRef,
};
use dess_node::operations::{
    BootAttemptView, BootSummary, ClientView, GroupView, Hardware, ImageAssignment, ImageView,
    Revision, SessionView, StepView, Traffic, VersionView,
};
use dess_node::supervisor::protocol::{LastExit, ServiceName, ServiceState, ServiceStatus};

use crate::catalog::Language;
use crate::site::{Records, Site};
use crate::visitor::{Entry, Member, Visitor};
use crate::wording::Wording;

/// 2026-11-22 21:00 in Seoul.
pub(crate) const NOW: Timestamp = Timestamp(1_795_348_800_000);

/// A name that tries to break out of the page.
pub(crate) const HOSTILE: &str = "<script>alert('x')</script>\"><csrf>{n}";

pub(crate) fn wording(language: Language) -> Wording {
    Wording::new(
        language,
        jiff::tz::TimeZone::fixed(jiff::tz::offset(9)),
        NOW,
    )
}

pub(crate) fn member(language: Language) -> Member {
    Member {
        visitor: Visitor {
            language,
            peer: [192, 0, 2, 7].into(),
            agent: String::new(),
            path: "/".into(),
            room_view: None,
        },
        user: "admin".into(),
        role: Role::Owner,
        entry: Entry::Session {
            session: SessionView {
                user: "admin".into(),
                role: Role::Owner,
                csrf: "own-token".into(),
                expires: Timestamp(i64::MAX),
            },
            token_hash: String::new(),
        },
    }
}

fn uuid(number: u32) -> String {
    format!("0195f000-0000-7000-8000-{number:012}")
}

fn before(seconds: i64) -> Timestamp {
    Timestamp(NOW.0 - seconds * 1000)
}

fn version() -> VersionRef {
    VersionRef {
        image: ImageId(uuid(900).parse().unwrap()),
        number: 3,
    }
}

fn assignment() -> ImageAssignment {
    ImageAssignment {
        version: version(),
        label: "windows11@3".into(),
        inherited: true,
    }
}

fn state(seat: u32) -> ClientState {
    let booting = |stage, seconds| ClientState::Booting {
        stage,
        since: before(seconds),
    };
    let fault = |code: &str| ClientState::Fault {
        code: code.into(),
        text: "iPXE reported 0x2c0d603b at sanboot".into(),
        since: before(240),
    };
    match seat {
        3 => booting(Stage::Loader, 2),
        9 => booting(Stage::OsLogin, 31),
        7 => fault("E22"),
        18 => fault("E23"),
        12 | 20..=22 => ClientState::Off,
        23 | 24 => ClientState::Pending,
        _ => ClientState::Running {
            since: before(i64::from(seat) * 700),
        },
    }
}

pub(crate) fn client(seat: u32) -> ClientView {
    let state = state(seat);
    ClientView {
        id: ClientId(uuid(seat).parse().unwrap()),
        seat,
        name: if seat == 24 {
            HOSTILE.into()
        } else {
            format!("PC-{seat:02}")
        },
        mac: MacAddr([0x52, 0x54, 0, 0x77, 0, u8::try_from(seat).unwrap()]),
        address: Some([10, 77, 0, u8::try_from(100 + seat).unwrap()].into()),
        approved: state != ClientState::Pending,
        group: "default".into(),
        image: (state != ClientState::Pending).then(assignment),
        policy: BootPolicy::Volatile,
        policy_inherited: true,
        boot_file: None,
        data_disks: Vec::new(),
        limits: dess_model::IoLimits::default(),
        overlay_limits: dess_model::OverlayLimits::default(),
        hardware: Hardware {
            architecture: Some(if seat.is_multiple_of(2) {
                Architecture::Bios
            } else {
                Architecture::UefiX64
            }),
            uuid: None,
        },
        state,
        last_boot: None,
        traffic: Traffic {
            read_bytes: 4_200_000_000,
            written_bytes: 512_000_000,
        },
        created: before(86_400 * 30),
        revision: Revision::default(),
    }
}

pub(crate) fn services(down: Option<ServiceName>) -> Vec<ServiceStatus> {
    ServiceName::START_ORDER
        .into_iter()
        .map(|name| {
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
                since: before(if is_down { 4 } else { 11_000 }),
                restarts: u32::from(is_down),
                last_exit: is_down.then(|| LastExit::Killed {
                    signal: "SIGKILL".into(),
                }),
                log_tail: vec!["\u{1b}[32m INFO\u{1b}[0m listening on 10.77.0.1:3260".into()],
            }
        })
        .collect()
}

pub(crate) fn site(down: Option<ServiceName>) -> Site {
    let versions = (1..=3)
        .map(|number| VersionView {
            version: VersionRef {
                number,
                ..version()
            },
            label: format!("windows11@{number}"),
            size_bytes: 256 << 30,
            parent: None,
            comment: String::new(),
            author: String::new(),
            layer_bytes: None,
            created: before(86_400 * (10 - i64::from(number))),
            groups: vec![],
            clients: if number == 3 { 22 } else { 0 },
            lint: None,
        })
        .collect();
    Site {
        services: Some(services(down)),
        records: Records {
            name: Some("코리아 PC방".into()),
            clients: (1..=24).map(client).collect(),
            images: vec![ImageView {
                id: version().image,
                name: "windows11".into(),
                versions,
                maintenance: None,
            }],
            groups: vec![GroupView {
                id: GroupId(uuid(901).parse().unwrap()),
                name: "default".into(),
                default: true,
                image: Some(assignment()),
                policy: BootPolicy::Volatile,
                data_disks: Vec::new(),
                limits: dess_model::IoLimits::default(),
                overlay_limits: dess_model::OverlayLimits::default(),
                revision: Revision::default(),
            }],
            ..Records::default()
        },
    }
}

/// A boot with these stages reached after these milliseconds.
pub(crate) fn boot(outcome: BootOutcome, steps: &[(Stage, u64)]) -> BootAttemptView {
    let started = before(3600);
    let up = steps.iter().find(|(stage, _)| *stage == Stage::Up);
    BootAttemptView {
        summary: BootSummary {
            id: AttemptId(uuid(902).parse().unwrap()),
            started,
            outcome,
            stage: steps.last().map_or(Stage::Dhcp, |(stage, _)| *stage),
            up_after_ms: up.map(|(_, ms)| *ms),
            fault: (outcome == BootOutcome::Failed).then(|| Fault {
                code: "E22".into(),
                text: "no disk".into(),
            }),
            ended: None,
        },
        steps: steps
            .iter()
            .map(|(stage, offset_ms)| StepView {
                at: Timestamp(
                    started
                        .0
                        .saturating_add(i64::try_from(*offset_ms).unwrap_or(i64::MAX)),
                ),
                offset_ms: *offset_ms,
                stage: *stage,
                detail: if *stage == Stage::Loader {
                    "undionly.kpxe, 74 KB in 120 ms".into()
                } else {
                    String::new()
                },
            })
            .collect(),
    }
}

pub(crate) const FULL_BOOT: [(Stage, u64); 9] = [
    (Stage::Dhcp, 0),
    (Stage::Loader, 420),
    (Stage::Ipxe, 2100),
    (Stage::Disk, 2260),
    (Stage::Script, 2310),
    (Stage::FirmwareLogin, 2650),
    (Stage::OsLogin, 9800),
    (Stage::OsDhcp, 14_200),
    (Stage::Up, 15_900),
];
