//! What each command does to the disk. Everything here may wait for the store.

use std::borrow::Cow;

use bytes::Bytes;
use dess_disk::BlockDevice;
use dess_scsi::{
    BlockRange, Comparison, CopySegment, LOGICAL_BLOCK_BYTES, LbaExtent, Medium, Sense,
    copy_segments, lba_status, unmap_ranges,
};

use super::{Access, Buffer, Fault, Lane, Span, Unit};

/// How a command ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The initiator's data was taken, this many bytes by the CDB's word.
    Taken(u64),
    /// Data for the initiator.
    Data(Bytes),
}

/// Why a command did not end well.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Another initiator has reserved the disk.
    ReservationConflict,
    /// The request is at fault.
    Sense(Sense),
    /// The store is.
    Fault(Fault),
}

impl From<Sense> for Failure {
    fn from(sense: Sense) -> Self {
        Self::Sense(sense)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// A command with its data.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    /// What to do.
    pub(crate) medium: Medium,
    /// The initiator's data, in pieces.
    pub(crate) data: Vec<Bytes>,
}

/// Bytes that are compared, filled or copied at once.
const CHUNK_BYTES: usize = 256 * 1024;

impl Work {
    /// The part of the disk that the command uses, and how; none if it needs no order.
    pub(crate) fn claim(&self, capacity_bytes: u64) -> Option<(Span, Access)> {
        let access = if self.medium.writes() {
            Access::Exclusive
        } else {
            Access::Shared
        };
        match self.medium {
            Medium::SynchronizeCache(_) | Medium::Prefetch(_) | Medium::LbaStatus { .. } => None,
            Medium::Unmap { .. } | Medium::Copy { .. } => {
                Some((Span::new(0, capacity_bytes), access))
            }
            Medium::Read(range)
            | Medium::Write { range, .. }
            | Medium::WriteAndVerify { range }
            | Medium::Verify { range, .. }
            | Medium::CompareAndWrite { range, .. }
            | Medium::OrWrite { range, .. }
            | Medium::WriteSame { range, .. } => Some((
                Span::new(range.offset_bytes(), range.length_bytes()),
                access,
            )),
        }
    }

    /// Threads for the command, if it must leave the connection's task.
    pub(crate) fn lane(&self) -> Lane {
        match self.medium {
            Medium::SynchronizeCache(_)
            | Medium::WriteAndVerify { .. }
            | Medium::Write { fua: true, .. }
            | Medium::OrWrite { fua: true, .. }
            | Medium::CompareAndWrite { fua: true, .. } => Lane::Flush,
            _ => Lane::Data,
        }
    }
}

/// Carries out a command that [`Unit::admit`] let through.
pub(crate) fn carry_out(unit: &Unit, work: &Work) -> Result<Outcome, Failure> {
    let device = unit.device.as_ref();
    let data = work.data.as_slice();
    let taken = Outcome::Taken(work.medium.data_out_bytes());
    match work.medium {
        Medium::Read(range) => {
            let mut data = vec![0; length(range)];
            read_into(device, range.offset_bytes(), &mut data)?;
            return Ok(Outcome::Data(data.into()));
        }
        Medium::LbaStatus { lba, allocation } => return lba_extents(unit, lba, allocation),
        Medium::Write { range, fua } => {
            write(device, range, data)?;
            flush_if(device, fua)?;
        }
        Medium::WriteAndVerify { range } => {
            write(device, range, data)?;
            flush_if(device, true)?;
            compare(device, range, &gather(data, length(range)))?;
        }
        Medium::Verify { range, comparison } => verify(device, range, comparison, data)?,
        Medium::CompareAndWrite { range, fua } => {
            compare_and_write(device, range, data)?;
            flush_if(device, fua)?;
        }
        Medium::OrWrite { range, fua } => {
            or_write(device, range, data)?;
            flush_if(device, fua)?;
        }
        Medium::WriteSame { range, no_data, .. } => write_same(device, range, no_data, data)?,
        Medium::Unmap { length } => unmap(unit, length, data)?,
        Medium::Copy { length } => copy(unit, length, data)?,
        Medium::SynchronizeCache(_) => flush_if(device, true)?,
        // What is asked for will be read soon; the kernel's own read-ahead does it.
        Medium::Prefetch(_) => {}
    }
    Ok(taken)
}

/// Fills the buffer; waits for the disk.
pub(crate) fn read_piece(
    device: &dyn BlockDevice,
    offset: u64,
    mut buffer: Buffer,
) -> Result<Bytes, Fault> {
    read_into(device, offset, buffer.as_mut())?;
    Ok(buffer.into())
}

/// Lengths in memory come from ranges that passed the limit of a transfer.
fn length(range: BlockRange) -> usize {
    usize::try_from(range.length_bytes()).unwrap_or(usize::MAX)
}

fn read_into(device: &dyn BlockDevice, offset: u64, buffer: &mut [u8]) -> Result<(), Fault> {
    device
        .read_at(offset, buffer)
        .map_err(|source| Fault::Read {
            offset,
            length: buffer.len() as u64,
            source,
        })
}

fn write_at(device: &dyn BlockDevice, offset: u64, data: &[u8]) -> Result<(), Fault> {
    device
        .write_at(offset, data)
        .map_err(|source| Fault::write(offset, data.len() as u64, source))
}

fn flush_if(device: &dyn BlockDevice, wanted: bool) -> Result<(), Fault> {
    if wanted {
        device.flush().map_err(Fault::flush)?;
    }
    Ok(())
}

/// Writes the whole blocks that were sent, at most the range. A short Data-Out is the initiator's
/// own word, and reported to it as residual.
fn write(device: &dyn BlockDevice, range: BlockRange, data: &[Bytes]) -> Result<(), Fault> {
    let sent: usize = data.iter().map(Bytes::len).sum();
    let whole = sent - sent % LOGICAL_BLOCK_BYTES as usize;
    let mut left = whole.min(length(range));
    let mut offset = range.offset_bytes();
    let in_blocks = |piece: &Bytes| (piece.len() as u64).is_multiple_of(dess_disk::BLOCK_BYTES);
    let last = data.len().saturating_sub(1);
    if !data[..last].iter().all(in_blocks) {
        return write_at(device, offset, &gather(data, left));
    }
    for piece in data {
        let piece = &piece[..piece.len().min(left)];
        if !piece.is_empty() {
            write_at(device, offset, piece)?;
        }
        offset += piece.len() as u64;
        left -= piece.len();
    }
    Ok(())
}

/// The first `limit` bytes of the pieces in one.
fn gather(data: &[Bytes], limit: usize) -> Cow<'_, [u8]> {
    match data {
        [one] => Cow::Borrowed(&one[..one.len().min(limit)]),
        _ => {
            let mut all = Vec::with_capacity(data.iter().map(Bytes::len).sum::<usize>().min(limit));
            for piece in data {
                let left = limit - all.len();
                all.extend_from_slice(&piece[..piece.len().min(left)]);
            }
            Cow::Owned(all)
        }
    }
}

