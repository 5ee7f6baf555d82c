use super::*;

fn normal() -> Negotiation {
    Negotiation::new(Limits::default(), SessionType::Normal)
}

/// Offer, answer; `-` for a declaration, `!` for a login that fails. From the result functions
/// and ranges of RFC 7143 §13 and our own preferences.
pub(crate) const REFERENCE: &[(&str, &str, &str)] = &[
    ("HeaderDigest", "None", "None"),
    ("HeaderDigest", "CRC32C", "CRC32C"),
    ("HeaderDigest", "None,CRC32C", "None"),
    ("HeaderDigest", "CRC32C,None", "CRC32C"),
    ("HeaderDigest", "X-com.example,CRC32C", "CRC32C"),
    ("HeaderDigest", "CRC32", "Reject"),
    ("DataDigest", "None,CRC32", "None"),
    ("DataDigest", "CRC32C,None", "CRC32C"),
    ("DataDigest", "", "Reject"),
    ("MaxConnections", "1", "1"),
    ("MaxConnections", "8", "1"),
    ("MaxConnections", "0", "Reject"),
    ("MaxConnections", "65536", "Reject"),
    ("InitialR2T", "Yes", "Yes"),
    ("InitialR2T", "No", "No"),
    ("InitialR2T", "yes", "Reject"),
    ("ImmediateData", "Yes", "Yes"),
    ("ImmediateData", "No", "No"),
    ("ImmediateData", "1", "Reject"),
    ("MaxRecvDataSegmentLength", "8192", "-"),
    ("MaxRecvDataSegmentLength", "0x10000", "-"),
    ("MaxRecvDataSegmentLength", "511", "!"),
    ("MaxRecvDataSegmentLength", "16777216", "!"),
    ("MaxRecvDataSegmentLength", "many", "!"),
    ("MaxBurstLength", "262144", "262144"),
    ("MaxBurstLength", "16776192", "1048576"),
    ("MaxBurstLength", "100", "Reject"),
    ("FirstBurstLength", "65536", "65536"),
    ("FirstBurstLength", "16777215", "262144"),
    ("FirstBurstLength", "-5", "Reject"),
    ("DefaultTime2Wait", "0", "0"),
    ("DefaultTime2Wait", "2", "2"),
    ("DefaultTime2Wait", "3601", "Reject"),
    ("DefaultTime2Retain", "20", "0"),
    ("DefaultTime2Retain", "3600", "0"),
    ("DefaultTime2Retain", "x", "Reject"),
    ("MaxOutstandingR2T", "1", "1"),
    ("MaxOutstandingR2T", "64", "1"),
    ("MaxOutstandingR2T", "0", "Reject"),
    ("DataPDUInOrder", "No", "Yes"),
    ("DataPDUInOrder", "Yes", "Yes"),
    ("DataSequenceInOrder", "No", "Yes"),
    ("DataSequenceInOrder", "maybe", "Reject"),
    ("ErrorRecoveryLevel", "0", "0"),
    ("ErrorRecoveryLevel", "2", "0"),
    ("ErrorRecoveryLevel", "3", "Reject"),
    ("IFMarker", "No", "No"),
    ("OFMarker", "Yes", "No"),
    ("IFMarkInt", "2048", "Reject"),
    ("OFMarkInt", "2048~8192", "Reject"),
    ("TaskReporting", "FastAbort,RFC3720", "RFC3720"),
    ("TaskReporting", "FastAbort", "Reject"),
    ("iSCSIProtocolLevel", "2", "1"),
    ("RDMAExtensions", "Yes", "No"),
    ("InitiatorAlias", "seat 1", "-"),
    ("TargetAlias", "x", "Reject"),
    ("SendTargets", "All", "Reject"),
    ("TargetAddress", "192.0.2.1", "Reject"),
    ("TargetPortalGroupTag", "1", "Reject"),
    ("X-com.example.key", "1", "NotUnderstood"),
    ("X#NodeArchitecture", "example,1.0", "NotUnderstood"),
    ("Nonsense", "1", "NotUnderstood"),
];

#[test]
fn each_key_is_answered_as_in_the_reference_table() {
    for &(key, offer, expected) in REFERENCE {
        let found = match normal().offer(key, offer) {
            Answer::Value(value) => value,
            Answer::Declaration => "-".into(),
            Answer::Invalid => "!".into(),
        };
        assert_eq!(found, expected, "{key}={offer}");
    }
}

#[test]
fn discovery_sessions_answer_scsi_keys_as_irrelevant() {
    let mut discovery = Negotiation::new(Limits::default(), SessionType::Discovery);
    let irrelevant = Answer::Value(IRRELEVANT.into());
    assert_eq!(discovery.offer("InitialR2T", "No"), irrelevant);
    assert_eq!(discovery.offer("MaxBurstLength", "65536"), irrelevant);
    assert_eq!(
        discovery.offer("HeaderDigest", "None"),
        Answer::Value("None".into())
    );
    assert_eq!(
        discovery.offer("MaxRecvDataSegmentLength", "32768"),
        Answer::Declaration
    );
}

#[test]
fn all_combinations_of_unsolicited_data_follow_or_and_and() {
    for bits in 0..16u8 {
        let [their_r2t, their_immediate, our_r2t, our_immediate] =
            [0, 1, 2, 3].map(|bit| bits >> bit & 1 == 1);
        let limits = Limits {
            initial_r2t: our_r2t,
            immediate_data: our_immediate,
            ..Limits::default()
        };
        let mut negotiation = Negotiation::new(limits, SessionType::Normal);
        let text = |value| if value { "Yes" } else { "No" };
        let _ = negotiation.offer("InitialR2T", text(their_r2t));
        let _ = negotiation.offer("ImmediateData", text(their_immediate));
        let parameters = negotiation.parameters();
        assert_eq!(parameters.initial_r2t, their_r2t || our_r2t);
        assert_eq!(parameters.immediate_data, their_immediate && our_immediate);
    }
}

#[test]
fn the_first_burst_never_exceeds_the_burst() {
    let mut negotiation = normal();
    let _ = negotiation.offer("FirstBurstLength", "262144");
    let _ = negotiation.offer("MaxBurstLength", "65536");
    assert_eq!(negotiation.parameters().first_burst_length, 65_536);
}

#[test]
fn nothing_offered_leaves_the_defaults_of_the_rfc() {
    let parameters = normal().parameters();
    assert_eq!(parameters, SessionParameters::default());
    assert!(parameters.initial_r2t && parameters.immediate_data);
    assert_eq!(parameters.initiator_max_recv_data_segment_length, 8192);
}
