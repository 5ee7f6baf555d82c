//! A file that holds a layer's blocks at the disk's own offsets.

use std::fs::File;
use std::io;
use std::io::IoSliceMut;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Advice, SeekFrom};
use rustix::io::{Errno, ReadWriteFlags};

use crate::files::StoreFile;

/// Longest single write. A page cache folio is as long as the write that made it, and ext4 walks all
/// blocks of a folio for each small write into it: three times the cost of the write in one of 1 MiB.
const WRITE_BYTES_MAX: usize = 16 * 1024;
/// Bytes written at once where the file system cannot punch holes.
const ZERO_BYTES: usize = 256 * 1024;

/// The file. Reads that must not wait fall back to plain ones where the file system cannot tell (tmpfs).
pub(crate) struct DataFile {
    file: StoreFile,
    waits_unknown: AtomicBool,
}

impl DataFile {
    pub(crate) fn open_read_only(path: &Path) -> io::Result<Self> {
        Ok(Self::new(StoreFile::open(path)?))
    }

    pub(crate) fn open_writable(path: &Path) -> io::Result<Self> {
        Ok(Self::new(StoreFile::open_writable(path)?))
    }

    fn new(file: StoreFile) -> Self {
        Self {
            file,
            waits_unknown: AtomicBool::new(false),
        }
    }

    /// The file, for reading only.
    pub(crate) fn reader(&self) -> &File {
        self.file.reader()
    }

    pub(crate) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.reader().read_exact_at(buffer, offset)
    }

    /// As `read_at`, but `WouldBlock` unless all of it is in the page cache.
    pub(crate) fn try_read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if self.waits_unknown.load(Ordering::Relaxed) {
            return self.read_at(offset, buffer);
        }
        let wanted = buffer.len();
        let read = rustix::io::preadv2(
            self.file.reader(),
            &mut [IoSliceMut::new(buffer)],
            offset,
            ReadWriteFlags::NOWAIT,
        );
        match read {
            Ok(read) if read == wanted => Ok(()),
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Err(io::ErrorKind::WouldBlock.into()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                self.waits_unknown.store(true, Ordering::Relaxed);
                self.read_at(offset, buffer)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Has the range read from the storage into the page cache; does not wait for it.
    pub(crate) fn read_ahead(&self, offset: u64, length: NonZeroU64) -> io::Result<()> {
        let advice = Advice::WillNeed;
        Ok(rustix::fs::fadvise(
            self.file.reader(),
            offset,
            Some(length),
            advice,
        )?)
    }

    pub(crate) fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        for (piece, at) in data
            .chunks(WRITE_BYTES_MAX)
            .zip((offset..).step_by(WRITE_BYTES_MAX))
        {
            self.file.write_all_at(piece, at)?;
        }
        Ok(())
    }

    /// Makes the range read as zeros, and gives its space back where the file system can.
    pub(crate) fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        match self.file.punch(offset, length) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                self.write_zeros(offset, length)
            }
            punched => punched,
        }
    }

    fn write_zeros(&self, offset: u64, length: u64) -> io::Result<()> {
        let zeros = vec![0; ZERO_BYTES];
        let mut done = 0;
        while done < length {
            let piece = (length - done).min(ZERO_BYTES as u64);
            self.write_at(offset + done, &zeros[..piece as usize])?;
            done += piece;
        }
        Ok(())
    }

    /// Reads of what was synced come from the storage again, not from the kernel's memory.
    pub(crate) fn forget_cached(&self) -> io::Result<()> {
        self.file.forget_cached()
    }

    /// Asks the kernel not to keep a range in memory.
    pub(crate) fn forget_range(&self, offset: u64, length: u64) -> io::Result<()> {
        let length = NonZeroU64::new(length);
        Ok(rustix::fs::fadvise(
            self.file.reader(),
            offset,
            length,
            Advice::DontNeed,
        )?)
    }

    pub(crate) fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Calls `each` with every range below `end` that holds data; the rest are holes, which read as zeros. A file system that
    /// knows no holes has one range.
    pub(crate) fn extents(
        &self,
        end: u64,
        each: &mut dyn FnMut(Range<u64>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut offset = 0;
        while offset < end
            && let Some(start) = self
                .seek(SeekFrom::Data(offset))?
                .filter(|start| *start < end)
        {
            offset = self
                .seek(SeekFrom::Hole(start))?
                .map_or(end, |hole| hole.min(end));
            each(start..offset)?;
        }
        Ok(())
    }

    /// Whether `offset` holds data, and for how many bytes from there (at most `limit`) that is so.
    pub(crate) fn allocation(&self, offset: u64, limit: u64) -> io::Result<(bool, u64)> {
        match self.seek(SeekFrom::Data(offset))? {
            Some(data) if data == offset => {
                let hole = self.seek(SeekFrom::Hole(offset))?;
                Ok((true, hole.map_or(limit, |hole| limit.min(hole - offset))))
            }
            Some(data) => Ok((false, limit.min(data - offset))),
            None => Ok((false, limit)),
        }
    }

    /// The next data or hole; none past the last data.
    fn seek(&self, to: SeekFrom) -> io::Result<Option<u64>> {
        match rustix::fs::seek(self.file.reader(), to) {
            Ok(offset) => Ok(Some(offset)),
            Err(Errno::NXIO) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Bytes of storage that the file takes.
    pub(crate) fn allocated_bytes(&self) -> io::Result<u64> {
        Ok(self.file.reader().metadata()?.blocks() * 512)
    }

    pub(crate) fn len(&self) -> io::Result<u64> {
        Ok(self.file.reader().metadata()?.len())
    }
}
