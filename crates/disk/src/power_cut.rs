//! The power is cut, and the process killed, after every change that a store makes (tests).
//!
//! A history of random actions is carried out once on a watched directory. Then, for every change in it, the states that POSIX
//! allows on the storage are made anew in other directories, opened and checked against what was acknowledged.

mod expected;
mod history;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};

use dess_model::BootPolicy;

use crate::check::check_overlay;
use crate::files::simulated::{Journal, Loss, Op, Random, Storage, Tree};
use crate::files::watch::Recording;
use crate::testing::{Room, disk_id, read_all, version_ref};
use crate::{Disk, DiskError, DiskSpec, OverlayKind, Version, clean_unfinished};
use expected::{Between, Found, Overlay, SECTORS, World, bytes, tags, version_tag};
use history::{Action, DISKS, Player, Step, random_actions};

/// How many random histories are run.
const HISTORIES_VARIABLE: &str = "DESS_POWER_CUT_HISTORIES";
const HISTORIES: u64 = 1;
/// The first seed.
const SEED_VARIABLE: &str = "DESS_TEST_SEED";
const ACTIONS: usize = 28;
/// After every so many power cuts, and kills, the store goes on and the power is cut again.
const GO_ON_EVERY: [u64; 2] = [16, 4];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fall {
    PowerCut,
    Kill,
}

/// What is found of one disk.
struct DiskFound {
    disk: u32,
    content: Found,
    /// In the overlay that gave way to a volatile one.
    kept: Found,
}

/// A history that was carried out.
struct Recorded {
    first: World,
    steps: Vec<Step>,
    journal: Journal,
}

impl Recorded {
    fn of(actions: &[Action]) -> Self {
        let room = Room::in_memory();
        let sources = Room::in_memory();
        let content: Vec<_> = (0..SECTORS).map(|sector| version_tag(1, sector)).collect();
        room.import(1, &bytes(content.iter().copied()));
        fs::remove_file(room.path("source-1.img")).unwrap();
        let mut first = World::default();
        first.add_version(1, content);
        let recording = Recording::start(&room.path(""));
        let mut player = Player::start(&room, sources.path(""), recording, first.clone(), 0);
        for action in actions {
            player.play(*action);
        }
        let (steps, journal) = player.end();
        Self {
            first,
            steps,
            journal,
        }
    }

    /// Steps that were acknowledged when so many changes had happened.
    fn done(&self, changes: usize) -> usize {
        self.steps.partition_point(|step| step.end <= changes)
    }

    /// What was acknowledged, and what was under way, when so many changes had happened.
    fn at(&self, changes: usize) -> (Between<'_>, Option<Action>) {
        let done = self.done(changes);
        let before = match done {
            0 => &self.first,
            done => &self.steps[done - 1].world,
        };
        match self.steps.get(done) {
            Some(next) if done == 0 || self.steps[done - 1].end < changes => {
                let after = &next.world;
                (Between { before, after }, Some(next.action))
            }
            _ => (
                Between {
                    before,
                    after: before,
                },
                None,
            ),
        }
    }
}

/// Cuts the power and kills the process after every change.
struct Cutter<'a> {
    recorded: &'a Recorded,
    seed: u64,
    random: Random,
    /// States that were checked.
    states: usize,
    gone_on: usize,
}

impl<'a> Cutter<'a> {
    fn new(recorded: &'a Recorded, seed: u64) -> Self {
        Self {
            recorded,
            seed,
            random: Random::new(seed),
            states: 0,
            gone_on: 0,
        }
    }

    fn run(&mut self) {
        let recorded = self.recorded;
        let mut storage = recorded.journal.storage();
        let mut last = None;
        for changes in 0..=recorded.journal.ops().len() {
            if let Some(number) = changes.checked_sub(1) {
                storage.advance(number, &recorded.journal.ops()[number]);
            }
            // Known gap, of microseconds: a process killed between a failed sync and the note of it leaves no trace of the failure.
            let failed = changes
                .checked_sub(1)
                .map(|last| &recorded.journal.ops()[last]);
            if !matches!(failed, Some(Op::FailSync { .. })) {
                self.fall(Fall::Kill, changes, &storage.cut(&mut Loss::Nothing));
            }
            let bounds = [Loss::Everything, Loss::Nothing];
            let bounds = bounds.map(|mut loss| hash(&cut(&storage, &mut loss)));
            let now = Some((bounds, recorded.done(changes)));
            if std::mem::replace(&mut last, now) == now {
                // Only a live map has changed.
                continue;
            }
            let mut seen = HashSet::new();
            for mut loss in self.losses(changes) {
                let tree = cut(&storage, &mut loss);
                if seen.insert(hash(&tree)) {
                    self.fall(Fall::PowerCut, changes, &tree);
                }
            }
        }
    }

