//! Golden images, versions, overlays and their maps; import of raw and qcow2.

mod device;

pub use device::{BLOCK_BYTES, BlockDevice, BlockRead};
