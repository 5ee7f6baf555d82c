//! A client's disk: an overlay on a version.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dess_model::{DiskState, VersionRef};

use crate::data_file::DataFile;
use crate::device::{BLOCK_BYTES, BlockDevice, BlockRead, check_range};
use crate::note::Note;
use crate::overlay::durable::{Appended, DurableMap};
use crate::overlay::{Overlay, OverlayDescriptor};
use crate::space::{Allocated, Allowance};
use crate::version::Version;

/// Locks for writes that cover a block only in part; a block's lock is its number modulo this.
const BLOCK_LOCKS: usize = 64;

/// Names of the notes in the overlay's directory.
const RESERVATIONS_FILE: &str = "reservations";
const COMPANIONS_FILE: &str = "companions";

const READY: u8 = 0;
const READ_ONLY: u8 = 1;
const RETIRED: u8 = 2;

/// What one initiator sees. All methods may be called from several threads; overlapping ranges are ordered by the
/// caller, ranges that only share a block are not.
///
/// ```text
/// Ready --flush fails--> ReadOnly        (until the client powers on, then from the last flush)
///   |                       |
///   +--reset, rotation------+--> retired (every access fails: a newer overlay took its place)
/// ```
pub struct Disk {
    base: Arc<Version>,
    overlay: Overlay,
    allowance: Allowance,
    state: AtomicU8,
    block_locks: [Mutex<()>; BLOCK_LOCKS],
}

/// Figures of an open disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskFigures {
    /// Whether it can be written.
    pub state: DiskState,
    /// Size in bytes, as the initiator sees it.
    pub size_bytes: u64,
    /// Blocks of 4096 bytes that the overlay maps (written or discarded).
    pub mapped_blocks: u64,
    /// Bytes of storage that the overlay takes.
    pub allocated_bytes: u64,
    /// Counts the overlays that this disk has had, from 1.
    pub generation: u64,
}

impl Disk {
    pub(crate) fn new(base: Arc<Version>, overlay: Overlay, allowance: Allowance) -> Self {
        allowance.budget.forget();
        let state = if overlay.failed { READ_ONLY } else { READY };
        Self {
            base,
            overlay,
            allowance,
            state: AtomicU8::new(state),
            block_locks: [const { Mutex::new(()) }; BLOCK_LOCKS],
        }
    }

    /// What the overlay is.
    pub fn descriptor(&self) -> &OverlayDescriptor {
        &self.overlay.descriptor
    }

    /// The version below it: for a persistent disk the one from which it was made, which may be older than the one
    /// assigned now.
    pub fn base(&self) -> VersionRef {
        self.overlay.descriptor.base
    }

    /// The open version below it.
    pub fn base_version(&self) -> &Arc<Version> {
        &self.base
    }

    /// Where the overlay keeps what initiators have reserved; it goes with the overlay.
    pub fn reservations(&self) -> Note {
        Note::new(self.overlay.directory.join(RESERVATIONS_FILE))
    }

    /// Where it is kept which data disks were booted beside this one; it goes with the overlay.
    pub fn companions(&self) -> Note {
        Note::new(self.overlay.directory.join(COMPANIONS_FILE))
    }

    /// As [`reservations`](Self::reservations), of a data disk beside this one that has no overlay of its own.
    pub fn reservations_of_companion(&self, lun: u8) -> Note {
        let name = format!("{RESERVATIONS_FILE}-{lun}");
        Note::new(self.overlay.directory.join(name))
    }

    /// Whether it can be written.
    pub fn state(&self) -> DiskState {
        match self.state.load(Ordering::Acquire) {
            READY => DiskState::Ready,
            _ => DiskState::ReadOnly,
        }
    }

    /// Its figures now.
    ///
    /// # Errors
    /// If the overlay cannot be looked at.
    pub fn figures(&self) -> io::Result<DiskFigures> {
        Ok(DiskFigures {
            state: self.state(),
            size_bytes: self.size_bytes(),
            mapped_blocks: self.overlay.map.held(),
            allocated_bytes: self.overlay.data.allocated_bytes()?,
            generation: self.overlay.descriptor.generation,
        })
    }

