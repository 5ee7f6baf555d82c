//! What nothing refers to any more: disks of no client, files of no version, and what interrupted work has left.

use std::collections::HashSet;
use std::path::Path;

use dess_disk::{
    DiskStore, Manifest, SpaceUsage, StoreOptions, StorePaths, clean_unfinished, overlays_in_use,
    remove_version, space_usage, version_directory,
};
use dess_model::{DiskId, TargetReply, TargetRequest, VersionRef};
use dess_store::ImageRecord;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{OperationError, Operations, Result, audit};

/// One thing that nothing refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    /// What it is.
    #[serde(flatten)]
    pub what: OrphanKind,
    /// Bytes of storage that it takes.
    pub bytes: u64,
}

/// What an orphan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum OrphanKind {
    /// A disk whose client is not registered.
    Disk {
        /// Its id.
        disk: DiskId,
    },
    /// Files of a version that the site does not know, and that no disk and no other version needs.
    Version {
        /// Which.
        version: VersionRef,
    },
}

/// What was found, and what was done about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GarbageView {
    /// What nothing refers to.
    pub orphans: Vec<Orphan>,
    /// Bytes of imports and the like that were interrupted; those that could go on stay for a week.
    pub unfinished_bytes: u64,
    /// Why files of versions were not looked at: a job works on them.
    pub busy: Option<String>,
    /// True if it was removed.
    pub removed: bool,
}

/// Jobs looked at.
const JOBS_MAX: u32 = 100;

impl Operations {
    /// Finds what nothing refers to any more. Removes nothing.
    ///
    /// # Errors
    /// If the site is not set up, or the files cannot be read.
    pub async fn garbage(&self) -> Result<GarbageView> {
        // Files first: what a job makes meanwhile is then either in the lists, or the job is not done.
        let (images, overlays) = (self.paths.images(), self.paths.overlays());
        let found = blocking(move || {
            let usage = space_usage(&images, &overlays).map_err(text)?;
            Ok((usage, overlays_in_use(&overlays).map_err(text)?))
        });
        let (usage, used) = found.await?;
        let mut tx = self.read().await?;
        tx.site_fetch().await?.ok_or(OperationError::NoSite)?;
        let clients = tx.client_list().await?;
        let images = tx.image_list().await?;
        let known = Known {
            disks: clients
                .iter()
                .flat_map(|client| {
                    // Any image may be, or have been, a data disk of any client.
                    let data = images
                        .iter()
                        .map(|image| client.disk.data_disk(image.id).id);
                    std::iter::once(client.disk.id)
                        .chain(data)
                        .collect::<Vec<_>>()
                })
                .collect(),
            versions: tx
                .version_list()
                .await?
                .iter()
                .map(|record| record.version)
                .collect(),
            images,
        };
        let jobs = tx.job_list(JOBS_MAX).await?;
        drop(tx);
        let busy = jobs.into_iter().find(|job| !job.state.is_final());
        let busy = busy.map(|job| format!("{} {}", job.kind, job.subject));
        let images = self.paths.images();
        let mut orphans = orphan_disks(&usage, &known);
        if busy.is_none() {
            // Also what an orphaned disk stands on is used: the disk goes first, its version the next time.
            let bases: Vec<VersionRef> = used.iter().map(|overlay| overlay.base).collect();
            let of_images = usage.clone();
            let found = move || Ok(orphan_versions(&images, &of_images, &known, &bases));
            orphans.extend(blocking(found).await?);
        }
        Ok(GarbageView {
            orphans,
            unfinished_bytes: usage.unfinished_bytes,
            busy,
            removed: false,
        })
    }

