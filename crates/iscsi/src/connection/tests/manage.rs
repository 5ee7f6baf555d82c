use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::command::{Lun, ScsiResponse, TaskFunction, TaskManagementResponse};
use crate::pdu::{
    AsyncEvent, AsyncMessage, LogoutReason, LogoutRequest, LogoutResponse, LogoutResult, NO_TAG,
    NopIn, NopOut, Reject, RejectReason, ScsiResponsePdu, SnackRequest, TaskRequest, TaskResponse,
};

fn task_request(function: u8, referenced: u32) -> TaskRequest {
    TaskRequest {
        immediate: true,
        function,
        lun: 0,
        itt: 9000,
        referenced_task_tag: referenced,
        cmd_sn: 0,
        exp_stat_sn: 0,
        ref_cmd_sn: referenced,
        exp_data_sn: 0,
    }
}

fn manage(peer: &mut Peer, request: &TaskRequest) -> crate::TaskManagementRequest {
    peer.send(&request.encode(), &[]);
    match peer.connection.poll_event() {
        Some(Event::TaskManagement(request)) => request,
        other => panic!("no task management but {other:?}"),
    }
}

fn task_response(peer: &mut Peer) -> u8 {
    TaskResponse::decode(&peer.answer().header)
        .unwrap()
        .response
}

#[test]
fn an_aborted_command_is_never_answered() {
    let mut peer = Peer::logged_in(Limits::default(), &[]);
    let command = peer.send_read(512);
    let other = peer.send_read(512);
    let request = manage(&mut peer, &task_request(1, command.itt));
    assert_eq!(request.function, TaskFunction::AbortTask);
    assert_eq!(request.affected, [command.task]);
    let late = ScsiResponse::with_data(Bytes::from(vec![0; 512]));
    peer.connection.complete(command.task, late.clone());
    assert_eq!(peer.connection.output_bytes(), 0);
    peer.connection
        .task_management_response(request.task, TaskManagementResponse::FunctionComplete);
    assert_eq!(task_response(&mut peer), 0);
    peer.connection.complete(other.task, late);
    assert_eq!(peer.answers().len(), 1);
}

#[test]
fn a_late_answer_is_not_taken_for_that_of_a_new_command_with_the_same_tag() {
    let mut peer = Peer::logged_in(Limits::default(), &[]);
    let old = peer.send_read(512);
    let request = manage(&mut peer, &task_request(1, old.itt));
    peer.connection
        .task_management_response(request.task, TaskManagementResponse::FunctionComplete);
    peer.answers();
    let mut again = peer.request(512);
    again.read = true;
    again.itt = old.itt;
    peer.send(&again.encode(0), &[]);
    let new = peer.command();
    assert_ne!(new.task, old.task);
    peer.connection.complete(old.task, ScsiResponse::good(0));
    assert_eq!(peer.connection.output_bytes(), 0);
}

#[test]
fn aborting_what_is_not_there_is_answered_at_once() {
    let mut peer = Peer::logged_in(Limits::default(), &[]);
    peer.send(&task_request(1, 55).encode(), &[]);
    assert_eq!(task_response(&mut peer), 1);
    // Its number lies ahead: it counts as received and aborted.
    let ahead = peer.cmd_sn + 3;
    peer.send(&task_request(1, ahead).encode(), &[]);
    assert_eq!(task_response(&mut peer), 0);
}

#[test]
fn functions_that_are_not_supported_say_so() {
    let mut peer = Peer::logged_in(Limits::default(), &[]);
    for (function, response) in [(3, 5), (8, 4), (0, 255), (9, 255)] {
        peer.send(&task_request(function, 0).encode(), &[]);
        assert_eq!(task_response(&mut peer), response, "{function}");
    }
}