/// Exactly `bytes` bytes of Data-Out, or the sense for a CDB that asks for another length.
fn exactly(data: &[Bytes], bytes: u64) -> Result<Cow<'_, [u8]>, Sense> {
    let limit = usize::try_from(bytes).unwrap_or(usize::MAX);
    let sent: usize = data.iter().map(Bytes::len).sum();
    if sent != limit {
        return Err(Sense::INVALID_FIELD_IN_CDB);
    }
    Ok(gather(data, limit))
}

/// Compares the disk with `expected` from the start of the range.
fn compare(device: &dyn BlockDevice, range: BlockRange, expected: &[u8]) -> Result<(), Failure> {
    let mut buffer = vec![0; expected.len().min(CHUNK_BYTES)];
    let mut done = 0;
    for chunk in expected.chunks(CHUNK_BYTES) {
        let found = &mut buffer[..chunk.len()];
        read_into(device, range.offset_bytes() + done, found)?;
        if let Some(at) = found.iter().zip(chunk).position(|(a, b)| a != b) {
            return Err(Sense::MISCOMPARE.with_information(done + at as u64).into());
        }
        done += chunk.len() as u64;
    }
    Ok(())
}

fn verify(
    device: &dyn BlockDevice,
    range: BlockRange,
    comparison: Comparison,
    data: &[Bytes],
) -> Result<(), Failure> {
    match comparison {
        // The store reports its own errors when the blocks are read for their sake.
        Comparison::None => Ok(()),
        Comparison::Whole => compare(device, range, &exactly(data, range.length_bytes())?),
        Comparison::OneBlock => {
            let block = exactly(data, LOGICAL_BLOCK_BYTES)?;
            let mut done = 0;
            while done < range.blocks {
                let blocks = (range.blocks - done).min(CHUNK_BYTES as u64 / LOGICAL_BLOCK_BYTES);
                let part = BlockRange {
                    lba: range.lba + done,
                    blocks,
                };
                compare(device, part, &block.repeat(blocks as usize))?;
                done += blocks;
            }
            Ok(())
        }
    }
}

fn compare_and_write(
    device: &dyn BlockDevice,
    range: BlockRange,
    data: &[Bytes],
) -> Result<(), Failure> {
    let both = exactly(data, range.length_bytes() * 2)?;
    let (expected, new) = both.split_at(both.len() / 2);
    compare(device, range, expected)?;
    if !new.is_empty() {
        write_at(device, range.offset_bytes(), new)?;
    }
    Ok(())
}

fn or_write(device: &dyn BlockDevice, range: BlockRange, data: &[Bytes]) -> Result<(), Failure> {
    let new = exactly(data, range.length_bytes())?;
    let mut blocks = vec![0; new.len()];
    if blocks.is_empty() {
        return Ok(());
    }
    read_into(device, range.offset_bytes(), &mut blocks)?;
    for (old, new) in blocks.iter_mut().zip(new.iter()) {
        *old |= new;
    }
    write_at(device, range.offset_bytes(), &blocks)?;
    Ok(())
}

