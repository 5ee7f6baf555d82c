//! Event sequences of real boots and faults (`docs/faults.md` names their signatures), diagnosed in
//! simulated time.

mod boots;
mod properties;
mod server;

use std::net::IpAddr;

use dess_model::{
    Architecture, AttemptId, BootStage, CaseId, ClientId, DhcpPhase, Event, EventKind, ImageId,
    LoginKind, MacAddr, SessionEnd, SessionStatus, TcpCounters, TftpFailure, Timestamp, VersionRef,
};
use uuid::Uuid;

use super::*;
use crate::{
    Action, Cause, Code, Fact, Folding, PoolSeen, SeatEntry, ServiceCondition, ServiceSeen,
};

const SECOND: i64 = 1000;

pub(super) fn version(number: u32) -> VersionRef {
    VersionRef {
        image: ImageId(Uuid::from_u128(900)),
        number,
    }
}

pub(super) fn client(seat: u8) -> ClientId {
    ClientId(Uuid::from_u128(u128::from(seat)))
}

pub(super) fn mac(seat: u8) -> MacAddr {
    MacAddr([0x52, 0x54, 0, 0x77, 0, seat])
}

pub(super) fn address(seat: u8) -> IpAddr {
    [10, 77, 0, 100 + seat].into()
}

pub(super) fn seat_of(seat: u8) -> Subject {
    Subject::Seat {
        client: client(seat),
    }
}

/// A room with eight seats, as `node` sees it.
pub(super) struct Room {
    folding: Folding,
    pub(super) seen: Observations,
    pub(super) cases: Vec<Case>,
    fresh: u128,
    pub(super) now: i64,
    session: u64,
}

impl Room {
    pub(super) fn new() -> Self {
        let mut room = Self {
            folding: Folding::new(),
            seen: Observations::new(Timestamp(0)),
            cases: Vec::new(),
            fresh: 0,
            now: 0,
            session: 0,
        };
        room.folding
            .clients_set((1..=8).map(|seat| (client(seat), mac(seat))));
        room.assign(version(1), false);
        room
    }

    pub(super) fn assign(&mut self, version: VersionRef, keeps_writes: bool) {
        self.seen.seats_set((1..=8).map(|seat| SeatEntry {
            client: client(seat),
            version: Some(version),
            keeps_writes,
            maintains: false,
        }));
    }

    /// Lets time pass, second by second as `node` does, and diagnoses at each.
    pub(super) fn wait(&mut self, millis: i64) -> &mut Self {
        let until = self.now + millis;
        while self.now < until {
            self.now = (self.now + SECOND).min(until);
            let changes = self.folding.handle_timeout(Timestamp(self.now));
            self.seen.changes_seen(&changes);
            self.diagnose();
        }
        self
    }

    pub(super) fn event(&mut self, kind: EventKind) -> &mut Self {
        self.fresh += 1;
        let event = Event {
            at: Timestamp(self.now),
            kind,
        };
        let fresh = AttemptId(Uuid::from_u128(self.fresh));
        let changes = self.folding.handle(&event, fresh);
        let client = self.folding.client_of(&event);
        self.seen.changes_seen(&changes);
        self.seen.event_seen(&event, client);
        self.diagnose();
        self
    }

    pub(super) fn diagnose(&mut self) {
        let fresh = &mut self.fresh;
        let changed = diagnose(&self.seen, &self.cases, Timestamp(self.now), || {
            *fresh += 1;
            CaseId(Uuid::from_u128(*fresh))
        });
        for case in changed {
            match self.cases.iter_mut().find(|known| known.id == case.id) {
                Some(known) => *known = case,
                None => self.cases.push(case),
            }
        }
    }

    /// Codes and subjects of the open cases.
    pub(super) fn open(&self) -> Vec<(Code, Subject)> {
        let open = self.cases.iter().filter(|case| case.is_open());
        open.map(|case| (case.code, case.subject.clone())).collect()
    }

    pub(super) fn case(&self, code: Code) -> &Case {
        let mut cases = self.cases.iter();
        cases.find(|case| case.code == code).unwrap()
    }

    pub(super) fn session(&mut self) -> u64 {
        self.session += 1;
        self.session
    }

    pub(super) fn offer(&mut self, seat: u8, phase: DhcpPhase) -> &mut Self {
        let IpAddr::V4(offered) = address(seat) else {
            unreachable!("the room is IPv4");
        };
        self.event(EventKind::DhcpOffer {
            mac: mac(seat),
            phase,
            address: Some(offered),
            architecture: (phase != DhcpPhase::Os).then_some(Architecture::Bios),
            boot_file: None,
        })
    }

    pub(super) fn dhcp(&mut self, seat: u8, phase: DhcpPhase) -> &mut Self {
        let IpAddr::V4(offered) = address(seat) else {
            unreachable!("the room is IPv4");
        };
        self.offer(seat, phase).event(EventKind::DhcpAck {
            mac: mac(seat),
            phase,
            address: Some(offered),
            renewal: false,
        })
    }

