use proptest::prelude::*;

use super::*;
use crate::negotiation::tests::REFERENCE;
use crate::negotiation::{Answer as Outcome, Negotiation};

/// Keys that may be offered in a login (RFC 7143 §13), but for names and SessionType, which every login has,
/// and TargetPortalGroupTag, of which the answer has one of our own.
const KEYS: &[&str] = &[
    "HeaderDigest",
    "DataDigest",
    "MaxConnections",
    "SendTargets",
    "TargetAlias",
    "InitiatorAlias",
    "TargetAddress",
    "InitialR2T",
    "ImmediateData",
    "MaxRecvDataSegmentLength",
    "MaxBurstLength",
    "FirstBurstLength",
    "DefaultTime2Wait",
    "DefaultTime2Retain",
    "MaxOutstandingR2T",
    "DataPDUInOrder",
    "DataSequenceInOrder",
    "ErrorRecoveryLevel",
    "X-com.example.key",
    "TaskReporting",
    "iSCSIProtocolLevel",
    "OFMarker",
    "IFMarker",
    "OFMarkInt",
    "IFMarkInt",
    "X#NodeArchitecture",
];

type Row = (&'static str, &'static str, &'static str);

/// Some of the keys, each with one of its offers of the reference table, in any order.
fn any_offers() -> impl Strategy<Value = Vec<Row>> {
    let row = |key: &&'static str| {
        let of_key = REFERENCE.iter().copied();
        let rows: Vec<Row> = of_key.filter(|row| row.0 == *key && row.2 != "!").collect();
        proptest::option::weighted(0.8, proptest::sample::select(rows))
    };
    let rows: Vec<_> = KEYS.iter().map(row).collect();
    rows.prop_map(|rows| rows.into_iter().flatten().collect())
        .prop_shuffle()
}

/// Sends one step of a login in pieces: at each cut the text goes on in the next PDU.
fn step(
    peer: &mut Peer,
    csg: Stage,
    nsg: Option<Stage>,
    pairs: &[(&str, &str)],
    cuts: &[prop::sample::Index],
) -> Vec<(String, String)> {
    let text = text_of(pairs);
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
    ends.sort_unstable();
    let mut start = 0;
    for end in ends {
        let mut request = peer.login_request(csg, None);
        request.more = true;
        peer.send(&request.encode(end - start), &text[start..end]);
        let answer = peer.answer();
        assert_eq!((answer.login().status, answer.data.len()), (0, 0));
        assert_eq!(answer.login().nsg, None);
        start = end;
    }
    let request = peer.login_request(csg, nsg);
    peer.send(&request.encode(text.len() - start), &text[start..]);
    let answer = peer.answer();
    assert_eq!((answer.login().status, answer.login().nsg), (0, nsg));
    answer.pairs()
}

proptest! {
    /// Straight to the operational stage or through security, in one request or several, cut anywhere by the C bit.
    #[test]
    fn a_login_answers_each_key_once_as_the_reference_table_says(
        offers in any_offers(),
        secure: bool,
        half in any::<prop::sample::Index>(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let mut peer = Peer::new(Limits::default());
        // As a vendor's initiator that is no firmware.
        peer.isid = [0x80, 1, 2, 3, 0, 0];
        let pairs: Vec<_> = offers.iter().map(|&(key, offer, _)| (key, offer)).collect();
        let (first, second) = pairs.split_at(half.index(pairs.len() + 1));
        let mut found = Vec::new();
        let mut opening: Vec<_> = NAMES.to_vec();
        if secure {
            opening.push(("AuthMethod", "CHAP,None"));
            let next = Some(Stage::Operational);
            found.extend(step(&mut peer, Stage::Security, next, &opening, &cuts));
            opening.clear();
        }
        opening.extend(first);
        found.extend(step(&mut peer, Stage::Operational, None, &opening, &cuts));
        let end = Some(Stage::FullFeature);
        found.extend(step(&mut peer, Stage::Operational, end, second, &cuts));

        let mut expected = vec![("TargetPortalGroupTag".to_owned(), "1".to_owned())];
        expected.push(("MaxRecvDataSegmentLength".into(), "262144".into()));
        if secure {
            expected.push(("AuthMethod".into(), "None".into()));
        }
        let answered = offers.iter().filter(|row| row.2 != "-");
        expected.extend(answered.map(|&(key, _, answer)| (key.to_owned(), answer.to_owned())));
        expected.sort();
        found.sort();
        prop_assert_eq!(found, expected);

        // The order of the offers does not matter.
        let Some(Event::LoggedIn(facts)) = peer.connection.poll_event() else {
            panic!("no login");
        };
        let mut sorted = pairs.clone();
        sorted.sort_unstable();
        let mut alone = Negotiation::new(Limits::default(), SessionType::Normal);
        for (key, offer) in sorted {
            prop_assert_ne!(alone.offer(key, offer), Outcome::Invalid);
        }
        alone.declare();
        prop_assert_eq!(facts.parameters, alone.parameters());
    }
}
