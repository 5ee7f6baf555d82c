//! What the disks may hold.

use std::collections::BTreeMap;
use std::ops::Range;

use dess_model::BootPolicy;

pub(super) const SECTOR_BYTES: u64 = 512;
/// The last block of the disk is a part only.
pub(super) const SECTORS: u64 = 24 * 8 + 3;

/// Content of a sector: it is filled with this number. 0 for zeros.
pub(super) type Tag = u64;

/// What a version holds; every fifth block is zero.
pub(super) fn version_tag(version: u32, sector: u64) -> Tag {
    match sector / 8 % 5 {
        2 => 0,
        _ => 1 << 60 | u64::from(version) << 16 | sector,
    }
}

/// What write number `number` puts into a sector.
pub(super) fn written_tag(number: u64, sector: u64) -> Tag {
    (number + 1) << 16 | sector
}

pub(super) fn bytes(tags: impl Iterator<Item = Tag>) -> Vec<u8> {
    tags.flat_map(|tag| tag.to_le_bytes().repeat(SECTOR_BYTES as usize / 8))
        .collect()
}

/// The tags of a disk's content; `None` for a sector that is torn.
pub(super) fn tags(bytes: &[u8]) -> Vec<Option<Tag>> {
    bytes
        .chunks_exact(SECTOR_BYTES as usize)
        .map(|sector| {
            let words = sector.as_chunks::<8>().0;
            let whole = words.iter().all(|word| *word == words[0]);
            whole.then(|| u64::from_le_bytes(words[0]))
        })
        .collect()
}

/// What a disk holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Overlay {
    /// Tells overlays of one disk apart.
    pub(super) made: u64,
    pub(super) policy: BootPolicy,
    /// For each sector what was flushed, then what was written since.
    sectors: Vec<Vec<Tag>>,
}

impl Overlay {
    /// An empty one on a version that holds `content`.
    pub(super) fn new(made: u64, policy: BootPolicy, content: &[Tag]) -> Self {
        Self {
            made,
            policy,
            sectors: content.iter().map(|&tag| vec![tag]).collect(),
        }
    }

    /// What was written last.
    pub(super) fn content(&self) -> Vec<Tag> {
        (0..self.sectors.len())
            .map(|sector| self.last(sector))
            .collect()
    }

    pub(super) fn write(&mut self, sectors: Range<u64>, tag: impl Fn(u64) -> Tag) {
        for sector in sectors {
            self.sectors[sector as usize].push(tag(sector));
        }
    }

    pub(super) fn flush(&mut self) {
        for sector in &mut self.sectors {
            sector.drain(..sector.len() - 1);
        }
    }

    /// Each sector holds something that was written to it since the last flush, or before it.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn check(&self, found: &[Option<Tag>]) -> Result<(), String> {
        let wrong = found
            .iter()
            .zip(&self.sectors)
            .position(|(tag, allowed)| !tag.is_some_and(|tag| allowed.contains(&tag)));
        match wrong {
            None => Ok(()),
            Some(sector) => Err(format!(
                "sector {sector} holds {:x?}, allowed are {:x?}",
                found[sector], self.sectors[sector]
            )),
        }
    }

    /// One of both, it is not known which.
    pub(super) fn join(mut self, other: Self) -> Self {
        for (sector, tags) in self.sectors.iter_mut().zip(other.sectors) {
            sector.extend(tags);
        }
        self
    }

    /// It was read, and this was there.
    pub(super) fn found(mut self, found: &[Option<Tag>]) -> Self {
        for (sector, tag) in self.sectors.iter_mut().zip(found) {
            sector.extend(*tag);
        }
        self
    }

    /// As `found`, and nothing else is on the storage.
    pub(super) fn settled(self, found: &[Option<Tag>]) -> Self {
        let mut settled = self.found(found);
        settled.flush();
        settled
    }

    fn last(&self, sector: usize) -> Tag {
        *self.sectors[sector]
            .last()
            .expect("a sector always holds something")
    }
}

/// What is found where a disk should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    NoOverlay,
    Content(BootPolicy, Vec<Option<Tag>>),
}

