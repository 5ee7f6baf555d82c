use bytes::Bytes;

use super::*;
use crate::command::{STATUS_CHECK_CONDITION, ScsiResponse};
use crate::pdu::{DataIn, Residual, ScsiResponsePdu};

fn ipxe_like() -> Peer {
    Peer::logged_in(
        Limits::default(),
        &[
            ("MaxRecvDataSegmentLength", "8192"),
            ("MaxBurstLength", "20000"),
        ],
    )
}

/// Checks numbers, offsets and sequence ends; gives the joined data and the last PDU.
fn join(answers: &[Answer]) -> (Vec<u8>, DataIn) {
    let mut data = Vec::new();
    let mut last = None;
    for (index, answer) in answers.iter().enumerate() {
        let header = DataIn::decode(&answer.header).unwrap();
        assert_eq!(header.data_sn as usize, index);
        assert_eq!(header.buffer_offset as usize, data.len());
        data.extend_from_slice(&answer.data);
        let ends_burst = data.len() % 20_000 == 0 || index + 1 == answers.len();
        assert_eq!(header.last, ends_burst);
        assert_eq!(header.status.is_some(), index + 1 == answers.len());
        last = Some(header);
    }
    (data, last.unwrap())
}

#[test]
fn data_is_cut_at_segments_and_bursts_of_the_initiator() {
    let data = pattern(50_000);
    let lengths = [8192, 8192, 3616, 8192, 8192, 3616, 8192, 1808];

    let mut shared = ipxe_like();
    let command = shared.send_read(50_000);
    let mut response = ScsiResponse::good(50_000);
    let bytes = Bytes::from(data.clone());
    response.data_in = [0..3, 3..30_000, 30_000..50_000]
        .map(|range| bytes.slice(range))
        .to_vec();
    shared.connection.complete(command.task, response);
    let answers = shared.answers();
    assert_eq!(
        answers.iter().map(|one| one.data.len()).collect::<Vec<_>>(),
        lengths
    );
    let (joined, last) = join(&answers);
    assert_eq!(joined, data);
    assert_eq!(last.status.unwrap().residual, Residual::None);

    let mut copied = ipxe_like();
    let command = copied.send_read(50_000);
    copied
        .connection
        .complete_read(command.task, 50_000, |offset, place| {
            place.copy_from_slice(&data[offset..offset + place.len()]);
            Ok::<_, ()>(())
        })
        .unwrap();
    let again = copied.answers();
    for (one, other) in answers.iter().zip(&again) {
        assert_eq!(one.header, other.header);
    }
    assert_eq!(join(&again).0, data);
    assert_eq!(copied.connection.active_tasks(), 0);
}

#[test]
fn a_read_that_would_wait_leaves_no_trace() {
    let mut peer = ipxe_like();
    let command = peer.send_read(30_000);
    let refused = peer
        .connection
        .complete_read(command.task, 30_000, |offset, _| {
            if offset < 10_000 {
                Ok(())
            } else {
                Err("would wait")
            }
        });
    assert_eq!(refused, Err("would wait"));
    assert_eq!(peer.connection.output_bytes(), 0);
    peer.connection.complete(
        command.task,
        ScsiResponse::with_data(vec![1; 30_000].into()),
    );
    assert_eq!(join(&peer.answers()).0, vec![1; 30_000]);
}

#[test]
fn long_data_may_be_sent_ahead() {
    let mut peer = ipxe_like();
    let data = pattern(45_000);
    let command = peer.send_read(45_000);
    let bytes = Bytes::from(data.clone());
    peer.connection
        .provide_data_in(command.task, bytes.slice(..20_000));
    peer.connection
        .provide_data_in(command.task, bytes.slice(20_000..40_000));
    assert!(peer.connection.output_bytes() > 40_000);
    let mut response = ScsiResponse::with_data(bytes.slice(40_000..));
    response.transfer_length = 45_000;
    peer.connection.complete(command.task, response);
    assert_eq!(join(&peer.answers()).0, data);
}

