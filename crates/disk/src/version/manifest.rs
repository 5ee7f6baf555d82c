//! What a version is (`docs/format/version.md`).

use std::fs;
use std::path::Path;

use dess_model::{DiskId, LayerId, Timestamp, VersionRef};
use serde::{Deserialize, Serialize};

use super::{DISK_BYTES_MAX, MANIFEST_FILE};
use crate::error::VersionError;
use crate::format::ImageFormat;
use crate::import::DiskLint;
use crate::map_file::{MapHeader, MapKind};

/// Layout of a version that this build writes and reads.
pub const MANIFEST_FORMAT: u32 = 1;

/// Content of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MANIFEST_FORMAT`] of the writer.
    pub format: u32,
    /// Which version this is.
    pub version: VersionRef,
    /// Number of the version below, `None` for a base layer.
    pub parent: Option<u32>,
    /// Size of the disk in bytes, multiple of 512.
    pub size_bytes: u64,
    /// Blocks of 4096 bytes that this layer holds.
    pub data_blocks: u64,
    /// When it was made.
    pub created: Timestamp,
    /// What it was imported from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceInfo>,
    /// What it was published from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<OverlaySource>,
    /// For people.
    pub comment: String,
    /// Who made it, e.g. `cli:root`; empty if that is not known.
    #[serde(default)]
    pub author: String,
    /// CRC32C of the whole disk.
    pub image_crc32c: u32,
    /// CRC32C of the file `map`.
    pub map_crc32c: u32,
    /// CRC32C of the file `sums`.
    pub sums_crc32c: u32,
    /// What was seen of the disk when it was imported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lint: Option<DiskLint>,
}

/// Where a version came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceInfo {
    /// File name without directory.
    pub name: String,
    /// Its format.
    pub format: ImageFormat,
    /// Size of the file in bytes.
    pub file_bytes: u64,
}

/// The overlay of which a version was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlaySource {
    /// Whose.
    pub disk: DiskId,
    /// Its name for ever.
    pub layer: LayerId,
}

impl Manifest {
    /// Reads the manifest of the version in `directory`.
    ///
    /// # Errors
    /// If it is missing, damaged or of another release.
    pub fn read(directory: &Path) -> Result<Self, VersionError> {
        #[derive(Deserialize)]
        struct Header {
            format: u32,
        }
        let path = directory.join(MANIFEST_FILE);
        let text = fs::read(&path).map_err(VersionError::read(&path))?;
        let damaged = |error: serde_json::Error| VersionError::damaged(&path, error.to_string());
        let header: Header = serde_json::from_slice(&text).map_err(damaged)?;
        if header.format != MANIFEST_FORMAT {
            let reason = format!(
                "it has format {}; this release reads format {MANIFEST_FORMAT}",
                header.format
            );
            return Err(VersionError::damaged(&path, reason));
        }
        let manifest: Self = serde_json::from_slice(&text).map_err(damaged)?;
        let size = manifest.size_bytes;
        if size == 0 || !size.is_multiple_of(512) || size > DISK_BYTES_MAX {
            let reason = format!("a disk cannot have {size} bytes");
            return Err(VersionError::damaged(&path, reason));
        }
        Ok(manifest)
    }

    /// By what images that are made of this version are told from others, for instance by their differencing children.
    pub(crate) fn identity(&self) -> [u8; 16] {
        let mut identity = *self.version.image.0.as_bytes();
        for (byte, number) in identity.iter_mut().zip(self.version.number.to_be_bytes()) {
            *byte ^= number;
        }
        identity
    }

    pub(crate) fn map_header(&self) -> MapHeader {
        MapHeader {
            kind: MapKind::Version,
            owner: *self.version.image.0.as_bytes(),
            number: u64::from(self.version.number),
            size_bytes: self.size_bytes,
            boot_id: [0; 16],
        }
    }
}
