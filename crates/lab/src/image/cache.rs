//! The cache of made images: one directory per recipe and package versions, made once.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;

/// Where images are kept: `$XDG_CACHE_HOME/dess-lab`, else `lab-cache` in Cargo's target directory.
///
/// # Errors
/// When it cannot be made.
pub fn directory() -> anyhow::Result<PathBuf> {
    let directory = match (
        std::env::var_os("XDG_CACHE_HOME"),
        std::env::var_os("CARGO_TARGET_DIR"),
    ) {
        (Some(cache), _) => Path::new(&cache).join("dess-lab"),
        (None, Some(target)) => Path::new(&target).join("lab-cache"),
        (None, None) => Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../target")
            .join("lab-cache"),
    };
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make the image cache {directory:?}"))?;
    Ok(directory)
}

/// The directory of image `name` with this `key`; `make` fills it when it is not there yet.
///
/// Two processes may ask at once: the second waits. Older versions of the same image are removed.
pub(super) fn made(
    name: &str,
    key: &str,
    make: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let cache = directory()?;
    let wanted = cache.join(format!("{name}-{:016x}", fnv1a(key.as_bytes())));
    let lock = cache.join(format!("{name}.lock"));
    let lock = File::create(&lock).with_context(|| format!("cannot create {lock:?}"))?;
    lock.lock().context("cannot lock the image cache")?;
    if wanted.exists() {
        return Ok(wanted);
    }
    tracing::info!("making the {name} image (once)");
    let started = Instant::now();
    let work = tempfile::Builder::new()
        .prefix(&format!("{name}.making-"))
        .tempdir_in(&cache)?;
    make(work.path()).with_context(|| format!("cannot make the {name} image"))?;
    remove_older(&cache, name)?;
    std::fs::rename(work.keep(), &wanted)?;
    tracing::info!(
        duration_ms = started.elapsed().as_millis(),
        "made the {name} image"
    );
    Ok(wanted)
}

fn remove_older(cache: &Path, name: &str) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(cache)? {
        let path = entry?.path();
        let older = path
            .file_name()
            .and_then(|file| file.to_str()?.strip_prefix(name)?.strip_prefix('-'))
            .is_some_and(|key| key.len() == 16);
        if older {
            std::fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

/// FNV-1a, 64 bits: names a recipe, guards nothing.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
