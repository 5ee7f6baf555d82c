use std::time::Duration;

use super::*;
use crate::chap;
use crate::directory::ChapSecret;
use crate::event::InitiatorFamily;
use crate::pdu::{NO_TAG, TextRequest, TextResponse};

/// What iPXE offers (Debian 12's ROM), in its order.
const IPXE_OPERATIONAL: &[(&str, &str)] = &[
    ("HeaderDigest", "None"),
    ("DataDigest", "None"),
    ("MaxConnections", "1"),
    ("InitialR2T", "Yes"),
    ("ImmediateData", "No"),
    ("MaxRecvDataSegmentLength", "8192"),
    ("MaxBurstLength", "262144"),
    ("FirstBurstLength", "65536"),
    ("DefaultTime2Wait", "0"),
    ("DefaultTime2Retain", "0"),
    ("MaxOutstandingR2T", "1"),
    ("DataPDUInOrder", "Yes"),
    ("DataSequenceInOrder", "Yes"),
    ("ErrorRecoveryLevel", "0"),
];

/// What EDK2's IScsiDxe offers (Debian 12's OVMF, from a capture), in its order.
const EDK2_OPERATIONAL: &[(&str, &str)] = &[
    ("HeaderDigest", "None"),
    ("DataDigest", "None"),
    ("ErrorRecoveryLevel", "0"),
    ("InitialR2T", "No"),
    ("ImmediateData", "Yes"),
    ("MaxRecvDataSegmentLength", "65536"),
    ("MaxBurstLength", "262144"),
    ("FirstBurstLength", "65536"),
    ("MaxConnections", "1"),
    ("DataPDUInOrder", "Yes"),
    ("DataSequenceInOrder", "Yes"),
    ("DefaultTime2Wait", "2"),
    ("DefaultTime2Retain", "20"),
    ("MaxOutstandingR2T", "1"),
];

/// What iscsid offers when it takes over from iscsistart, with digests.
const ISCSID_OPERATIONAL: &[(&str, &str)] = &[
    ("HeaderDigest", "CRC32C,None"),
    ("DataDigest", "CRC32C"),
    ("DefaultTime2Wait", "2"),
    ("DefaultTime2Retain", "0"),
    ("IFMarker", "No"),
    ("OFMarker", "No"),
    ("ErrorRecoveryLevel", "0"),
    ("InitialR2T", "No"),
    ("ImmediateData", "Yes"),
    ("MaxBurstLength", "16776192"),
    ("FirstBurstLength", "262144"),
    ("MaxOutstandingR2T", "1"),
    ("MaxConnections", "1"),
    ("DataPDUInOrder", "Yes"),
    ("DataSequenceInOrder", "Yes"),
    ("MaxRecvDataSegmentLength", "262144"),
];

fn security_keys(method: &'static str) -> Vec<(&'static str, &'static str)> {
    let mut keys = NAMES.to_vec();
    keys.push(("AuthMethod", method));
    keys
}

/// Each offered key (but declarations) answered once, nothing but our declaration added.
fn assert_answered_exactly(answer: &Answer, offered: &[(&str, &str)]) {
    let mut expected: Vec<&str> = offered.iter().map(|(key, _)| *key).collect();
    expected.sort_unstable();
    let pairs = answer.pairs();
    let mut found: Vec<&str> = pairs.iter().map(|(key, _)| key.as_str()).collect();
    found.sort_unstable();
    assert_eq!(found, expected);
}

fn finish(peer: &mut Peer) -> Box<LoggedIn> {
    match peer.connection.poll_event() {
        Some(Event::LoggedIn(facts)) => facts,
        other => panic!("no login but {other:?}"),
    }
}

