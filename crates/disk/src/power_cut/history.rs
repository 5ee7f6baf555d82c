//! Histories of a store: what is done, and what the disks hold then.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use dess_model::{BootPolicy, DiskState};
use rustix::io::Errno;

use super::expected::{
    Overlay, SECTOR_BYTES, SECTORS, World, bytes, tags, version_tag, written_tag,
};
use crate::files::Change;
use crate::files::simulated::{Journal, Random};
use crate::files::watch::Recording;
use crate::testing::{Room, disk_id, read_all, version_ref};
use crate::{
    BlockDevice, BuildError, Disk, DiskError, DiskSpec, DiskStore, ImageFormat, ImportError,
    Manifest, flatten, import, overlays_in_use, publish, remove_version,
};

/// The last but one is volatile, the last one a maintenance client's, the others are persistent.
pub(super) const DISKS: u32 = 4;
/// Most versions at once.
const VERSIONS_MAX: usize = 4;

/// One thing that happens to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    PowerOn {
        disk: u32,
        policy: BootPolicy,
    },
    Write {
        disk: u32,
        sector: u64,
        count: u64,
    },
    Zero {
        disk: u32,
        sector: u64,
        count: u64,
    },
    Flush {
        disk: u32,
    },
    /// A flush of which one sync fails.
    FailFlush {
        disk: u32,
        sync: u64,
    },
    Reset {
        disk: u32,
    },
    Remove {
        disk: u32,
    },
    Import,
    /// What the maintenance client wrote becomes the next version.
    Publish,
    /// It is dropped.
    Discard,
    /// The newest version is made whole.
    Flatten,
    /// The oldest version that nobody needs is removed.
    RemoveVersion,
    /// The service ends and starts again.
    Restart,
}

/// Now and then the policy of a disk is changed, but not that of the maintenance client.
pub(super) fn random_actions(seed: u64, count: usize) -> Vec<Action> {
    let mut random = Random::new(seed);
    let mut actions = Vec::new();
    for disk in 1..=DISKS {
        let policy = policy(disk);
        actions.push(Action::PowerOn { disk, policy });
    }
    // So that every history has them: a version published over one that was published, made whole, and the one below removed.
    for sector in [3, 40] {
        let policy = policy(DISKS);
        actions.extend([
            Action::PowerOn {
                disk: DISKS,
                policy,
            },
            Action::Write {
                disk: DISKS,
                sector,
                count: 24,
            },
            Action::Publish,
        ]);
    }
    actions.extend([Action::Flatten, Action::RemoveVersion]);
    while actions.len() < count {
        let disk = 1 + random.below(u64::from(DISKS)) as u32;
        let sector = random.below(SECTORS);
        let count = [1, 3, 8, 9, 24, 60][random.below(6) as usize].min(SECTORS - sector);
        let maintenance = disk == DISKS;
        actions.push(match random.below(40) {
            0..13 => Action::Write {
                disk,
                sector,
                count,
            },
            13..18 => Action::Zero {
                disk,
                sector,
                count,
            },
            18..23 => Action::Flush { disk },
            23 => Action::FailFlush {
                disk,
                sync: random.below(2),
            },
            24..26 if !maintenance => Action::PowerOn {
                disk,
                policy: BootPolicy::Volatile,
            },
            24..28 => Action::PowerOn {
                disk,
                policy: policy(disk),
            },
            28 => Action::Reset { disk },
            29 => Action::Remove { disk },
            30 => Action::Import,
            31..34 => Action::Publish,
            34 => Action::Discard,
            35..37 => Action::Flatten,
            37..39 => Action::RemoveVersion,
            _ => Action::Restart,
        });
    }
    actions
}

fn policy(disk: u32) -> BootPolicy {
    match disk {
        DISKS => BootPolicy::Maintenance,
        3 => BootPolicy::Volatile,
        _ => BootPolicy::Persistent,
    }
}

/// One action that was carried out.
pub(super) struct Step {
    pub(super) action: Action,
    /// Changes of the store until its end.
    pub(super) end: usize,
    /// After it.
    pub(super) world: World,
}

/// Carries actions out and knows what the disks must hold.
pub(super) struct Player<'a> {
    room: &'a Room,
    sources: PathBuf,
    recording: Arc<Recording>,
    store: Option<DiskStore>,
    open: HashMap<u32, Arc<Disk>>,
    world: World,
    epoch: u32,
    number: u64,
    pub(super) steps: Vec<Step>,
}

