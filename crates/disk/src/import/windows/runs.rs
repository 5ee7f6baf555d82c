//! Where the clusters of a file are.

use super::Unreadable;
use super::record::Attribute;

/// Most runs of one file: a hundred times what a badly fragmented hive has.
const RUNS_MAX: usize = 64 << 10;

/// The clusters of a file, in its order.
#[derive(Default)]
pub(super) struct Runs {
    /// First cluster behind the run, counted in the file, and first one of the volume; `None` is a hole.
    runs: Vec<(u64, Option<u64>)>,
    /// Bytes of the file.
    pub(super) length: u64,
    /// Bytes that were ever written; what follows is zero.
    written: u64,
}

impl Runs {
    /// Adds the piece that follows.
    pub(super) fn add(&mut self, piece: &Attribute<'_>) -> Result<(), Unreadable> {
        let (first, mut bytes) = piece.runs()?;
        if first == 0 {
            (self.length, self.written) = piece.lengths()?;
        }
        let mut end = self.runs.last().map_or(0, |run| run.0);
        if first != end {
            return Err(Unreadable::Damaged("a piece of a file is missing"));
        }
        let mut place = 0i64;
        while let Some((&sizes, rest)) = bytes.split_first().filter(|(sizes, _)| **sizes != 0) {
            let (counted, moved) = (usize::from(sizes & 15), usize::from(sizes >> 4));
            let fields = rest.split_at_checked(counted + moved);
            let Some((fields, rest)) = fields.filter(|_| counted <= 8 && moved <= 8) else {
                return Err(Unreadable::Damaged("the places of a file are damaged"));
            };
            let clusters = number(&fields[..counted]);
            place = place.wrapping_add(number(&fields[counted..]));
            end = u64::try_from(clusters)
                .ok()
                .filter(|&clusters| clusters > 0)
                .and_then(|clusters| end.checked_add(clusters))
                .ok_or(Unreadable::Damaged("the places of a file are damaged"))?;
            let here = (moved > 0).then(|| u64::try_from(place));
            let here = here.transpose().map_err(|_| {
                Unreadable::Damaged("the places of a file lie in front of the volume")
            })?;
            if self.runs.len() == RUNS_MAX {
                return Err(Unreadable::Damaged("a file lies in too many pieces"));
            }
            self.runs.push((end, here));
            bytes = rest;
        }
        Ok(())
    }

    /// In how many pieces the file lies.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.runs.len()
    }

    /// Where byte `offset` of the file is on the volume, and how many bytes from there, at most `limit`, lie in one piece.
    pub(super) fn piece(
        &self,
        offset: u64,
        limit: u64,
        cluster_bytes: u64,
    ) -> Result<(Option<u64>, u64), Unreadable> {
        if offset >= self.written {
            return Ok((None, limit));
        }
        let (cluster, within) = (offset / cluster_bytes, offset % cluster_bytes);
        let index = self.runs.partition_point(|run| run.0 <= cluster);
        let Some(&(end, place)) = self.runs.get(index) else {
            return Err(Unreadable::Damaged("a file is shorter than its tables say"));
        };
        let first = index.checked_sub(1).map_or(0, |before| self.runs[before].0);
        let left = (end - cluster).saturating_mul(cluster_bytes) - within;
        let place = place.map(|place| {
            let cluster = place.saturating_add(cluster - first);
            cluster.saturating_mul(cluster_bytes).saturating_add(within)
        });
        Ok((place, limit.min(left).min(self.written - offset)))
    }
}

/// A signed number of up to eight bytes.
fn number(bytes: &[u8]) -> i64 {
    let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
    let mut whole = [if negative { 0xff } else { 0 }; 8];
    whole[..bytes.len()].copy_from_slice(bytes);
    i64::from_le_bytes(whole)
}