#[test]
fn ipxe_logs_in_as_its_trace_shows() {
    let mut peer = Peer::new(Limits::default());
    peer.isid = [0x40, 0x00, 0x27, 0x23, 0xab, 0xcd];
    let first = peer.login(
        Stage::Security,
        Some(Stage::Operational),
        &security_keys("None"),
    );
    assert_eq!(first.login().nsg, Some(Stage::Operational));
    assert_eq!(first.login().tsih, 0);
    assert_eq!(first.login().sequence.exp_cmd_sn, 100);
    assert_eq!(first.value("AuthMethod").as_deref(), Some("None"));
    assert_eq!(first.value("TargetPortalGroupTag").as_deref(), Some("1"));
    assert_eq!(first.pairs().len(), 2);

    let second = peer.login(
        Stage::Operational,
        Some(Stage::FullFeature),
        IPXE_OPERATIONAL,
    );
    let response = second.login();
    assert_eq!(
        (response.nsg, response.tsih),
        (Some(Stage::FullFeature), 0x1234)
    );
    assert_eq!(
        response.sequence.stat_sn,
        first.login().sequence.stat_sn + 1
    );
    assert_eq!(response.isid, peer.isid);
    assert_answered_exactly(&second, IPXE_OPERATIONAL);
    assert_eq!(
        second.value("MaxRecvDataSegmentLength").as_deref(),
        Some("262144")
    );

    let facts = finish(&mut peer);
    assert_eq!(facts.family, InitiatorFamily::Ipxe);
    assert_eq!((facts.cookie, facts.authenticated), (77, false));
    assert!(facts.parameters.initial_r2t && !facts.parameters.immediate_data);
    assert_eq!(
        facts.parameters.initiator_max_recv_data_segment_length,
        8192
    );
    assert!(peer.is_open());
}

#[test]
fn edk2_gets_every_key_once_and_no_other() {
    let mut peer = Peer::new(Limits::default());
    peer.isid = [0x12, 0x54, 0x00, 0x77, 0x00, 0x14];
    let first = peer.login(
        Stage::Security,
        Some(Stage::Operational),
        &security_keys("None"),
    );
    assert_eq!(first.login().status, 0);
    let second = peer.login(
        Stage::Operational,
        Some(Stage::FullFeature),
        EDK2_OPERATIONAL,
    );
    assert_answered_exactly(&second, EDK2_OPERATIONAL);
    assert_eq!(second.value("InitialR2T").as_deref(), Some("No"));
    assert_eq!(second.value("ImmediateData").as_deref(), Some("Yes"));
    assert_eq!(second.value("MaxOutstandingR2T").as_deref(), Some("1"));
    assert_eq!(finish(&mut peer).family, InitiatorFamily::Edk2);
}

#[test]
fn a_transition_that_was_not_asked_for_is_not_made() {
    let mut peer = Peer::new(Limits::default());
    let first = peer.login(Stage::Security, None, &security_keys("None"));
    assert_eq!(first.login().nsg, None);
    let second = peer.login(Stage::Security, Some(Stage::Operational), &[]);
    assert_eq!(second.login().nsg, Some(Stage::Operational));
    assert!(second.data.is_empty());
}

#[test]
fn iscsid_takes_over_with_digests() {
    let mut peer = Peer::new(Limits::default());
    peer.login(
        Stage::Security,
        Some(Stage::Operational),
        &security_keys("CHAP,None"),
    );
    let second = peer.login(
        Stage::Operational,
        Some(Stage::FullFeature),
        ISCSID_OPERATIONAL,
    );
    assert_answered_exactly(&second, ISCSID_OPERATIONAL);
    assert_eq!(second.value("HeaderDigest").as_deref(), Some("CRC32C"));
    assert_eq!(second.value("IFMarker").as_deref(), Some("No"));
    assert_eq!(second.value("MaxBurstLength").as_deref(), Some("1048576"));
    let facts = finish(&mut peer);
    assert_eq!(facts.family, InitiatorFamily::OpenIscsi);
    peer.header_digest = true;
    peer.data_digest = true;
    let command = peer.send_read(6);
    peer.connection
        .complete_read(command.task, 6, |_, place| {
            place.copy_from_slice(b"digest");
            Ok::<_, ()>(())
        })
        .unwrap();
    assert_eq!(peer.answer().data, b"digest");
}

