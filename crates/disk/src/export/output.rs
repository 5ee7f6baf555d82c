//! Where an export is written to.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tracing::warn;

use super::unfinished_name;
use crate::BLOCK_BYTES;
use crate::error::ExportError;
use crate::files::sync_parent;

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Where to.
pub enum ExportTarget<'a> {
    /// A file that does not exist yet.
    File(&'a Path),
    /// A stream, for instance standard output.
    Stream(&'a mut dyn Write),
}

/// Written from its beginning to its end.
pub(super) struct Output<'a> {
    kind: Kind<'a>,
    position: u64,
}

enum Kind<'a> {
    File(NewFile),
    Stream(&'a mut dyn Write),
}

/// A file that is removed again unless it is finished.
struct NewFile {
    file: File,
    unfinished: PathBuf,
    path: PathBuf,
    whole: bool,
}

impl<'a> Output<'a> {
    pub(super) fn open(target: ExportTarget<'a>) -> Result<Self, ExportError> {
        let kind = match target {
            ExportTarget::Stream(stream) => Kind::Stream(stream),
            ExportTarget::File(path) => {
                if path.exists() {
                    let exists = io::ErrorKind::AlreadyExists.into();
                    return Err(ExportError::write("create", path)(exists));
                }
                let unfinished = unfinished_name(path);
                // What an export that was killed has left is of no use.
                match fs::remove_file(&unfinished) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(ExportError::write("remove", &unfinished)(error));
                    }
                    _ => {}
                }
                let file = File::create_new(&unfinished)
                    .map_err(ExportError::write("create", &unfinished))?;
                Kind::File(NewFile {
                    file,
                    unfinished,
                    path: path.to_owned(),
                    whole: false,
                })
            }
        };
        Ok(Self { kind, position: 0 })
    }

    /// Bytes written and skipped so far.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn is_file(&self) -> bool {
        matches!(self.kind, Kind::File(_))
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        match &mut self.kind {
            Kind::File(new) => new
                .file
                .write_all_at(bytes, self.position)
                .map_err(ExportError::write("write", &new.unfinished))?,
            Kind::Stream(stream) => stream.write_all(bytes).map_err(ExportError::Stream)?,
        }
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Writes zeros: a hole in a file.
    pub(super) fn skip(&mut self, mut length: u64) -> Result<(), ExportError> {
        if self.is_file() {
            self.position += length;
            return Ok(());
        }
        while length > 0 {
            let piece = length.min(ZEROS.len() as u64);
            self.write(&ZEROS[..piece as usize])?;
            length -= piece;
        }
        Ok(())
    }

    /// Writes bytes of which blocks of zeros become holes.
    pub(super) fn write_sparse(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        if !self.is_file() {
            return self.write(bytes);
        }
        let block = BLOCK_BYTES as usize;
        let zero: Vec<bool> = bytes
            .chunks(block)
            .map(|block| block == &ZEROS[..block.len()])
            .collect();
        let mut start = 0;
        for run in zero.chunk_by(|a, b| a == b) {
            let end = bytes.len().min(start + run.len() * block);
            match run[0] {
                true => self.skip((end - start) as u64)?,
                false => self.write(&bytes[start..end])?,
            }
            start = end;
        }
        Ok(())
    }

    /// Zeros up to the next multiple of `unit`.
    pub(super) fn align(&mut self, unit: u64) -> Result<(), ExportError> {
        self.skip(self.position.next_multiple_of(unit) - self.position)
    }

    /// Zeros up to `offset`, which lies ahead.
    pub(super) fn skip_to(&mut self, offset: u64) -> Result<(), ExportError> {
        self.skip(offset - self.position)
    }

    /// Writes over something that was skipped before; only in a file.
    pub(super) fn patch(&mut self, offset: u64, bytes: &[u8]) -> Result<(), ExportError> {
        match &mut self.kind {
            Kind::File(new) => new
                .file
                .write_all_at(bytes, offset)
                .map_err(ExportError::write("write", &new.unfinished)),
            Kind::Stream(_) => Err(ExportError::refused(
                "this format cannot be written to a stream; export it to a file",
            )),
        }
    }

    /// Makes the file durable and gives it its name.
    pub(super) fn finish(self) -> Result<u64, ExportError> {
        match self.kind {
            Kind::Stream(stream) => stream.flush().map_err(ExportError::Stream)?,
            Kind::File(mut new) => {
                let finish = || {
                    new.file.set_len(self.position)?;
                    new.file.sync_all()?;
                    // Unlike a rename, a link replaces nothing.
                    fs::hard_link(&new.unfinished, &new.path)?;
                    sync_parent(&new.path)
                };
                finish().map_err(ExportError::write("finish", &new.path))?;
                new.whole = true;
            }
        }
        Ok(self.position)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // Finished or not, this name is not needed any more.
        if let Err(error) = fs::remove_file(&self.unfinished) {
            let whole = self.whole;
            warn!(path = %self.unfinished.display(), whole, %error, "an unfinished export stays");
        }
    }
}
