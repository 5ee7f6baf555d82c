//! A file that belongs to an image.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::HeaderError;
use super::vhdx::Patches;
use crate::error::ImportError;

/// Bytes in which tables are read.
const PAGE_BYTES: u64 = 64 * 1024;
/// Most pages kept in memory: 4 MiB a file.
const PAGES_MAX: usize = 64;

/// The file, read-only. Whatever its tables say, nothing is read behind its end.
pub(crate) struct ImageFile {
    path: PathBuf,
    file: File,
    length: u64,
    /// What its log says lies over its bytes.
    patches: Option<Patches>,
    pages: Mutex<Pages>,
}

/// The tables read last.
#[derive(Default)]
struct Pages {
    by_number: HashMap<u64, Box<[u8]>>,
    in_order: VecDeque<u64>,
}

impl ImageFile {
    pub(crate) fn open(path: &Path) -> Result<Self, ImportError> {
        let failed = || ImportError::source(path, 0);
        let mut file = File::open(path).map_err(failed())?;
        if file.metadata().map_err(failed())?.is_dir() {
            return Err(failed()(io::ErrorKind::IsADirectory.into()));
        }
        // Block devices have a size only to seek.
        let length = file.seek(SeekFrom::End(0)).map_err(failed())?;
        Ok(Self {
            path: path.to_owned(),
            file,
            length,
            patches: None,
            pages: Mutex::default(),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Lays changes over the file, which stays as it is.
    pub(crate) fn patch(&mut self, patches: Patches) {
        self.length = self.length.max(patches.end());
        self.patches = Some(patches);
        self.pages = Mutex::default();
    }

    /// Bytes of the file.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The first bytes of the file, at most `most`.
    pub(crate) fn start(&self, most: u64) -> Result<Vec<u8>, ImportError> {
        self.part(0, most.min(self.length))
    }

    /// `length` bytes from `offset` on; the caller bounds `length`.
    pub(crate) fn part(&self, offset: u64, length: u64) -> Result<Vec<u8>, ImportError> {
        self.contains(offset, length)?;
        let mut bytes = vec![0; length as usize];
        self.read(offset, &mut bytes)?;
        Ok(bytes)
    }

    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ImportError> {
        self.contains(offset, buffer.len() as u64)?;
        let read = match &self.patches {
            None => self.file.read_exact_at(buffer, offset),
            Some(patches) => self.read_patched(patches, offset, buffer),
        };
        read.map_err(ImportError::source(&self.path, offset))
    }

    /// What the changes put behind the end of the file is zero where they say nothing.
    fn read_patched(&self, patches: &Patches, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self
                .file
                .read_at(&mut buffer[filled..], offset + filled as u64)
            {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        buffer[filled..].fill(0);
        patches.apply(offset, buffer);
        Ok(())
    }

    /// A few bytes of a table, from the tables read last.
    pub(crate) fn entry<const N: usize>(&self, offset: u64) -> Result<[u8; N], ImportError> {
        let mut entry = [0; N];
        let within = (offset % PAGE_BYTES) as usize;
        if within + N > PAGE_BYTES as usize {
            self.read(offset, &mut entry)?;
            return Ok(entry);
        }
        self.contains(offset, N as u64)?;
        let number = offset / PAGE_BYTES;
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        if !pages.by_number.contains_key(&number) {
            let start = number * PAGE_BYTES;
            let page = self.part(start, PAGE_BYTES.min(self.length - start))?;
            pages.keep(number, page.into_boxed_slice());
        }
        let page = &pages.by_number[&number];
        entry.copy_from_slice(&page[within..within + N]);
        Ok(entry)
    }

    /// Refuses a range that is not in the file.
    pub(crate) fn contains(&self, offset: u64, length: u64) -> Result<(), ImportError> {
        match offset.checked_add(length) {
            Some(end) if end <= self.length => Ok(()),
            _ => {
                let reason = format!(
                    "it is truncated or damaged: {length} bytes should lie there, but the file has {} bytes",
                    self.length
                );
                Err(self.refused(offset, reason))
            }
        }
    }

    pub(crate) fn refused(&self, offset: u64, reason: impl Into<String>) -> ImportError {
        ImportError::refused(&self.path, offset, reason)
    }

    /// A refusal by a header that was read from `start` on.
    pub(crate) fn refused_header(&self, start: u64, error: HeaderError) -> ImportError {
        self.refused(start.saturating_add(error.offset), error.reason)
    }

    /// A file that this one names, for instance its backing file. An image could name any file of this server: only files in
    /// its own directory or below are followed, links included.
    pub(crate) fn beside(&self, name: &str, role: &str) -> Result<PathBuf, ImportError> {
        let name = name.strip_prefix("file:").unwrap_or(name);
        let resolve = |path: &Path| path.canonicalize().map_err(ImportError::source(path, 0));
        let own = resolve(&self.path)?;
        let directory = own.parent().unwrap_or(Path::new("/"));
        let named = directory.join(name);
        // Of what may lie outside, not even the existence is told.
        let inside = Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        match named.canonicalize() {
            Ok(path) if path.starts_with(directory) => return Ok(path),
            Err(missing) if inside => return Err(ImportError::source(&named, 0)(missing)),
            _ => {}
        }
        let reason = format!(
            "its {role} {} lies outside its own directory; put it beside the image",
            named.display()
        );
        Err(self.refused(0, reason))
    }
}

impl Pages {
    fn keep(&mut self, number: u64, page: Box<[u8]>) {
        if self.in_order.len() == PAGES_MAX
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.by_number.remove(&oldest);
        }
        self.in_order.push_back(number);
        self.by_number.insert(number, page);
    }
}
