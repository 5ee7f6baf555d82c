//! What an overlay is (`docs/format/overlay.md`): `overlay.json`, written once.

use std::fs;
use std::path::Path;

use dess_model::{DiskId, LayerId, VersionRef};
use serde::{Deserialize, Serialize};

use super::BootId;
use crate::error::DiskError;
use crate::map_file::{MapHeader, MapKind};

pub(crate) const DESCRIPTOR_FILE: &str = "overlay.json";
const FORMAT: u32 = 1;
const CRC_PREFIX: &str = "crc32c:";

/// How long an overlay lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OverlayKind {
    /// Until the next power-on.
    Volatile,
    /// Until a reset.
    Persistent,
    /// Until it is published or discarded.
    Maintenance,
}

impl OverlayKind {
    /// True if its flushed writes survive a power cut.
    pub fn is_durable(self) -> bool {
        match self {
            Self::Volatile => false,
            Self::Persistent | Self::Maintenance => true,
        }
    }
}

/// Content of `overlay.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayDescriptor {
    /// Layout.
    pub format: u32,
    /// Whose.
    pub disk: DiskId,
    /// Counts the overlays of the disk, from 1.
    pub generation: u64,
    /// How long it lives.
    pub kind: OverlayKind,
    /// Version below it.
    pub base: VersionRef,
    /// `image_crc32c` of that version.
    pub base_crc32c: u32,
    /// Size of the disk in bytes.
    pub size_bytes: u64,
    /// Epoch of the disk when it was made.
    pub reset_epoch: u32,
    /// Kernel boot in which it was made.
    pub boot_id: BootId,
    /// Maintenance overlays only: names it for ever, also in the version that is made of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<LayerId>,
}

impl OverlayDescriptor {
    pub(crate) const FORMAT: u32 = FORMAT;

    /// The file's text.
    pub(crate) fn encode(&self) -> String {
        let json = serde_json::to_string(self)
            .expect("a struct of numbers, strings and unit enums has a JSON form");
        let crc = crc32c::crc32c(json.as_bytes());
        format!("{json}\n{CRC_PREFIX}{crc:08x}\n")
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn decode(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Header {
            format: u32,
        }
        let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
        let mut lines = text.lines();
        let json = lines.next().unwrap_or_default();
        let crc = lines
            .next()
            .and_then(|line| line.strip_prefix(CRC_PREFIX))
            .and_then(|hex| u32::from_str_radix(hex, 16).ok())
            .ok_or("it is cut off")?;
        if crc != crc32c::crc32c(json.as_bytes()) {
            return Err("wrong checksum".to_owned());
        }
        let header: Header = serde_json::from_str(json).map_err(|error| error.to_string())?;
        if header.format != FORMAT {
            return Err(format!(
                "it has format {}; this release reads format {FORMAT}",
                header.format
            ));
        }
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    pub(crate) fn read(directory: &Path) -> Result<Self, DiskError> {
        let path = directory.join(DESCRIPTOR_FILE);
        let text = fs::read(&path).map_err(DiskError::store("read", &path))?;
        Self::decode(&text).map_err(|reason| DiskError::damaged(&path, reason))
    }

    pub(crate) fn map_header(&self, kind: MapKind) -> MapHeader {
        MapHeader {
            kind,
            owner: *self.disk.0.as_bytes(),
            number: self.generation,
            size_bytes: self.size_bytes,
            boot_id: match kind {
                MapKind::Live => self.boot_id.0,
                MapKind::Version | MapKind::Overlay => [0; 16],
            },
        }
    }
}
