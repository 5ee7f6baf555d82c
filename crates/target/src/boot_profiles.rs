//! Boot profiles in service: what boots read is noted for some minutes, and read ahead when the next PC is about to boot.

mod ahead;
mod recording;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dess_disk::{BootProfile, Note, Version, version_directory};
use dess_model::{BootProfileStatus, DiskId, ImageId, VersionRef};

use ahead::Done;
pub(crate) use recording::Recording;

use crate::engine::DiskPool;
use crate::service::{Service, on_thread};
use crate::site::Site;

/// A version that was read ahead is not looked at again for so long: all PCs of a room are switched on together.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Boots of a version that are noted at the same time: they are all alike, and each may take a megabyte of memory.
const RECORDED_AT_ONCE: usize = 2;

/// The profiles of all versions, and what they were good for since the service started.
pub(crate) struct BootProfiles {
    directory: PathBuf,
    /// How long after a power-on reads are noted.
    window: Duration,
    /// Boots under way, by their system disks.
    recording: Mutex<HashMap<DiskId, Arc<Recording>>>,
    /// Orders reading, changing and writing the files.
    versions: Mutex<HashMap<VersionRef, Known>>,
}

/// What is known of a version since the service started.
#[derive(Default)]
struct Known {
    looked: Option<Instant>,
    status: Option<BootProfileStatus>,
}

impl BootProfiles {
    pub(crate) fn new(directory: PathBuf, window: Duration) -> Self {
        Self {
            directory,
            window,
            recording: Mutex::default(),
            versions: Mutex::default(),
        }
    }

    /// A boot begins: its reads are noted from now on, unless enough boots of the version are being noted. Answers the
    /// boot before it, if that was still noted.
    #[must_use]
    pub(crate) fn begin(
        &self,
        disk: DiskId,
        version: VersionRef,
        now: Instant,
    ) -> Option<Arc<Recording>> {
        let mut all = lock(&self.recording);
        let before = all.remove(&disk);
        let same = all.values().filter(|other| other.version == version);
        if same.count() < RECORDED_AT_ONCE {
            let recording = Recording::new(version, now + self.window);
            all.insert(disk, Arc::new(recording));
        }
        before
    }

    /// The boot of a disk, if it is under way.
    pub(crate) fn recording(&self, disk: DiskId) -> Option<Arc<Recording>> {
        lock(&self.recording).get(&disk).cloned()
    }

    /// How all versions fare that somebody booted since the service started.
    pub(crate) fn status(&self) -> Vec<BootProfileStatus> {
        let versions = lock(&self.versions);
        let mut all: Vec<_> = versions.values().filter_map(|known| known.status).collect();
        all.sort_by_key(|status| status.version);
        all
    }

    /// The boots whose time is over.
    fn finished(&self, now: Instant) -> Vec<Arc<Recording>> {
        let mut recording = lock(&self.recording);
        let over = recording.extract_if(|_, recording| recording.is_over(now));
        over.map(|(_, recording)| recording).collect()
    }

    /// Adds a boot to its version's profile. One that never came to its operating system says nothing.
    fn add(&self, recording: &Recording) {
        let Some(read) = recording.take() else {
            return;
        };
        let version = recording.version;
        let mut versions = lock(&self.versions);
        let mut profile = self.read(version);
        let status = &mut versions.entry(version).or_default().status;
        let mut after = status.unwrap_or(BootProfileStatus::new(version));
        after.units_read += read.units.len() as u64;
        after.units_predicted += profile.predicted(&read.units) as u64;
        after.reads_from_memory += read.from_memory;
        after.reads_from_storage += read.from_storage;
        profile.add_boot(&read.units);
        after.boots = profile.boots();
        after.profile_bytes = profile.wanted_bytes();
        *status = Some(after);
        let written = std::fs::create_dir_all(&self.directory)
            .and_then(|()| self.note(version).replace(&profile.encode()));
        match written {
            Ok(()) => tracing::info!(
                version.image = %version.image,
                version.number,
                boot.units = read.units.len(),
                profile.boots = profile.boots(),
                profile.bytes = profile.wanted_bytes(),
                "noted what a boot read"
            ),
            Err(error) => tracing::warn!(
                %error,
                "what a boot read could not be noted in {}", self.directory.display()
            ),
        }
    }

    /// The profile of a version; an empty one if there is none that can be used.
    fn read(&self, version: VersionRef) -> BootProfile {
        let note = self.note(version);
        let empty = BootProfile::new(version);
        match note.read() {
            Ok(Some(bytes)) => BootProfile::decode(&bytes, version).unwrap_or_else(|error| {
                tracing::warn!(%error, "the boot profile {} is of no use", note.path().display());
                empty
            }),
            Ok(None) => empty,
            Err(error) => {
                tracing::warn!(%error, "cannot read the boot profile {}", note.path().display());
                empty
            }
        }
    }