    pub(super) fn tftp(&mut self, seat: u8, failure: Option<TftpFailure>) -> &mut Self {
        self.event(EventKind::TftpTransfer {
            peer: address(seat),
            file: "undionly.kpxe".into(),
            bytes: if failure.is_some() { 0 } else { 74_213 },
            duration_ms: 120,
            error: failure.map(|_| "as told".into()),
            failure,
        })
    }

    pub(super) fn script(&mut self, seat: u8) -> &mut Self {
        self.event(EventKind::DiskReady {
            client: client(seat),
            fresh: true,
            duration_us: 2_100,
        })
        .event(EventKind::Script {
            mac: mac(seat),
            bootable: true,
            code: None,
        })
    }

    pub(super) fn login(&mut self, seat: u8, kind: LoginKind) -> u64 {
        let session = self.session();
        self.event(EventKind::Login {
            client: client(seat),
            kind,
            peer: address(seat),
            session,
        });
        session
    }

    pub(super) fn progress(&mut self, seat: u8, session: u64, reads: u64) -> &mut Self {
        self.event(EventKind::SessionProgress {
            client: client(seat),
            session,
            read_bytes: reads * 16_384,
            written_bytes: 0,
            reads,
            writes: 0,
        })
    }

    pub(super) fn end(
        &mut self,
        seat: u8,
        session: u64,
        reads: u64,
        reason: SessionEnd,
    ) -> &mut Self {
        self.event(EventKind::SessionEnded {
            client: client(seat),
            session,
            reason,
            read_bytes: reads * 16_384,
            written_bytes: 0,
            reads,
        })
    }

    /// From power-on to the script, as a BIOS client with a PXE ROM goes.
    pub(super) fn power_on(&mut self, seat: u8) -> &mut Self {
        self.dhcp(seat, DhcpPhase::Firmware)
            .wait(700)
            .tftp(seat, None)
            .wait(2_400)
            .dhcp(seat, DhcpPhase::Ipxe)
            .wait(300)
            .script(seat)
    }

    /// The firmware's part of a good boot: its two sessions. Answers the second, which stays.
    pub(super) fn firmware(&mut self, seat: u8) -> u64 {
        self.wait(200);
        let first = self.login(seat, LoginKind::Firmware);
        // GRUB's core image is loaded by a handful of reads; then the drive is reset.
        self.wait(600).end(seat, first, 6, SessionEnd::Closed);
        self.wait(2);
        let second = self.login(seat, LoginKind::Firmware);
        self.wait(1_500).progress(seat, second, 640);
        second
    }

    /// A whole boot of Debian over iSCSI; answers the session that stays open.
    pub(super) fn debian(&mut self, seat: u8) -> u64 {
        self.power_on(seat);
        let dead = self.firmware(seat);
        self.wait(30_000);
        let first = self.login(seat, LoginKind::Os);
        // The kernel's network stack answers what is sent to the firmware's session with RST.
        self.wait(500).end(seat, dead, 700, SessionEnd::Closed);
        self.wait(25_000).progress(seat, first, 1_000);
        self.dhcp(seat, DhcpPhase::Os);
        // iscsid takes the session over, some 40 to 75 s into the boot.
        self.wait(20_000)
            .end(seat, first, 1_300, SessionEnd::Closed);
        self.wait(2_000);
        let stays = self.login(seat, LoginKind::Os);
        self.wait(20_000).progress(seat, stays, 60);
        stays
    }

    pub(super) fn sanboot_failed(&mut self, seat: u8, errno: &str) -> &mut Self {
        self.event(EventKind::BootFailure {
            mac: mac(seat),
            stage: BootStage::Sanboot,
            errno: errno.into(),
        })
    }

    /// What the iSCSI service tells of one session of firmware.
    pub(super) fn look(&mut self, seat: u8, reads: u64, last: i64, retransmits: u32) -> &mut Self {
        let status = SessionStatus {
            client: client(seat),
            session: 99,
            kind: LoginKind::Firmware,
            peer: "10.77.0.101:1024".into(),
            since: Timestamp(0),
            last_command: Timestamp(last),
            read_bytes: reads * 16_384,
            written_bytes: 0,
            tcp: Some(TcpCounters {
                rtt_us: 400,
                retransmits,
            }),
        };
        self.seen.disks_seen(Timestamp(self.now), &[status], &[]);
        self.diagnose();
        self
    }

    pub(super) fn services(&mut self, iscsi: ServiceSeen) -> &mut Self {
        let dhcp = service("dhcp", ServiceCondition::Ready);
        self.seen
            .services_seen(Timestamp(self.now), Some(vec![dhcp, iscsi]));
        self.diagnose();
        self
    }
}

pub(super) fn service(name: &str, condition: ServiceCondition) -> ServiceSeen {
    ServiceSeen {
        name: name.into(),
        condition,
        restarts: 0,
        last_exit: None,
        probe: None,
    }
}
