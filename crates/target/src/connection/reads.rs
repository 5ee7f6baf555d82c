//! Reads: from memory straight into the output, in pieces if they are long, on a disk thread if
//! the data is not in memory.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use dess_iscsi::{ScsiResponse, TaskId};
use dess_scsi::BlockRange;

use super::{Completion, ConnectionTask, LoggedIn, OUTPUT_BYTES_MAX, READ_AHEAD_BYTES_MAX};
use crate::accounts::Operation;
use crate::boot_profiles::Recording;
use crate::engine::{
    Access, Failure, Fault, Held, Lane, Outcome, Span, Unit, contained, read_piece,
};

/// Data up to this length is put next to its header; longer data has a buffer of its own, which need not be moved when the
/// peer takes only a part.
const SMALL_READ_BYTES_MAX: u64 = 16 * 1024;
/// Longer reads are sent piece by piece, so that a piece stays in the cache.
const SHORT_READ_BYTES_MAX: u64 = 128 * 1024;
/// Length of a piece that a disk thread reads.
const DISK_PIECE_BYTES: u64 = 256 * 1024;

/// A read that is sent in pieces.
pub(super) struct LongRead {
    task: TaskId,
    /// The disk that is read.
    unit: Arc<Unit>,
    /// Place of the whole read on the disk.
    offset: u64,
    /// Bytes that were read.
    done: u64,
    /// Bytes that the CDB asks for.
    length: u64,
    /// A piece is being read on a disk thread.
    piece_in_work: bool,
    /// The whole range, so that no later write overtakes a piece; none while older commands use it.
    held: Option<Held>,
}

impl LongRead {
    pub(super) fn is_of(&self, task: TaskId) -> bool {
        self.task == task
    }

    /// True if the next piece may be read.
    pub(super) fn can_go_on(&self) -> bool {
        !self.piece_in_work && self.held.is_some()
    }
}

/// Why a read was not done at once.
enum Postponed {
    /// The data is not in memory.
    NotCached,
    /// The store failed.
    Failed(io::Error),
}

impl From<io::Error> for Postponed {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock => Self::NotCached,
            _ => Self::Failed(error),
        }
    }
}

impl ConnectionTask {
    pub(super) fn read(&mut self, task: TaskId, unit: &Arc<Unit>, range: BlockRange) {
        let (offset, length) = (range.offset_bytes(), range.length_bytes());
        if let Some(LoggedIn { session, .. }) = &self.logged_in {
            session.counters.count_read(length);
        }
        self.meter.count_bytes(Operation::Read, length);
        if length <= SHORT_READ_BYTES_MAX {
            self.turn.charge_bytes(length);
        }
        self.report_first_commands();
        let span = Span::new(offset, length);
        if length > SHORT_READ_BYTES_MAX {
            self.start_long_read(task, unit, span, (offset, length));
            return;
        }
        let recording = self.recording(unit);
        let done = match unit.locks.try_hold(span, Access::Shared) {
            None => Err(Postponed::NotCached),
            Some(_held) if length > SMALL_READ_BYTES_MAX => {
                self.try_read(unit, offset, length).map(|data| {
                    self.connection
                        .complete(task, ScsiResponse::with_data(data));
                })
            }
            Some(_held) => self.connection.complete_read(
                task,
                // At most SMALL_READ_BYTES_MAX.
                length as u32,
                |at, place| {
                    let at = offset + at as u64;
                    unit.device.try_read_at(at, place).map_err(Postponed::from)
                },
            ),
        };
        if let Some(recording) = recording {
            recording.note(offset, length, done.is_ok());
        }
        match done {
            Ok(()) => self.meter.count_done(Operation::Read),
            Err(Postponed::Failed(source)) => {
                let fault = Fault::Read {
                    offset,
                    length,
                    source,
                };
                self.answer(task, Err(fault.into()));
            }
            Err(Postponed::NotCached) => self.read_on_thread(task, unit, span, (offset, length)),
        }
    }

    /// Data that is in memory, in a buffer of its own.
    fn try_read(&self, unit: &Unit, offset: u64, length: u64) -> Result<Bytes, Postponed> {
        let mut buffer = self.service.buffers.take(length as usize);
        unit.device.try_read_at(offset, buffer.as_mut())?;
        Ok(buffer.into())
    }

    /// The boot whose reads are noted, if this is one of its system disk.
    fn recording(&mut self, unit: &Arc<Unit>) -> Option<Arc<Recording>> {
        let now = self.meter.arrived();
        let logged_in = self.logged_in.as_mut()?;
        let recording = logged_in.recording.as_ref()?;
        if recording.is_over(now) {
            logged_in.recording = None;
            return None;
        }
        Arc::ptr_eq(logged_in.units.system(), unit).then(|| Arc::clone(recording))
    }

    fn start_long_read(
        &mut self,
        task: TaskId,
        unit: &Arc<Unit>,
        span: Span,
        (offset, length): (u64, u64),
    ) {
        let held = unit.locks.try_hold(span, Access::Shared);
        if held.is_none() {
            let completions = self.completions.clone();
            let claim = (span, Access::Shared);
            let slot = unit.slot(Lane::Data, 0);
            unit.locks
                .run_when_free(claim, &self.service.pool, slot, move |held| {
                    let _ = completions.send(Completion::Granted(task, held));
                });
        }
        self.begin(task, Some(Operation::Read));
        self.long_reads.push_back(LongRead {
            task,
            unit: Arc::clone(unit),
            offset,
            done: 0,
            length,
            piece_in_work: false,
            held,
        });
    }

