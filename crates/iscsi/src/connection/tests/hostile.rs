use proptest::prelude::*;

use super::*;
use crate::command::{ScsiResponse, TaskManagementResponse};

/// Most bytes that one connection may hold in these tests, whatever the peer sends.
const KEPT_BYTES_MAX: usize = 8 << 20;

#[derive(Clone, Copy, Debug)]
enum Start {
    Fresh,
    Security,
    Discovery,
    FullFeature,
    Digests,
    Ipxe,
}

fn any_start() -> impl Strategy<Value = Start> {
    prop_oneof![
        Just(Start::Fresh),
        Just(Start::Security),
        Just(Start::Discovery),
        Just(Start::FullFeature),
        Just(Start::Digests),
        Just(Start::Ipxe),
    ]
}

fn start(kind: Start) -> Peer {
    let mut peer = Peer::new(Limits::default());
    match kind {
        Start::Fresh => {}
        Start::Security => {
            let mut keys = NAMES.to_vec();
            keys.push(("AuthMethod", "None"));
            peer.login(Stage::Security, None, &keys);
        }
        Start::Discovery => {
            let keys = [("InitiatorName", INITIATOR), ("SessionType", "Discovery")];
            peer.login(Stage::Operational, Some(Stage::FullFeature), &keys);
            peer.connection.poll_event();
        }
        Start::FullFeature => {
            peer.log_in(&[("InitialR2T", "No")]);
        }
        Start::Digests => {
            peer.log_in(&[("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C")]);
        }
        Start::Ipxe => {
            peer.isid = [0x40, 0x00, 0x27, 0x23, 1, 2];
            peer.log_in(&[("MaxRecvDataSegmentLength", "512")]);
        }
    }
    peer
}

/// A header with an opcode that means something and numbers that often fit.
#[derive(Clone, Debug)]
struct Shot {
    opcode: u8,
    flags: u8,
    numbers: [u8; 6],
    words: [u8; 16],
    data: Vec<u8>,
    answer: u8,
}

fn any_shot() -> impl Strategy<Value = Shot> {
    let opcode = prop_oneof![
        Just(0x00u8),
        Just(0x01),
        Just(0x02),
        Just(0x03),
        Just(0x04),
        Just(0x05),
        Just(0x06),
        Just(0x10),
        any::<u8>(),
    ];
    (
        (opcode, any::<bool>(), any::<u8>()),
        proptest::array::uniform6(0u8..5),
        proptest::array::uniform16(any::<u8>()),
        prop_oneof![
            3 => Just(Vec::new()),
            1 => proptest::collection::vec(any::<u8>(), 0..700),
            1 => Just(b"SendTargets=All\0HeaderDigest=None\0".to_vec()),
        ],
        any::<u8>(),
    )
        .prop_map(
            |((opcode, immediate, flags), numbers, words, data, answer)| Shot {
                opcode: opcode | if immediate { 0x40 } else { 0 },
                flags,
                numbers,
                words,
                data,
                answer,
            },
        )
}

fn fire(peer: &mut Peer, shot: &Shot) {
    let mut header = [0; HEADER_BYTES];
    header[0] = shot.opcode;
    header[1] = shot.flags;
    header[5..8].copy_from_slice(&(shot.data.len() as u32).to_be_bytes()[1..]);
    let [lun, itt, length, number, sn, offset] = shot.numbers.map(u32::from);
    header[9] = lun as u8 / 3;
    header[16..20].copy_from_slice(&itt.to_be_bytes());
    let length = [0, 512, 4096, 9_000_000, u32::MAX][length as usize];
    let length = if shot.opcode & 0x3f == 0x05 {
        [u32::MAX, 1, 2, 3, 4][number as usize]
    } else {
        length
    };
    header[20..24].copy_from_slice(&length.to_be_bytes());
    header[24..28].copy_from_slice(&(peer.cmd_sn + number / 3).to_be_bytes());
    header[32..48].copy_from_slice(&shot.words);
    if shot.opcode & 0x3f == 0x05 {
        header[36..40].copy_from_slice(&sn.to_be_bytes());
        header[40..44].copy_from_slice(&(offset * 512).to_be_bytes());
    }
    let bytes = peer.frame(&header, &shot.data);
    peer.feed(&bytes);
}

