//! Boot images that the lab makes itself, kept in a cache.

mod cache;
mod debian;
mod disk;
mod tiny;

use std::path::PathBuf;

pub use cache::directory as cache_directory;

/// Number of the partition with the root file system.
pub const ROOT_PARTITION: usize = 3;
/// Number of the Debian image's data partition.
pub const DATA_PARTITION: usize = 4;

/// The tiny image's console line when it runs; ` boots=<n>` follows.
pub const TINY_UP: &str = "DESS-TINY-UP";
/// The Debian image's console line when multi-user.target is reached; ` boots=<n>` follows.
pub const DEBIAN_UP: &str = "DESS-DEBIAN-UP";
/// What the tiny initramfs prints, and then stops, when started with `dess.trial`.
pub(crate) const TRIAL_MARKER: &str = "DESS-TRIAL-UP";

/// A raw disk image that boots under BIOS and UEFI.
///
/// GPT: 1 BIOS boot (GRUB), 2 EFI system, 3 ext4 root, 4 ext4 data (Debian only).
/// Its programs answer on the serial console ([`crate::Client::run`]).
#[derive(Debug, Clone)]
pub struct Image {
    /// The image's file; read only, shared by every user of the cache.
    pub path: PathBuf,
    /// Console text that tells that the system is up.
    pub marker: &'static str,
}

/// Debian's kernel and a busybox initramfs that mounts a small root from the iSCSI disk named by
/// the iBFT; made on first use (about 20 s), up seconds after GRUB.
///
/// # Errors
/// When a tool or package is missing.
pub fn tiny() -> anyhow::Result<Image> {
    Ok(Image {
        path: cache::made("tiny", &tiny::key()?, tiny::make)?.join("disk.raw"),
        marker: TINY_UP,
    })
}

/// Debian 12 with systemd and open-iscsi, root on iSCSI; made on first use (about two minutes).
///
/// # Errors
/// When a tool is missing or the machine's Debian mirror does not answer.
pub fn debian() -> anyhow::Result<Image> {
    Ok(Image {
        path: cache::made("debian", &debian::key()?, debian::make)?.join("disk.raw"),
        marker: DEBIAN_UP,
    })
}

/// Kernel and initramfs of the tiny image, for guests started without a boot loader.
pub(crate) fn tiny_kernel() -> anyhow::Result<(PathBuf, PathBuf)> {
    let directory = cache::made("tiny", &tiny::key()?, tiny::make)?;
    Ok((directory.join("vmlinuz"), directory.join("initramfs")))
}