/// Expected by the initiator, asked for by the CDB, data sent, residual.
#[test]
fn reads_report_residuals_as_the_rfc_asks() {
    let cases = [
        (512, 512, 512, Residual::None),
        (1024, 512, 512, Residual::Underflow(512)),
        (512, 1024, 512, Residual::Overflow(512)),
        (0, 512, 0, Residual::Overflow(512)),
        (512, 0, 0, Residual::Underflow(512)),
    ];
    for inline in [false, true] {
        for (expected, asked, moved, residual) in cases {
            let mut peer = Peer::logged_in(Limits::default(), &[]);
            let command = peer.send_read(expected);
            if inline {
                let fill = |_, place: &mut [u8]| {
                    place.fill(7);
                    Ok::<_, ()>(())
                };
                peer.connection
                    .complete_read(command.task, asked, fill)
                    .unwrap();
            } else {
                let data = Bytes::from(vec![7; asked as usize]);
                peer.connection
                    .complete(command.task, ScsiResponse::with_data(data));
            }
            let answer = peer.answer();
            assert_eq!(answer.data.len(), moved);
            let found = if moved > 0 {
                let header = DataIn::decode(&answer.header).unwrap();
                header.status.unwrap().residual
            } else {
                ScsiResponsePdu::decode(&answer.header).unwrap().residual
            };
            assert_eq!(found, residual, "{expected} {asked}");
        }
    }
}

#[test]
fn a_bad_status_comes_with_sense_in_a_response_of_its_own() {
    let mut peer = Peer::logged_in(Limits::default(), &[]);
    let command = peer.send_read(4096);
    let sense = Bytes::from_static(&[0x70, 0, 3, 0, 0, 0, 0, 10]);
    peer.connection
        .complete(command.task, ScsiResponse::check_condition(sense.clone()));
    let answer = peer.answer();
    let header = ScsiResponsePdu::decode(&answer.header).unwrap();
    assert_eq!(
        (header.response, header.status),
        (0, STATUS_CHECK_CONDITION)
    );
    assert_eq!(header.residual, Residual::Underflow(4096));
    assert_eq!(answer.data[..2], [0, 8]);
    assert_eq!(answer.data[2..], sense);
}

#[test]
fn data_before_a_bad_status_is_counted() {
    let mut peer = Peer::logged_in(Limits::default(), &[]);
    let command = peer.send_read(16_384);
    peer.connection
        .provide_data_in(command.task, Bytes::from(vec![0; 16_384]));
    let sense = Bytes::from_static(&[0x70, 0, 3]);
    peer.connection
        .complete(command.task, ScsiResponse::check_condition(sense));
    let answers = peer.answers();
    let header = ScsiResponsePdu::decode(&answers[2].header).unwrap();
    assert_eq!(header.exp_data_sn, 2);
    assert_eq!(header.residual, Residual::None);
}

#[test]
fn status_numbers_count_answers_in_the_order_of_sending() {
    let mut peer = Peer::logged_in(Limits::default(), &[]);
    let first = peer.send_read(512);
    let second = peer.send_read(512);
    for command in [second, first] {
        let data = Bytes::from(vec![0; 512]);
        peer.connection
            .complete(command.task, ScsiResponse::with_data(data));
    }
    let answers = peer.answers();
    let [one, two] = [&answers[0], &answers[1]].map(|one| DataIn::decode(&one.header).unwrap());
    assert_eq!((one.itt, two.itt), (101, 100));
    assert_eq!(two.sequence.stat_sn, one.sequence.stat_sn + 1);
    assert_eq!(one.sequence.exp_cmd_sn, 102);
    assert_eq!(one.sequence.max_cmd_sn, 228);
    assert_eq!(two.sequence.max_cmd_sn, 229);
}

#[test]
fn answers_are_sent_once() {
    let mut peer = Peer::logged_in(Limits::default(), &[]);
    let command = peer.send_read(512);
    for _ in 0..2 {
        peer.connection
            .complete(command.task, ScsiResponse::good(0));
    }
    assert_eq!(peer.answers().len(), 1);
}
