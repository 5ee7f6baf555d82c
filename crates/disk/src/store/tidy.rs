//! Background work of the store: archive the maps of overlays that were put away, remove old ones. Large files take long to
//! remove, so no power-on waits for it.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use dess_model::DiskId;
use tracing::{debug, warn};

use super::directory::{self, DiskDirectory, Entry, Stage};
use super::{StoreOptions, StorePaths};
use crate::data_file::DataFile;
use crate::error::DiskError;
use crate::files;
use crate::map_file::MapKind;
use crate::overlay::durable::DurableMap;
use crate::overlay::live::{LiveMap, failure_path, live_path};
use crate::overlay::{DATA_FILE, MAP_FILE, OverlayDescriptor};

enum Job {
    Tidy(DiskId),
    /// Removes the overlay that was put away longest ago.
    DropKept(Sender<Result<bool, DiskError>>),
    Answer(Sender<()>),
}

/// The thread. Work that it does not get to is found again at the next start.
pub(super) struct Tidier {
    jobs: Option<Sender<Job>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Tidier {
    pub(super) fn start(paths: &StorePaths, options: StoreOptions) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let stopping = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            paths: paths.clone(),
            options,
            stopping: Arc::clone(&stopping),
        };
        let thread = std::thread::Builder::new()
            .name("disk-tidy".to_owned())
            .spawn(move || worker.run(&queue))?;
        Ok(Self {
            jobs: Some(jobs),
            stopping,
            thread: Some(thread),
        })
    }

    pub(super) fn tidy(&self, disk: DiskId) {
        self.send(Job::Tidy(disk));
    }

    pub(super) fn wait(&self) {
        let (done, answer) = mpsc::channel();
        self.send(Job::Answer(done));
        // An error means that the thread has ended, so nothing is left to wait for.
        let _ = answer.recv();
    }

    /// Removes the overlay that was put away longest ago, of any disk; false if there is none. Waits until it is done.
    pub(super) fn drop_kept(&self) -> Result<bool, DiskError> {
        let (done, answer) = mpsc::channel();
        self.send(Job::DropKept(done));
        // Without the thread nothing is dropped.
        answer.recv().unwrap_or(Ok(false))
    }

    fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs
            && jobs.send(job).is_err()
        {
            warn!(
                "old overlays are not removed until the service restarts: the tidying thread has ended"
            );
        }
    }
}

impl Drop for Tidier {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was logged by the hook and leaves nothing undone that the next start does not find.
            let _ = thread.join();
        }
    }
}

struct Worker {
    paths: StorePaths,
    options: StoreOptions,
    stopping: Arc<AtomicBool>,
}

impl Worker {
    fn run(&self, queue: &Receiver<Job>) {
        for job in queue {
            if self.stopping.load(Ordering::Relaxed) {
                return;
            }
            match job {
                Job::Tidy(disk) => {
                    if let Err(error) = self.tidy(disk) {
                        warn!(disk.id = %disk, error = &error as &dyn std::error::Error, "old overlays of disk {disk} stay for now");
                    }
                }
                // The caller may have gone.
                Job::DropKept(done) => drop(done.send(drop_oldest(&self.paths))),
                Job::Answer(done) => drop(done.send(())),
            }
        }
    }

    fn tidy(&self, disk: DiskId) -> Result<(), DiskError> {
        let directory = DiskDirectory::new(&self.paths.overlays, disk);
        let old = |entry: &Entry| entry.stage == Stage::Old;
        let entries = directory.entries()?;
        let surplus = entries
            .iter()
            .filter(|entry| old(entry))
            .count()
            .saturating_sub(self.options.keep_old);
        for entry in entries.iter().filter(|entry| old(entry)).take(surplus) {
            directory.rename(entry, "drop")?;
        }
        for entry in directory.entries()? {
            let live = live_path(&self.paths.live_maps, disk, entry.generation);
            match entry.stage {
                Stage::Old | Stage::Kept => archive_map(&entry.path, &live)?,
                Stage::Drop => {
                    remove_overlay(&entry.path, &live)?;
                    debug!(disk.id = %disk, entry.generation, "removed an old overlay of disk {disk}");
                }
                Stage::New | Stage::Current(_) | Stage::Parked | Stage::Sealed => {}
            }
        }
        // Fails while anything is in it.
        let _ = files::remove_dir(directory.path());
        Ok(())
    }
}

/// Makes room on a full store: removes the overlay that was put away longest ago, of any disk. False if there is none.
fn drop_oldest(paths: &StorePaths) -> Result<bool, DiskError> {
    let mut oldest = None;
    for disk in directory::disk_ids(&paths.overlays)? {
        for entry in DiskDirectory::new(&paths.overlays, disk).entries()? {
            let modified = fs::metadata(&entry.path).and_then(|data| data.modified());
            let Some(modified) = modified.ok().filter(|_| entry.stage == Stage::Old) else {
                continue;
            };
            if oldest
                .as_ref()
                .is_none_or(|&(since, _, _)| modified < since)
            {
                oldest = Some((modified, disk, entry));
            }
        }
    }
    let Some((_, disk, entry)) = oldest else {
        return Ok(false);
    };
    warn!(disk.id = %disk, entry.generation, "room is short; an earlier overlay of disk {disk} is removed");
    remove_overlay(
        &entry.path,
        &live_path(&paths.live_maps, disk, entry.generation),
    )?;
    Ok(true)
}

pub(super) fn remove_overlay(path: &Path, live: &Path) -> Result<(), DiskError> {
    remove_file(live)?;
    remove_file(&failure_path(live))?;
    match files::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(DiskError::store("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Moves the live map of an overlay that was put away from memory into its directory. The live map names what was never flushed, so
/// the data of a persistent one is synced first: its map must not name blocks that a power cut loses.
fn archive_map(directory: &Path, live: &Path) -> Result<(), DiskError> {
    if !live.exists() {
        return Ok(());
    }
    let failure = failure_path(live);
    if failure.exists() {
        // What the live map names beyond the durable one may not be on the storage.
        remove_file(live)?;
        return remove_file(&failure);
    }
    if let Ok(descriptor) = OverlayDescriptor::read(directory) {
        let words = LiveMap::open_any_boot(live, &descriptor.map_header(MapKind::Live))
            .and_then(|map| map.map_or(Ok(Vec::new()), |map| map.words()))
            .map_err(DiskError::store("read", live))?;
        if descriptor.kind.is_durable() {
            let path = directory.join(DATA_FILE);
            DataFile::open_read_only(&path)
                .and_then(|data| data.sync_data())
                .map_err(DiskError::store("sync", &path))?;
        }
        let path = directory.join(MAP_FILE);
        DurableMap::create(&path, &descriptor.map_header(MapKind::Overlay), &words)
            .map_err(DiskError::store("write", &path))?;
    }
    remove_file(live)
}

fn remove_file(path: &Path) -> Result<(), DiskError> {
    match files::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(DiskError::store("remove", path)(error))
        }
        _ => Ok(()),
    }
}
