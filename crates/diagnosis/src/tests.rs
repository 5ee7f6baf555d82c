//! Event sequences of real boots, folded in simulated time.

use super::*;
use dess_model::{
    AttemptId, BootStage, ClientId, DhcpPhase, Event, EventKind, LoginKind, MacAddr, SessionEnd,
    SessionStatus, Timestamp,
};
use uuid::Uuid;

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x77, 0, 0x10]);
const CLIENT: ClientId = ClientId(Uuid::from_u128(7));
const PEER: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 100));

/// A room with one client, and everything that folding said.
struct Room {
    folding: Folding,
    fresh: u128,
    steps: Vec<(u128, Step)>,
    ended: Vec<Attempt>,
}

impl Room {
    fn new() -> Self {
        let mut folding = Folding::new();
        folding.clients_set([(CLIENT, MAC)]);
        Self {
            folding,
            fresh: 0,
            steps: Vec::new(),
            ended: Vec::new(),
        }
    }

    fn at(&mut self, at_ms: i64, kind: EventKind) -> &mut Self {
        self.fresh += 1;
        let event = Event {
            at: Timestamp(at_ms),
            kind,
        };
        let changes = self
            .folding
            .handle(&event, AttemptId(Uuid::from_u128(self.fresh)));
        self.take(changes);
        self
    }

    fn timeout(&mut self, now_ms: i64) -> &mut Self {
        let changes = self.folding.handle_timeout(Timestamp(now_ms));
        self.take(changes);
        self
    }

    fn take(&mut self, changes: Vec<Change>) {
        for change in changes {
            let id = change.attempt.id.0.as_u128();
            self.steps
                .extend(change.steps.into_iter().map(|step| (id, step)));
            if change.attempt.ended.is_some() {
                self.ended.push(change.attempt);
            }
        }
    }

    fn now(&self) -> &Attempt {
        self.folding.attempt(MAC).unwrap()
    }

    fn state(&self) -> ClientState {
        ClientState::of(true, self.folding.attempt(MAC))
    }

    /// Stages of the present attempt's steps, with offsets in milliseconds.
    fn timeline(&self) -> Vec<(Stage, i64)> {
        let attempt = self.now();
        let id = attempt.id.0.as_u128();
        self.steps
            .iter()
            .filter(|(of, _)| *of == id)
            .map(|(_, step)| (step.stage, step.at.0 - attempt.started.0))
            .collect()
    }
}

fn offer(phase: DhcpPhase) -> EventKind {
    EventKind::DhcpOffer {
        mac: MAC,
        phase,
        address: Some([10, 77, 0, 100].into()),
        architecture: None,
        boot_file: Some("undionly.kpxe".into()),
    }
}

fn ack(phase: DhcpPhase) -> EventKind {
    EventKind::DhcpAck {
        mac: MAC,
        phase,
        address: Some([10, 77, 0, 100].into()),
        renewal: false,
    }
}

fn tftp(error: Option<&str>) -> EventKind {
    EventKind::TftpTransfer {
        peer: PEER,
        file: "snponly.efi".into(),
        bytes: 174_080,
        duration_ms: 400,
        error: error.map(str::to_owned),
        failure: None,
    }
}

fn script() -> EventKind {
    EventKind::Script {
        mac: MAC,
        bootable: true,
        code: None,
    }
}

fn disk() -> EventKind {
    EventKind::DiskReady {
        client: CLIENT,
        fresh: true,
        duration_us: 3_140,
    }
}

fn login(kind: LoginKind, session: u64) -> EventKind {
    EventKind::Login {
        client: CLIENT,
        kind,
        peer: PEER,
        session,
    }
}

fn progress(session: u64, read_bytes: u64) -> EventKind {
    EventKind::SessionProgress {
        client: CLIENT,
        session,
        read_bytes,
        written_bytes: 512,
        reads: read_bytes / 512,
        writes: 1,
    }
}

fn ended(session: u64, reason: SessionEnd) -> EventKind {
    EventKind::SessionEnded {
        client: CLIENT,
        session,
        reason,
        read_bytes: 4096,
        written_bytes: 512,
        reads: 8,
    }
}

