//! Which blocks a layer holds: one bit each, in chunks that exist only where a bit is set.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::BLOCK_BYTES;

/// Blocks of one word.
pub(crate) const WORD_BLOCKS: u64 = 64;
/// Words of one chunk: one page of a live map, 128 MiB of disk.
const CHUNK_WORDS: usize = 512;
const CHUNK_BLOCKS: u64 = CHUNK_WORDS as u64 * WORD_BLOCKS;
const DIRTY_WORDS: usize = CHUNK_WORDS / 64;

/// One word of a map: its index and its bits.
pub(crate) type Word = (u32, u64);

/// A set of blocks. Bits are only ever added. Readers take no lock; a bit that they see is one whose
/// data (and live map) was written before.
pub(crate) struct BlockMap {
    blocks: u64,
    chunks: Box<[OnceLock<Box<Chunk>>]>,
    held: AtomicU64,
}

struct Chunk {
    words: [AtomicU64; CHUNK_WORDS],
    /// One bit per word changed since the last `take_dirty`.
    dirty: [AtomicU64; DIRTY_WORDS],
    /// Held by writers from computing a word until it is in the live map and in memory.
    writer: Mutex<()>,
}

impl BlockMap {
    /// The empty map of a disk of `size_bytes`. Costs 16 bytes per 128 MiB of disk.
    pub(crate) fn new(size_bytes: u64) -> Self {
        let blocks = size_bytes.div_ceil(BLOCK_BYTES);
        let chunks = blocks.div_ceil(CHUNK_BLOCKS);
        Self {
            blocks,
            chunks: (0..chunks).map(|_| OnceLock::new()).collect(),
            held: AtomicU64::new(0),
        }
    }

    /// Number of blocks of the disk.
    pub(crate) fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Number of blocks in the map.
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Whether `block` is held, and for how many blocks from there (at least 1, at most `limit`) that is so.
    pub(crate) fn run(&self, block: u64, limit: u64) -> (bool, u64) {
        let in_chunk = block % CHUNK_BLOCKS;
        let limit = limit.min(CHUNK_BLOCKS - in_chunk);
        let Some(chunk) = self.chunk(block) else {
            return (false, limit);
        };
        let mut index = (in_chunk / WORD_BLOCKS) as usize;
        let bit = in_chunk % WORD_BLOCKS;
        let mut word = chunk.words[index].load(Ordering::Acquire) >> bit;
        let held = word & 1 == 1;
        let mut run = 0;
        let mut left = WORD_BLOCKS - bit;
        loop {
            let same = if held { !word } else { word }.trailing_zeros();
            let same = u64::from(same).min(left);
            run += same;
            index += 1;
            if same < left || run >= limit || index == CHUNK_WORDS {
                return (held, run.min(limit));
            }
            word = chunk.words[index].load(Ordering::Acquire);
            left = WORD_BLOCKS;
        }
    }

    /// Whether all blocks of the range are held.
    pub(crate) fn holds_all(&self, range: Range<u64>) -> bool {
        let mut block = range.start;
        while block < range.end {
            let (held, run) = self.run(block, range.end - block);
            if !held {
                return false;
            }
            block += run;
        }
        true
    }

