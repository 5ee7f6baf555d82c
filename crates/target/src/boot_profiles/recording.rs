//! What one boot reads.

use std::collections::HashSet;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use dess_disk::{PROFILE_UNIT_BYTES, PROFILE_UNITS_MAX};
use dess_model::VersionRef;

/// The reads of one boot, from its power-on for some minutes.
pub(crate) struct Recording {
    pub(crate) version: VersionRef,
    until: Instant,
    is_system: AtomicBool,
    from_memory: AtomicU64,
    from_storage: AtomicU64,
    units: Mutex<Units>,
}

#[derive(Default)]
struct Units {
    known: HashSet<u32>,
    in_order: Vec<u32>,
}

/// What a boot has read.
pub(super) struct Read {
    /// Each unit once, in the order of the first read.
    pub(super) units: Vec<u32>,
    /// Reads that were answered from memory.
    pub(super) from_memory: u64,
    /// Reads that waited for the storage.
    pub(super) from_storage: u64,
}

impl Recording {
    pub(super) fn new(version: VersionRef, until: Instant) -> Self {
        Self {
            version,
            until,
            is_system: AtomicBool::new(false),
            from_memory: AtomicU64::new(0),
            from_storage: AtomicU64::new(0),
            units: Mutex::default(),
        }
    }

    /// True if its time is over.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now >= self.until
    }

    /// The boot came to its operating system.
    pub(crate) fn system_logged_in(&self) {
        self.is_system.store(true, Ordering::Relaxed);
    }

    /// Notes a read, and whether it was answered from memory.
    pub(crate) fn note(&self, offset: u64, length: u64, from_memory: bool) {
        let counter = match from_memory {
            true => &self.from_memory,
            false => &self.from_storage,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if length == 0 {
            return;
        }
        let mut units = self.units.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, last) = (
            offset / PROFILE_UNIT_BYTES,
            (offset + length - 1) / PROFILE_UNIT_BYTES,
        );
        for unit in first..=last {
            // The largest disk has 2^32 units.
            let Ok(unit) = u32::try_from(unit) else {
                return;
            };
            if units.in_order.len() < PROFILE_UNITS_MAX && units.known.insert(unit) {
                units.in_order.push(unit);
            }
        }
    }

    /// What was read; none if the boot did not come to its operating system.
    pub(super) fn take(&self) -> Option<Read> {
        let mut units = self.units.lock().unwrap_or_else(PoisonError::into_inner);
        let units = mem::take(&mut *units).in_order;
        self.is_system.load(Ordering::Relaxed).then(|| Read {
            units,
            from_memory: self.from_memory.load(Ordering::Relaxed),
            from_storage: self.from_storage.load(Ordering::Relaxed),
        })
    }
}
