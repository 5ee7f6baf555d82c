//! Copies a disk into a version: several threads read, unpack, look for zeros and write; one puts together what they did.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::building::{DataWriter, Piece, VersionWriter};
use crate::error::ImportError;
use crate::format::{Chain, Unpacker};
use crate::version::CHUNK_BYTES;

/// Most threads that read and write.
const WORKERS_MAX: usize = 4;
/// How often a request to stop is looked for while nothing comes.
const STOP_EVERY: Duration = Duration::from_millis(200);

/// What a worker has to do next.
#[derive(Clone, Copy)]
pub(super) enum Task {
    /// Nothing: that many bytes are zero.
    Zeros(u64),
    /// Read that many bytes of the image.
    Read(u64),
    /// Write that many bytes, which are in the buffer.
    Write(u64),
}

/// Where a disk comes from, piece by piece from its beginning. All pieces but the last are whole chunks.
pub(super) trait Feed: Send {
    /// The piece at `offset`; `None` at the end. May fill `buffer`, which has one chunk.
    fn next(
        &mut self,
        offset: u64,
        buffer: &mut [u8],
        stop: &AtomicBool,
    ) -> Result<Option<Task>, ImportError>;

    /// What makes a `next` that waits give up.
    fn stopper(&self) -> Option<Arc<AtomicBool>> {
        None
    }
}

/// An image file: its zeros are known without reading them.
pub(super) struct ImageFeed<'a> {
    pub(super) image: &'a Chain,
}

impl Feed for ImageFeed<'_> {
    fn next(
        &mut self,
        offset: u64,
        _buffer: &mut [u8],
        _stop: &AtomicBool,
    ) -> Result<Option<Task>, ImportError> {
        let left = self.image.size_bytes() - offset;
        if left == 0 {
            return Ok(None);
        }
        let zeros = self.image.zeros(offset, left)?;
        let whole = if zeros == left {
            left
        } else {
            zeros / CHUNK_BYTES * CHUNK_BYTES
        };
        Ok(Some(match whole {
            0 => Task::Read(left.min(CHUNK_BYTES)),
            whole => Task::Zeros(whole),
        }))
    }
}

/// The feed, shared by the workers.
struct Shared<'a> {
    feed: &'a mut dyn Feed,
    next: u64,
    offset: u64,
    ended: bool,
}

/// Told after every piece how far it is; an error ends the copy.
type OnPiece<'a> = &'a mut dyn FnMut(&VersionWriter) -> Result<(), ImportError>;

/// Copies everything that the feed gives from `writer.offset()` on.
pub(super) fn copy(
    feed: &mut dyn Feed,
    image: Option<&Chain>,
    data: &DataWriter,
    writer: &mut VersionWriter,
    on_piece: OnPiece<'_>,
    cancelled: &dyn Fn() -> bool,
) -> Result<(), ImportError> {
    let stop = AtomicBool::new(false);
    let stopper = feed.stopper();
    let shared = Mutex::new(Shared {
        feed,
        next: 0,
        offset: writer.offset(),
        ended: false,
    });
    let workers = thread::available_parallelism().map_or(1, |cores| cores.get().min(WORKERS_MAX));
    thread::scope(|scope| {
        let (sender, receiver) = channel();
        for _ in 0..workers {
            let sender = sender.clone();
            let (shared, stop) = (&shared, &stop);
            scope.spawn(move || {
                if let Err(error) = work(shared, image, data, stop, &sender) {
                    stop.store(true, Ordering::Relaxed);
                    // Nobody listens any more after another error.
                    let _ = sender.send(Err(error));
                }
            });
        }
        drop(sender);
        let collected = collect(&receiver, writer, on_piece, cancelled);
        stop.store(true, Ordering::Relaxed);
        if let Some(stopper) = stopper {
            stopper.store(true, Ordering::Relaxed);
        }
        collected
    })
}

fn work(
    shared: &Mutex<Shared<'_>>,
    image: Option<&Chain>,
    data: &DataWriter,
    stop: &AtomicBool,
    done: &Sender<Result<(u64, Piece), ImportError>>,
) -> Result<(), ImportError> {
    let mut buffer = vec![0; CHUNK_BYTES as usize];
    let mut unpacker = Unpacker::default();
    while !stop.load(Ordering::Relaxed) {
        let Some((number, offset, task)) = claim(shared, &mut buffer, stop)? else {
            break;
        };
        let piece = match task {
            Task::Zeros(length) => Piece::Zeros(length.next_multiple_of(512)),
            Task::Read(length) | Task::Write(length) => {
                // The end of a disk with an odd size is filled up with zeros.
                let (bytes, rest) = buffer.split_at_mut(length as usize);
                if let (Task::Read(_), Some(image)) = (task, image) {
                    image.read(&mut unpacker, offset, bytes)?;
                }
                let padding = length.next_multiple_of(512) - length;
                rest[..padding as usize].fill(0);
                data.write_chunk(offset, &buffer[..(length + padding) as usize])?
            }
        };
        if done.send(Ok((number, piece))).is_err() {
            break;
        }
    }
    Ok(())
}

/// The next task with its number and place.
fn claim(
    shared: &Mutex<Shared<'_>>,
    buffer: &mut [u8],
    stop: &AtomicBool,
) -> Result<Option<(u64, u64, Task)>, ImportError> {
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    if shared.ended {
        return Ok(None);
    }
    let (number, offset) = (shared.next, shared.offset);
    let Some(task) = shared.feed.next(offset, buffer, stop)? else {
        shared.ended = true;
        return Ok(None);
    };
    let (Task::Zeros(length) | Task::Read(length) | Task::Write(length)) = task;
    shared.next += 1;
    shared.offset += length;
    Ok(Some((number, offset, task)))
}

/// Adds the pieces in their order until all workers have ended.
fn collect(
    done: &Receiver<Result<(u64, Piece), ImportError>>,
    writer: &mut VersionWriter,
    on_piece: OnPiece<'_>,
    cancelled: &dyn Fn() -> bool,
) -> Result<(), ImportError> {
    let mut early = BTreeMap::new();
    let mut next = 0;
    loop {
        if cancelled() {
            return Err(ImportError::Cancelled);
        }
        match done.recv_timeout(STOP_EVERY) {
            Ok(piece) => {
                let (number, piece) = piece?;
                early.insert(number, piece);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        while let Some(piece) = early.remove(&next) {
            writer.add(piece);
            next += 1;
        }
        on_piece(writer)?;
    }
}