    /// Ends this overlay's service: a newer one took its place.
    pub(crate) fn retire(&self) {
        self.state.store(RETIRED, Ordering::Release);
    }

    /// Its durable map is compacted however short it is.
    #[cfg(test)]
    pub(crate) fn compact_early(&self) {
        if let Some(durable) = &self.overlay.durable {
            durable
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .compact_early();
        }
    }

    fn check_readable(&self) -> io::Result<()> {
        match self.state.load(Ordering::Acquire) {
            RETIRED => Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "the disk was reset or rotated; log in again",
            )),
            _ => Ok(()),
        }
    }

    fn check_writable(&self) -> io::Result<()> {
        match self.state.load(Ordering::Acquire) {
            READ_ONLY => Err(io::Error::new(
                io::ErrorKind::ReadOnlyFilesystem,
                "a flush of the overlay failed; writes are refused until the client powers on again, from the last flush",
            )),
            _ => self.check_readable(),
        }
    }

    /// One read per run of blocks that come from the same place.
    fn read_with(
        &self,
        mut offset: u64,
        buffer: &mut [u8],
        overlay: impl Fn(&DataFile, u64, &mut [u8]) -> io::Result<()>,
        base: impl Fn(&Version, u64, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        check_range(self.size_bytes(), offset, buffer.len() as u64)?;
        self.check_readable()?;
        let mut rest = buffer;
        while !rest.is_empty() {
            let block = offset / BLOCK_BYTES;
            let end = (offset + rest.len() as u64).div_ceil(BLOCK_BYTES);
            let (held, run) = self.overlay.map.run(block, end - block);
            let bytes = ((block + run) * BLOCK_BYTES - offset).min(rest.len() as u64);
            let (part, tail) = rest.split_at_mut(bytes as usize);
            if held {
                overlay(&self.overlay.data, offset, part)?;
            } else {
                base(&self.base, offset, part)?;
            }
            rest = tail;
            offset += bytes;
        }
        Ok(())
    }

    /// Adds blocks to the map: live map first, then memory, so that nobody who sees a block as mapped can
    /// acknowledge a write to it that the next process would not find.
    fn map_blocks(&self, blocks: Range<u64>) -> io::Result<()> {
        let live = &self.overlay.live;
        self.overlay
            .map
            .add(blocks, &mut |first, words| live.write(first, words))
    }

    /// Writes bytes that cover whole blocks, up to the end of the disk.
    ///
    /// Order: data, live map, memory. Dies after the data: unmapped blocks are still read from the base, mapped ones hold
    /// the new bytes; not acknowledged either way. Dies after the live map: the next process finds the write.
    fn write_blocks(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.overlay.data.write_at(offset, data)?;
        self.map_blocks(blocks_of(offset, data.len() as u64))
    }

    /// Writes bytes within one block.
    ///
    /// Order for an unmapped block, under its lock: read the rest from the base, write the whole block, live map, memory. Dies
    /// anywhere before the live map: the base is read. For a mapped block only the bytes are written; a writer that finds the block
    /// mapped comes after the one who filled it, so neither loses bytes.
    fn write_in_block(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let block = offset / BLOCK_BYTES;
        let _block = self.lock_block(block);
        if self.overlay.map.holds_all(block..block + 1) {
            return self.overlay.data.write_at(offset, data);
        }
        let start = block * BLOCK_BYTES;
        let length = (self.size_bytes() - start).min(BLOCK_BYTES) as usize;
        let mut whole = [0; BLOCK_BYTES as usize];
        self.base.read_at(start, &mut whole[..length])?;
        let at = (offset - start) as usize;
        whole[at..at + data.len()].copy_from_slice(data);
        self.overlay.data.write_at(start, &whole)?;
        self.map_blocks(block..block + 1)
    }

    /// Discards whole blocks.
    ///
    /// Order: punch, live map, memory. Dies after the punch: mapped blocks are discarded already, unmapped ones are as before.
    /// Blocks that are zero in the base and unmapped are left alone: they cost nothing and read as zeros.
    fn discard_blocks(&self, blocks: Range<u64>) -> io::Result<()> {
        let mut block = blocks.start;
        while block < blocks.end {
            let (held, run) = self.overlay.map.run(block, blocks.end - block);
            let (zero, run) = if held {
                (false, run)
            } else {
                let (layer, run) = self.base.locate(block, run);
                (layer.is_none(), run)
            };
            if !zero {
                let offset = block * BLOCK_BYTES;
                self.overlay.data.punch(offset, run * BLOCK_BYTES)?;
                self.map_blocks(block..block + run)?;
            }
            block += run;
        }
        Ok(())
    }

    /// True if the block of the range was never written, and holds nothing in the version.
    fn reads_as_zero(&self, range: &Range<u64>) -> bool {
        let block = range.start / BLOCK_BYTES;
        let written = self.overlay.map.holds_all(block..block + 1);
        !written && self.base.locate(block, 1).0.is_none()
    }

    /// Splits a range at block borders: `partial` gets pieces within one block, `whole` gets whole blocks (the last
    /// block of the disk counts as whole if it is covered to the disk's end).
    fn split(
        &self,
        range: Range<u64>,
        partial: &mut dyn FnMut(Range<u64>) -> io::Result<()>,
        whole: &mut dyn FnMut(Range<u64>) -> io::Result<()>,
    ) -> io::Result<()> {
        let first_border = range.start.next_multiple_of(BLOCK_BYTES);
        let last_border = match range.end == self.size_bytes() {
            true => range.end,
            false => range.end / BLOCK_BYTES * BLOCK_BYTES,
        };
        if first_border > last_border {
            return partial(range);
        }
        if range.start < first_border {
            partial(range.start..first_border)?;
        }
        if first_border < last_border {
            whole(first_border..last_border)?;
        }
        if last_border < range.end {
            partial(last_border..range.end)?;
        }
        Ok(())
    }

    fn lock_block(&self, block: u64) -> MutexGuard<'_, ()> {
        self.block_locks[block as usize % BLOCK_LOCKS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Order: take the changed words, sync data, append records, sync records. Words are taken first, so the data of each was
    /// written before and is covered by the sync. Cut before the records are whole: the old map holds, and the torn
    /// rest is cut off at the next open. `docs/format/overlay.md` has every case. No room for the records: the words wait for the next
    /// flush, and the data that they name is synced already.
    fn flush_durably(&self, durable: &mut DurableMap) -> io::Result<Appended> {
        let words = self.overlay.map.take_dirty();
        let full = (self.overlay.map.held() / 64) as usize;
        let compacted = durable
            .wants_compaction(words.len(), full)
            .then(|| self.overlay.map.words())
            .filter(|all| durable.wants_compaction(words.len(), all.len()));
        self.overlay.data.sync_data()?;
        let noted = match compacted {
            Some(all) => match durable.compact(&all)? {
                // The long map takes less than a second one beside it.
                Appended::NoRoom(_) => durable.append(&words)?,
                compacted => compacted,
            },
            None if words.is_empty() => Appended::Durable,
            None => durable.append(&words)?,
        };
        if let Appended::NoRoom(_) = noted {
            self.overlay.map.mark_dirty(&words);
        }
        Ok(noted)
    }

    /// Lets a write through that touches these bytes, if there is room for what it takes.
    fn admit(&self, range: &Range<u64>) -> io::Result<()> {
        let blocks = blocks_of(range.start, range.end - range.start);
        let range = blocks.start * BLOCK_BYTES..blocks.end * BLOCK_BYTES;
        let bytes = range.end - range.start;
        let data = &self.overlay.data;
        self.allowance.admit(bytes, &Growth { data, range })
    }
}

impl BlockRead for Disk {
    fn size_bytes(&self) -> u64 {
        self.base.size_bytes()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_with(offset, buffer, DataFile::read_at, Version::read_at)
    }

    fn try_read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_with(offset, buffer, DataFile::try_read_at, Version::try_read_at)
    }
}