impl<'a> Player<'a> {
    /// Goes on in a room that is as `world` says. Numbers are given from `number` on.
    pub(super) fn start(
        room: &'a Room,
        sources: PathBuf,
        recording: Arc<Recording>,
        world: World,
        number: u64,
    ) -> Self {
        let mut player = Self {
            room,
            sources,
            recording,
            store: None,
            open: HashMap::new(),
            world,
            epoch: number as u32,
            number,
            steps: Vec::new(),
        };
        player.play(Action::Restart);
        player
    }

    pub(super) fn play(&mut self, action: Action) {
        self.number += 1;
        self.carry_out(action);
        self.steps.push(Step {
            action,
            end: self.recording.changes(),
            world: self.world.clone(),
        });
    }

    /// The service ends. What it did and what it left.
    pub(super) fn end(mut self) -> (Vec<Step>, Journal) {
        self.open.clear();
        self.store = None;
        (self.steps, self.recording.journal())
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::PowerOn { disk, policy } => self.power_on(disk, policy),
            Action::Write {
                disk,
                sector,
                count,
            } => {
                let number = self.number;
                let range = sector..sector + count;
                let data = bytes(range.clone().map(|sector| written_tag(number, sector)));
                if let Some(open) = self.attach(disk) {
                    open.write_at(sector * SECTOR_BYTES, &data).unwrap();
                    let overlay = self.world.disks.get_mut(&disk).unwrap();
                    overlay.write(range, |sector| written_tag(number, sector));
                }
            }
            Action::Zero {
                disk,
                sector,
                count,
            } => {
                if let Some(open) = self.attach(disk) {
                    open.write_zeroes(sector * SECTOR_BYTES, count * SECTOR_BYTES)
                        .unwrap();
                    let overlay = self.world.disks.get_mut(&disk).unwrap();
                    overlay.write(sector..sector + count, |_| 0);
                }
            }
            Action::Flush { disk } => {
                if let Some(open) = self.attach(disk) {
                    open.flush().unwrap();
                    self.world.disks.get_mut(&disk).unwrap().flush();
                }
            }
            Action::FailFlush { disk, sync } => self.fail_flush(disk, sync),
            Action::Reset { disk } => {
                self.epoch += 1;
                self.open.remove(&disk);
                self.store().reset(disk_id(disk), self.epoch).unwrap();
                self.world.disks.remove(&disk);
                self.world.kept.remove(&disk);
            }
            Action::Remove { disk } => {
                self.open.remove(&disk);
                self.store().remove(disk_id(disk)).unwrap();
                self.world.disks.remove(&disk);
                self.world.kept.remove(&disk);
            }
            Action::Import => self.import(),
            Action::Publish => self.publish(),
            Action::Discard => {
                self.open.remove(&DISKS);
                self.store().discard(disk_id(DISKS)).unwrap();
                self.world.disks.remove(&DISKS);
            }
            Action::Flatten => self.flatten(),
            Action::RemoveVersion => self.remove_version(),
            Action::Restart => {
                self.open.clear();
                self.store = None;
                self.store = Some(self.room.store());
            }
        }
    }

    fn store(&self) -> &DiskStore {
        self.store.as_ref().expect("the store is open")
    }

    fn attach(&mut self, disk: u32) -> Option<Arc<Disk>> {
        self.world.disks.get(&disk)?;
        if let Some(open) = self.open.get(&disk) {
            let refuses = open.state() == DiskState::ReadOnly;
            return (!refuses).then(|| Arc::clone(open));
        }
        let open = self.store().attach(disk_id(disk)).unwrap().disk;
        if open.state() == DiskState::ReadOnly {
            assert!(open.flush().is_err(), "a failed flush is forgotten");
            return None;
        }
        // So that the records of a map take more than a few flushes' worth.
        open.compact_early();
        self.open.insert(disk, Arc::clone(&open));
        Some(open)
    }

    fn power_on(&mut self, disk: u32, policy: BootPolicy) {
        let (&version, content) = self.world.versions.last_key_value().unwrap();
        let fresh = Overlay::new(self.number, policy, content);
        let spec = DiskSpec {
            version: version_ref(version),
            version_dir: self.room.version_dir(version),
            ..self.room.spec(disk, policy)
        };
        let powered = self.store().power_on(&spec).unwrap();
        if !powered.fresh {
            // After a failed flush something may be gone, but what is there now stays.
            let overlay = self.world.disks.get_mut(&disk).unwrap();
            let found = tags(&read_all(&*powered.disk));
            overlay.check(&found).unwrap();
            *overlay = overlay.clone().found(&found);
        }
        if powered.fresh {
            let former = self.world.disks.insert(disk, fresh);
            if let Some(former) = former
                && (former.policy, policy) == (BootPolicy::Persistent, BootPolicy::Volatile)
            {
                self.world.kept.insert(disk, former);
            }
        }
        powered.disk.compact_early();
        self.open.insert(disk, powered.disk);
    }

    fn fail_flush(&mut self, disk: u32, sync: u64) {
        let Some(open) = self.attach(disk) else {
            return;
        };
        let mut before = sync;
        self.recording.fail_if(move |change| {
            let fails = matches!(change, Change::Sync) && before == 0;
            before -= u64::from(matches!(change, Change::Sync) && !fails);
            fails.then(|| Errno::IO.into())
        });
        let flushed = open.flush();
        self.recording.fail_no_more();
        let overlay = self.world.disks.get_mut(&disk).unwrap();
        match flushed {
            // There was no such sync.
            Ok(()) => overlay.flush(),
            Err(_) => assert_eq!(open.state(), DiskState::ReadOnly),
        }
    }

    fn import(&mut self) {
        if self.world.versions.len() == VERSIONS_MAX {
            return;
        }
        let version = self.world.last_version + 1;
        let source = self.sources.join(version.to_string());
        let content: Vec<_> = (0..SECTORS)
            .map(|sector| version_tag(version, sector))
            .collect();
        std::fs::write(&source, bytes(content.iter().copied())).unwrap();
        let mut request = self.room.request(version, source);
        request.source.format = Some(ImageFormat::Raw);
        match import(&request, &mut |_| {}, &|| false) {
            // It was made by one that was killed before it could say so.
            Ok(_) | Err(ImportError::Build(BuildError::Exists { .. })) => {}
            Err(error) => panic!("{error:?}"),
        }
        self.world.add_version(version, content);
    }

    fn publish(&mut self) {
        let nothing = !self.world.disks.contains_key(&DISKS);
        if nothing || self.world.versions.len() == VERSIONS_MAX {
            return;
        }
        let disk = disk_id(DISKS);
        // It may be sealed already, by one that was killed.
        let sealed = match self.store().seal(disk) {
            Ok(sealed) => sealed,
            // A flush failed before.
            Err(DiskError::Store {
                action: "flush", ..
            }) => return,
            Err(error) => panic!("{error:?}"),
        };
        self.open.remove(&DISKS);
        let number = self.world.last_version + 1;
        let request = self.room.publish_request(DISKS, sealed.generation, number);
        let manifest = publish(&request, &mut |_| {}, &|| false).unwrap();
        assert!(self.store().release(disk).unwrap());
        let overlay = self.world.disks.remove(&DISKS).unwrap();
        self.world
            .add_version(manifest.version.number, overlay.content());
    }

    fn flatten(&self) {
        let (&newest, _) = self.world.versions.last_key_value().unwrap();
        let images = self.room.path("images");
        flatten(&images, version_ref(newest), &mut |_| {}, &|| false).unwrap();
    }

    /// As `node` does: what a later version or an overlay needs stays, and the newest one, which is assigned.
    fn remove_version(&mut self) {
        let mut needed: Vec<u32> = overlays_in_use(&self.room.path("overlays"))
            .unwrap()
            .iter()
            .map(|overlay| overlay.base.number)
            .collect();
        needed.extend(
            self.world
                .versions
                .last_key_value()
                .map(|(&newest, _)| newest),
        );
        for &version in self.world.versions.keys() {
            needed.extend(
                Manifest::read(&self.room.version_dir(version))
                    .unwrap()
                    .parent,
            );
        }
        let mut versions = self.world.versions.keys().copied();
        if let Some(version) = versions.find(|version| !needed.contains(version)) {
            remove_version(&self.room.path("images"), version_ref(version)).unwrap();
            self.world.versions.remove(&version);
        }
    }
}
