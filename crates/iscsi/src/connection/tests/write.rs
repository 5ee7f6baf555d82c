use std::sync::Arc;

use super::super::MEMORY_AGAIN;
use super::*;
use crate::budget::Budget;
use crate::command::{STATUS_CHECK_CONDITION, ScsiResponse};
use crate::pdu::{
    DataOut, NO_TAG, ReadyToTransfer, Reject, RejectReason, Residual, ScsiResponsePdu,
};

/// Immediate data, unsolicited data, and bursts of 4096 bytes of which 2048 may be unsolicited.
const SMALL: &[(&str, &str)] = &[
    ("InitialR2T", "No"),
    ("ImmediateData", "Yes"),
    ("MaxBurstLength", "4096"),
    ("FirstBurstLength", "2048"),
    ("MaxOutstandingR2T", "8"),
];

fn write_request(peer: &mut Peer, expected: u32, last: bool) -> ScsiRequest {
    ScsiRequest {
        write: true,
        last,
        ..peer.request(expected)
    }
}

fn unsolicited(itt: u32, data_sn: u32, offset: u32, last: bool) -> DataOut {
    DataOut {
        last,
        lun: 0,
        itt,
        ttt: NO_TAG,
        exp_stat_sn: 0,
        data_sn,
        buffer_offset: offset,
    }
}

fn send_data(peer: &mut Peer, header: &DataOut, data: &[u8]) {
    peer.send(&header.encode(data.len()), data);
}

fn r2t(answer: &Answer) -> ReadyToTransfer {
    ReadyToTransfer::decode(&answer.header).unwrap()
}

/// Answers an R2T in PDUs of `segment` bytes.
fn answer_r2t(peer: &mut Peer, r2t: &ReadyToTransfer, data: &[u8], segment: usize) {
    let start = r2t.buffer_offset as usize;
    let end = start + r2t.desired_data_transfer_length as usize;
    let mut offset = start;
    let mut data_sn = 0;
    while offset < end {
        let next = (offset + segment).min(end);
        let header = DataOut {
            last: next == end,
            lun: r2t.lun,
            itt: r2t.itt,
            ttt: r2t.ttt,
            exp_stat_sn: 0,
            data_sn,
            buffer_offset: offset as u32,
        };
        send_data(peer, &header, &data[offset..next]);
        offset = next;
        data_sn += 1;
    }
}

fn joined(command: &ScsiCommand) -> Vec<u8> {
    command.data_out.concat()
}

fn sense_of(answer: &Answer) -> (u8, u8, u8) {
    let header = ScsiResponsePdu::decode(&answer.header).unwrap();
    assert_eq!(header.status, STATUS_CHECK_CONDITION);
    (answer.data[4], answer.data[14], answer.data[15])
}

#[test]
fn immediate_data_completes_a_command() {
    let mut peer = Peer::logged_in(Limits::default(), SMALL);
    let data = pattern(1500);
    let request = write_request(&mut peer, 1500, true);
    peer.send(&request.encode(1500), &data);
    let command = peer.command();
    assert_eq!(joined(&command), data);
    assert!(command.write && !command.read);
    peer.connection
        .complete(command.task, ScsiResponse::good(1500));
    let answer = peer.answer();
    let header = ScsiResponsePdu::decode(&answer.header).unwrap();
    assert_eq!((header.status, header.residual), (0, Residual::None));
}

#[test]
fn a_write_goes_through_immediate_unsolicited_and_asked_for_data() {
    let mut peer = Peer::logged_in(Limits::default(), SMALL);
    let data = pattern(12_000);
    let request = write_request(&mut peer, 12_000, false);
    peer.send(&request.encode(512), &data[..512]);
    assert!(peer.is_open() && peer.answers().is_empty());
    send_data(
        &mut peer,
        &unsolicited(request.itt, 0, 512, false),
        &data[512..1024],
    );
    send_data(
        &mut peer,
        &unsolicited(request.itt, 1, 1024, true),
        &data[1024..2048],
    );
    let mut asked = Vec::new();
    while let [answer] = peer.answers().as_slice() {
        let r2t = r2t(answer);
        assert_eq!(r2t.r2t_sn as usize, asked.len());
        asked.push((r2t.buffer_offset, r2t.desired_data_transfer_length));
        answer_r2t(&mut peer, &r2t, &data, 1000);
    }
    assert_eq!(asked, [(2048, 4096), (6144, 4096), (10_240, 1760)]);
    let command = peer.command();
    assert_eq!(joined(&command), data);
    peer.connection
        .complete(command.task, ScsiResponse::good(12_000));
    let header = ScsiResponsePdu::decode(&peer.answer().header).unwrap();
    assert_eq!(header.exp_data_sn, 3);
}