/// Plays the engine: answers some commands, in some way, some later.
fn serve(peer: &mut Peer, open: &mut Vec<crate::TaskId>, answer: u8) -> bool {
    let mut closed = false;
    while let Some(event) = peer.connection.poll_event() {
        assert!(!closed, "nothing follows the end");
        match event {
            Event::Command(command) => {
                if command.write {
                    let expected = command.expected_transfer_length as usize;
                    assert_eq!(command.data_out_length(), expected);
                }
                open.push(command.task);
            }
            Event::TaskManagement(request) => peer
                .connection
                .task_management_response(request.task, TaskManagementResponse::FunctionComplete),
            Event::Closed(_) => closed = true,
            Event::LoggedIn(_) | Event::LoginRefused(_) => {}
        }
    }
    if answer.is_multiple_of(3) && !open.is_empty() {
        let task = open.swap_remove(usize::from(answer) % open.len());
        match answer % 4 {
            0 => peer.connection.complete(task, ScsiResponse::good(512)),
            1 => peer
                .connection
                .complete(task, ScsiResponse::with_data(vec![1; 5000].into())),
            2 => peer
                .connection
                .complete(task, ScsiResponse::check_condition(vec![0x70; 18].into())),
            _ => {
                let fill = |_, _: &mut [u8]| Ok::<_, ()>(());
                peer.connection.complete_read(task, 1000, fill).unwrap();
            }
        }
    }
    closed
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_bytes_in_any_state_are_survived(
        kind in any_start(),
        bytes in proptest::collection::vec(any::<u8>(), 0..2000),
    ) {
        let mut peer = start(kind);
        let mut open = Vec::new();
        peer.feed(&bytes);
        serve(&mut peer, &mut open, 0);
        prop_assert!(peer.connection.kept_bytes() < KEPT_BYTES_MAX);
        peer.raw_output();
    }

    #[test]
    fn any_pdus_in_any_state_are_survived(
        kind in any_start(),
        shots in proptest::collection::vec(any_shot(), 1..120),
    ) {
        let mut peer = start(kind);
        let mut open = Vec::new();
        for shot in &shots {
            fire(&mut peer, shot);
            if serve(&mut peer, &mut open, shot.answer) {
                break;
            }
            // What goes out is always whole PDUs with digests that fit.
            if !matches!(kind, Start::Fresh | Start::Security) {
                for answer in peer.answers() {
                    prop_assert!(answer.opcode() >= 0x20);
                    if matches!(kind, Start::Ipxe) {
                        prop_assert!(!matches!(answer.opcode(), 0x32 | 0x3f));
                    }
                }
            } else {
                peer.raw_output();
            }
            let sn = peer.connection.expected_cmd_sn();
            peer.cmd_sn = sn;
            prop_assert!(peer.connection.kept_bytes() < KEPT_BYTES_MAX);
        }
    }
}

#[test]
fn each_opcode_before_login_ends_the_connection_unless_it_is_a_login() {
    for opcode in 0..=0x3fu8 {
        let mut peer = Peer::new(Limits::default());
        let mut header = [0; HEADER_BYTES];
        header[0] = opcode;
        peer.send(&header, &[]);
        assert!(peer.answers().len() <= 1);
        assert!(matches!(
            peer.closed(),
            CloseReason::Protocol(_) | CloseReason::LoginRefused(_)
        ));
    }
}

#[test]
fn an_absurd_segment_length_ends_the_connection_at_once() {
    for logged_in in [false, true] {
        let mut peer = Peer::new(Limits::default());
        if logged_in {
            peer.log_in(&[]);
        }
        let mut header = [0; HEADER_BYTES];
        header[0] = 0x43;
        header[5..8].copy_from_slice(&[0xff; 3]);
        peer.feed(&header);
        assert!(matches!(peer.closed(), CloseReason::Protocol(_)));
        assert!(peer.connection.kept_bytes() < 64 * 1024);
    }
}