/// A BIOS client whose network card carries iPXE, up to its operating system's login.
fn rom_ipxe_to_os_login(room: &mut Room, at: i64) {
    room.at(at, offer(DhcpPhase::Ipxe))
        .at(at + 20, ack(DhcpPhase::Ipxe))
        .at(at + 1100, disk())
        .at(at + 1101, script())
        .at(at + 1300, login(LoginKind::Firmware, 1))
        .at(at + 2200, login(LoginKind::Firmware, 2))
        .at(at + 15_000, login(LoginKind::Os, 3));
}

#[test]
fn a_bios_boot_with_ipxe_in_rom_is_one_attempt_with_its_timeline() {
    let mut room = Room::new();
    rom_ipxe_to_os_login(&mut room, 1000);
    assert_eq!(
        room.state(),
        ClientState::Booting {
            stage: Stage::OsLogin,
            since: Timestamp(1000)
        }
    );
    room.at(20_000, offer(DhcpPhase::Os))
        .at(20_010, ack(DhcpPhase::Os));
    assert_eq!(
        room.timeline(),
        [
            (Stage::Ipxe, 0),
            (Stage::Ipxe, 20),
            (Stage::Disk, 1100),
            (Stage::Script, 1101),
            (Stage::FirmwareLogin, 1300),
            (Stage::FirmwareLogin, 2200),
            (Stage::OsLogin, 15_000),
            (Stage::OsDhcp, 19_000),
            (Stage::OsDhcp, 19_010),
            (Stage::Up, 19_010),
        ]
    );
    assert_eq!(room.now().up_after_ms(), Some(19_010));
    assert_eq!(
        room.state(),
        ClientState::Running {
            since: Timestamp(20_010)
        }
    );
    assert!(room.ended.is_empty());
}

#[test]
fn a_uefi_boot_through_pxe_and_the_chain_loader_is_one_attempt() {
    let mut room = Room::new();
    room.at(0, offer(DhcpPhase::Firmware))
        .at(4000, offer(DhcpPhase::Firmware))
        .at(4100, ack(DhcpPhase::Firmware))
        .at(5000, tftp(None))
        .at(7000, offer(DhcpPhase::Ipxe))
        .at(7010, ack(DhcpPhase::Ipxe))
        .at(8000, disk())
        .at(8001, script())
        .at(8200, login(LoginKind::Firmware, 1))
        .at(30_000, login(LoginKind::Os, 2))
        .at(33_000, ack(DhcpPhase::Os));
    let stages: Vec<Stage> = room.timeline().into_iter().map(|step| step.0).collect();
    assert_eq!(
        stages,
        [
            Stage::Dhcp,
            Stage::Dhcp,
            Stage::Loader,
            Stage::Ipxe,
            Stage::Ipxe,
            Stage::Disk,
            Stage::Script,
            Stage::FirmwareLogin,
            Stage::OsLogin,
            Stage::OsDhcp,
            Stage::Up
        ],
        "the repeated offer is not noted twice"
    );
    assert_eq!(room.now().outcome, BootOutcome::Up);
    assert!(room.ended.is_empty());
}

#[test]
fn an_operating_system_that_never_asks_for_an_address_is_up_by_its_io() {
    let mut room = Room::new();
    rom_ipxe_to_os_login(&mut room, 0);
    room.at(20_000, progress(3, 1 << 20))
        .at(34_000, progress(3, 2 << 20));
    assert_eq!(
        room.now().up,
        None,
        "19 s after the login it may still fail"
    );
    room.at(36_000, progress(3, 2 << 20));
    assert_eq!(room.now().up, None, "no I/O since the last report");
    room.at(41_000, progress(3, 3 << 20));
    assert_eq!(room.now().up, Some(Timestamp(41_000)));
    assert_eq!(room.now().read_bytes, 3 << 20);
}