#[test]
fn libiscsi_starts_at_the_operational_stage() {
    let mut peer = Peer::new(Limits::default());
    peer.isid = [0x80, 1, 2, 3, 0, 0];
    let facts = peer.log_in(&[
        ("HeaderDigest", "None,CRC32C"),
        ("InitialR2T", "No"),
        ("ImmediateData", "Yes"),
        ("MaxRecvDataSegmentLength", "262144"),
        ("X-com.example.unknown", "1"),
    ]);
    assert_eq!(facts.family, InitiatorFamily::Libiscsi);
}

#[test]
fn names_may_be_repeated_in_the_operational_stage() {
    let mut peer = Peer::new(Limits::default());
    peer.login(
        Stage::Security,
        Some(Stage::Operational),
        &security_keys("None"),
    );
    peer.log_in(&[]);
}

#[test]
fn the_login_may_end_right_after_the_security_stage() {
    let mut peer = Peer::new(Limits::default());
    peer.login(
        Stage::Security,
        Some(Stage::FullFeature),
        &security_keys("None"),
    );
    let facts = finish(&mut peer);
    assert_eq!(facts.parameters, SessionParameters::default());
}

#[test]
fn text_that_goes_on_in_the_next_pdu_is_joined() {
    let mut peer = Peer::new(Limits::default());
    let text = text_of(NAMES);
    let (head, tail) = text.split_at(25);
    let mut request = peer.login_request(Stage::Operational, None);
    request.more = true;
    peer.send(&request.encode(head.len()), head);
    let first = peer.answer();
    assert!(first.data.is_empty() && first.login().status == 0);
    let request = peer.login_request(Stage::Operational, Some(Stage::FullFeature));
    peer.send(&request.encode(tail.len()), tail);
    assert_eq!(peer.answer().login().tsih, 0x1234);
    assert_eq!(finish(&mut peer).identity.initiator_name, INITIATOR);
}

#[test]
fn text_that_never_ends_is_refused() {
    let mut peer = Peer::new(Limits::default());
    let mut request = peer.login_request(Stage::Operational, None);
    request.more = true;
    let chunk = vec![b'a'; 8000];
    for _ in 0..3 {
        peer.send(&request.encode(chunk.len()), &chunk);
    }
    let last = peer.answers().pop().unwrap();
    assert_eq!(last.login().status, LoginStatus::InitiatorError.code());
    assert!(matches!(
        peer.closed(),
        CloseReason::LoginRefused(LoginStatus::InitiatorError)
    ));
}

#[test]
fn empty_requests_for_ever_are_refused() {
    let mut peer = Peer::new(Limits::default());
    peer.login(Stage::Security, None, &security_keys("None"));
    for _ in 0..70 {
        let request = peer.login_request(Stage::Security, None);
        peer.send(&request.encode(0), &[]);
    }
    assert!(matches!(peer.closed(), CloseReason::LoginRefused(_)));
}

type Change = fn(&mut LoginRequest, &mut Vec<(&str, &str)>);

