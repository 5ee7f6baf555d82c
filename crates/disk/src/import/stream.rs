//! Sources that are read from their beginning to their end: gzip and zstd streams, pipes.
//!
//! A raw disk is imported as it comes. Every other format is read here and there, so it is first unpacked into the directory in which the
//! version is built; that needs its space until the import ends.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use flate2::bufread::MultiGzDecoder;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::copy::{Feed, Task};
use crate::BLOCK_BYTES;
use crate::building::BuildError;
use crate::error::ImportError;
use crate::files::StoreFile;
use crate::format::{ImageFormat, detect_start};
use crate::version::DISK_BYTES_MAX;

/// Bytes that tell how a stream is packed and of which format it is.
const START_BYTES: usize = 64;
const GZIP: &[u8] = b"\x1f\x8b";
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";
/// How long a pipe may have nobody who writes to it before the import gives up.
const WRITER_PATIENCE: Duration = Duration::from_secs(30);
/// How often a request to stop is looked for while nothing comes.
const STOP_EVERY: Duration = Duration::from_millis(STOP_EVERY_MS as u64);
const STOP_EVERY_MS: u16 = 200;
const UNPACK_BYTES: usize = 1 << 20;

/// An open stream; unpacked, if it was packed.
pub(super) struct Stream {
    path: PathBuf,
    reader: Box<dyn Read + Send>,
    /// Bytes of the source read so far.
    taken: Arc<AtomicU64>,
    /// Bytes of the source, if known.
    total: Option<u64>,
    stop: Arc<AtomicBool>,
    /// Bytes given out so far.
    given: u64,
    ended: bool,
    end_marker: Option<PathBuf>,
    format: ImageFormat,
}