    /// Removes what [`garbage`](Self::garbage) finds now.
    ///
    /// # Errors
    /// As there; or if something cannot be removed. What was removed before stays removed.
    pub async fn garbage_collect(&self) -> Result<GarbageView> {
        let mut view = self.garbage().await?;
        let actor = &*self.actor;
        let orphans = &view.orphans;
        self.store()
            .await?
            .transact(|mut tx| async move {
                let details = json!({"orphans": orphans});
                audit(&mut tx, actor, "space.collect", "orphans", details).await
            })
            .await?;
        let mut alone = Vec::new();
        for orphan in &view.orphans {
            match orphan.what {
                OrphanKind::Disk { disk } => {
                    match self.ask_target(&TargetRequest::Collect { disk }).await? {
                        Some(TargetReply::Done) => {}
                        Some(_) => {
                            return Err(OperationError::Refused(
                                "the iSCSI service answered something else".to_owned(),
                            ));
                        }
                        None => alone.push(disk),
                    }
                }
                OrphanKind::Version { version } => {
                    let images = self.paths.images();
                    blocking(move || remove_version(&images, version).map_err(text)).await?;
                }
            }
        }
        if !alone.is_empty() {
            self.remove_disks(alone).await?;
        }
        let images = self.paths.images();
        blocking(move || clean_unfinished(&images).map_err(text)).await?;
        view.removed = true;
        Ok(view)
    }

    /// The iSCSI service does not run: the store is ours for the moment.
    async fn remove_disks(&self, disks: Vec<DiskId>) -> Result<()> {
        let paths = StorePaths {
            images: self.paths.images(),
            overlays: self.paths.overlays(),
            live_maps: self.paths.live_maps(),
        };
        blocking(move || {
            let options = StoreOptions::current().map_err(text)?;
            let store = DiskStore::open(paths, options).map_err(text)?;
            for disk in disks {
                store.remove(disk).map_err(text)?;
            }
            store.wait_for_tidying();
            Ok(())
        })
        .await
    }
}

/// What the site knows of.
struct Known {
    disks: HashSet<DiskId>,
    versions: HashSet<VersionRef>,
    images: Vec<ImageRecord>,
}

impl Known {
    /// The next import may take up files that lie there under the next number of an image.
    fn may_be_taken_up(&self, version: VersionRef) -> bool {
        let image = self.images.iter().find(|image| image.id == version.image);
        image.is_some_and(|image| version.number > image.last_version)
    }
}

fn orphan_disks(usage: &SpaceUsage, known: &Known) -> Vec<Orphan> {
    let of_nobody = usage
        .disks
        .iter()
        .filter(|one| !known.disks.contains(&one.disk));
    of_nobody
        .map(|one| Orphan {
            what: OrphanKind::Disk { disk: one.disk },
            bytes: one.overlay_bytes + one.aside_bytes + one.kept_bytes,
        })
        .collect()
}

/// Versions that are neither known nor below a known or used one. An image of which a needed version cannot be read is left alone:
/// nobody can tell what that stands on.
fn orphan_versions(
    images: &Path,
    usage: &SpaceUsage,
    known: &Known,
    bases: &[VersionRef],
) -> Vec<Orphan> {
    let mut needed = known.versions.clone();
    needed.extend(bases);
    let mut left_alone = HashSet::new();
    let mut unseen: Vec<VersionRef> = needed.iter().copied().collect();
    while let Some(version) = unseen.pop() {
        match Manifest::read(&version_directory(images, version)) {
            Ok(manifest) => {
                let parent = manifest
                    .parent
                    .map(|number| VersionRef { number, ..version });
                unseen.extend(parent.filter(|parent| needed.insert(*parent)));
            }
            Err(_) => {
                left_alone.insert(version.image);
            }
        }
    }
    let orphaned = usage.versions.iter().filter(|one| {
        let version = one.version;
        !needed.contains(&version)
            && !left_alone.contains(&version.image)
            && !known.may_be_taken_up(version)
    });
    orphaned
        .map(|one| Orphan {
            what: OrphanKind::Version {
                version: one.version,
            },
            bytes: one.bytes,
        })
        .collect()
}

fn text(error: impl std::error::Error + 'static) -> String {
    crate::daemon::chain(&error)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::result::Result<T, String> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(error.to_string()))
        .map_err(OperationError::Refused)
}