impl BlockDevice for Disk {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let length = data.len() as u64;
        check_range(self.size_bytes(), offset, length)?;
        self.check_writable()?;
        if data.is_empty() {
            return Ok(());
        }
        self.admit(&(offset..offset + length))?;
        if self.overlay.map.holds_all(blocks_of(offset, length)) {
            return self.overlay.data.write_at(offset, data);
        }
        let piece = |range: &Range<u64>| {
            &data[(range.start - offset) as usize..(range.end - offset) as usize]
        };
        self.split(
            offset..offset + length,
            &mut |range| self.write_in_block(range.start, piece(&range)),
            &mut |range| self.write_blocks(range.start, piece(&range)),
        )
    }

    fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        check_range(self.size_bytes(), offset, length)?;
        self.check_writable()?;
        if length == 0 {
            return Ok(());
        }
        let zeros = [0; BLOCK_BYTES as usize];
        self.split(
            offset..offset + length,
            &mut |range| {
                if self.reads_as_zero(&range) {
                    return Ok(());
                }
                self.admit(&range)?;
                let bytes = (range.end - range.start) as usize;
                self.write_in_block(range.start, &zeros[..bytes])
            },
            &mut |range| self.discard_blocks(blocks_of(range.start, range.end - range.start)),
        )
    }

    /// A discarded block is in the map, but a hole of the data file.
    fn allocation(&self, offset: u64, limit: u64) -> io::Result<(bool, u64)> {
        check_range(self.size_bytes(), offset, limit)?;
        self.check_readable()?;
        let block = offset / BLOCK_BYTES;
        let end = (offset + limit).div_ceil(BLOCK_BYTES);
        let (held, run) = self.overlay.map.run(block, end - block);
        let bytes = |run: u64| ((block + run) * BLOCK_BYTES - offset).min(limit);
        if held {
            return self.overlay.data.allocation(offset, bytes(run));
        }
        let (layer, run) = self.base.locate(block, run);
        Ok((layer.is_some(), bytes(run)))
    }

    fn flush(&self) -> io::Result<()> {
        self.check_writable()?;
        let Some(durable) = &self.overlay.durable else {
            return Ok(());
        };
        debug_assert!(self.overlay.descriptor.kind.is_durable());
        let mut durable = durable.lock().unwrap_or_else(PoisonError::into_inner);
        // Another flush may have failed while this one waited for the lock.
        self.check_writable()?;
        let noted = self.flush_durably(&mut durable).inspect_err(|error| {
            let generation = self.overlay.descriptor.generation;
            let failed =
                self.state
                    .compare_exchange(READY, READ_ONLY, Ordering::AcqRel, Ordering::Acquire);
            if failed.is_ok() {
                tracing::error!(
                    disk.id = %self.overlay.descriptor.disk, generation, %error,
                    "a flush failed; the overlay refuses writes until the client powers on, from its last flush"
                );
                if let Err(error) = self.overlay.live.mark_failed() {
                    tracing::error!(
                        disk.id = %self.overlay.descriptor.disk, generation, %error,
                        "the failed flush could not be noted; a restart of the service would forget it"
                    );
                }
            }
        })?;
        match noted {
            Appended::Durable => Ok(()),
            Appended::NoRoom(error) => Err(error),
        }
    }
}

/// What a write would take of a data file.
struct Growth<'a> {
    data: &'a DataFile,
    /// Whole blocks.
    range: Range<u64>,
}

impl Allocated for Growth<'_> {
    fn missing_bytes(&self) -> io::Result<u64> {
        let mut missing = 0;
        let mut offset = self.range.start;
        while offset < self.range.end {
            let (taken, bytes) = self.data.allocation(offset, self.range.end - offset)?;
            if !taken {
                missing += bytes;
            }
            offset += bytes;
        }
        Ok(missing)
    }

    fn allocated_bytes(&self) -> io::Result<u64> {
        self.data.allocated_bytes()
    }
}

/// The blocks that a range of bytes touches.
fn blocks_of(offset: u64, length: u64) -> Range<u64> {
    offset / BLOCK_BYTES..(offset + length).div_ceil(BLOCK_BYTES)
}

#[cfg(test)]
mod tests;
