//! What a power cut takes.

use super::SECTOR_BYTES;

/// What is lost when the power goes.
pub(crate) enum Loss {
    /// As when only the program dies.
    Nothing,
    /// All that was not synced.
    Everything,
    /// The names are there, the data is not.
    Data,
    /// The data is there, the names are not.
    Names,
    /// All changes from this one on, as a journaling file system does.
    Since(usize),
    /// Each piece by chance.
    Random(Random),
}

impl Loss {
    pub(crate) fn random(seed: u64) -> Self {
        Self::Random(Random::new(seed))
    }

    pub(super) fn keeps_name(&mut self, change: usize) -> bool {
        match self {
            Self::Nothing | Self::Data => true,
            Self::Everything | Self::Names => false,
            Self::Since(first) => change < *first,
            Self::Random(random) => random.below(2) == 0,
        }
    }

    pub(super) fn keeps_data(&mut self, change: usize) -> bool {
        match self {
            Self::Nothing | Self::Names => true,
            Self::Everything | Self::Data => false,
            Self::Since(first) => change < *first,
            Self::Random(random) => random.below(2) == 0,
        }
    }

    /// The length of a file between the old and the new one.
    pub(super) fn length(&mut self, change: usize, old: u64, new: u64) -> u64 {
        if let Self::Random(random) = self
            && new > old
            && random.below(3) == 0
        {
            // Half-way happens when a file grows piece by piece.
            let sectors = (new - old) / SECTOR_BYTES;
            return old + random.below(sectors + 1) * SECTOR_BYTES;
        }
        match self.keeps_data(change) {
            true => new,
            false => old,
        }
    }
}

/// A small generator (PCG); the seed is all of its state.
#[derive(Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    /// Below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}
