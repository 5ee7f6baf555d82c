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
use crate::{BlockDevice, Disk, DiskSpec, DiskStore, ImageFormat, ImportError, import};

pub(super) const DISKS: u32 = 3;
const VERSIONS_MAX: u32 = 3;

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
    /// The service ends and starts again.
    Restart,
}

/// The first disks are persistent, the last one is volatile; now and then the policy of one is changed.
pub(super) fn random_actions(seed: u64, count: usize) -> Vec<Action> {
    let mut random = Random::new(seed);
    let mut actions = Vec::new();
    for disk in 1..=DISKS {
        let policy = policy(disk);
        actions.push(Action::PowerOn { disk, policy });
    }
    while actions.len() < count {
        let disk = 1 + random.below(u64::from(DISKS)) as u32;
        let sector = random.below(SECTORS);
        let count = [1, 3, 8, 9, 24, 60][random.below(6) as usize].min(SECTORS - sector);
        actions.push(match random.below(32) {
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
            24..26 => Action::PowerOn {
                disk,
                policy: BootPolicy::Volatile,
            },
            26..28 => Action::PowerOn {
                disk,
                policy: policy(disk),
            },
            28 => Action::Reset { disk },
            29 => Action::Remove { disk },
            30 => Action::Import,
            _ => Action::Restart,
        });
    }
    actions
}

fn policy(disk: u32) -> BootPolicy {
    match disk {
        DISKS => BootPolicy::Volatile,
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
        let version = self.world.versions.last().copied().unwrap();
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
            let fresh = Overlay::new(self.number, policy, version);
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
        let version = self.world.versions.len() as u32 + 1;
        if version > VERSIONS_MAX {
            return;
        }
        let source = self.sources.join(version.to_string());
        let content = bytes((0..SECTORS).map(|sector| version_tag(version, sector)));
        std::fs::write(&source, content).unwrap();
        let mut request = self.room.request(version, source);
        request.source.format = Some(ImageFormat::Raw);
        match import(&request, &mut |_| {}, &|| false) {
            // It was made by one that was killed before it could say so.
            Ok(_) | Err(ImportError::Exists { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
        self.world.versions.push(version);
    }
}
