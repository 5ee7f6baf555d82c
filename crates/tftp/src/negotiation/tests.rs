use super::*;

fn agreed(options: &[(&str, &str)], limits: Limits) -> Negotiated {
    negotiate(&options.to_vec(), &limits, 1_000_000)
}

#[test]
fn without_options_there_is_no_oack() {
    let plain = agreed(&[], Limits::default());
    assert_eq!(plain.option_ack(), None);
    assert_eq!((plain.blksize, plain.windowsize), (512, 1));
}

#[test]
fn only_options_that_were_asked_for_are_acknowledged_in_their_order() {
    let all = agreed(
        &[("tsize", "0"), ("blksize", "1468"), ("windowsize", "4")],
        Limits::default(),
    );
    assert_eq!(
        all.option_ack().unwrap(),
        b"\0\x06tsize\x001000000\0blksize\x001468\0windowsize\x004\0"
    );
    let one = agreed(&[("blksize", "1432")], Limits::default());
    assert_eq!(one.option_ack().unwrap(), b"\0\x06blksize\x001432\0");
    assert!(!one.size_asked);
}

#[test]
fn names_are_read_in_any_case_unknown_ones_are_passed_over_and_the_first_counts() {
    let read = agreed(
        &[
            ("BlkSize", "1024"),
            ("rollover", "0"),
            ("BLKSIZE", "2048"),
            ("multicast", ""),
        ],
        Limits::default(),
    );
    assert_eq!(read.accepted, [("blksize", 1024)]);
}

#[test]
fn values_are_held_to_the_rfcs_and_to_our_limits() {
    let limits = Limits {
        blksize_max: 1468,
        windowsize_max: 16,
        ..Limits::default()
    };
    for (name, value, accepted) in [
        ("blksize", "7", None),
        ("blksize", "8", Some(8)),
        ("blksize", "1468", Some(1468)),
        ("blksize", "65464", Some(1468)),
        ("blksize", "99999999", Some(1468)),
        ("blksize", "-1", None),
        ("blksize", "", None),
        ("blksize", "99999999999999999999999", None),
        ("windowsize", "0", None),
        ("windowsize", "16", Some(16)),
        ("windowsize", "65535", Some(16)),
        ("timeout", "0", None),
        ("timeout", "255", Some(255)),
        ("timeout", "256", None),
        ("tsize", "0", Some(1_000_000)),
        ("tsize", "12345", Some(1_000_000)),
    ] {
        let read = agreed(&[(name, value)], limits);
        let expected: Vec<_> = accepted.into_iter().map(|v| (name, v)).collect();
        assert_eq!(read.accepted, expected, "{name}={value}");
    }
}

#[test]
fn a_window_of_large_blocks_is_cut_to_its_limit_in_bytes() {
    let options = [("windowsize", "64"), ("blksize", "65464")];
    let read = agreed(&options, Limits::default());
    assert_eq!((read.blksize, read.windowsize), (65464, 1));
    assert_eq!(read.accepted, [("windowsize", 1), ("blksize", 65464)]);
    let options = [("blksize", "1468"), ("windowsize", "64")];
    assert_eq!(agreed(&options, Limits::default()).windowsize, 44);
}