    fn losses(&mut self, changes: usize) -> Vec<Loss> {
        let mut below = |limit: usize| self.random.below(limit as u64 + 1);
        vec![
            Loss::Everything,
            Loss::Nothing,
            Loss::Data,
            Loss::Names,
            Loss::Since(below(changes) as usize),
            Loss::random(below(usize::MAX >> 1)),
            Loss::random(below(usize::MAX >> 1)),
        ]
    }

    /// Opens one state that may be left, and checks it.
    fn fall(&mut self, fall: Fall, changes: usize, tree: &Tree) {
        self.states += 1;
        let (between, action) = self.recorded.at(changes);
        let room = room_of(tree, fall);
        let goes_on = self.random.below(GO_ON_EVERY[fall as usize]) == 0;
        let again = goes_on.then(|| room_of(tree, fall));
        let result = verify(&room, fall, &between).and_then(|found| match again {
            Some(again) => {
                self.gone_on += 1;
                self.go_on(&again, fall, changes, &found)
            }
            None => Ok(()),
        });
        if let Err(problem) = result {
            let history = self.describe(changes);
            let seed = self.seed;
            panic!(
                "{fall:?} after change {changes} (in {action:?}): {problem}\nrepeat with {SEED_VARIABLE}={seed}\n{history}{}",
                describe(tree)
            );
        }
    }

    /// The store is used again after its fall; what it acknowledges then is there after a further power cut.
    fn go_on(
        &mut self,
        room: &Room,
        fall: Fall,
        changes: usize,
        found: &[DiskFound],
    ) -> Result<(), String> {
        let (between, action) = self.recorded.at(changes);
        let recording = match fall {
            Fall::PowerCut => Recording::start(&room.path("")),
            Fall::Kill => Recording::resume(&room.path(""), self.recorded.journal.before(changes)),
        };
        let world = world_of(room, fall, &between, action, found);
        let sources = Room::in_memory();
        let number = 1000 + changes as u64;
        let mut player = Player::start(room, sources.path(""), recording, world, number);
        // Whoever asked for it asks again.
        use Action::{Discard, Flatten, Import, Publish, Remove, Reset};
        if let Some(
            action @ (Reset { .. } | Remove { .. } | Import | Publish | Discard | Flatten),
        ) = action
        {
            player.play(action);
        }
        for disk in 1..=DISKS {
            let sector = self.random.below(SECTORS - 24);
            player.play(Action::Flush { disk });
            for count in [3, 24] {
                player.play(Action::Write {
                    disk,
                    sector,
                    count,
                });
                if count == 3 {
                    player.play(Action::Flush { disk });
                }
            }
        }
        let (steps, journal) = player.end();
        let last = &steps[steps.len() - 1].world;
        let mut storage = journal.storage();
        for (number, op) in journal.ops().iter().enumerate() {
            storage.advance(number, op);
        }
        let between = Between {
            before: last,
            after: last,
        };
        for mut loss in [Loss::Everything, Loss::random(self.random.below(1 << 30))] {
            let tree = cut(&storage, &mut loss);
            self.states += 1;
            let mut room = room_of(&tree, Fall::PowerCut);
            room.reboot();
            verify(&room, Fall::PowerCut, &between).map_err(|problem| {
                format!("gone on, then a power cut: {problem}{}", describe(&tree))
            })?;
        }
        Ok(())
    }

    fn describe(&self, changes: usize) -> String {
        let mut text = String::new();
        let steps = self.recorded.steps.iter();
        let mut start = 0;
        for step in steps.take_while(|step| step.end <= changes + 1) {
            let _ = writeln!(text, "  {start}..{}: {:?}", step.end, step.action);
            start = step.end;
        }
        for (number, op) in self.recorded.journal.ops().iter().enumerate() {
            if (changes.saturating_sub(20)..changes).contains(&number) {
                let line = format!("{op:?}");
                let _ = writeln!(text, "    {number}: {}", &line[..line.len().min(120)]);
            }
        }
        text
    }
}

