//! A directory of archives, one file each.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use dess_model::VersionRef;

use super::{BackupError, BackupRequest, backup_version, read_header};
use crate::files::{self, StoreFile};
use crate::progress::Progress;
use crate::version::{Manifest, version_directory, version_numbers};

const EXTENSION: &str = "dessbak";
const BUFFER_BYTES: usize = 1 << 20;

/// Name of the archive of a version.
pub fn backup_file_name(image_name: &str, number: u32) -> String {
    format!("{image_name}-{number}.{EXTENSION}")
}

/// Writes the archive of a version into a directory, where it is there as a whole or not at all. Unless the request says something
/// else, and unless `full`, it holds what differs from the newest version below that has an archive there. Answers its path and length in bytes.
///
/// # Errors
/// As [`backup_version`]; or if the directory cannot be written.
pub fn backup_to_directory(
    directory: &Path,
    request: &BackupRequest,
    full: bool,
    progress: &mut dyn FnMut(Progress),
    cancelled: &dyn Fn() -> bool,
) -> Result<(PathBuf, u64), BackupError> {
    let mut request = request.clone();
    if request.since.is_none() && !full {
        request.since = newest_below(directory, &request);
    }
    let name = backup_file_name(&request.image_name, request.version.number);
    let path = directory.join(&name);
    let unfinished = Unfinished(directory.join(format!(".{name}.part")));
    files::create_dir_all(directory).map_err(file("create", directory))?;
    let file_error = |action| file(action, &unfinished.0);
    let target = StoreFile::create(&unfinished.0).map_err(file_error("create"))?;
    let mut out = BufWriter::with_capacity(
        BUFFER_BYTES,
        Appending {
            file: &target,
            end: 0,
        },
    );
    let written = backup_version(&request, &mut out, progress, cancelled)?;
    out.flush().map_err(BackupError::Write)?;
    drop(out);
    target.sync_all().map_err(file_error("sync"))?;
    files::rename(&unfinished.0, &path).map_err(file_error("rename"))?;
    files::sync_dir(directory).map_err(file("sync", directory))?;
    Ok((path, written))
}

/// The newest version below that is in the store with the content that its archive in the directory holds.
fn newest_below(directory: &Path, request: &BackupRequest) -> Option<VersionRef> {
    let VersionRef { image, number } = request.version;
    let numbers = version_numbers(&request.images, image).ok()?;
    let is_there = |&version: &VersionRef| {
        let path = directory.join(backup_file_name(&request.image_name, version.number));
        let header = fs::File::open(path)
            .ok()
            .and_then(|mut file| read_header(&mut file).ok());
        let stored = Manifest::read(&version_directory(&request.images, version)).ok();
        header
            .and_then(|header| header.manifest)
            .zip(stored)
            .is_some_and(|(kept, stored)| {
                kept.version == version && kept.image_crc32c == stored.image_crc32c
            })
    };
    numbers
        .into_iter()
        .rev()
        .filter(|&below| below < number)
        .map(|number| VersionRef { image, number })
        .find(is_there)
}

fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError + use<> {
    let path = path.to_owned();
    move |source| BackupError::File {
        action,
        path,
        source,
    }
}

/// Removed unless it was renamed.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.0.exists() {
            // What stays is no archive by its name, and the next backup replaces it.
            let _ = files::remove_file(&self.0);
        }
    }
}

struct Appending<'a> {
    file: &'a StoreFile,
    end: u64,
}

impl Write for Appending<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all_at(bytes, self.end)?;
        self.end += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