    /// The range of a long read is free for it. If the read was aborted meanwhile, the range is
    /// given back at once.
    pub(super) fn grant(&mut self, task: TaskId, held: Held) {
        if let Some(read) = self.long_reads.iter_mut().find(|read| read.task == task) {
            read.held = Some(held);
        }
    }

    fn read_on_thread(
        &mut self,
        task: TaskId,
        unit: &Arc<Unit>,
        span: Span,
        (offset, length): (u64, u64),
    ) {
        self.begin(task, Some(Operation::Read));
        self.read_ahead += length;
        self.settle_memory();
        let completions = self.completions.clone();
        let run = {
            let unit = Arc::clone(unit);
            let buffers = Arc::clone(&self.service.buffers);
            move || {
                let result = contained(|| {
                    let buffer = buffers.take(length as usize);
                    let data = read_piece(unit.device.as_ref(), offset, buffer)?;
                    Ok(Outcome::Data(data))
                });
                let _ = completions.send(Completion::Done(task, length, result));
            }
        };
        let slot = unit.slot(Lane::Data, length);
        self.submit(unit, slot, Some((span, Access::Shared)), run);
    }

    /// Reads the next pieces of long reads, as far as the peer takes them. The oldest goes first;
    /// while its data comes from the disk, the next one is read from memory.
    pub(super) fn continue_long_reads(&mut self) {
        let mut index = 0;
        while index < self.long_reads.len()
            && self.connection.output_bytes() < OUTPUT_BYTES_MAX
            && self.read_ahead < READ_AHEAD_BYTES_MAX
            && self.has_memory()
            && !self.turn.is_over()
        {
            if !self.long_reads[index].can_go_on() || !self.continue_long_read(index) {
                index += 1;
            }
        }
    }

    /// One piece of one long read; false if it went to a disk thread.
    fn continue_long_read(&mut self, index: usize) -> bool {
        let unit = Arc::clone(&self.long_reads[index].unit);
        let LongRead {
            task,
            offset,
            done,
            length,
            ..
        } = self.long_reads[index];
        let left = length - done;
        let piece = left.min(SHORT_READ_BYTES_MAX);
        self.turn.charge_bytes(piece);
        let read = self.try_read(&unit, offset + done, piece);
        if let Some(recording) = self.recording(&unit) {
            recording.note(offset + done, piece, read.is_ok());
        }
        match read {
            Ok(data) => self.handle_piece(task, Ok(data)),
            Err(Postponed::Failed(source)) => {
                let fault = Fault::Read {
                    offset: offset + done,
                    length: piece,
                    source,
                };
                self.handle_piece(task, Err(fault.into()));
            }
            Err(Postponed::NotCached) => {
                let piece = left.min(DISK_PIECE_BYTES);
                self.read_piece_on_thread(index, &unit, (offset + done, piece));
                return false;
            }
        }
        true
    }

    fn read_piece_on_thread(
        &mut self,
        index: usize,
        unit: &Arc<Unit>,
        (offset, length): (u64, u64),
    ) {
        let read = &mut self.long_reads[index];
        read.piece_in_work = true;
        let task = read.task;
        self.read_ahead += length;
        self.settle_memory();
        let completions = self.completions.clone();
        let run = {
            let unit = Arc::clone(unit);
            let buffers = Arc::clone(&self.service.buffers);
            move || {
                let result = contained(|| {
                    let buffer = buffers.take(length as usize);
                    Ok(read_piece(unit.device.as_ref(), offset, buffer)?)
                });
                let _ = completions.send(Completion::Piece(task, length, result));
            }
        };
        self.submit(unit, unit.slot(Lane::Data, length), None, run);
    }

    /// A piece from a disk thread is here, or is not to be had.
    pub(super) fn handle_piece(&mut self, task: TaskId, result: Result<Bytes, Failure>) {
        let Some(index) = self.long_reads.iter().position(|read| read.task == task) else {
            return;
        };
        if !self.running.contains_key(&task) {
            self.long_reads.remove(index);
            return;
        }
        let read = &mut self.long_reads[index];
        read.piece_in_work = false;
        match result {
            Ok(piece) => {
                let bytes = piece.len() as u64;
                if read.done + bytes < read.length {
                    self.connection.provide_data_in(task, piece);
                } else {
                    let response = ScsiResponse {
                        data_in: vec![piece],
                        transfer_length: read.length,
                        ..ScsiResponse::default()
                    };
                    self.connection.complete(task, response);
                }
                self.note_piece(index, bytes);
            }
            Err(failure) => {
                self.answer(task, Err(failure));
                self.end_long_read(index);
            }
        }
    }

    fn note_piece(&mut self, index: usize, bytes: u64) {
        let read = &mut self.long_reads[index];
        read.done += bytes;
        if read.done == read.length {
            self.end_long_read(index);
        }
    }

    fn end_long_read(&mut self, index: usize) {
        if let Some(read) = self.long_reads.remove(index) {
            self.is_over(read.task);
        }
    }
}