#[test]
fn a_new_login_of_the_running_system_is_no_new_boot_and_no_outage() {
    let mut room = Room::new();
    rom_ipxe_to_os_login(&mut room, 0);
    room.at(20_000, ack(DhcpPhase::Os))
        .at(60_000, ended(3, SessionEnd::Closed))
        .timeout(61_000)
        .at(62_000, login(LoginKind::Os, 4))
        .timeout(62_000 + 10 * 60_000);
    assert!(matches!(room.state(), ClientState::Running { .. }));
    assert!(room.ended.is_empty());
}

#[test]
fn traffic_adds_up_over_sessions_even_when_a_restarted_service_counts_them_anew() {
    let mut room = Room::new();
    rom_ipxe_to_os_login(&mut room, 0);
    room.at(20_000, progress(3, 1000))
        .at(30_000, login(LoginKind::Os, 3))
        .at(40_000, progress(3, 500));
    assert_eq!(room.now().read_bytes, 1500);
}

#[test]
fn a_client_without_a_session_is_off_after_the_grace() {
    let mut room = Room::new();
    rom_ipxe_to_os_login(&mut room, 0);
    room.at(20_000, ack(DhcpPhase::Os))
        .at(60_000, ended(3, SessionEnd::Dead))
        .timeout(60_000 + 89_000);
    assert!(matches!(room.state(), ClientState::Running { .. }));
    room.timeout(60_000 + 90_000);
    assert_eq!(room.state(), ClientState::Off);
    assert_eq!(room.now().outcome, BootOutcome::Up);
    assert_eq!(room.now().ended, Some(Timestamp(60_000)));

    room.at(200_000, login(LoginKind::Os, 9));
    assert!(
        matches!(room.state(), ClientState::Running { .. }),
        "a session that comes back late shows that it was never off"
    );
}

#[test]
fn a_logout_is_a_shutdown_within_seconds() {
    let mut room = Room::new();
    rom_ipxe_to_os_login(&mut room, 0);
    room.at(20_000, ack(DhcpPhase::Os))
        .at(60_000, ended(3, SessionEnd::Logout))
        .timeout(69_999);
    assert!(matches!(room.state(), ClientState::Running { .. }));
    room.timeout(70_000);
    assert_eq!(room.state(), ClientState::Off);
}

#[test]
fn a_refused_script_is_a_fault_with_its_code_until_ipxe_gets_a_better_one() {
    let mut room = Room::new();
    let refused = |code: &str| EventKind::Script {
        mac: MAC,
        bootable: false,
        code: Some(code.into()),
    };
    room.at(0, ack(DhcpPhase::Ipxe))
        .at(100, refused("E22"))
        .at(10_100, refused("E22"))
        .at(20_100, refused("E22"));
    assert!(matches!(room.state(), ClientState::Fault { ref code, .. } if code == "E22"));
    assert_eq!(room.timeline().len(), 2, "a repeated refusal is noted once");
    room.at(30_100, disk()).at(30_101, script());
    assert!(matches!(
        room.state(),
        ClientState::Booting {
            stage: Stage::Script,
            ..
        }
    ));
    assert_eq!(room.now().fault, None);
    assert!(room.ended.is_empty());
}

#[test]
fn a_script_refused_to_somebody_else_harms_no_running_client_and_starts_no_boot() {
    let refused = |code: Option<&str>| EventKind::Script {
        mac: MAC,
        bootable: false,
        code: code.map(str::to_owned),
    };
    let mut room = Room::new();
    room.at(0, refused(Some("E31")));
    assert!(room.folding.attempt(MAC).is_none());

    rom_ipxe_to_os_login(&mut room, 1000);
    room.at(20_000, refused(Some("E31")))
        .at(21_000, ack(DhcpPhase::Os))
        .at(30_000, refused(Some("E31")))
        .at(31_000, refused(Some("E22")))
        .at(32_000, refused(None));
    assert!(matches!(room.state(), ClientState::Running { .. }));
    assert!(room.ended.is_empty());

    // After a new power-on it is the PC's own.
    room.at(100_000, ack(DhcpPhase::Ipxe))
        .at(101_000, refused(Some("E31")));
    assert!(matches!(room.state(), ClientState::Fault { ref code, .. } if code == "E31"));
    assert_eq!(room.ended.len(), 1);
    room.at(110_000, script())
        .at(111_000, login(LoginKind::Firmware, 5))
        .at(112_000, refused(Some("E31")));
    assert!(matches!(room.state(), ClientState::Booting { .. }));
}

