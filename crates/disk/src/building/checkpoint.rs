//! How far a version under construction is, so that it can go on after a crash.
//!
//! Order: sync `data`; write `resume.new` and sync it; rename it to `resume`. A crash between any two leaves the checkpoint before, and
//! what that says is in `data` is there: blocks behind it are cut off before the work goes on.

use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use tracing::info;

use super::{BuildError, Building, DataWriter, VersionWriter};
use crate::block_map::Word;
use crate::files::{self, StoreFile, sync_parent};
use crate::map_file::{self, MapHeader};
use crate::version::Sums;

/// Bytes of disk between two checkpoints.
#[cfg(not(test))]
const EVERY_BYTES: u64 = 1 << 30;
#[cfg(test)]
const EVERY_BYTES: u64 = 8 << 20;
pub(crate) const CHECKPOINT_FILE: &str = "resume";
const UNFINISHED_FILE: &str = "resume.new";
/// Bytes of the length in front of each part, and of the checksum at the end.
const FIELD_BYTES: usize = 8;

/// What is there of a version that is made of `source`: all that the checkpoint covers, or nothing. The file `keep` stays in
/// either case.
pub(crate) fn resume_or_begin<S: DeserializeOwned + PartialEq>(
    building: &Building,
    source: &S,
    keep: Option<&str>,
) -> Result<(DataWriter, VersionWriter), BuildError> {
    let (directory, version) = (building.path(), building.version());
    let mut writer = VersionWriter::new(version);
    let Some(done) = read(directory, source, &writer.map_header()) else {
        building.empty(keep)?;
        return Ok((DataWriter::create(directory)?, writer));
    };
    writer.resume(done);
    let done_bytes = writer.offset();
    info!(%version, done_bytes, "the work on version {version} goes on where it was interrupted");
    Ok((DataWriter::resume(directory, done_bytes)?, writer))
}

/// Writes checkpoints of one version. `S` tells whether what it is made of is still the same.
pub(crate) struct Checkpoints<'a, S> {
    directory: &'a Path,
    source: &'a S,
    /// Bytes of disk that the last one covers.
    written: u64,
}

impl<'a, S: Serialize> Checkpoints<'a, S> {
    pub(crate) fn new(directory: &'a Path, source: &'a S, written: u64) -> Self {
        Self {
            directory,
            source,
            written,
        }
    }

    /// Writes one if the last one is long ago.
    pub(crate) fn keep_up(
        &mut self,
        writer: &VersionWriter,
        data: &DataWriter,
    ) -> Result<(), BuildError> {
        if writer.offset() < self.written + EVERY_BYTES {
            return Ok(());
        }
        data.sync()?;
        let new = self.directory.join(UNFINISHED_FILE);
        let content = encode(self.source, writer);
        let write = || {
            let file = StoreFile::create(&new)?;
            file.write_all_at(&content, 0)?;
            file.sync_data()?;
            files::rename(&new, &self.directory.join(CHECKPOINT_FILE))?;
            sync_parent(&new)
        };
        write().map_err(BuildError::store("write", &new))?;
        self.written = writer.offset();
        Ok(())
    }

    /// Removes the checkpoint from a version that is whole. The files of the version are written and synced after this: a crash
    /// in between starts the work again from the beginning.
    pub(crate) fn remove(&self) -> Result<(), BuildError> {
        for name in [CHECKPOINT_FILE, UNFINISHED_FILE] {
            let path = self.directory.join(name);
            if path.exists() {
                files::remove_file(&path).map_err(BuildError::store("remove", &path))?;
            }
        }
        Ok(())
    }
}

fn encode<S: Serialize>(source: &S, writer: &VersionWriter) -> Vec<u8> {
    let source = serde_json::to_vec(source).expect("numbers and strings have a JSON form");
    let (header, words) = (writer.map_header(), writer.words());
    let mut map = header.encode_file();
    header.encode_flush(words, 1, 0, &mut map);
    let mut content = Vec::new();
    for part in [source, writer.sums().encode(), map] {
        content.extend_from_slice(&(part.len() as u64).to_le_bytes());
        content.extend_from_slice(&part);
    }
    let crc = crc32c::crc32c(&content);
    content.extend_from_slice(&u64::from(crc).to_le_bytes());
    content
}

/// What a checkpoint says is done.
pub(super) struct Done {
    pub(super) sums: Sums,
    pub(super) words: Vec<Word>,
}

/// The checkpoint in `directory`; `None` without a whole one of this source and version.
fn read<S: DeserializeOwned + PartialEq>(
    directory: &Path,
    source: &S,
    owner: &MapHeader,
) -> Option<Done> {
    let content = std::fs::read(directory.join(CHECKPOINT_FILE)).ok()?;
    let (mut rest, crc) = content.split_at_checked(content.len().checked_sub(FIELD_BYTES)?)?;
    if u64::from(crc32c::crc32c(rest)).to_le_bytes() != *crc {
        return None;
    }
    let mut part = || {
        let (length, tail) = rest.split_first_chunk::<FIELD_BYTES>()?;
        let (part, tail) =
            tail.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        rest = tail;
        Some(part)
    };
    let of: S = serde_json::from_slice(part()?).ok()?;
    let sums = Sums::decode(part()?).ok()?;
    let map = map_file::decode_map(part()?).ok()?;
    let same_version = map.header.owner == owner.owner && map.header.number == owner.number;
    (of == *source && same_version && map.header.size_bytes == sums.size_bytes).then_some(Done {
        sums,
        words: map.words,
    })
}

/// True if the checkpoint in `directory` could still be of use: it is younger than a week.
pub(crate) fn is_fresh(directory: &Path) -> bool {
    const WEEK_SECS: u64 = 7 * 24 * 3600;
    let changed = || -> io::Result<bool> {
        let changed = std::fs::metadata(directory.join(CHECKPOINT_FILE))?.modified()?;
        Ok(changed.elapsed().is_ok_and(|age| age.as_secs() < WEEK_SECS))
    };
    changed().unwrap_or(false)
}