/// What a power cut leaves; the live maps lie in memory.
fn cut(storage: &Storage, loss: &mut Loss) -> Tree {
    let mut tree = storage.cut(loss);
    tree.retain(|path, _| !path.starts_with("maps"));
    tree
}

/// A room with these files, in which nothing runs.
fn room_of(tree: &Tree, fall: Fall) -> Room {
    let mut room = Room::in_memory();
    for (path, content) in tree {
        let path = room.path("").join(path);
        match content {
            Some(content) => fs::write(path, content).unwrap(),
            None => fs::create_dir(path).unwrap(),
        }
    }
    if fall == Fall::PowerCut {
        room.reboot();
    }
    room
}

/// Opens the store and looks at everything.
fn verify(room: &Room, fall: Fall, between: &Between<'_>) -> Result<Vec<DiskFound>, String> {
    for disk in 1..=DISKS {
        check_overlays(room, disk)?;
    }
    verify_versions(room, between)?;
    let mut found = Vec::new();
    let store = crate::DiskStore::open(room.paths(), room.options())
        .map_err(|error| format!("the store does not open: {error:?}"))?;
    // The publication under way does not go on.
    store
        .unseal(disk_id(DISKS))
        .map_err(|error| format!("what was sealed is not given back: {error:?}"))?;
    for disk in 1..=DISKS {
        let content = match store.attach(disk_id(disk)) {
            Ok(attached) => found_on(&attached.disk),
            Err(DiskError::NoOverlay { .. }) => Found::NoOverlay,
            Err(error) => return Err(format!("disk {disk} does not open: {error:?}")),
        };
        let checked = match fall {
            Fall::PowerCut => between.check_power_cut(disk, &content),
            Fall::Kill => between.check_kill(disk, &content),
        };
        let there = |version| room.version_dir(version).exists();
        checked
            .and_then(|()| match disk {
                DISKS => between.check_publication(disk, &content, there),
                _ => Ok(()),
            })
            .map_err(|problem| format!("disk {disk}: {problem}"))?;
        if content == Found::NoOverlay {
            check_fresh(room, &store, disk, between)?;
        }
        found.push(DiskFound {
            disk,
            content,
            kept: Found::NoOverlay,
        });
    }
    store.wait_for_tidying();
    drop(store);
    for found in &mut found {
        let disk = found.disk;
        found.kept = content_of_kept(room, disk)?;
        between
            .check_kept(disk, &found.kept)
            .map_err(|problem| format!("kept overlay of disk {disk}: {problem}"))?;
    }
    Ok(found)
}

fn found_on(disk: &Disk) -> Found {
    let policy = match disk.descriptor().kind {
        OverlayKind::Volatile => BootPolicy::Volatile,
        OverlayKind::Persistent => BootPolicy::Persistent,
        OverlayKind::Maintenance => BootPolicy::Maintenance,
    };
    Found::Content(policy, tags(&read_all(disk)))
}

/// A disk without an overlay gets an empty one.
fn check_fresh(
    room: &Room,
    store: &crate::DiskStore,
    disk: u32,
    between: &Between<'_>,
) -> Result<(), String> {
    let (version, content) = between.stays().last().unwrap();
    let spec = DiskSpec {
        version: version_ref(version),
        version_dir: room.version_dir(version),
        ..room.spec(disk, BootPolicy::Volatile)
    };
    let powered = store
        .power_on(&spec)
        .map_err(|error| format!("disk {disk} gets no overlay: {error:?}"))?;
    let wanted = content.iter().copied().map(Some);
    match powered.fresh && tags(&read_all(&*powered.disk)).into_iter().eq(wanted) {
        true => Ok(()),
        false => Err(format!("the fresh overlay of disk {disk} is not empty")),
    }
}

/// The check before the store is opened finds nothing wrong with overlays that must be whole.
fn check_overlays(room: &Room, disk: u32) -> Result<(), String> {
    for path in overlays(room, disk) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let checked = check_overlay(&path);
        let durable = ["persistent-", "kept-", "maintenance-", "sealed-"];
        if durable.iter().any(|prefix| name.starts_with(prefix)) && checked.is_damaged() {
            return Err(format!("{name} of disk {disk}: {:?}", checked.faults));
        }
    }
    Ok(())
}

fn overlays(room: &Room, disk: u32) -> Vec<std::path::PathBuf> {
    let directory = room.path("overlays").join(disk_id(disk).simple());
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.is_dir());
    paths.sort();
    paths
}

