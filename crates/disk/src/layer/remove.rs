//! Removes a version.

use std::io;
use std::path::Path;

use dess_model::VersionRef;
use tracing::info;

use super::LayerError;
use crate::building::{BuildError, DELETE_PREFIX};
use crate::files::{self, sync_parent};
use crate::version::version_directory;

/// Removes a version that nobody needs any more; the caller knows that. Done already: does nothing.
///
/// Order: rename, sync, remove. A crash after the rename leaves what [`clean_unfinished`](crate::clean_unfinished) removes.
///
/// # Errors
/// If the store cannot be written.
pub fn remove_version(images: &Path, version: VersionRef) -> Result<(), LayerError> {
    let path = version_directory(images, version);
    let doomed = path.with_file_name(format!("{DELETE_PREFIX}{}", version.number));
    remove_tree(&doomed)?;
    match files::rename(&path, &doomed) {
        Ok(()) => {}
        // Who renamed it may have died before that was durable.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match path.parent().is_some_and(Path::exists) {
                true => Ok(sync_parent(&path).map_err(BuildError::store("sync", &path))?),
                false => Ok(()),
            };
        }
        Err(error) => return Err(BuildError::store("rename", &path)(error).into()),
    }
    sync_parent(&path).map_err(BuildError::store("sync", &path))?;
    remove_tree(&doomed)?;
    info!(%version, "removed version {version}");
    Ok(())
}

fn remove_tree(path: &Path) -> Result<(), BuildError> {
    match files::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(BuildError::store("remove", path)(error))
        }
        _ => Ok(()),
    }
}
