use super::*;

fn header() -> MapHeader {
    MapHeader {
        kind: MapKind::Overlay,
        owner: [7; 16],
        number: 3,
        size_bytes: 1 << 40,
        boot_id: [0; 16],
    }
}

/// A file of three flushes, the second of two records; returns the words of each and where each ends.
fn three_flushes() -> (Vec<u8>, Vec<(Vec<Word>, usize)>) {
    let first: Vec<Word> = (0..10).map(|word| (word, 1 << word)).collect();
    let second: Vec<Word> = (0..5000).map(|word| (word, u64::from(word) + 1)).collect();
    let third = vec![(4_000_000, u64::MAX)];
    let mut bytes = header().encode_file();
    let mut sequence = 0;
    let mut flushes = Vec::new();
    for (flush, words) in (1..).zip([first, second, third]) {
        sequence += header().encode_flush(&words, flush, sequence, &mut bytes);
        flushes.push((words, bytes.len()));
    }
    (bytes, flushes)
}

#[test]
fn what_is_encoded_is_decoded() {
    let (bytes, flushes) = three_flushes();
    let content = decode_map(&bytes).unwrap();
    assert_eq!(content.header, header());
    assert_eq!(content.end, MapEnd::Clean);
    assert_eq!(content.valid_bytes, bytes.len() as u64);
    assert_eq!((content.next_sequence, content.last_flush), (4, 3));
    let words: Vec<Word> = flushes.into_iter().flat_map(|(words, _)| words).collect();
    assert_eq!(content.words, words);
}

#[test]
fn a_file_cut_anywhere_keeps_every_flush_before_the_cut() {
    let (bytes, flushes) = three_flushes();
    // Every byte around the borders of records, every 97th in between.
    let cuts = (RECORDS_OFFSET..bytes.len()).filter(|cut| {
        let near = |end: usize| cut.abs_diff(end) < 60;
        near(RECORDS_OFFSET) || flushes.iter().any(|(_, end)| near(*end)) || cut % 97 == 0
    });
    for cut in cuts {
        let content = decode_map(&bytes[..cut]).unwrap();
        let mut whole = flushes.iter().filter(|(_, end)| *end <= cut);
        let words: Vec<Word> = whole.clone().flat_map(|(words, _)| words.clone()).collect();
        assert!(content.words.starts_with(&words), "cut at {cut}");
        let at_border =
            cut == RECORDS_OFFSET || whole.next_back().is_some_and(|(_, end)| *end == cut);
        let expected = if at_border {
            MapEnd::Clean
        } else {
            MapEnd::Torn
        };
        assert_eq!(content.end, expected, "cut at {cut}");
    }
}

#[test]
fn a_cut_header_is_an_error() {
    let (bytes, _) = three_flushes();
    for cut in 0..SLOT_BYTES {
        assert!(decode_map(&bytes[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn either_header_slot_is_enough() {
    let (mut bytes, _) = three_flushes();
    bytes[20] ^= 1;
    assert_eq!(decode_map(&bytes).unwrap().header, header());
    bytes[SLOT_BYTES + 20] ^= 1;
    assert_eq!(decode_map(&bytes), Err(MapDecodeError::Checksum));
}

#[test]
fn damage_in_an_acknowledged_flush_is_told_from_a_torn_one() {
    let (bytes, flushes) = three_flushes();
    // In the first flush: the third is later than the broken one can be.
    let mut damaged = bytes.clone();
    damaged[RECORDS_OFFSET + 40] ^= 1;
    assert_eq!(decode_map(&damaged).unwrap().end, MapEnd::Damaged);
    // In the last flush: as a power cut leaves it.
    let mut torn = bytes.clone();
    torn[flushes[1].1 + 40] ^= 1;
    assert_eq!(decode_map(&torn).unwrap().end, MapEnd::Torn);
    // Pages of one flush may reach the disk in any order.
    let mut reordered = bytes[..flushes[1].1].to_vec();
    reordered[flushes[0].1 + 40] ^= 1;
    assert_eq!(decode_map(&reordered).unwrap().end, MapEnd::Torn);
}

#[test]
fn records_of_another_overlay_are_not_taken() {
    let mut bytes = header().encode_file();
    let other = MapHeader {
        number: 4,
        ..header()
    };
    other.encode_flush(&[(1, 1)], 1, 0, &mut bytes);
    let content = decode_map(&bytes).unwrap();
    assert!(content.words.is_empty());
    assert_eq!(content.end, MapEnd::Torn);
}

#[test]
fn garbage_never_panics() {
    let (bytes, _) = three_flushes();
    let mut state = 1u64;
    for _ in 0..2000 {
        let mut garbage = bytes[..RECORDS_OFFSET + 200].to_vec();
        for _ in 0..4 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let at = RECORDS_OFFSET + (state >> 33) as usize % 200;
            garbage[at] = (state >> 25) as u8;
        }
        let content = decode_map(&garbage).unwrap();
        assert!(content.valid_bytes <= garbage.len() as u64);
    }
}
