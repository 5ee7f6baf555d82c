//! Export: writes a version as a disk image of another program.

mod blocks;
mod chunks;
mod output;
mod qcow2;
mod qcow2_packed;
mod vhd;
mod vhdx;
mod vmdk;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::ExportError;
use crate::progress::{Progress, Throttle};
use crate::{BlockRead, Version};
use chunks::Chunks;
pub use output::ExportTarget;
use output::Output;

/// Format of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// The bytes of the disk; zeros are holes in a file.
    Raw,
    /// QEMU's format, version 3.
    Qcow2,
    /// The same with compressed clusters (deflate); only to a file.
    Qcow2Compressed,
    /// Hyper-V's older format, dynamic; up to 2040 GiB.
    Vhd,
    /// Hyper-V's format, dynamic; up to 64 TiB.
    Vhdx,
    /// VMware's format, stream-optimised.
    Vmdk,
}

impl ExportFormat {
    /// All of them, with their names.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Raw, "raw"),
        (Self::Qcow2, "qcow2"),
        (Self::Qcow2Compressed, "qcow2-compressed"),
        (Self::Vhd, "vhd"),
        (Self::Vhdx, "vhdx"),
        (Self::Vmdk, "vmdk"),
    ];

    /// The format that a file of this name has, by its extension; raw if that says nothing.
    pub fn of_name(path: &Path) -> Self {
        let extension = path.extension().and_then(|extension| extension.to_str());
        match extension.unwrap_or_default() {
            "qcow2" => Self::Qcow2,
            "vhd" | "vpc" => Self::Vhd,
            "vhdx" => Self::Vhdx,
            "vmdk" => Self::Vmdk,
            _ => Self::Raw,
        }
    }
}

impl FromStr for ExportFormat {
    type Err = ExportError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.iter().find(|(_, known)| *known == name);
        found
            .map(|(format, _)| *format)
            .ok_or_else(|| ExportError::refused(format!("there is no format {name}")))
    }
}

/// Writes a version's disk as an image. A file appears under its name when it is whole and synced; after an error or a cancellation
/// there is none. Returns the bytes written (holes of a file included).
///
/// `progress` is called at most about ten times a second; `cancelled` is asked once per MiB. May take minutes: call it from a thread
/// that may wait.
///
/// # Errors
/// If the version cannot be read, the target exists or cannot be written, the format cannot hold the disk or cannot be written to a
/// stream, or `cancelled` said so.
pub fn export(
    version: &Version,
    format: ExportFormat,
    target: ExportTarget<'_>,
    progress: &mut dyn FnMut(Progress),
    cancelled: &dyn Fn() -> bool,
) -> Result<u64, ExportError> {
    let mut output = Output::open(target)?;
    let throttle = Throttle::new(progress, version.size_bytes());
    let mut chunks = Chunks {
        version,
        throttle,
        cancelled,
    };
    match format {
        ExportFormat::Raw => write_raw(&mut chunks, &mut output),
        ExportFormat::Qcow2 => qcow2::write(&mut chunks, &mut output),
        ExportFormat::Qcow2Compressed => qcow2_packed::write(&mut chunks, &mut output),
        ExportFormat::Vhd => vhd::write(&mut chunks, &mut output),
        ExportFormat::Vhdx => vhdx::write(&mut chunks, &mut output),
        ExportFormat::Vmdk => vmdk::write(&mut chunks, &mut output),
    }?;
    let written = output.finish()?;
    chunks.throttle.finish();
    Ok(written)
}

fn write_raw(chunks: &mut Chunks<'_>, output: &mut Output<'_>) -> Result<(), ExportError> {
    chunks.each_plain(&mut |_, length, bytes| match bytes {
        Some(bytes) => output.write_sparse(bytes),
        None => output.skip(length),
    })
}

/// The name under which a file is written until it is whole.
fn unfinished_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".unfinished");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests;