/// How the first request differs from a good one, and the status that it gets.
const LOGIN_FAULTS: &[(&str, Change, LoginStatus)] = &[
    (
        "no initiator name",
        |_, keys| keys.retain(|(key, _)| *key != "InitiatorName"),
        LoginStatus::MissingParameter,
    ),
    (
        "no target name",
        |_, keys| keys.retain(|(key, _)| *key != "TargetName"),
        LoginStatus::MissingParameter,
    ),
    (
        "foreign initiator",
        |_, keys| keys[0].1 = "iqn.2026-01.org.dess:other",
        LoginStatus::AuthorizationFailure,
    ),
    (
        "unknown target",
        |_, keys| keys[1].1 = "iqn.2026-01.org.dess:none",
        LoginStatus::NotFound,
    ),
    (
        "unknown session type",
        |_, keys| keys[2].1 = "Other",
        LoginStatus::SessionTypeNotSupported,
    ),
    (
        "newer version only",
        |request, _| request.version_min = 1,
        LoginStatus::UnsupportedVersion,
    ),
    (
        "second connection",
        |request, _| request.tsih = 5,
        LoginStatus::SessionDoesNotExist,
    ),
    (
        "backwards",
        |request, _| request.nsg = Some(Stage::Security),
        LoginStatus::InvalidRequest,
    ),
    (
        "already there",
        |request, _| request.csg = Stage::FullFeature,
        LoginStatus::InvalidRequest,
    ),
    (
        "more text and transition",
        |request, _| request.more = true,
        LoginStatus::InvalidRequest,
    ),
    (
        "a key twice",
        |_, keys| keys.extend([("InitialR2T", "No"), ("InitialR2T", "No")]),
        LoginStatus::InitiatorError,
    ),
    (
        "impossible declaration",
        |_, keys| keys.push(("MaxRecvDataSegmentLength", "1")),
        LoginStatus::InitiatorError,
    ),
    (
        "security key too late",
        |_, keys| keys.push(("AuthMethod", "None")),
        LoginStatus::InvalidRequest,
    ),
    (
        "empty name",
        |_, keys| keys[0].1 = "",
        LoginStatus::InitiatorError,
    ),
];

#[test]
fn each_fault_of_a_login_has_its_status() {
    for (name, change, status) in LOGIN_FAULTS {
        let mut peer = Peer::new(Limits::default());
        let mut request = peer.login_request(Stage::Operational, Some(Stage::FullFeature));
        let mut keys = NAMES.to_vec();
        change(&mut request, &mut keys);
        let text = text_of(&keys);
        peer.send(&request.encode(text.len()), &text);
        assert_eq!(peer.answer().login().status, status.code(), "{name}");
        assert!(
            matches!(peer.closed(), CloseReason::LoginRefused(found) if found == *status),
            "{name}"
        );
    }
}

#[test]
fn a_changed_isid_or_stage_within_a_login_is_refused() {
    for change in [
        (|request| request.isid[5] ^= 1) as fn(&mut LoginRequest),
        |request| request.cid = 9,
        |request| request.csg = Stage::Security,
    ] {
        let mut peer = Peer::new(Limits::default());
        peer.login(Stage::Operational, None, NAMES);
        let mut request = peer.login_request(Stage::Operational, None);
        change(&mut request);
        peer.send(&request.encode(0), &[]);
        let status = peer.answer().login().status;
        assert_eq!(status, LoginStatus::InvalidRequest.code());
    }
}

#[test]
fn a_login_that_takes_too_long_is_ended() {
    let mut peer = Peer::new(Limits::default());
    let deadline = peer.connection.poll_timeout().unwrap();
    assert_eq!(deadline, peer.now + Duration::from_secs(30));
    peer.connection.handle_timeout(deadline);
    assert!(matches!(peer.closed(), CloseReason::LoginTimeout));
    assert_eq!(peer.connection.poll_timeout(), None);
}

fn credentials(target: bool) -> ChapCredentials {
    let secret = |user: &str, secret: &str| ChapSecret {
        user: user.into(),
        secret: secret.as_bytes().to_vec(),
    };
    ChapCredentials {
        initiator: secret("seat-1", "initiatorsecret"),
        target: target.then(|| secret("server", "targetsecret123")),
    }
}

/// Runs CHAP as iPXE and open-iscsi do; gives the last answer.
fn run_chap(peer: &mut Peer, user: &str, secret: &[u8], mutual: &[(&str, &str)]) -> Answer {
    let first = peer.login(
        Stage::Security,
        Some(Stage::Operational),
        &security_keys("CHAP,None"),
    );
    assert_eq!(first.value("AuthMethod").as_deref(), Some("CHAP"));
    assert_eq!(first.login().nsg, None);
    let second = peer.login(Stage::Security, None, &[("CHAP_A", "7,5")]);
    assert_eq!(second.value("CHAP_A").as_deref(), Some("5"));
    let identifier = second.value("CHAP_I").unwrap().parse().unwrap();
    let challenge = text::decode_binary(&second.value("CHAP_C").unwrap()).unwrap();
    assert!(challenge.len() >= 16);
    let response = text::encode_hex(&chap::response(identifier, secret, &challenge));
    let mut keys = vec![("CHAP_N", user), ("CHAP_R", response.as_str())];
    keys.extend_from_slice(mutual);
    peer.login(Stage::Security, Some(Stage::Operational), &keys)
}