impl Stream {
    /// Opens `path` if it is to be read as a stream; `None` if it is a file that is not packed. `end_marker` is a file that, when the
    /// stream has ended, must hold its length: without it, it was cut off.
    pub(super) fn open(
        path: &Path,
        format: Option<ImageFormat>,
        end_marker: Option<&Path>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Option<Self>, ImportError> {
        let failed = || ImportError::source(path, 0);
        let kind = std::fs::metadata(path).map_err(failed())?.file_type();
        let pipe = kind.is_fifo() || kind.is_char_device() || kind.is_socket();
        if !pipe && !kind.is_file() {
            return Ok(None);
        }
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(if pipe { OFlag::O_NONBLOCK.bits() } else { 0 })
            .open(path)
            .map_err(failed())?;
        let total = (!pipe).then(|| file.metadata().map(|found| found.len()));
        let total = total.transpose().map_err(failed())?;
        let taken = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let mut input = Input {
            file,
            pipe,
            taken: Arc::clone(&taken),
            stop: Arc::clone(&stop),
        };
        let start = input.start(cancelled).map_err(failed())?;
        let packed = [GZIP, ZSTD].iter().any(|magic| start.starts_with(magic));
        if !pipe && !packed {
            return Ok(None);
        }
        let whole =
            BufReader::with_capacity(UNPACK_BYTES, io::Cursor::new(start.clone()).chain(input));
        let reader: Box<dyn Read + Send> = if start.starts_with(GZIP) {
            Box::new(MultiGzDecoder::new(whole))
        } else if start.starts_with(ZSTD) {
            Box::new(zstd::Decoder::with_buffer(whole).map_err(failed())?)
        } else {
            Box::new(whole)
        };
        let mut stream = Self {
            path: path.to_owned(),
            reader,
            taken,
            total,
            stop,
            given: 0,
            ended: false,
            end_marker: end_marker.map(Path::to_owned),
            format: ImageFormat::Raw,
        };
        stream.tell_format(format)?;
        Ok(Some(stream))
    }

    fn tell_format(&mut self, format: Option<ImageFormat>) -> Result<(), ImportError> {
        let mut start = vec![0; START_BYTES];
        let filled = self.fill(&mut start)?;
        start.truncate(filled);
        self.given = 0;
        self.ended = false;
        self.format = match format {
            Some(format) => format,
            None => detect_start(&start)
                .map_err(|reason| ImportError::refused(&self.path, 0, reason))?,
        };
        let rest = std::mem::replace(&mut self.reader, Box::new(io::empty()));
        self.reader = Box::new(io::Cursor::new(start).chain(rest));
        Ok(())
    }

    /// Format of what comes out of it.
    pub(super) fn format(&self) -> ImageFormat {
        self.format
    }

    /// Bytes of the source read so far, and in all if that is known.
    pub(super) fn progress(&self) -> StreamProgress {
        StreamProgress {
            taken: Arc::clone(&self.taken),
            total: self.total,
        }
    }

    /// Writes all of it to a new file, with holes for zeros. Calls `tick` now and then.
    pub(super) fn unpack(
        &mut self,
        into: &Path,
        tick: &mut dyn FnMut(),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(), ImportError> {
        let stop = Arc::clone(&self.stop);
        let (ended, wait) = channel::<()>();
        thread::scope(|scope| {
            let unpacking = scope.spawn(move || {
                let unpacked = self.unpack_all(into);
                drop(ended);
                unpacked
            });
            while wait.recv_timeout(STOP_EVERY) == Err(RecvTimeoutError::Timeout) {
                tick();
                if cancelled() {
                    stop.store(true, Ordering::Relaxed);
                }
            }
            unpacking
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn unpack_all(&mut self, into: &Path) -> Result<(), ImportError> {
        let file = StoreFile::create_new(into).map_err(BuildError::store("create", into))?;
        let mut buffer = vec![0; UNPACK_BYTES];
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(ImportError::Cancelled);
            }
            let start = self.given;
            let filled = self.fill(&mut buffer)?;
            if filled == 0 {
                break;
            }
            let blocks = buffer[..filled].chunks(BLOCK_BYTES as usize);
            for (at, block) in (start..).step_by(BLOCK_BYTES as usize).zip(blocks) {
                if block.iter().any(|&byte| byte != 0) {
                    file.write_all_at(block, at)
                        .map_err(BuildError::store("write", into))?;
                }
            }
        }
        Ok(file
            .set_len(self.given)
            .map_err(BuildError::store("extend", into))?)
    }

    /// Reads until the buffer is full or the stream ends.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, ImportError> {
        let mut filled = 0;
        while filled < buffer.len() && !self.ended {
            match self.reader.read(&mut buffer[filled..]) {
                Ok(0) => {
                    self.ended = true;
                    self.check_end()?;
                }
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if self.stop.load(Ordering::Relaxed) => return Err(ImportError::Cancelled),
                Err(error) => return Err(self.failed(error)),
            }
        }
        self.given += filled as u64;
        if self.given > DISK_BYTES_MAX {
            let reason = "a disk of more than 256 TiB comes out of it";
            return Err(ImportError::refused(&self.path, self.taken(), reason));
        }
        Ok(filled)
    }

    fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    fn failed(&self, error: io::Error) -> ImportError {
        use io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
        let offset = self.taken();
        match error.kind() {
            UnexpectedEof => ImportError::refused(&self.path, offset, "it is truncated"),
            InvalidData | InvalidInput | Other if error.raw_os_error().is_none() => {
                ImportError::refused(&self.path, offset, format!("it is damaged: {error}"))
            }
            _ => ImportError::source(&self.path, offset)(error),
        }
    }

    fn check_end(&self) -> Result<(), ImportError> {
        let Some(marker) = &self.end_marker else {
            return Ok(());
        };
        let length = std::fs::read_to_string(marker).ok();
        match length.and_then(|length| length.trim().parse::<u64>().ok()) {
            Some(length) if length == self.taken() => Ok(()),
            _ => {
                let reason = "it was cut off: the program that sent it ended early";
                Err(ImportError::refused(&self.path, self.taken(), reason))
            }
        }
    }
}

/// How far a stream is, while somebody else reads it.
pub(super) struct StreamProgress {
    taken: Arc<AtomicU64>,
    total: Option<u64>,
}

impl StreamProgress {
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// 0 if it is not known.
    pub(super) fn total(&self) -> u64 {
        self.total.unwrap_or(0)
    }
}

impl Feed for Stream {
    fn next(
        &mut self,
        _offset: u64,
        buffer: &mut [u8],
        stop: &AtomicBool,
    ) -> Result<Option<Task>, ImportError> {
        if stop.load(Ordering::Relaxed) {
            self.stop.store(true, Ordering::Relaxed);
        }
        let filled = self.fill(buffer)?;
        Ok((filled > 0).then_some(Task::Write(filled as u64)))
    }

    fn stopper(&self) -> Option<Arc<AtomicBool>> {
        Some(Arc::clone(&self.stop))
    }
}

/// The file or pipe.
struct Input {
    file: File,
    pipe: bool,
    taken: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Input {
    /// The first bytes; waits for somebody who writes them.
    fn start(&mut self, cancelled: &dyn Fn() -> bool) -> io::Result<Vec<u8>> {
        let mut start = vec![0; START_BYTES];
        let mut filled = 0;
        let patience = Instant::now() + WRITER_PATIENCE;
        while filled < start.len() {
            if self.pipe && filled == 0 && !self.wait_once()? {
                if cancelled() || Instant::now() > patience {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "nobody writes to this pipe",
                    ));
                }
                continue;
            }
            match self.read(&mut start[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        start.truncate(filled);
        Ok(start)
    }

    /// Whether there is something to read, or the end.
    fn wait_once(&self) -> io::Result<bool> {
        let mut wait = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
        poll(&mut wait, PollTimeout::from(STOP_EVERY_MS))?;
        Ok(wait[0].revents().is_some_and(|events| !events.is_empty()))
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            if self.pipe && !self.wait_once()? {
                continue;
            }
            match self.file.read(buffer) {
                Ok(read) => {
                    self.taken.fetch_add(read as u64, Ordering::Relaxed);
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}
