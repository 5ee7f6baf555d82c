//! A version's disk, read by several threads and given out in its order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::error::ExportError;
use crate::progress::Throttle;
use crate::{BlockRead, Version};

/// Bytes of disk that are read and given out at once.
pub(super) const CHUNK_BYTES: u64 = 1 << 20;
/// Most threads that read (and compress).
const WORKERS_MAX: usize = 4;
/// Chunks that a worker may be ahead.
const AHEAD: usize = 2;

pub(super) struct Chunks<'a> {
    pub(super) version: &'a Version,
    pub(super) throttle: Throttle<'a>,
    pub(super) cancelled: &'a dyn Fn() -> bool,
}

type Made<T> = Result<Option<T>, ExportError>;

/// Makes something of a chunk, of which it gets the offset and the bytes.
type Make<'a, T> = &'a (dyn Fn(u64, &[u8]) -> Result<T, ExportError> + Sync);

/// Takes a chunk: its offset, its length, its bytes unless it is zero.
type TakePlain<'a> = &'a mut dyn FnMut(u64, u64, Option<&[u8]>) -> Result<(), ExportError>;

impl Chunks<'_> {
    pub(super) fn size_bytes(&self) -> u64 {
        self.version.size_bytes()
    }

    /// True if the part of the disk is zero by the version's map; what lies behind the end is.
    pub(super) fn is_zero(&self, offset: u64, length: u64) -> bool {
        let length = length.min(self.size_bytes().saturating_sub(offset));
        length == 0 || self.version.reads_as_zero(offset, length)
    }

    /// Calls `make` with every chunk that is not zero by the map, on several threads, and `take` with what it made, in the
    /// order of the disk, with the chunk's length.
    pub(super) fn each<T: Send>(
        &mut self,
        make: Make<'_, T>,
        take: &mut dyn FnMut(u64, Option<T>) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let workers = cores.min(WORKERS_MAX) as u64;
        let stop = AtomicBool::new(false);
        let version = self.version;
        thread::scope(|scope| {
            let made: Vec<_> = (0..workers)
                .map(|worker| {
                    let (sender, receiver) = sync_channel(AHEAD);
                    let (stop, step) = (&stop, workers * CHUNK_BYTES);
                    scope.spawn(move || {
                        work(version, worker * CHUNK_BYTES, step, make, stop, &sender);
                    });
                    receiver
                })
                .collect();
            let taken = self.take_all(&made, take);
            stop.store(true, Ordering::Relaxed);
            drop(made);
            taken
        })
    }

    /// Calls `take` with every chunk as it is, in the order of the disk.
    pub(super) fn each_plain(&mut self, take: TakePlain<'_>) -> Result<(), ExportError> {
        let mut offset = 0;
        self.each(&|_, bytes| Ok(bytes.to_vec()), &mut |length, bytes| {
            take(offset, length, bytes.as_deref())?;
            offset += length;
            Ok(())
        })
    }

    fn take_all<T>(
        &mut self,
        made: &[Receiver<Made<T>>],
        take: &mut dyn FnMut(u64, Option<T>) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        let mut offset = 0;
        for from in made.iter().cycle() {
            let length = CHUNK_BYTES.min(self.size_bytes() - offset);
            if length == 0 {
                break;
            }
            if (self.cancelled)() {
                return Err(ExportError::Cancelled);
            }
            let made = from
                .recv()
                .expect("a worker sends all its chunks or an error before it ends");
            take(length, made?)?;
            offset += length;
            self.throttle.done(offset);
        }
        Ok(())
    }
}

/// Makes every chunk from `first` on that lies `step` behind the one before.
fn work<T>(
    version: &Version,
    first: u64,
    step: u64,
    make: Make<'_, T>,
    stop: &AtomicBool,
    made: &SyncSender<Made<T>>,
) {
    let size_bytes = version.size_bytes();
    let mut buffer = vec![0; CHUNK_BYTES as usize];
    let mut offset = first;
    while offset < size_bytes && !stop.load(Ordering::Relaxed) {
        let length = CHUNK_BYTES.min(size_bytes - offset);
        let bytes = &mut buffer[..length as usize];
        let result = if version.reads_as_zero(offset, length) {
            Ok(None)
        } else {
            version
                .read_at(offset, bytes)
                .map_err(|source| ExportError::Version { offset, source })
                .and_then(|()| make(offset, bytes).map(Some))
        };
        let failed = result.is_err();
        if made.send(result).is_err() || failed {
            break;
        }
        offset += step;
    }
}
