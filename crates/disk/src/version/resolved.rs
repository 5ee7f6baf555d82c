//! The map of all layers of a version in one: for each block the newest layer that holds it.

use crate::BLOCK_BYTES;
use crate::block_map::{WORD_BLOCKS, Word};

/// Blocks of one chunk: 128 MiB of disk.
const CHUNK_BLOCKS: u64 = 32_768;
const CHUNK_WORDS: usize = (CHUNK_BLOCKS / WORD_BLOCKS) as usize;

/// Costs one bit per block (4 KiB of disk) where one layer holds blocks, one byte where several do, nothing where none does:
/// the unit is a chunk. One lookup, however many layers there are.
pub(super) struct Resolved {
    blocks: u64,
    chunks: Box<[Chunk]>,
}

enum Chunk {
    Empty,
    /// One layer holds the blocks whose bits are set.
    One {
        layer: u8,
        words: Box<[u64; CHUNK_WORDS]>,
    },
    /// Several layers: for each block one more than the layer, or 0.
    Many(Box<[u8]>),
}

impl Resolved {
    pub(super) fn new(size_bytes: u64) -> Self {
        let blocks = size_bytes.div_ceil(BLOCK_BYTES);
        let chunks = blocks.div_ceil(CHUNK_BLOCKS);
        Self {
            blocks,
            chunks: (0..chunks).map(|_| Chunk::Empty).collect(),
        }
    }

    /// Adds the map of the next older layer; the layers so far hide it. False if it names blocks outside the disk.
    pub(super) fn put_below(&mut self, layer: usize, words: &[Word]) -> bool {
        let layer = u8::try_from(layer).unwrap_or(u8::MAX);
        for &(index, bits) in words {
            let first = u64::from(index) * WORD_BLOCKS;
            let Some(chunk) = self.chunks.get_mut((first / CHUNK_BLOCKS) as usize) else {
                return false;
            };
            if first >= self.blocks {
                return false;
            }
            // Bits past the disk's end stand for nothing.
            let bits = match self.blocks - first {
                left @ ..WORD_BLOCKS => bits & ((1 << left) - 1),
                _ => bits,
            };
            chunk.put_below(layer, index as usize % CHUNK_WORDS, bits);
        }
        true
    }

    /// Gives back what building it took beyond its need.
    pub(super) fn shrink(&mut self) {
        for chunk in &mut self.chunks {
            if let Chunk::One { words, .. } = chunk
                && words.iter().all(|&word| word == 0)
            {
                *chunk = Chunk::Empty;
            }
        }
    }

    /// The layer that holds `block`, and for how many blocks from there (at least 1, at most `limit`) that is so.
    pub(super) fn run(&self, block: u64, limit: u64) -> (Option<usize>, u64) {
        let at = (block % CHUNK_BLOCKS) as usize;
        let limit = limit.min(CHUNK_BLOCKS - at as u64);
        match &self.chunks[(block / CHUNK_BLOCKS) as usize] {
            Chunk::Empty => (None, limit),
            Chunk::One { layer, words } => {
                let (held, run) = run_of_bits(words, at, limit);
                (held.then_some(usize::from(*layer)), run)
            }
            Chunk::Many(layers) => {
                let holder = layers[at];
                let rest = &layers[at..at + limit as usize];
                let run = rest.iter().take_while(|&&other| other == holder).count();
                (holder.checked_sub(1).map(usize::from), run as u64)
            }
        }
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        let held: usize = self
            .chunks
            .iter()
            .map(|chunk| match chunk {
                Chunk::Empty => 0,
                Chunk::One { .. } => size_of::<[u64; CHUNK_WORDS]>(),
                Chunk::Many(layers) => layers.len(),
            })
            .sum();
        (held + size_of_val(&*self.chunks)) as u64
    }
}