#[test]
fn several_bursts_are_on_their_way_when_both_sides_agree() {
    let limits = Limits {
        max_outstanding_r2t: 3,
        ..Limits::default()
    };
    let mut peer = Peer::logged_in(limits, SMALL);
    let data = pattern(20_000);
    let request = write_request(&mut peer, 20_000, true);
    peer.send(&request.encode(0), &[]);
    let first: Vec<_> = peer.answers().iter().map(r2t).collect();
    assert_eq!(first.len(), 3);
    answer_r2t(&mut peer, &first[0], &data, 4096);
    let next = r2t(&peer.answer());
    assert_eq!(next.buffer_offset, 12_288);
    for burst in [&first[1], &first[2], &next] {
        answer_r2t(&mut peer, burst, &data, 4096);
    }
    for answer in peer.answers() {
        answer_r2t(&mut peer, &r2t(&answer), &data, 4096);
    }
    assert_eq!(joined(&peer.command()), data);
}

/// InitialR2T, ImmediateData, and what a write of 3000 bytes may start with.
#[test]
fn every_combination_of_unsolicited_data_works() {
    for (initial_r2t, immediate, with_command, following) in [
        ("Yes", "No", 0, 0),
        ("Yes", "Yes", 1024, 0),
        ("No", "No", 0, 2048),
        ("No", "Yes", 1024, 1024),
    ] {
        let keys = [
            ("InitialR2T", initial_r2t),
            ("ImmediateData", immediate),
            ("FirstBurstLength", "2048"),
        ];
        let mut peer = Peer::logged_in(Limits::default(), &keys);
        let data = pattern(3000);
        let request = write_request(&mut peer, 3000, following == 0);
        peer.send(&request.encode(with_command), &data[..with_command]);
        if following > 0 {
            let end = with_command + following;
            let header = unsolicited(request.itt, 0, with_command as u32, true);
            send_data(&mut peer, &header, &data[with_command..end]);
        }
        let r2t = r2t(&peer.answer());
        assert_eq!(r2t.buffer_offset as usize, with_command + following);
        answer_r2t(&mut peer, &r2t, &data, 8192);
        assert_eq!(joined(&peer.command()), data, "{initial_r2t} {immediate}");
    }
}

#[test]
fn data_that_is_not_allowed_ends_the_command() {
    const UNEXPECTED: (u8, u8, u8) = (0x0b, 0x0c, 0x0c);
    const AMOUNT: (u8, u8, u8) = (0x0b, 0x0c, 0x0d);

    let no_immediate = [("ImmediateData", "No")];
    let mut peer = Peer::logged_in(Limits::default(), &no_immediate);
    let request = write_request(&mut peer, 512, true);
    peer.send(&request.encode(512), &[0; 512]);
    assert_eq!(sense_of(&peer.answer()), UNEXPECTED);

    let mut peer = Peer::logged_in(Limits::default(), SMALL);
    let request = write_request(&mut peer, 8192, true);
    peer.send(&request.encode(2049), &[0; 2049]);
    assert_eq!(sense_of(&peer.answer()), AMOUNT);

    // More than announced.
    let mut peer = Peer::logged_in(Limits::default(), SMALL);
    let request = write_request(&mut peer, 100, true);
    peer.send(&request.encode(200), &[0; 200]);
    assert_eq!(sense_of(&peer.answer()), AMOUNT);

    // Beyond the first burst.
    let mut peer = Peer::logged_in(Limits::default(), SMALL);
    let request = write_request(&mut peer, 8192, false);
    peer.send(&request.encode(0), &[]);
    send_data(&mut peer, &unsolicited(request.itt, 0, 0, true), &[0; 3000]);
    assert_eq!(sense_of(&peer.answer()), AMOUNT);

    // Less than asked for.
    let mut peer = Peer::logged_in(Limits::default(), SMALL);
    let request = write_request(&mut peer, 4096, true);
    peer.send(&request.encode(0), &[]);
    let asked = r2t(&peer.answer());
    let header = DataOut {
        ttt: asked.ttt,
        ..unsolicited(request.itt, 0, 0, true)
    };
    send_data(&mut peer, &header, &[0; 1000]);
    assert_eq!(sense_of(&peer.answer()), AMOUNT);
    assert!(peer.is_open());
}