/// Versions are whole; one that was being made or removed is whole or not there, and leaves nothing.
fn verify_versions(room: &Room, between: &Between<'_>) -> Result<(), String> {
    clean_unfinished(&room.path("images")).map_err(|error| format!("clean up: {error:?}"))?;
    let stays: Vec<u32> = between.stays().map(|(version, _)| version).collect();
    let worlds = [between.before, between.after];
    for (&version, content) in worlds.iter().flat_map(|world| &world.versions) {
        let directory = room.version_dir(version);
        if !directory.exists() && !stays.contains(&version) {
            continue;
        }
        let problem = |error| format!("version {version}: {error:?}");
        let open = Version::open(&directory).map_err(problem)?;
        open.verify(&mut |_| {}, &|| false).map_err(problem)?;
        if !tags(&read_all(&open))
            .into_iter()
            .eq(content.iter().copied().map(Some))
        {
            return Err(format!("version {version} holds something else"));
        }
    }
    Ok(())
}

/// The content of an overlay that gave way to a volatile one: with its former name it is a disk again.
fn content_of_kept(room: &Room, disk: u32) -> Result<Found, String> {
    let mut kept = None;
    for path in overlays(room, disk) {
        match path
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .strip_prefix("kept-")
        {
            Some(generation) => kept = Some((generation.to_owned(), path)),
            None => fs::remove_dir_all(path).unwrap(),
        }
    }
    let Some((generation, path)) = kept else {
        return Ok(Found::NoOverlay);
    };
    fs::rename(
        &path,
        path.with_file_name(format!("persistent-{generation}")),
    )
    .unwrap();
    let store = room.store();
    match store.attach(disk_id(disk)) {
        Ok(attached) => Ok(found_on(&attached.disk)),
        Err(error) => Err(format!("the kept overlay of disk {disk}: {error:?}")),
    }
}

/// The world as it was found.
fn world_of(
    room: &Room,
    fall: Fall,
    between: &Between<'_>,
    action: Option<Action>,
    found: &[DiskFound],
) -> World {
    let mut world = World {
        last_version: between.before.last_version,
        ..World::default()
    };
    let known = match action {
        // It is asked for again, and found to be done.
        Some(Action::Import) => &between.before.versions,
        _ => &between.after.versions,
    };
    for (&version, content) in known.iter().chain(&between.before.versions) {
        if room.version_dir(version).exists() {
            world.add_version(version, content.clone());
        }
    }
    for DiskFound {
        disk,
        content,
        kept,
    } in found
    {
        let worlds = [between.after, between.before];
        if let Found::Content(_, tags) = kept {
            let mut known = worlds.iter().filter_map(|world| world.kept.get(disk));
            let overlay = known.next().unwrap().clone();
            world.kept.insert(*disk, overlay.found(tags));
        }
        let Found::Content(policy, tags) = content else {
            continue;
        };
        let known = worlds.iter().filter_map(|world| world.disks.get(disk));
        let known = known.filter(|overlay| overlay.policy == *policy);
        let overlay = known.cloned().reduce(Overlay::join).unwrap();
        let overlay = match fall {
            Fall::PowerCut => overlay.settled(tags),
            Fall::Kill => overlay.found(tags),
        };
        world.disks.insert(*disk, overlay);
    }
    world
}

fn hash(tree: &Tree) -> u64 {
    let mut hasher = DefaultHasher::new();
    tree.hash(&mut hasher);
    hasher.finish()
}

fn describe(tree: &Tree) -> String {
    tree.iter()
        .fold(String::new(), |mut text, (path, content)| {
            let length = content.as_ref().map(Vec::len);
            let _ = writeln!(text, "  {} {length:?}", path.display());
            text
        })
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| {
        value.parse().expect("the variable holds a number")
    })
}

#[test]
fn whatever_was_flushed_survives_a_power_cut_and_whatever_was_acknowledged_a_kill_after_every_change()
 {
    let first = variable(SEED_VARIABLE, 1);
    for seed in first..first + variable(HISTORIES_VARIABLE, HISTORIES) {
        let recorded = Recorded::of(&random_actions(seed, ACTIONS));
        let mut cutter = Cutter::new(&recorded, seed);
        cutter.run();
        println!(
            "seed {seed}: {} changes, {} states, {} went on",
            recorded.journal.ops().len(),
            cutter.states,
            cutter.gone_on
        );
    }
}