#[test]
fn a_reset_affects_the_commands_of_its_unit() {
    for (function, expected, count) in [
        (2, TaskFunction::AbortTaskSet, 1),
        (4, TaskFunction::ClearTaskSet, 1),
        (5, TaskFunction::LogicalUnitReset, 1),
        (6, TaskFunction::TargetWarmReset, 2),
        (7, TaskFunction::TargetColdReset, 2),
    ] {
        let mut peer = Peer::logged_in(Limits::default(), &[]);
        peer.send_read(512);
        let mut other = peer.request(512);
        other.read = true;
        other.lun = Lun::from_number(1).0;
        peer.send(&other.encode(0), &[]);
        peer.command();
        let request = manage(&mut peer, &task_request(function, NO_TAG));
        assert_eq!(
            (request.function, request.affected.len()),
            (expected, count)
        );
        assert_eq!(peer.connection.active_tasks(), 3 - count);
    }
}

#[test]
fn a_reset_by_another_session_takes_the_commands_and_waiting_writes() {
    let mut peer = Peer::logged_in(Limits::default(), &[]);
    let read = peer.send_read(512);
    let mut write = peer.request(4096);
    write.write = true;
    peer.send(&write.encode(0), &[]);
    assert_eq!(peer.answers().len(), 1);
    assert_eq!(peer.connection.abort_tasks(Some(Lun(0))), [read.task]);
    assert_eq!(peer.connection.active_tasks(), 0);
    assert_eq!(peer.connection.abort_tasks(None), []);
}

#[test]
fn pings_are_echoed() {
    let mut peer = Peer::logged_in(Limits::default(), &[("MaxRecvDataSegmentLength", "512")]);
    let ping = |itt, immediate| NopOut {
        immediate,
        lun: 0,
        itt,
        ttt: NO_TAG,
        cmd_sn: 100,
        exp_stat_sn: 0,
    };
    peer.send(&ping(7, false).encode(5), b"hello");
    let answer = peer.answer();
    let header = NopIn::decode(&answer.header).unwrap();
    assert_eq!((header.itt, header.ttt), (7, NO_TAG));
    assert_eq!(header.sequence.exp_cmd_sn, 101);
    assert_eq!(answer.data, b"hello");
    peer.send(&ping(8, true).encode(600), &[1; 600]);
    assert_eq!(peer.answer().data.len(), 512);
    peer.send(&ping(NO_TAG, true).encode(0), &[]);
    assert!(peer.answers().is_empty());
}

#[test]
fn a_silent_initiator_is_pinged_only_if_that_is_configured() {
    let peer = Peer::logged_in(Limits::default(), &[]);
    let due = peer.connection.poll_timeout();
    assert!(due.is_none_or(|due| due < peer.now + Duration::from_secs(5)));

    let limits = Limits {
        ping_interval: Some(Duration::from_secs(10)),
        ..Limits::default()
    };
    let mut peer = Peer::logged_in(limits, &[]);
    let start = peer.now;
    peer.connection
        .handle_timeout(start + Duration::from_secs(10));
    let ping = NopIn::decode(&peer.answer().header).unwrap();
    assert!(ping.itt == NO_TAG && ping.ttt != NO_TAG);
    let pong = NopOut {
        immediate: true,
        lun: 0,
        itt: NO_TAG,
        ttt: ping.ttt,
        cmd_sn: 100,
        exp_stat_sn: 0,
    };
    peer.now = start + Duration::from_secs(11);
    peer.send(&pong.encode(0), &[]);
    peer.connection
        .handle_timeout(start + Duration::from_secs(21));
    assert_eq!(peer.answers().len(), 1);
    peer.connection
        .handle_timeout(start + Duration::from_secs(31));
    assert!(matches!(peer.closed(), CloseReason::PingTimeout));
}

#[test]
fn logout_is_answered_and_closes() {
    for (reason, cid, result) in [
        (LogoutReason::CloseSession, 9, LogoutResult::Closed),
        (LogoutReason::CloseConnection, 0, LogoutResult::Closed),
        (LogoutReason::CloseConnection, 9, LogoutResult::CidNotFound),
        (
            LogoutReason::RemoveForRecovery,
            0,
            LogoutResult::RecoveryNotSupported,
        ),
    ] {
        let mut peer = Peer::logged_in(Limits::default(), &[]);
        let request = LogoutRequest {
            immediate: true,
            reason,
            itt: 5,
            cid,
            cmd_sn: 100,
            exp_stat_sn: 0,
        };
        peer.send(&request.encode(), &[]);
        let response = LogoutResponse::decode(&peer.answer().header).unwrap();
        assert_eq!((response.result, response.itt), (result, 5));
        if result == LogoutResult::Closed {
            assert!(matches!(peer.closed(), CloseReason::Logout));
            // What still comes is ignored.
            peer.send(&request.encode(), &[]);
            assert!(peer.answers().is_empty());
        } else {
            assert!(peer.is_open());
        }
    }
}