impl Chunk {
    fn put_below(&mut self, layer: u8, index: usize, bits: u64) {
        if let Self::Empty = self {
            *self = Self::One {
                layer,
                words: Box::new([0; CHUNK_WORDS]),
            };
        }
        if let Self::One { layer: only, words } = self {
            let new = bits & !words[index];
            if *only == layer || new == 0 {
                words[index] |= new;
                return;
            }
            *self = Self::Many(spread(*only, words));
        }
        if let Self::Many(layers) = self {
            let start = index * WORD_BLOCKS as usize;
            for bit in (0..WORD_BLOCKS as usize).filter(|bit| bits >> bit & 1 == 1) {
                if layers[start + bit] == 0 {
                    layers[start + bit] = layer + 1;
                }
            }
        }
    }
}

/// One byte per block instead of one bit.
fn spread(layer: u8, words: &[u64; CHUNK_WORDS]) -> Box<[u8]> {
    words
        .iter()
        .flat_map(|word| {
            (0..WORD_BLOCKS).map(move |bit| if word >> bit & 1 == 1 { layer + 1 } else { 0 })
        })
        .collect()
}

/// Whether bit `at` is set, and for how many bits from there (at most `limit`) that is so.
fn run_of_bits(words: &[u64; CHUNK_WORDS], at: usize, limit: u64) -> (bool, u64) {
    let (mut index, bit) = (at / 64, at as u64 % WORD_BLOCKS);
    let mut word = words[index] >> bit;
    let held = word & 1 == 1;
    let mut left = WORD_BLOCKS - bit;
    let mut run = 0;
    loop {
        let same = u64::from(if held { !word } else { word }.trailing_zeros()).min(left);
        run += same;
        index += 1;
        if same < left || run >= limit || index == CHUNK_WORDS {
            return (held, run.min(limit));
        }
        word = words[index];
        left = WORD_BLOCKS;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: u64 = 200 << 20;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_newest_layer_that_holds_a_block_wins(
            layers in prop::collection::vec(
                prop::collection::vec((0..800u32, any::<u64>()), 0..40), 1..5),
        ) {
            let mut resolved = Resolved::new(SIZE);
            let blocks = SIZE / BLOCK_BYTES;
            let mut expected = vec![None; blocks as usize];
            for (layer, words) in layers.iter().enumerate() {
                prop_assert!(resolved.put_below(layer, words));
                for &(index, bits) in words {
                    for bit in (0..64).filter(|bit| bits >> bit & 1 == 1) {
                        let block = index as usize * 64 + bit;
                        expected[block].get_or_insert(layer);
                    }
                }
            }
            resolved.shrink();
            let mut block = 0;
            while block < blocks {
                let (layer, run) = resolved.run(block, 777.min(blocks - block));
                prop_assert!(run >= 1);
                for (at, holder) in expected[block as usize..][..run as usize].iter().enumerate() {
                    prop_assert_eq!(*holder, layer, "block {}", block + at as u64);
                }
                block += run;
            }
        }
    }

    #[test]
    fn a_terabyte_costs_by_what_is_in_it() {
        let mut resolved = Resolved::new(1 << 40);
        assert!(resolved.memory_bytes() < 256 << 10);
        // 1 GiB in one layer: one bit for each block.
        let words: Vec<Word> = (0..4096).map(|index| (index, u64::MAX)).collect();
        assert!(resolved.put_below(0, &words));
        assert!(resolved.memory_bytes() < 300 << 10);
        // All of it in two layers alternately: one byte for each block.
        let mut resolved = Resolved::new(1 << 30);
        for (layer, bits) in [(0, 0x5555_5555_5555_5555), (1, u64::MAX)] {
            let words: Vec<Word> = (0..4096).map(|index| (index, bits)).collect();
            assert!(resolved.put_below(layer, &words));
        }
        assert!(resolved.memory_bytes() < (1 << 30) / 4096 + 1024);
        assert!(!resolved.put_below(2, &[(4096, 1)]));
    }
}
