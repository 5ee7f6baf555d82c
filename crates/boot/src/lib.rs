//! Client and policy to boot plan, architecture to boot file, iPXE script; the HTTP side of the boot service.

mod failure;
mod firmware;
mod plan;
mod range;
mod script;

#[cfg(feature = "server")]
pub mod files;
#[cfg(feature = "server")]
pub mod server;

pub use failure::{Advice, FailureReport, ReportError, advice};
pub use firmware::{base_url, boot_file, script_url};
pub use plan::{Access, BootPlan, boot_plan, script_access};
pub use range::{ByteRange, byte_range};
pub use script::{Screen, boot_script, report_script, screen_script};