#[test]
fn commands_outside_the_window_are_dropped_and_early_ones_wait() {
    let limits = Limits {
        queue_depth: 4,
        ..Limits::default()
    };
    let mut peer = Peer::logged_in(limits, &[]);
    for outside in [99, 104, 5000] {
        let mut request = peer.request(512);
        peer.cmd_sn = 100;
        request.read = true;
        request.cmd_sn = outside;
        peer.send(&request.encode(0), &[]);
        assert!(peer.is_open() && peer.answers().is_empty(), "{outside}");
    }
    let requests: Vec<_> = (0..3).map(|_| peer.request(0)).collect();
    for index in [2, 1, 2] {
        peer.send(&requests[index].encode(0), &[]);
        assert!(peer.is_open());
    }
    peer.send(&requests[0].encode(0), &[]);
    let order: Vec<u32> = (0..3).map(|_| peer.command().itt).collect();
    assert_eq!(order, [100, 101, 102]);
    assert!(peer.is_open());
}

#[test]
fn the_window_closes_when_its_commands_are_in_work() {
    let limits = Limits {
        queue_depth: 2,
        ..Limits::default()
    };
    let mut peer = Peer::logged_in(limits, &[]);
    let first = peer.send_read(0);
    peer.send_read(0);
    let third = peer.request(0);
    peer.send(&third.encode(0), &[]);
    assert!(peer.is_open());
    peer.connection.complete(first.task, ScsiResponse::good(0));
    let header = ScsiResponsePdu::decode(&peer.answer().header).unwrap();
    assert_eq!(header.sequence.max_cmd_sn, third.cmd_sn);
    peer.send(&third.encode(0), &[]);
    assert_eq!(peer.command().itt, third.itt);
}

#[test]
fn immediate_commands_pass_the_window_in_bounded_number() {
    let mut peer = Peer::logged_in(Limits::default(), &[]);
    let template = peer.request(0);
    for itt in 0..64 {
        let request = ScsiRequest {
            immediate: true,
            itt: 10_000 + itt,
            ..template.clone()
        };
        peer.send(&request.encode(0), &[]);
        assert_eq!(peer.command().itt, request.itt);
    }
    let request = ScsiRequest {
        immediate: true,
        itt: 20_000,
        ..template.clone()
    };
    peer.send(&request.encode(0), &[]);
    let reject = Reject::decode(&peer.answer().header).unwrap();
    assert_eq!(reject.reason, RejectReason::ImmediateCommandReject);
    assert_eq!(reject.sequence.exp_cmd_sn, template.cmd_sn);
}

fn rejected(peer: &mut Peer, header: &Header) -> RejectReason {
    peer.send(header, &[]);
    let answer = peer.answer();
    assert_eq!(answer.data, header);
    Reject::decode(&answer.header).unwrap().reason
}

#[test]
fn what_cannot_be_done_is_rejected_with_its_reason() {
    let mut peer = Peer::logged_in(Limits::default(), &[]);
    // Data or R2T, status, data acknowledgement, R-data, reserved.
    for kind in [0, 1, 2, 3, 4, 15] {
        let snack = SnackRequest {
            kind,
            lun: 0,
            itt: NO_TAG,
            ttt: NO_TAG,
            exp_stat_sn: 0,
            beg_run: 0,
            run_length: 0,
        };
        assert_eq!(
            rejected(&mut peer, &snack.encode()),
            RejectReason::ProtocolError,
            "kind {kind}"
        );
    }
    let mut unknown = [0; HEADER_BYTES];
    unknown[0] = 0x40 | 0x1c;
    assert_eq!(
        rejected(&mut peer, &unknown),
        RejectReason::CommandNotSupported
    );
    let taken = peer.send_read(0).itt;
    let mut twice = peer.request(0);
    twice.itt = taken;
    assert_eq!(
        rejected(&mut peer, &twice.encode(0)),
        RejectReason::TaskInProgress
    );
    let mut untagged = peer.request(0);
    untagged.itt = NO_TAG;
    assert_eq!(
        rejected(&mut peer, &untagged.encode(0)),
        RejectReason::InvalidPduField
    );
    assert!(peer.is_open());
}

