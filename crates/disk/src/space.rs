//! Room for what clients write: the pool that all overlays share, and the limits of each disk.
//!
//! A write is let through without a look at the file system while there is *slack*: bytes that were seen to be free at the last look. Only
//! when that is used up it is counted what the write would really take; what overwrites blocks that are allocated takes nothing. So a
//! limit may be overshot by what other writes of the same moment take, and by no more.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dess_model::{OverlayLimits, PoolFigures};

/// Most slack that is given out at once, in bytes: other programs fill the pool too.
const SLACK_BYTES_MAX: u64 = 64 << 20;
/// No limit.
const NONE: u64 = u64::MAX;

/// Why a write was refused for want of space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoSpace {
    #[error("the overlay has reached its limit of {hard_bytes} bytes")]
    Limit { hard_bytes: u64 },
    #[error(
        "the storage for clients' writes is full ({available_bytes} bytes are left to the server itself)"
    )]
    Pool { available_bytes: u64 },
}

impl From<NoSpace> for io::Error {
    fn from(error: NoSpace) -> Self {
        let kind = match error {
            NoSpace::Limit { .. } => io::ErrorKind::QuotaExceeded,
            NoSpace::Pool { .. } => io::ErrorKind::StorageFull,
        };
        Self::new(kind, error)
    }
}

/// Size and use of the file system that holds `path`.
///
/// # Errors
/// If it cannot be looked at.
pub fn pool_figures(path: &Path) -> io::Result<PoolFigures> {
    let found = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok(PoolFigures {
        total_bytes: bytes(found.f_blocks),
        used_bytes: bytes(found.f_blocks.saturating_sub(found.f_bfree)),
        available_bytes: bytes(found.f_bavail),
    })
}

/// Fails if what is left of the file system that holds `path` belongs to the server itself.
pub(crate) fn keep_reserve(path: &Path) -> io::Result<()> {
    let figures = pool_figures(path)?;
    match figures.room_bytes() {
        0 => Err(NoSpace::Pool {
            available_bytes: figures.available_bytes,
        }
        .into()),
        _ => Ok(()),
    }
}

/// Bytes that may be taken before the next look.
#[derive(Debug, Default)]
struct Slack(AtomicU64);

impl Slack {
    fn take(&self, bytes: u64) -> bool {
        let take = |left: u64| left.checked_sub(bytes);
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.is_ok()
    }

    fn set(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }
}

/// The file system of the overlays.
#[derive(Debug)]
pub(crate) struct Pool {
    path: PathBuf,
    slack: Slack,
    /// No new overlays are made.
    closed: AtomicBool,
}

impl Pool {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            slack: Slack::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// Looks at it; the slack is what this look has found.
    pub(crate) fn look(&self) -> io::Result<PoolFigures> {
        let figures = pool_figures(&self.path)?;
        self.slack
            .set((figures.room_bytes() / 2).min(SLACK_BYTES_MAX));
        Ok(figures)
    }

    /// Takes `bytes` of new space, unless that would leave too little to the server itself.
    fn take(&self, bytes: u64) -> io::Result<()> {
        if self.slack.take(bytes) {
            return Ok(());
        }
        let figures = self.look()?;
        match self.slack.take(bytes) || bytes <= figures.room_bytes() {
            true => Ok(()),
            false => Err(NoSpace::Pool {
                available_bytes: figures.available_bytes,
            }
            .into()),
        }
    }

    /// Whether new overlays may be made.
    pub(crate) fn close(&self, closed: bool) {
        self.closed.store(closed, Ordering::Relaxed);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}

/// The limits of one disk. They stay when its overlay changes.
#[derive(Debug)]
pub(crate) struct Budget {
    soft: AtomicU64,
    hard: AtomicU64,
    slack: Slack,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            soft: AtomicU64::new(NONE),
            hard: AtomicU64::new(NONE),
            slack: Slack::default(),
        }
    }
}

impl Budget {
    pub(crate) fn set(&self, limits: OverlayLimits) {
        self.soft
            .store(limits.soft_bytes.unwrap_or(NONE), Ordering::Relaxed);
        self.hard
            .store(limits.hard_bytes.unwrap_or(NONE), Ordering::Relaxed);
        self.forget();
    }

    /// The next write looks how large the overlay is: it is another one, or its limit has changed.
    pub(crate) fn forget(&self) {
        self.slack.set(0);
    }

    pub(crate) fn limits(&self) -> OverlayLimits {
        let limit = |value: &AtomicU64| Some(value.load(Ordering::Relaxed)).filter(|&at| at < NONE);
        OverlayLimits {
            soft_bytes: limit(&self.soft),
            hard_bytes: limit(&self.hard),
        }
    }

    /// True if a write of so many bytes needs no look.
    fn admits(&self, bytes: u64) -> bool {
        self.hard.load(Ordering::Relaxed) == NONE || self.slack.take(bytes)
    }

    /// Decides about `missing` new bytes for an overlay that takes `allocated`.
    fn take(&self, missing: u64, allocated: u64) -> Result<(), NoSpace> {
        let hard_bytes = self.hard.load(Ordering::Relaxed);
        let after = allocated.saturating_add(missing);
        if after > hard_bytes {
            return Err(NoSpace::Limit { hard_bytes });
        }
        // Half of what is left: what other writes take at this moment may not show yet.
        self.slack.set((hard_bytes - after) / 2);
        Ok(())
    }
}

/// What a write needs to know of the overlay; asked for only when the slack is used up.
pub(crate) trait Allocated {
    /// Bytes of the range of the write that take no space yet.
    fn missing_bytes(&self) -> io::Result<u64>;

    /// Bytes that the overlay takes.
    fn allocated_bytes(&self) -> io::Result<u64>;
}

/// What one disk may take: its own limits, and what the pool has. By default all that the file system gives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Allowance {
    pub(crate) pool: Option<Arc<Pool>>,
    pub(crate) budget: Arc<Budget>,
}

impl Allowance {
    /// Lets a write of at most `bytes` new bytes through, or says why not.
    pub(crate) fn admit(&self, bytes: u64, overlay: &impl Allocated) -> io::Result<()> {
        let in_pool = |pool: &Arc<Pool>| pool.slack.take(bytes);
        if self.budget.admits(bytes) && self.pool.as_ref().is_none_or(in_pool) {
            return Ok(());
        }
        let missing = overlay.missing_bytes()?;
        if missing == 0 {
            return Ok(());
        }
        self.budget.take(missing, overlay.allocated_bytes()?)?;
        self.pool.as_ref().map_or(Ok(()), |pool| pool.take(missing))
    }
}