/// As libiscsi's iSCSIDataSnInvalid sends it: a write of two PDUs with these numbers.
#[test]
fn wrong_data_numbers_end_the_command_after_its_last_pdu() {
    for numbers in [[0, 0], [27, 28], [u32::MAX, 0], [1, 0]] {
        let mut peer = Peer::logged_in(Limits::default(), SMALL);
        let request = write_request(&mut peer, 1024, false);
        peer.send(&request.encode(0), &[]);
        send_data(
            &mut peer,
            &unsolicited(request.itt, numbers[0], 0, false),
            &[0; 512],
        );
        assert!(peer.answers().is_empty());
        send_data(
            &mut peer,
            &unsolicited(request.itt, numbers[1], 512, true),
            &[0; 512],
        );
        assert_eq!(sense_of(&peer.answer()), (0x0b, 0x4b, 0), "{numbers:?}");
        assert_eq!(peer.connection.active_tasks(), 0);
        assert!(peer.is_open());
    }
}

#[test]
fn wrong_offsets_and_tags_end_the_command() {
    for (offset, ttt_change) in [(512, 0), (0, 1)] {
        let mut peer = Peer::logged_in(Limits::default(), SMALL);
        let request = write_request(&mut peer, 4096, true);
        peer.send(&request.encode(0), &[]);
        let asked = r2t(&peer.answer());
        let wrong = DataOut {
            ttt: asked.ttt + ttt_change,
            ..unsolicited(request.itt, 0, offset, false)
        };
        send_data(&mut peer, &wrong, &[0; 512]);
        assert!(peer.answers().is_empty());
        let end = DataOut {
            ttt: asked.ttt,
            ..unsolicited(request.itt, 1, 512, true)
        };
        send_data(&mut peer, &end, &[0; 512]);
        assert_eq!(sense_of(&peer.answer()), (0x0b, 0x4b, 0));
    }
}

#[test]
fn data_for_an_unknown_task_is_dropped() {
    let mut peer = Peer::logged_in(Limits::default(), SMALL);
    send_data(&mut peer, &unsolicited(4711, 0, 0, true), &[0; 512]);
    assert!(peer.answers().is_empty() && peer.is_open());
}

#[test]
fn an_absurd_length_is_refused_without_asking_for_data() {
    let mut peer = Peer::logged_in(Limits::default(), SMALL);
    let request = write_request(&mut peer, u32::MAX, true);
    peer.send(&request.encode(512), &[0; 512]);
    assert_eq!(sense_of(&peer.answer()), (0x05, 0x24, 0));
}

#[test]
fn data_asked_for_at_once_is_bounded() {
    let limits = Limits {
        max_write_data: 10_000,
        max_command_data: 8192,
        ..Limits::default()
    };
    let mut peer = Peer::logged_in(limits, SMALL);
    let data = pattern(8192);
    let requests: Vec<_> = (0..3)
        .map(|_| {
            let request = write_request(&mut peer, 8192, true);
            peer.send(&request.encode(0), &[]);
            request
        })
        .collect();
    let mut answers = peer.answers();
    for request in requests {
        let first = r2t(&answers.remove(0));
        assert!(answers.is_empty(), "only one is admitted");
        assert_eq!(first.itt, request.itt);
        answer_r2t(&mut peer, &first, &data, 4096);
        let second = r2t(&peer.answer());
        answer_r2t(&mut peer, &second, &data, 4096);
        let command = peer.command();
        assert_eq!(joined(&command), data);
        assert!(peer.answers().is_empty(), "the next waits for this one");
        peer.connection
            .complete(command.task, ScsiResponse::good(8192));
        answers = peer.answers();
        assert_eq!(answers.remove(0).opcode(), 0x21);
    }
    assert!(answers.is_empty());
}

#[test]
fn writes_report_residuals() {
    for (expected, asked, residual) in [
        (512, 512, Residual::None),
        (1024, 512, Residual::Underflow(512)),
        (512, 1024, Residual::Overflow(512)),
    ] {
        let mut peer = Peer::logged_in(Limits::default(), &[]);
        let request = write_request(&mut peer, expected, true);
        peer.send(
            &request.encode(expected as usize),
            &pattern(expected as usize),
        );
        let command = peer.command();
        peer.connection
            .complete(command.task, ScsiResponse::good(asked));
        let header = ScsiResponsePdu::decode(&peer.answer().header).unwrap();
        assert_eq!(header.residual, residual);
    }
}

const DIGESTS: &[(&str, &str)] = &[
    ("HeaderDigest", "CRC32C"),
    ("DataDigest", "CRC32C"),
    ("InitialR2T", "No"),
];

#[test]
fn damaged_data_is_rejected_and_ends_the_command() {
    let mut peer = Peer::logged_in(Limits::default(), DIGESTS);
    let request = write_request(&mut peer, 1024, false);
    peer.send(&request.encode(0), &[]);
    let header = unsolicited(request.itt, 0, 0, true);
    let mut bytes = peer.frame(&header.encode(1024), &pattern(1024));
    bytes[200] ^= 1;
    peer.feed(&bytes);
    let answers = peer.answers();
    let reject = Reject::decode(&answers[0].header).unwrap();
    assert_eq!(reject.reason, RejectReason::DataDigestError);
    assert_eq!(answers[0].data, header.encode(1024));
    assert_eq!(sense_of(&answers[1]), (0x0b, 0x47, 0x05));
    assert!(peer.is_open());
}

