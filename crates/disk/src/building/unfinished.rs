//! What crashes and cancellations leave of versions under construction.

use std::path::Path;
use std::str::FromStr;

use dess_model::{ImageId, VersionRef};

use super::{BuildError, DELETE_PREFIX, Purpose, checkpoint, entries, lock};
use crate::files;

/// Drops what a cancelled import or flattening of `version` keeps so that it could go on.
///
/// # Errors
/// If it cannot be removed.
pub fn discard_unfinished(images: &Path, version: VersionRef) -> Result<(), BuildError> {
    for purpose in Purpose::ALL {
        let path = purpose.directory(images, version);
        if path.exists() {
            remove_unlocked(&path)?;
        }
    }
    Ok(())
}

/// Removes what crashed imports, publications, flattenings and deletions have left, unless it could go on
/// (for a week); those that still run keep theirs. Returns how many were removed.
///
/// # Errors
/// If a directory cannot be read or removed.
pub fn clean_unfinished(images: &Path) -> Result<usize, BuildError> {
    let prefixes = Purpose::ALL.map(Purpose::prefix);
    let is_rubbish = |name: &str| {
        name.starts_with(DELETE_PREFIX) || prefixes.iter().any(|prefix| name.starts_with(prefix))
    };
    let mut removed = 0;
    for image in entries(images)? {
        let named = image.file_name().and_then(|name| name.to_str());
        if named.is_none_or(|name| ImageId::from_str(name).is_err()) {
            continue;
        }
        for version in entries(&image)? {
            let name = version.file_name().and_then(|name| name.to_str());
            if name.is_some_and(is_rubbish)
                && !checkpoint::is_fresh(&version)
                && remove_unlocked(&version)?
            {
                removed += 1;
            }
        }
    }
    Ok(removed)
}

/// Removes a directory, unless somebody works in it.
fn remove_unlocked(path: &Path) -> Result<bool, BuildError> {
    let held = lock(path).map_err(BuildError::store("lock", path))?;
    if held.is_none() {
        return Ok(false);
    }
    files::remove_dir_all(path).map_err(BuildError::store("remove", path))?;
    Ok(true)
}