    fn note(&self, version: VersionRef) -> Note {
        let name = format!("{}-{}", version.image.simple(), version.number);
        Note::new(self.directory.join(name))
    }

    /// Removes what is known of versions that are not in the store any more.
    fn forget_removed(&self, images: &Path) {
        let is_gone = |version| !version_directory(images, version).exists();
        let mut versions = lock(&self.versions);
        versions.retain(|&version, _| !is_gone(version));
        let Ok(listing) = std::fs::read_dir(&self.directory) else {
            return;
        };
        for entry in listing.flatten() {
            let version = entry.file_name().to_str().and_then(version_of);
            if version.is_some_and(is_gone)
                && let Err(error) = std::fs::remove_file(entry.path())
            {
                tracing::warn!(%error, "the boot profile {} of a removed version stays", entry.path().display());
            }
        }
    }

    fn note_ahead(&self, profile: &BootProfile, done: &Done) {
        let version = profile.version();
        let mut versions = lock(&self.versions);
        let status = &mut versions.entry(version).or_default().status;
        let status = status.get_or_insert(BootProfileStatus::new(version));
        status.boots = profile.boots();
        status.profile_bytes = profile.wanted_bytes();
        status.ahead_bytes += done.read;
        status.ahead_warm_bytes += done.warm;
    }

    /// The profile to read ahead by, unless that was done just now.
    fn due(&self, version: VersionRef, now: Instant) -> Option<BootProfile> {
        let mut versions = lock(&self.versions);
        let known = versions.entry(version).or_default();
        let recent = |looked: Instant| now.saturating_duration_since(looked) < AGAIN_AFTER;
        if known.looked.is_some_and(recent) {
            return None;
        }
        let profile = Some(self.read(version)).filter(|profile| profile.boots() > 0)?;
        known.looked = Some(now);
        Some(profile)
    }
}

/// Adds a boot that is over, if there is one, then reads the version's profile ahead, as far as it is not in memory.
/// Returns at once; the work gives way to all others and ends with the service.
pub(crate) fn read_ahead(
    service: &Arc<Service>,
    profiles: &Arc<BootProfiles>,
    version: &Arc<Version>,
    over: Option<Arc<Recording>>,
) {
    let (service, profiles) = (Arc::clone(service), Arc::clone(profiles));
    let version = Arc::clone(version);
    tokio::spawn(async move {
        on_thread(move || {
            if let Some(over) = over {
                profiles.add(&over);
            }
            let of = version.manifest().version;
            let Some(profile) = profiles.due(of, Instant::now()) else {
                return;
            };
            let pool: &DiskPool = &service.pool;
            let done = ahead::read_ahead(&version, &profile, &|| !pool.is_idle(), &|| {
                service.stopping.is_cancelled()
            });
            profiles.note_ahead(&profile, &done);
            tracing::info!(
                version.image = %of.image,
                version.number = of.number,
                ahead.bytes = done.read,
                ahead.warm_bytes = done.warm,
                ahead.duration_ms = done.took.as_millis() as u64,
                "read ahead what boots read"
            );
        })
        .await;
    });
}

/// Adds boots to their profiles as their time is over, and removes those of removed versions. Runs until dropped.
pub(crate) async fn follow(service: &Arc<Service>) {
    let Some(profiles) = service.profiles() else {
        return std::future::pending().await;
    };
    let Site::Room(room) = service.site.as_ref() else {
        return std::future::pending().await;
    };
    let images = room.paths.images();
    let every = (profiles.window / 4).clamp(Duration::from_millis(50), Duration::from_secs(5));
    let mut finished: Vec<Arc<Recording>> = Vec::new();
    loop {
        let (profiles_now, images) = (Arc::clone(profiles), images.clone());
        on_thread(move || {
            for recording in &finished {
                profiles_now.add(recording);
            }
            profiles_now.forget_removed(&images);
        })
        .await;
        loop {
            tokio::time::sleep(every).await;
            finished = profiles.finished(Instant::now());
            if !finished.is_empty() {
                break;
            }
        }
    }
}

/// The version of a file name that [`BootProfiles::note`] made.
fn version_of(name: &str) -> Option<VersionRef> {
    let (image, number) = name.split_once('-')?;
    Some(VersionRef {
        image: ImageId::from_str(image).ok()?,
        number: number.parse().ok()?,
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