#[test]
fn chap_with_the_right_secret_goes_on() {
    let mut peer = Peer::new(Limits::default());
    peer.directory.chap = Some(credentials(false));
    let last = run_chap(&mut peer, "seat-1", b"initiatorsecret", &[]);
    assert_eq!(last.login().nsg, Some(Stage::Operational));
    assert!(last.data.is_empty());
    peer.login(
        Stage::Operational,
        Some(Stage::FullFeature),
        IPXE_OPERATIONAL,
    );
    assert!(finish(&mut peer).authenticated);
}

#[test]
fn chap_with_a_wrong_secret_or_name_is_refused() {
    for (user, secret) in [
        ("seat-1", "wrongsecret"),
        ("seat-2", "initiatorsecret"),
        ("", ""),
    ] {
        let mut peer = Peer::new(Limits::default());
        peer.directory.chap = Some(credentials(false));
        let last = run_chap(&mut peer, user, secret.as_bytes(), &[]);
        assert_eq!(last.login().status, 0x0201);
        assert_eq!(last.login().nsg, None);
        assert!(matches!(peer.closed(), CloseReason::LoginRefused(_)));
    }
}

#[test]
fn chap_cannot_be_avoided() {
    let required = |csg, nsg, keys: &[(&str, &str)]| {
        let mut peer = Peer::new(Limits::default());
        peer.directory.chap = Some(credentials(false));
        let status = peer.login(csg, nsg, keys).login().status;
        assert!(matches!(peer.closed(), CloseReason::LoginRefused(_)));
        status
    };
    let to_operational = Some(Stage::Operational);
    let to_end = Some(Stage::FullFeature);
    assert_eq!(
        required(Stage::Security, to_operational, &security_keys("None")),
        0x0201
    );
    assert_eq!(
        required(Stage::Security, to_end, &security_keys("None")),
        0x0201
    );
    assert_eq!(required(Stage::Security, to_operational, NAMES), 0x0201);
    assert_eq!(required(Stage::Operational, to_end, NAMES), 0x0201);
    assert_eq!(required(Stage::Operational, None, NAMES), 0x0201);
}

#[test]
fn leaving_the_stage_in_the_middle_of_chap_does_not_work() {
    let mut peer = Peer::new(Limits::default());
    peer.directory.chap = Some(credentials(false));
    peer.login(Stage::Security, None, &security_keys("CHAP"));
    let answer = peer.login(
        Stage::Security,
        Some(Stage::FullFeature),
        &[("CHAP_A", "5")],
    );
    assert_eq!(answer.login().nsg, None);
    let skipped = peer.login(Stage::Security, Some(Stage::FullFeature), &[]);
    assert_eq!(skipped.login().status, 0x0201);
}

#[test]
fn an_algorithm_that_we_do_not_have_is_refused() {
    let mut peer = Peer::new(Limits::default());
    peer.directory.chap = Some(credentials(false));
    peer.login(Stage::Security, None, &security_keys("CHAP"));
    let answer = peer.login(Stage::Security, None, &[("CHAP_A", "7")]);
    assert_eq!(answer.login().status, 0x0201);
}

#[test]
fn mutual_chap_proves_the_target() {
    let mut peer = Peer::new(Limits::default());
    peer.directory.chap = Some(credentials(true));
    let challenge = text::encode_hex(&[9; 16]);
    let mutual = [("CHAP_I", "200"), ("CHAP_C", challenge.as_str())];
    let last = run_chap(&mut peer, "seat-1", b"initiatorsecret", &mutual);
    assert_eq!(last.login().nsg, Some(Stage::Operational));
    assert_eq!(last.value("CHAP_N").as_deref(), Some("server"));
    let expected = chap::response(200, b"targetsecret123", &[9; 16]);
    assert_eq!(last.value("CHAP_R"), Some(text::encode_hex(&expected)));
}