#[test]
fn commands_ahead_of_a_missing_one_are_held_in_bounded_memory() {
    let mut peer = Peer::logged_in(Limits::default(), &[]);
    peer.request(0);
    let mut closed = false;
    for _ in 0..100 {
        let mut request = peer.request(60_000);
        request.write = true;
        peer.send(&request.encode(60_000), &[0; 60_000]);
        closed |= peer.connection.poll_event().is_some();
        assert!(peer.connection.kept_bytes() < 4 << 20);
    }
    assert!(closed);
}

#[test]
fn a_write_in_countless_crumbs_is_given_up() {
    let mut peer = Peer::logged_in(Limits::default(), &[]);
    let mut request = peer.request(1 << 20);
    request.write = true;
    peer.send(&request.encode(0), &[]);
    let asked = crate::pdu::ReadyToTransfer::decode(&peer.answer().header).unwrap();
    for index in 0..20_000u32 {
        let crumb = crate::pdu::DataOut {
            last: index == 19_999,
            lun: 0,
            itt: asked.itt,
            ttt: asked.ttt,
            exp_stat_sn: 0,
            data_sn: index,
            buffer_offset: index,
        };
        peer.send(&crumb.encode(1), &[0]);
    }
    assert_eq!(peer.answer().opcode(), 0x21);
}

/// What a PDU of each opcode, with all fields 0 but tags and numbers, leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Nothing,
    Answer(u8),
    Event,
    End,
}

use Outcome::{Answer as Gets, End, Event as Delivered, Nothing};

/// Opcode; outcome in the login phase, a discovery session, and a normal session.
const STATES_AND_PDUS: &[(u8, [Outcome; 3])] = &[
    (0x00, [End, Gets(0x20), Gets(0x20)]), // NOP-Out
    (0x01, [End, Gets(0x3f), Delivered]),  // SCSI Command
    (0x02, [End, Gets(0x3f), Delivered]),  // Task Management (LUN reset)
    (0x03, [Gets(0x23), End, End]),        // Login
    (0x04, [End, Gets(0x24), Gets(0x24)]), // Text
    (0x05, [End, Nothing, Nothing]),       // Data-Out of no task
    (0x06, [End, End, End]),               // Logout
    (0x10, [End, Gets(0x3f), Gets(0x3f)]), // SNACK
    (0x07, [End, Gets(0x3f), Gets(0x3f)]), // unknown
    (0x1c, [End, Gets(0x3f), Gets(0x3f)]), // vendor's
    (0x20, [End, Gets(0x3f), Gets(0x3f)]), // a target's own
    (0x3f, [End, Gets(0x3f), Gets(0x3f)]), // a target's own
];

#[test]
fn each_pdu_in_each_state_has_its_outcome() {
    for &(opcode, outcomes) in STATES_AND_PDUS {
        let states = [Start::Security, Start::Discovery, Start::FullFeature];
        for (state, expected) in states.into_iter().zip(outcomes) {
            let mut peer = start(state);
            let mut header = [0; HEADER_BYTES];
            header[0] = 0x40 | opcode;
            // LUN reset; else just the F bit.
            header[1] = if opcode == 0x02 { 0x85 } else { 0x80 };
            if opcode == 0x03 {
                header[1] = 0;
                header[8..14].copy_from_slice(&peer.isid);
            }
            header[16..20].copy_from_slice(&7u32.to_be_bytes());
            header[20..24].fill(if opcode == 0x04 { 0xff } else { 0 });
            peer.send(&header, &[]);
            let found = match peer.connection.poll_event() {
                Some(Event::Closed(_)) => End,
                Some(_) => Delivered,
                None => match peer.answers().as_slice() {
                    [] => Nothing,
                    [answer] => Gets(answer.opcode()),
                    more => panic!("{more:?}"),
                },
            };
            assert_eq!(found, expected, "{opcode:#04x} in {state:?}");
        }
    }
}
