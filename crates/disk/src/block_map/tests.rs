use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const BLOCKS: u64 = 3 * CHUNK_BLOCKS - 100;

fn ranges() -> impl Strategy<Value = Vec<Range<u64>>> {
    let near_borders = prop_oneof![
        0..BLOCKS,
        CHUNK_BLOCKS - 70..CHUNK_BLOCKS + 70,
        BLOCKS - 70..BLOCKS
    ];
    let range =
        (near_borders, 1..300u64).prop_map(|(start, length)| start..(start + length).min(BLOCKS));
    proptest::collection::vec(range, 1..40)
}

proptest! {
    #[test]
    fn runs_agree_with_a_set_of_blocks(ranges in ranges(), probes in proptest::collection::vec(0..BLOCKS, 50)) {
        let map = BlockMap::new(BLOCKS * BLOCK_BYTES);
        let mut set = BTreeSet::new();
        for range in ranges.iter().cloned() {
            set.extend(range.clone());
            map.add(range, &mut |_, _| Ok(())).unwrap();
        }
        prop_assert_eq!(map.held(), set.len() as u64);
        let borders = ranges.iter().flat_map(|range| [range.start, range.end.min(BLOCKS - 1)]);
        for block in probes.into_iter().chain(borders) {
            let limit = BLOCKS - block;
            let (held, run) = map.run(block, limit);
            prop_assert!(run >= 1 && run <= limit);
            prop_assert_eq!(held, set.contains(&block));
            let in_set = set.range(block..block + run).count() as u64;
            prop_assert_eq!(in_set, if held { run } else { 0 });
            let ends_early = (block + run) % CHUNK_BLOCKS == 0 || run == limit;
            prop_assert!(ends_early || set.contains(&(block + run)) != held);
        }
    }

    #[test]
    fn persisted_words_make_the_same_map(ranges in ranges()) {
        let map = BlockMap::new(BLOCKS * BLOCK_BYTES);
        let mut live = vec![0; BLOCKS.div_ceil(WORD_BLOCKS) as usize];
        for range in ranges {
            map.add(range, &mut |first, words| {
                live[first as usize..][..words.len()].copy_from_slice(words);
                Ok(())
            }).unwrap();
        }
        let stored: Vec<Word> = (0..).zip(live).filter(|&(_, bits)| bits != 0).collect();
        prop_assert_eq!(&map.words(), &stored);
        prop_assert_eq!(&map.take_dirty(), &stored);
        prop_assert!(map.take_dirty().is_empty());
    }
}

#[test]
fn a_block_that_could_not_be_persisted_is_not_held() {
    let map = BlockMap::new(1 << 30);
    let full = map.add(5..6, &mut |_, _| Err(io::ErrorKind::StorageFull.into()));
    assert_eq!(full.unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(map.held(), 0);
    assert!(!map.holds_all(5..6));
}

#[test]
fn words_outside_the_disk_are_refused_and_bits_past_its_end_dropped() {
    let map = BlockMap::new(10 * BLOCK_BYTES);
    assert!(!map.join((1, 1), false));
    assert!(map.join((0, u64::MAX), false));
    assert_eq!(map.held(), 10);
    assert!(map.take_dirty().is_empty());
}

#[test]
fn the_map_of_an_untouched_256_gib_disk_takes_little_memory() {
    let map = BlockMap::new(256 << 30);
    assert_eq!(map.run(0, 1), (false, 1));
    assert!(map.chunks.iter().all(|chunk| chunk.get().is_none()));
    assert!(map.chunks.len() * size_of::<OnceLock<Box<Chunk>>>() <= 32 << 10);
}

#[test]
fn writers_of_the_same_word_lose_no_bit_of_the_live_map() {
    let map = BlockMap::new(64 * BLOCK_BYTES);
    let live = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (map, live) = (&map, &live);
            scope.spawn(move || {
                for block in (thread..64).step_by(4) {
                    map.add(block..block + 1, &mut |_, words| {
                        live.store(words[0], Ordering::SeqCst);
                        Ok(())
                    })
                    .unwrap();
                }
            });
        }
    });
    assert_eq!(live.into_inner(), u64::MAX);
}