#[test]
fn a_reflected_challenge_is_refused() {
    let mut peer = Peer::new(Limits::default());
    peer.directory.chap = Some(credentials(true));
    let reflected = text::encode_hex(&SEED[..16]);
    let mutual = [("CHAP_I", "90"), ("CHAP_C", reflected.as_str())];
    let last = run_chap(&mut peer, "seat-1", b"initiatorsecret", &mutual);
    assert_eq!(last.login().status, 0x0201);
}

#[test]
fn a_discovery_session_lists_the_targets_of_the_asking_initiator() {
    let mut peer = Peer::new(Limits::default());
    let keys = [
        ("InitiatorName", INITIATOR),
        ("SessionType", "Discovery"),
        ("MaxRecvDataSegmentLength", "512"),
        ("InitialR2T", "No"),
    ];
    let answer = peer.login(Stage::Operational, Some(Stage::FullFeature), &keys);
    assert_eq!(answer.value("InitialR2T").as_deref(), Some("Irrelevant"));
    assert_eq!(answer.value("TargetPortalGroupTag"), None);
    assert!(finish(&mut peer).is_discovery());

    let found = send_targets(&mut peer, "All");
    assert_eq!(found.value("TargetName").as_deref(), Some(TARGET));
    assert_eq!(
        found.value("TargetAddress").as_deref(),
        Some("192.0.2.1:3260,1")
    );
    let other = send_targets(&mut peer, "iqn.2026-01.org.dess:other");
    assert!(other.data.is_empty());

    let request = peer.request(0);
    peer.send(&request.encode(0), &[]);
    assert_eq!(peer.answer().opcode(), 0x3f);
}

fn send_targets(peer: &mut Peer, value: &str) -> Answer {
    let text = text_of(&[("SendTargets", value)]);
    let request = TextRequest {
        immediate: false,
        last: true,
        more: false,
        lun: 0,
        itt: 5,
        ttt: NO_TAG,
        cmd_sn: peer.cmd_sn,
        exp_stat_sn: 0,
    };
    peer.cmd_sn += 1;
    peer.send(&request.encode(text.len()), &text);
    let answer = peer.answer();
    let response = TextResponse::decode(&answer.header).unwrap();
    assert!(response.last && !response.more && response.ttt == NO_TAG);
    answer
}

#[test]
fn a_normal_session_learns_only_of_its_own_target() {
    let mut peer = Peer::logged_in(Limits::default(), &[]);
    let own = send_targets(&mut peer, "");
    assert_eq!(own.value("TargetName").as_deref(), Some(TARGET));
    let all = send_targets(&mut peer, "All");
    assert_eq!(all.value("SendTargets").as_deref(), Some("Reject"));
}

#[test]
fn a_long_answer_comes_in_pieces() {
    let mut peer = Peer::logged_in(Limits::default(), &[("MaxRecvDataSegmentLength", "512")]);
    let keys: Vec<String> = (0..60).map(|index| format!("X-key-{index}")).collect();
    let pairs: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "1")).collect();
    let mut data = text_of(&pairs);
    let mut ttt = NO_TAG;
    let mut whole = Vec::new();
    loop {
        let request = TextRequest {
            immediate: true,
            last: true,
            more: false,
            lun: 0,
            itt: 5,
            ttt,
            cmd_sn: peer.cmd_sn,
            exp_stat_sn: 0,
        };
        peer.send(&request.encode(data.len()), &data);
        data.clear();
        let answer = peer.answer();
        assert!(answer.data.len() <= 512);
        whole.extend_from_slice(&answer.data);
        let response = TextResponse::decode(&answer.header).unwrap();
        if response.last {
            break;
        }
        assert!(response.more);
        ttt = response.ttt;
    }
    assert_eq!(text::parse(&whole).unwrap().len(), 60);
}