    /// Adds a range. `persist` gets runs of whole words (index of the first, then the words) as they will be;
    /// if it fails, the run is not added.
    pub(crate) fn add(
        &self,
        range: Range<u64>,
        persist: &mut dyn FnMut(u64, &[u64]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut block = range.start;
        while block < range.end {
            let end = range.end.min((block / CHUNK_BLOCKS + 1) * CHUNK_BLOCKS);
            self.add_in_chunk(block..end, persist)?;
            block = end;
        }
        Ok(())
    }

    fn add_in_chunk(
        &self,
        range: Range<u64>,
        persist: &mut dyn FnMut(u64, &[u64]) -> io::Result<()>,
    ) -> io::Result<()> {
        let chunk = self.chunks[(range.start / CHUNK_BLOCKS) as usize].get_or_init(Chunk::new);
        let chunk_word = range.start / CHUNK_BLOCKS * CHUNK_WORDS as u64;
        let first = (range.start / WORD_BLOCKS - chunk_word) as usize;
        let last = ((range.end - 1) / WORD_BLOCKS - chunk_word) as usize;
        let _writer = chunk.lock();
        let mut words = [0; CHUNK_WORDS];
        let mut changed = false;
        for (index, word) in words.iter_mut().enumerate().take(last + 1).skip(first) {
            let old = chunk.words[index].load(Ordering::Relaxed);
            *word = old | mask(&range, (chunk_word + index as u64) * WORD_BLOCKS);
            changed |= *word != old;
        }
        if !changed {
            return Ok(());
        }
        persist(chunk_word + first as u64, &words[first..=last])?;
        for (index, &word) in words.iter().enumerate().take(last + 1).skip(first) {
            self.replace(chunk, index, word);
        }
        Ok(())
    }

    /// Joins a stored word into the map, without persisting it. Bits past the disk's end are dropped.
    /// Returns false if the word lies outside the disk. `dirty` marks it for the next flush if it changes.
    pub(crate) fn join(&self, (index, bits): Word, dirty: bool) -> bool {
        let first = u64::from(index) * WORD_BLOCKS;
        if first >= self.blocks {
            return false;
        }
        let bits = bits & mask(&(0..self.blocks), first);
        if bits == 0 {
            return true;
        }
        let chunk = self.chunks[(first / CHUNK_BLOCKS) as usize].get_or_init(Chunk::new);
        let index = index as usize % CHUNK_WORDS;
        let _writer = chunk.lock();
        let old = chunk.words[index].load(Ordering::Relaxed);
        if old | bits != old {
            let was = chunk.dirty[index / 64].load(Ordering::Relaxed);
            self.replace(chunk, index, old | bits);
            if !dirty {
                chunk.dirty[index / 64].store(was, Ordering::Relaxed);
            }
        }
        true
    }

    /// Words changed since the last call, in order.
    pub(crate) fn take_dirty(&self) -> Vec<Word> {
        self.collect(|chunk, index| {
            let bit = 1 << (index % 64);
            chunk.dirty[index / 64].fetch_and(!bit, Ordering::Relaxed) & bit != 0
        })
    }

    /// Takes [`take_dirty`](Self::take_dirty) back: the flush did not happen.
    pub(crate) fn mark_dirty(&self, words: &[Word]) {
        for &(word, _) in words {
            let index = word as usize % CHUNK_WORDS;
            if let Some(chunk) = self.chunk(u64::from(word) * WORD_BLOCKS) {
                chunk.dirty[index / 64].fetch_or(1 << (index % 64), Ordering::Relaxed);
            }
        }
    }

    /// All words that hold a block, in order.
    pub(crate) fn words(&self) -> Vec<Word> {
        self.collect(|chunk, index| chunk.words[index].load(Ordering::Relaxed) != 0)
    }

    fn collect(&self, wanted: impl Fn(&Chunk, usize) -> bool) -> Vec<Word> {
        let mut words = Vec::new();
        for (number, slot) in self.chunks.iter().enumerate() {
            let Some(chunk) = slot.get() else { continue };
            let _writer = chunk.lock();
            for index in 0..CHUNK_WORDS {
                if wanted(chunk, index) {
                    let word = u32::try_from(number * CHUNK_WORDS + index)
                        .expect("the size limit of a disk keeps word numbers below 2^32");
                    words.push((word, chunk.words[index].load(Ordering::Relaxed)));
                }
            }
        }
        words
    }

    fn chunk(&self, block: u64) -> Option<&Chunk> {
        Some(self.chunks.get((block / CHUNK_BLOCKS) as usize)?.get()?)
    }

    fn replace(&self, chunk: &Chunk, index: usize, word: u64) {
        let old = chunk.words[index].load(Ordering::Relaxed);
        let added = (word & !old).count_ones();
        if added > 0 {
            chunk.dirty[index / 64].fetch_or(1 << (index % 64), Ordering::Relaxed);
            self.held.fetch_add(u64::from(added), Ordering::Relaxed);
            chunk.words[index].store(word, Ordering::Release);
        }
    }
}

impl Chunk {
    fn new() -> Box<Self> {
        Box::new(Self {
            words: [const { AtomicU64::new(0) }; CHUNK_WORDS],
            dirty: [const { AtomicU64::new(0) }; DIRTY_WORDS],
            writer: Mutex::new(()),
        })
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bits of the word that starts at block `first` which lie in `range`.
fn mask(range: &Range<u64>, first: u64) -> u64 {
    let from = range.start.saturating_sub(first).min(WORD_BLOCKS);
    let to = range.end.saturating_sub(first).min(WORD_BLOCKS);
    let below = |bits: u64| {
        if bits == WORD_BLOCKS {
            u64::MAX
        } else {
            (1 << bits) - 1
        }
    };
    below(to) & !below(from)
}

#[cfg(test)]
mod tests;
