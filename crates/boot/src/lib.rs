//! Client and policy to boot plan, architecture to boot file, iPXE script; the HTTP side of the boot service.

mod firmware;

#[cfg(feature = "server")]
pub mod files;

pub use firmware::{base_url, boot_file, script_url};
