//! Client and policy to boot plan, architecture to boot file, iPXE script; the HTTP side of the boot service.

mod firmware;

pub use firmware::{base_url, boot_file, script_url};
