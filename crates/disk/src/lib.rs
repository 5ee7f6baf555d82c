//! Golden images, versions, overlays and their maps; import and export of disk images.
//!
//! - [`Version`] is one published state of an image. It implements only [`BlockRead`], so writing to one does not compile;
//!   one open version serves all its clients.
//! - [`Disk`] is what an initiator sees: an overlay on a version. It implements [`BlockDevice`].
//! - [`DiskStore`] makes, opens, rotates and resets disks; the iSCSI service owns the only one.
//! - [`import()`] makes versions, [`export()`] writes them as disk images of other programs.
//! - [`publish()`] makes a version of what a maintenance client wrote, [`flatten()`] makes one whole.
//! - [`RawDisk`] and [`RawOverlay`] are one raw file without a store.
//!
//! The layout of every file is in `docs/format/`.

pub mod backup;
mod block_map;
mod building;
pub mod check;
mod data_file;
mod device;
mod disk;
mod error;
pub mod export;
mod files;
pub mod format;
#[cfg(test)]
mod full_disk;
pub mod import;
mod layer;
mod map_file;
mod note;
pub mod overlay;
#[cfg(test)]
mod power_cut;
mod profile;
mod progress;
mod raw;
mod read_only;
mod space;
mod store;
#[cfg(test)]
mod testing;
mod version;

pub use building::{BuildError, clean_unfinished, discard_unfinished};
pub use device::{BLOCK_BYTES, BlockDevice, BlockRead};
pub use disk::{Disk, DiskFigures};
pub use error::{DiskError, ExportError, ImportError, RawError, VersionError};
pub use export::{ExportFormat, ExportTarget, export};
pub use format::ImageFormat;
pub use import::{
    DiskLint, DriverStart, Finding, ImportRequest, ImportSource, NetworkDriver, PartitionTable,
    WindowsSeen, import,
};
pub use layer::{
    Difference, LayerError, PublishRequest, difference, flatten, publish, remove_version,
};
pub use map_file::{MapContent, MapDecodeError, MapEnd, MapHeader, MapKind, decode_map};
pub use note::Note;
pub use overlay::{BootId, OverlayDescriptor, OverlayKind};
pub use profile::{BootProfile, PROFILE_UNIT_BYTES, PROFILE_UNITS_MAX, ProfileDecodeError};
pub use progress::Progress;
pub use raw::{RawDisk, RawOverlay};
pub use read_only::ReadOnlyDisk;
pub use space::pool_figures;
pub use store::{
    DiskInfo, DiskSpec, DiskStore, DiskUsage, ListedDisk, OverlayFill, PoweredDisk, SealedOverlay,
    SnapshotInfo, SpaceUsage, StoreOptions, StorePaths, VersionUsage, overlays_in_use,
    sealed_directory, snapshot_directory, space_usage,
};
pub use version::{
    DISK_BYTES_MAX, LAYERS_MAX, MANIFEST_FORMAT, Manifest, OverlaySource, SourceInfo, Sums,
    SumsDecodeError, Version, version_directory, version_numbers,
};