fn write_same(
    device: &dyn BlockDevice,
    range: BlockRange,
    no_data: bool,
    data: &[Bytes],
) -> Result<(), Failure> {
    let block = match no_data {
        true => Cow::Owned(vec![0; LOGICAL_BLOCK_BYTES as usize]),
        false => exactly(data, LOGICAL_BLOCK_BYTES)?,
    };
    if block.iter().all(|&byte| byte == 0) {
        return write_zeroes(device, range);
    }
    let chunk_blocks = range.blocks.min(CHUNK_BYTES as u64 / LOGICAL_BLOCK_BYTES);
    let chunk = block.repeat(chunk_blocks as usize);
    let mut done = 0;
    while done < range.length_bytes() {
        let left = range.length_bytes() - done;
        let part = &chunk[..chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
        write_at(device, range.offset_bytes() + done, part)?;
        done += part.len() as u64;
    }
    Ok(())
}

fn write_zeroes(device: &dyn BlockDevice, range: BlockRange) -> Result<(), Failure> {
    let (offset, bytes) = (range.offset_bytes(), range.length_bytes());
    device
        .write_zeroes(offset, bytes)
        .map_err(|source| Fault::write(offset, bytes, source).into())
}

fn unmap(unit: &Unit, stated: u32, data: &[Bytes]) -> Result<(), Failure> {
    let list = gather(data, stated as usize);
    for range in unmap_ranges(&list, unit.description.capacity_blocks)? {
        write_zeroes(unit.device.as_ref(), range)?;
    }
    Ok(())
}

fn copy(unit: &Unit, stated: u32, data: &[Bytes]) -> Result<(), Failure> {
    let list = gather(data, stated as usize);
    for segment in copy_segments(&list, &unit.description)? {
        copy_segment(unit.device.as_ref(), &segment)?;
    }
    Ok(())
}

/// From the end if the destination lies behind the source, so that no block is overwritten before it is read.
fn copy_segment(device: &dyn BlockDevice, segment: &CopySegment) -> Result<(), Fault> {
    let (source, destination) = (
        segment.source.offset_bytes(),
        segment.destination.offset_bytes(),
    );
    let length = segment.source.length_bytes();
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut done = 0;
    while done < length {
        let bytes = (length - done).min(CHUNK_BYTES as u64);
        let at = match source < destination {
            true => length - done - bytes,
            false => done,
        };
        let piece = &mut buffer[..bytes as usize];
        read_into(device, source + at, piece)?;
        write_at(device, destination + at, piece)?;
        done += bytes;
    }
    Ok(())
}

/// Most descriptors of one answer: a fragmented disk has more, and the initiator asks again.
const LBA_EXTENTS_MAX: usize = 256;
/// Most places of the store that are looked at for one answer; neighbours that are alike count as one extent.
const LBA_STEPS_MAX: usize = 4096;
/// Bytes of the answer's header, and of a descriptor.
const LBA_HEADER_BYTES: usize = 8;
const LBA_DESCRIPTOR_BYTES: usize = 16;

/// The extents of the disk as the store has them, from `lba` on.
fn lba_extents(unit: &Unit, lba: u64, allocation: u32) -> Result<Outcome, Failure> {
    let wanted = (allocation as usize).saturating_sub(LBA_HEADER_BYTES);
    let wanted = wanted
        .div_ceil(LBA_DESCRIPTOR_BYTES)
        .clamp(1, LBA_EXTENTS_MAX);
    let mut extents: Vec<LbaExtent> = Vec::new();
    let mut offset = lba * LOGICAL_BLOCK_BYTES;
    let end = unit.description.capacity_bytes();
    for _ in 0..LBA_STEPS_MAX {
        if offset >= end {
            break;
        }
        let length = end - offset;
        let found = unit.device.allocation(offset, length);
        let (mapped, bytes) = found.map_err(|source| Fault::Read {
            offset,
            length,
            source,
        })?;
        // A block that takes space in part takes space.
        let bytes = match mapped {
            true => bytes.next_multiple_of(LOGICAL_BLOCK_BYTES),
            false => bytes - bytes % LOGICAL_BLOCK_BYTES,
        };
        let (mapped, bytes) = match bytes {
            0 => (true, LOGICAL_BLOCK_BYTES),
            _ => (mapped, bytes),
        };
        let blocks = bytes / LOGICAL_BLOCK_BYTES;
        let full = extents.len() == wanted;
        match extents.last_mut() {
            Some(last) if last.mapped == mapped => last.blocks += blocks,
            _ if full => break,
            _ => extents.push(LbaExtent { blocks, mapped }),
        }
        offset += bytes;
    }
    Ok(Outcome::Data(lba_status(lba, &extents, allocation).into()))
}