/// The disks by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct World {
    pub(super) disks: BTreeMap<u32, Overlay>,
    /// Persistent overlays that gave way to volatile ones.
    pub(super) kept: BTreeMap<u32, Overlay>,
    /// What each version holds.
    pub(super) versions: BTreeMap<u32, Vec<Tag>>,
    /// The highest number that a version has or had.
    pub(super) last_version: u32,
}

impl World {
    pub(super) fn add_version(&mut self, number: u32, content: Vec<Tag>) {
        self.versions.insert(number, content);
        self.last_version = self.last_version.max(number);
    }
}

/// What may be found while something was under way that leads from one world to another.
pub(super) struct Between<'a> {
    pub(super) before: &'a World,
    pub(super) after: &'a World,
}

impl Between<'_> {
    /// The versions that are there in any case, with what they hold, lowest first.
    pub(super) fn stays(&self) -> impl Iterator<Item = (u32, &Vec<Tag>)> {
        let after = &self.after.versions;
        let both = self.before.versions.iter();
        both.filter(|(version, _)| after.contains_key(version))
            .map(|(&version, content)| (version, content))
    }

    /// After a power cut: what was flushed, or written since, for each sector.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn check_power_cut(&self, disk: u32, found: &Found) -> Result<(), String> {
        let durable = |world: &World| {
            let overlay = world.disks.get(&disk).cloned();
            overlay.filter(|overlay| overlay.policy != BootPolicy::Volatile)
        };
        self.either(found, durable, |overlay, sector, tag| {
            overlay.sectors[sector].contains(&tag)
        })
    }

    /// What a maintenance client wrote is there as long as no version was made of it, or else it was dropped by order.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn check_publication(
        &self,
        disk: u32,
        found: &Found,
        there: impl Fn(u32) -> bool,
    ) -> Result<(), String> {
        let dropped = *found == Found::NoOverlay && self.before.disks.contains_key(&disk);
        let mut versions = self.after.versions.keys();
        match dropped && !versions.all(|&version| there(version)) {
            true => Err("it is neither a version nor there any more".to_owned()),
            false => Ok(()),
        }
    }

    /// As `check_power_cut`, for the overlay that was kept. `None`: not known to be kept, or not any more.
    pub(super) fn check_kept(&self, disk: u32, found: &Found) -> Result<(), String> {
        self.either(
            found,
            |world| world.kept.get(&disk).cloned(),
            |overlay, sector, tag| overlay.sectors[sector].contains(&tag),
        )
    }

    /// After the death of the process: what was written last.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn check_kill(&self, disk: u32, found: &Found) -> Result<(), String> {
        let [before, after] = [self.before, self.after].map(|world| world.disks.get(&disk));
        let same = before.map(|overlay| overlay.made) == after.map(|overlay| overlay.made);
        self.either(
            found,
            |world| world.disks.get(&disk).cloned(),
            |overlay, sector, tag| {
                let other = [before, after].into_iter().flatten();
                let mut last = other.filter(|other| same || other.made == overlay.made);
                last.any(|overlay| overlay.last(sector) == tag)
            },
        )
    }

    fn either(
        &self,
        found: &Found,
        overlay: impl Fn(&World) -> Option<Overlay>,
        allowed: impl Fn(&Overlay, usize, Tag) -> bool,
    ) -> Result<(), String> {
        let check = |world| match (overlay(world), found) {
            (None, Found::NoOverlay) => Ok(()),
            (Some(_), Found::NoOverlay) => Err("the overlay is lost".to_owned()),
            (None, Found::Content(..)) => Err("what was dropped is back".to_owned()),
            (Some(overlay), Found::Content(policy, _)) if overlay.policy != *policy => {
                Err(format!("the overlay is {policy:?}"))
            }
            (Some(overlay), Found::Content(_, tags)) => {
                let wrong = tags
                    .iter()
                    .enumerate()
                    .find(|&(sector, tag)| !tag.is_some_and(|tag| allowed(&overlay, sector, tag)));
                match wrong {
                    Some((sector, tag)) => Err(format!(
                        "sector {sector} holds {tag:x?}, allowed are {:x?}",
                        overlay.sectors[sector]
                    )),
                    None => Ok(()),
                }
            }
        };
        check(self.before).or_else(|before| {
            check(self.after).map_err(|after| match before == after {
                true => before,
                false => format!("{before} (before); {after} (after)"),
            })
        })
    }
}