#[test]
fn a_failure_reported_by_ipxe_keeps_its_errno() {
    let mut room = Room::new();
    room.at(0, ack(DhcpPhase::Ipxe)).at(100, script()).at(
        5000,
        EventKind::BootFailure {
            mac: MAC,
            stage: BootStage::Sanboot,
            errno: "0x2c0d603b".into(),
        },
    );
    let fault = room.now().fault.clone().unwrap();
    assert_eq!(fault.code, "E22");
    assert!(fault.text.contains("0x2c0d603b"), "{}", fault.text);
    room.at(15_000, script())
        .at(16_000, login(LoginKind::Firmware, 1));
    assert_eq!(room.now().outcome, BootOutcome::InProgress);
}

#[test]
fn a_refused_login_fails_a_boot_but_not_a_running_client() {
    let refused = || EventKind::LoginRefused {
        client: Some(CLIENT),
        peer: PEER,
        initiator: "iqn.x".into(),
        status: 0x0201,
    };
    let mut room = Room::new();
    room.at(0, ack(DhcpPhase::Ipxe))
        .at(100, script())
        .at(200, refused());
    assert!(matches!(room.state(), ClientState::Fault { ref text, .. } if text.contains("0x0201")));

    let mut room = Room::new();
    rom_ipxe_to_os_login(&mut room, 0);
    room.at(20_000, ack(DhcpPhase::Os)).at(30_000, refused());
    assert!(matches!(room.state(), ClientState::Running { .. }));
}

#[test]
fn each_turn_of_a_reboot_loop_is_an_attempt_of_its_own() {
    let mut room = Room::new();
    for turn in 0..5 {
        let at = turn * 20_000;
        rom_ipxe_to_os_login(&mut room, at);
    }
    let outcomes: Vec<BootOutcome> = room.ended.iter().map(|attempt| attempt.outcome).collect();
    assert_eq!(outcomes, [BootOutcome::Abandoned; 4]);
    assert_eq!(room.now().started, Timestamp(80_000));
}

#[test]
fn a_power_on_ends_the_running_state() {
    let mut room = Room::new();
    rom_ipxe_to_os_login(&mut room, 0);
    room.at(20_000, ack(DhcpPhase::Os))
        .at(100_000, offer(DhcpPhase::Firmware));
    assert_eq!(room.ended.len(), 1);
    assert_eq!(room.ended[0].outcome, BootOutcome::Up);
    assert_eq!(room.ended[0].ended, Some(Timestamp(100_000)));
    assert!(matches!(
        room.state(),
        ClientState::Booting {
            stage: Stage::Dhcp,
            ..
        }
    ));
    // The old session's end comes when the service drops it; its bytes are not the new boot's.
    room.at(101_000, ended(3, SessionEnd::PowerOn));
    assert_eq!(room.now().read_bytes, 0);
}

#[test]
fn a_loader_that_returns_to_the_firmware_starts_a_new_attempt() {
    let mut room = Room::new();
    room.at(0, ack(DhcpPhase::Firmware))
        .at(1000, tftp(None))
        .at(3000, offer(DhcpPhase::Firmware));
    assert_eq!(room.ended.len(), 1);

    let mut room = Room::new();
    room.at(0, ack(DhcpPhase::Firmware))
        .at(1000, tftp(Some("no acknowledgement")))
        .at(3000, offer(DhcpPhase::Firmware))
        .at(4000, tftp(None));
    assert!(room.ended.is_empty(), "a failed transfer is tried again");
}

#[test]
fn silence_ends_a_boot() {
    let mut room = Room::new();
    room.at(0, ack(DhcpPhase::Ipxe)).timeout(299_999);
    assert!(room.ended.is_empty());
    room.timeout(300_000);
    assert_eq!(room.state(), ClientState::Off);
    assert_eq!(room.now().outcome, BootOutcome::Abandoned);
}

