//! Room for overlays: limits of the disks, the state of the pool, and what gives way when it fills.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use dess_model::{DiskId, OverlayLimits, PoolFigures};

use super::{DiskStore, lock};
use crate::error::DiskError;
use crate::overlay::DATA_FILE;
use crate::space::{Allowance, Budget};

/// How a disk stands to its soft limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverlayFill {
    /// Bytes of storage that the overlay takes.
    pub allocated_bytes: u64,
    /// Its limits.
    pub limits: OverlayLimits,
}

impl DiskStore {
    /// Limits a disk from now on, whether it is open or not. An overlay that is larger already stays; it only does not grow.
    pub fn limit(&self, disk: DiskId, limits: OverlayLimits) {
        let budget = self.budget(disk);
        if budget.limits() != limits {
            budget.set(limits);
        }
    }

    /// Size and use of the file system of the overlays.
    ///
    /// # Errors
    /// If it cannot be looked at.
    pub fn pool(&self) -> Result<PoolFigures, DiskError> {
        let looked = self.pool.look();
        looked.map_err(DiskError::store("look at", &self.paths.overlays))
    }

    /// Whether clients get new overlays. While they do not, only a client whose former overlay gives its space back with its power-on
    /// gets a fresh one, and a persistent disk goes on with the overlay that it has.
    pub fn close_pool(&self, closed: bool) {
        self.pool.close(closed);
    }

    /// Makes room: removes the overlay that was put away longest ago, of any disk. False if there is none. May take seconds.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub fn drop_kept(&self) -> Result<bool, DiskError> {
        self.tidier.drop_kept()
    }

    /// How an open disk stands to its limits; none if it is not open or not limited.
    pub fn fill(&self, disk: DiskId) -> Option<OverlayFill> {
        let limits = self.budget(disk).limits();
        if limits.is_none() {
            return None;
        }
        let slot = Arc::clone(lock(&self.disks).get(&disk)?);
        // A power-on or reset is under way: the next look tells.
        let open = slot.try_lock().ok()?.clone()?;
        let figures = open.figures().ok()?;
        Some(OverlayFill {
            allocated_bytes: figures.allocated_bytes,
            limits,
        })
    }

    pub(super) fn allowance(&self, disk: DiskId) -> Allowance {
        Allowance {
            pool: Some(Arc::clone(&self.pool)),
            budget: self.budget(disk),
        }
    }

    fn budget(&self, disk: DiskId) -> Arc<Budget> {
        Arc::clone(lock(&self.budgets).entry(disk).or_default())
    }

    /// The pool is closed, and the disk has no overlay that would give way to the new one.
    pub(super) fn refuse_new(&self, disk: DiskId) -> Result<(), DiskError> {
        if !self.pool.is_closed() {
            return Ok(());
        }
        let gives_back = match self.directory(disk).current()? {
            Some(found) if !found.kind.is_durable() => allocated_in(&found.path) > 0,
            _ => false,
        };
        if gives_back {
            return Ok(());
        }
        let figures = self.pool()?;
        let used_percent = u8::try_from(figures.used_permille() / 10).unwrap_or(100);
        Err(DiskError::NoRoom { disk, used_percent })
    }
}

/// Bytes of storage that the data of an overlay takes; 0 if it is gone.
pub(super) fn allocated_in(overlay: &Path) -> u64 {
    fs::metadata(overlay.join(DATA_FILE)).map_or(0, |data| data.blocks() * 512)
}
