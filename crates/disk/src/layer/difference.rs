//! How much differs between two versions of an image.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use dess_model::VersionRef;

use super::LayerError;
use crate::block_map::{BlockMap, WORD_BLOCKS, Word};
use crate::device::{BLOCK_BYTES, BlockRead};
use crate::version::{CHUNK_BYTES, Manifest, Version, read_map, version_directory};

/// What two versions do not have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Bytes that were written since their common ancestor, or that lie in chunks with different checksums.
    pub changed_bytes: u64,
    /// Unit in which they were counted: 4096 if the versions have a common layer, else 1 MiB.
    pub unit_bytes: u64,
}

/// Compares two versions of one image, or of two images of the same size. Reads maps and checksums, no data: a block that was
/// written counts, even if it was written with what it held.
///
/// # Errors
/// If one of them is damaged.
pub fn difference(
    images: &Path,
    one: VersionRef,
    other: VersionRef,
) -> Result<Difference, LayerError> {
    let chains = (chain(images, one)?, chain(images, other)?);
    let (of_one, of_other) = (by_number(&chains.0), by_number(&chains.1));
    let common = chains
        .0
        .iter()
        .find(|manifest| of_other.contains_key(&manifest.version));
    match common {
        Some(common) => {
            let size = common.size_bytes;
            let map = BlockMap::new(size);
            let apart = chains
                .0
                .iter()
                .filter(|layer| !of_other.contains_key(&layer.version))
                .chain(
                    chains
                        .1
                        .iter()
                        .filter(|layer| !of_one.contains_key(&layer.version)),
                );
            for layer in apart {
                let directory = version_directory(images, layer.version);
                let words =
                    read_map(&directory, layer).map_err(LayerError::version(layer.version))?;
                words.iter().for_each(|&word| {
                    map.join(word, false);
                });
            }
            Ok(Difference {
                changed_bytes: (map.held() * BLOCK_BYTES).min(size),
                unit_bytes: BLOCK_BYTES,
            })
        }
        None => by_checksums(images, one, other),
    }
}

/// Numbers of the MiB in which a layer holds a block that only one of both versions has; none are known without a common layer.
pub(crate) fn chunks_between(
    images: &Path,
    one: VersionRef,
    other: VersionRef,
) -> Result<BTreeSet<u64>, LayerError> {
    let chains = (chain(images, one)?, chain(images, other)?);
    let (of_one, of_other) = (by_number(&chains.0), by_number(&chains.1));
    let mut chunks = BTreeSet::new();
    if !chains
        .0
        .iter()
        .any(|layer| of_other.contains_key(&layer.version))
    {
        return Ok(chunks);
    }
    let only_one = chains
        .0
        .iter()
        .filter(|layer| !of_other.contains_key(&layer.version));
    let only_other = chains
        .1
        .iter()
        .filter(|layer| !of_one.contains_key(&layer.version));
    for layer in only_one.chain(only_other) {
        let directory = version_directory(images, layer.version);
        let words = read_map(&directory, layer).map_err(LayerError::version(layer.version))?;
        let chunk = |&(word, _): &Word| u64::from(word) * WORD_BLOCKS * BLOCK_BYTES / CHUNK_BYTES;
        chunks.extend(words.iter().map(chunk));
    }
    Ok(chunks)
}

fn by_checksums(
    images: &Path,
    one: VersionRef,
    other: VersionRef,
) -> Result<Difference, LayerError> {
    let open = |version| {
        let opened = Version::open(&version_directory(images, version));
        let opened = opened.map_err(LayerError::version(version))?;
        let sums = opened.sums().map_err(LayerError::version(version))?;
        Ok::<_, LayerError>((opened.size_bytes(), sums.chunks))
    };
    let ((one_size, one), (other_size, other)) = (open(one)?, open(other)?);
    let differ = one
        .iter()
        .zip(&other)
        .filter(|(one, other)| one != other)
        .count();
    let beyond = one.len().abs_diff(other.len());
    Ok(Difference {
        changed_bytes: ((differ + beyond) as u64 * CHUNK_BYTES).min(one_size.max(other_size)),
        unit_bytes: CHUNK_BYTES,
    })
}

/// The version and those below it, newest first.
fn chain(images: &Path, version: VersionRef) -> Result<Vec<Manifest>, LayerError> {
    let mut chain: Vec<Manifest> = Vec::new();
    let mut next = Some(version);
    while let Some(version) = next {
        let manifest = Manifest::read(&version_directory(images, version));
        let manifest = manifest.map_err(LayerError::version(version))?;
        next = manifest
            .parent
            .filter(|&number| number < version.number)
            .map(|number| VersionRef { number, ..version });
        chain.push(manifest);
    }
    Ok(chain)
}

fn by_number(chain: &[Manifest]) -> HashMap<VersionRef, &Manifest> {
    chain
        .iter()
        .map(|manifest| (manifest.version, manifest))
        .collect()
}