#[test]
fn a_damaged_header_ends_the_connection() {
    let mut peer = Peer::logged_in(Limits::default(), DIGESTS);
    let request = write_request(&mut peer, 1024, true);
    let mut bytes = peer.frame(&request.encode(0), &[]);
    bytes[20] ^= 1;
    peer.feed(&bytes);
    assert!(matches!(
        peer.closed(),
        CloseReason::Protocol(crate::connection::ProtocolError::HeaderDigest)
    ));
}

#[test]
fn data_of_odd_lengths_is_padded_under_the_digest() {
    let mut peer = Peer::logged_in(Limits::default(), DIGESTS);
    for length in [1, 2, 3, 5, 1023, 4097, 9001] {
        let data = pattern(length);
        let request = write_request(&mut peer, length as u32, true);
        peer.send(&request.encode(length), &data);
        let command = peer.command();
        assert_eq!(joined(&command), data);
        peer.connection
            .complete(command.task, ScsiResponse::good(length as u64));
        assert_eq!(peer.answer().opcode(), 0x21);

        let command = peer.send_read(length as u32);
        let response = ScsiResponse::with_data(data.clone().into());
        peer.connection.complete(command.task, response);
        let read: Vec<u8> = peer
            .answers()
            .into_iter()
            .flat_map(|one| one.data)
            .collect();
        assert_eq!(read, data);
    }
}

/// A peer whose write data is counted together with that of others.
fn sharing(memory: &Arc<Budget>) -> Peer {
    let limits = Limits {
        max_outstanding_r2t: 2,
        ..Limits::default()
    };
    let mut peer = Peer::logged_in(limits, SMALL);
    peer.connection.set_memory(Arc::clone(memory));
    peer
}

#[test]
fn data_is_not_asked_for_while_another_connection_has_the_memory() {
    let memory = Arc::new(Budget::new(10_000));
    let (mut one, mut two) = (sharing(&memory), sharing(&memory));
    let data = pattern(8192);
    let asked = |peer: &mut Peer| {
        let request = write_request(peer, 8192, true);
        peer.send(&request.encode(0), &[]);
        peer.answers()
    };
    assert_eq!(asked(&mut one).len(), 2);
    assert!(asked(&mut two).is_empty(), "there is no memory");
    let again = two.connection.poll_timeout().unwrap();
    assert!(again <= two.now + MEMORY_AGAIN);
    two.connection.handle_timeout(again);
    assert!(two.answers().is_empty(), "the other one has it still");

    drop(one);
    let again = two.connection.poll_timeout().unwrap();
    assert!(again > two.now + MEMORY_AGAIN, "not all the time");
    two.connection.handle_timeout(again);
    for answer in two.answers() {
        answer_r2t(&mut two, &r2t(&answer), &data, 2048);
    }
    let command = two.command();
    assert_eq!(joined(&command), data);
    assert!(memory.used() >= 8192, "as long as the command is in work");
    two.connection
        .complete(command.task, ScsiResponse::good(8192));
    assert_eq!(memory.used(), 0);
    assert!(
        two.connection
            .poll_timeout()
            .is_none_or(|next| next > again + MEMORY_AGAIN)
    );
}

#[test]
fn data_that_nobody_asked_for_is_refused_if_there_is_no_memory_and_may_come_again() {
    const TASK_SET_FULL: u8 = 0x28;
    let memory = Arc::new(Budget::new(3000));
    let mut peer = sharing(&memory);
    let data = pattern(2048);
    // In the command, and in PDUs that follow it.
    let kept = write_request(&mut peer, 2048, true);
    peer.send(&kept.encode(2048), &data);
    let command = peer.command();
    for immediate in [2048, 512] {
        let request = write_request(&mut peer, 2048, immediate == 2048);
        peer.send(&request.encode(immediate), &data[..immediate]);
        if immediate < 2048 {
            let header = unsolicited(request.itt, 0, immediate as u32, true);
            send_data(&mut peer, &header, &data[immediate..]);
        }
        let answer = peer.answer();
        let header = ScsiResponsePdu::decode(&answer.header).unwrap();
        assert_eq!((header.itt, header.status), (request.itt, TASK_SET_FULL));
        assert!(answer.data.is_empty());
    }
    peer.connection
        .complete(command.task, ScsiResponse::good(2048));
    peer.answer();
    assert_eq!(memory.used(), 0);
    let again = write_request(&mut peer, 2048, true);
    peer.send(&again.encode(2048), &data);
    assert_eq!(joined(&peer.command()), data);
}