#[test]
fn firmware_never_sees_reject_or_async_message() {
    let mut peer = Peer::new(Limits::default());
    peer.isid = [0x40, 0x00, 0x27, 0x23, 1, 2];
    peer.log_in(&[]);
    assert!(!peer.connection.request_logout(Duration::from_secs(1)));
    assert!(!peer.connection.announce_drop(2));
    assert!(!peer.connection.send_scsi_event(Lun(0), &[0x70]));
    let mut unknown = [0; HEADER_BYTES];
    unknown[0] = 0x40 | 0x1c;
    peer.send(&unknown, &[]);
    assert!(matches!(peer.closed(), CloseReason::Protocol(_)));
    assert!(peer.answers().is_empty());
}

#[test]
fn others_are_asked_to_log_out_and_told_of_what_happens() {
    let mut peer = Peer::logged_in(Limits::default(), &[]);
    assert!(peer.connection.request_logout(Duration::from_secs(3)));
    let message = AsyncMessage::decode(&peer.answer().header).unwrap();
    assert_eq!(message.event, AsyncEvent::LogoutRequest { within_secs: 3 });
    assert!(peer.connection.announce_drop(2));
    let message = AsyncMessage::decode(&peer.answer().header).unwrap();
    let dropped = AsyncEvent::SessionDrop {
        time2wait: 2,
        time2retain: 0,
    };
    assert_eq!(message.event, dropped);
    assert!(peer.connection.send_scsi_event(Lun(0), &[0x70, 0, 6]));
    let answer = peer.answer();
    assert_eq!(answer.data, [0, 3, 0x70, 0, 6]);
}

#[test]
fn who_logs_out_because_we_asked_may_be_back_soon() {
    for (asked, time2wait) in [(false, 2), (true, 1)] {
        let mut peer = Peer::logged_in(Limits::default(), &[("DefaultTime2Wait", "2")]);
        if asked {
            assert!(peer.connection.request_logout(Duration::from_secs(1)));
            peer.answer();
        }
        let request = LogoutRequest {
            reason: LogoutReason::CloseSession,
            immediate: true,
            itt: 9,
            cid: 0,
            cmd_sn: 0,
            exp_stat_sn: 0,
        };
        peer.send(&request.encode(), &[]);
        let answer = peer.answer();
        let response = LogoutResponse::decode(&answer.header).unwrap();
        assert_eq!(
            (response.result, response.time2wait),
            (LogoutResult::Closed, time2wait)
        );
    }
}

#[test]
fn an_idle_connection_gives_its_buffers_back() {
    let mut peer = Peer::logged_in(Limits::default(), &[("FirstBurstLength", "262144")]);
    for _ in 0..8 {
        let mut request = peer.request(200_000);
        request.write = true;
        let data = pattern(200_000);
        peer.send(&request.encode(data.len()), &data);
        let command = peer.command();
        peer.connection
            .complete(command.task, ScsiResponse::good(200_000));
        let command = peer.send_read(60_000);
        let fill = |_, _: &mut [u8]| Ok::<_, ()>(());
        peer.connection
            .complete_read(command.task, 60_000, fill)
            .unwrap();
        peer.answers();
    }
    assert!(peer.connection.kept_bytes() > 60_000);
    let due = peer.connection.poll_timeout().unwrap();
    peer.connection.handle_timeout(due);
    assert!(peer.connection.kept_bytes() < 4096);
    assert_eq!(peer.connection.poll_timeout(), None);
}
