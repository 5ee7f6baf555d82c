//! What holds for every sequence of events, however absurd.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Offer(u8, bool),
    Ack(u8, bool),
    Tftp(u8, Option<bool>),
    Script(u8),
    Login(u8, bool),
    End(u8, u64, u64),
    Failed(u8, u32),
    Refused(u8, u16),
    DiskError(u8),
    Wait(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let seat = || 1..=3_u8;
    let step = prop_oneof![
        (seat(), any::<bool>()).prop_map(|(seat, ipxe)| Step::Offer(seat, ipxe)),
        (seat(), any::<bool>()).prop_map(|(seat, os)| Step::Ack(seat, os)),
        (seat(), any::<Option<bool>>()).prop_map(|(seat, failed)| Step::Tftp(seat, failed)),
        seat().prop_map(Step::Script),
        (seat(), any::<bool>()).prop_map(|(seat, os)| Step::Login(seat, os)),
        (seat(), 0..20_u64, 0..30_u64).prop_map(|(seat, id, reads)| Step::End(seat, id, reads)),
        (seat(), any::<u32>()).prop_map(|(seat, errno)| Step::Failed(seat, errno)),
        (seat(), 0x0200..0x0204_u16).prop_map(|(seat, status)| Step::Refused(seat, status)),
        seat().prop_map(Step::DiskError),
        (1..40_000_i64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..80)
}

fn take(room: &mut Room, step: Step) {
    let phase = |ipxe| match ipxe {
        true => DhcpPhase::Ipxe,
        false => DhcpPhase::Firmware,
    };
    match step {
        Step::Offer(seat, ipxe) => room.offer(seat, phase(ipxe)),
        Step::Ack(seat, true) => room.dhcp(seat, DhcpPhase::Os),
        Step::Ack(seat, false) => room.dhcp(seat, DhcpPhase::Firmware),
        Step::Tftp(seat, failed) => room.tftp(
            seat,
            failed.map(|silent| match silent {
                true => TftpFailure::Silent,
                false => TftpFailure::Refused,
            }),
        ),
        Step::Script(seat) => room.script(seat),
        Step::Login(seat, os) => {
            let kind = match os {
                true => LoginKind::Os,
                false => LoginKind::Firmware,
            };
            room.login(seat, kind);
            room
        }
        Step::End(seat, session, reads) => room.end(seat, session, reads, SessionEnd::Closed),
        Step::Failed(seat, errno) => room.sanboot_failed(seat, &format!("{errno:#010x}")),
        Step::Refused(seat, status) => room.event(EventKind::LoginRefused {
            client: Some(client(seat)),
            peer: address(seat),
            initiator: String::new(),
            status,
        }),
        Step::DiskError(seat) => room.event(EventKind::DiskError {
            client: client(seat),
            message: "cannot read".into(),
        }),
        Step::Wait(millis) => room.wait(millis),
    };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn there_is_one_open_case_per_fault_and_thing_and_looking_twice_changes_nothing(
        steps in steps()
    ) {
        let mut room = Room::new();
        for step in steps {
            take(&mut room, step);
            let open = room.open();
            let distinct: BTreeSet<_> = open.iter().cloned().collect();
            prop_assert_eq!(open.len(), distinct.len());
            let again = diagnose(&room.seen, &room.cases, Timestamp(room.now), || {
                unreachable!("a case was opened twice")
            });
            prop_assert_eq!(again, []);
        }
        for case in &room.cases {
            prop_assert!(case.evidence.len() <= crate::case::limits::EVIDENCE_MAX);
            prop_assert!(case.resolved.is_none_or(|at| at >= case.opened));
        }
    }

    #[test]
    fn whatever_was_wrong_with_a_seat_is_over_after_good_boots(steps in steps()) {
        let mut room = Room::new();
        for step in steps {
            take(&mut room, step);
        }
        room.wait(400_000);
        for seat in 1..=3 {
            room.debian(seat);
        }
        room.wait(700_000);
        let now = Timestamp(room.now);
        let all = vec![service("iscsi", ServiceCondition::Ready)];
        room.seen.services_seen(now, Some(all));
        room.diagnose();
        prop_assert_eq!(room.open(), []);
    }
}