#[test]
fn events_of_strangers_change_nothing() {
    let mut room = Room::new();
    room.at(0, tftp(None)).at(1, ack(DhcpPhase::Os)).at(
        2,
        EventKind::Login {
            client: ClientId(Uuid::from_u128(99)),
            kind: LoginKind::Os,
            peer: PEER,
            session: 1,
        },
    );
    assert!(room.folding.attempt(MAC).is_none());
    assert!(room.steps.is_empty());
}

#[test]
fn invented_network_cards_do_not_fill_the_memory_nor_hide_a_registered_one() {
    let mut room = Room::new();
    let mut started = 0;
    for number in 0..10_000_u32 {
        let [_, a, b, c] = number.to_be_bytes();
        let event = Event {
            at: Timestamp(0),
            kind: EventKind::DhcpOffer {
                mac: MacAddr([2, 9, 9, a, b, c]),
                phase: DhcpPhase::Ipxe,
                address: None,
                architecture: None,
                boot_file: None,
            },
        };
        let fresh = AttemptId(Uuid::from_u128(u128::from(number)));
        started += room.folding.handle(&event, fresh).len();
    }
    assert_eq!(
        started, 4097,
        "one for each stranger kept, and the one client's place"
    );
    room.at(10, ack(DhcpPhase::Ipxe));
    assert_eq!(room.now().stage, Stage::Ipxe);
    room.timeout(1_000_000);
    assert!(room.folding.attempt(MacAddr([2, 9, 9, 0, 0, 1])).is_none());
    assert!(room.folding.attempt(MAC).is_some());
}

fn session(number: u64, since: i64, read_bytes: u64) -> SessionStatus {
    SessionStatus {
        client: CLIENT,
        session: number,
        kind: LoginKind::Os,
        peer: "10.77.0.100:40000".into(),
        since: Timestamp(since),
        last_command: Timestamp(since),
        read_bytes,
        written_bytes: 0,
        tcp: None,
    }
}

#[test]
fn after_a_restart_the_sessions_of_the_service_decide_who_still_runs() {
    let mut room = Room::new();
    rom_ipxe_to_os_login(&mut room, 0);
    room.at(20_000, ack(DhcpPhase::Os));
    let known = Attempt {
        memory: attempt::Memory::default(),
        ..room.now().clone()
    };

    let mut room = Room::new();
    room.folding
        .restore(known.restored(10, Some(Timestamp(15_000))));
    let changes = room
        .folding
        .sessions_seen(Timestamp(50_000), &[session(3, 15_000, 9000)]);
    assert_eq!(changes.len(), 1);
    room.timeout(500_000);
    assert!(matches!(room.state(), ClientState::Running { .. }));
    assert_eq!(room.now().read_bytes, 9000);

    room.folding.sessions_seen(Timestamp(600_000), &[]);
    room.timeout(600_000 + 89_999);
    assert!(matches!(room.state(), ClientState::Running { .. }));
    room.timeout(600_000 + 90_000);
    assert_eq!(room.state(), ClientState::Off);
}

#[test]
fn a_session_of_before_the_power_on_does_not_count_for_the_new_boot() {
    let mut room = Room::new();
    room.at(100_000, ack(DhcpPhase::Ipxe));
    let changes = room
        .folding
        .sessions_seen(Timestamp(100_500), &[session(3, 15_000, 9000)]);
    assert!(changes.is_empty());
    assert_eq!(room.now().memory.os_login, None);
}

#[test]
fn a_client_that_retries_for_days_has_a_bounded_timeline() {
    let mut room = Room::new();
    room.at(0, ack(DhcpPhase::Ipxe));
    for turn in 0..2000 {
        let at = 1000 + turn * 10_000;
        room.at(at, script()).at(
            at + 1000,
            EventKind::BootFailure {
                mac: MAC,
                stage: BootStage::Sanboot,
                errno: format!("{turn}"),
            },
        );
    }
    assert_eq!(room.steps.len(), 500);
    assert!(matches!(room.state(), ClientState::Fault { .. }));
}
