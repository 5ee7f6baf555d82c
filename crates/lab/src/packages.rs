//! The Debian packages that the lab and the tests with real peers need.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::command;

/// (a file that proves the package is there, the package).
const NEEDED: &[(&str, &str)] = &[
    ("/usr/bin/qemu-system-x86_64", "qemu-system-x86"),
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "ovmf"),
    ("/usr/lib/ipxe/snponly.efi", "ipxe"),
    ("/usr/lib/ipxe/qemu/efi-e1000.rom", "ipxe-qemu"),
    ("/usr/sbin/ip", "iproute2"),
    ("/usr/sbin/debootstrap", "debootstrap"),
    ("/usr/sbin/iscsistart", "open-iscsi"),
    ("/usr/bin/busybox", "busybox-static"),
    ("/usr/bin/mcopy", "mtools"),
    ("/usr/sbin/mkfs.vfat", "dosfstools"),
    ("/usr/sbin/mke2fs", "e2fsprogs"),
    ("/usr/sbin/sfdisk", "fdisk"),
    ("/usr/bin/cpio", "cpio"),
    ("/usr/bin/lz4", "lz4"),
    ("/usr/sbin/depmod", "kmod"),
    ("/usr/lib/grub/i386-pc/boot.img", "grub-pc-bin"),
    ("/usr/lib/grub/x86_64-efi/kernel.img", "grub-efi-amd64-bin"),
    ("/usr/bin/grub-mkimage", "grub-common"),
    ("/usr/sbin/dnsmasq", "dnsmasq-base"),
    ("/usr/sbin/dhclient", "isc-dhcp-client"),
    ("/usr/sbin/udhcpc", "udhcpc"),
    ("/usr/bin/iscsi-inq", "libiscsi-bin"),
    ("/usr/bin/qemu-img", "qemu-utils"),
    (
        "/usr/lib/x86_64-linux-gnu/qemu/block-iscsi.so",
        "qemu-block-extra",
    ),
    ("/usr/bin/ntfs-3g", "ntfs-3g"),
    ("/usr/bin/hivexregedit", "libwin-hivex-perl"),
    ("/usr/bin/zstd", "zstd"),
    ("/usr/bin/fio", "fio"),
    ("/usr/bin/tftp", "tftp-hpa"),
    ("/usr/bin/atftp", "atftp"),
    // The names of ports, which atftp asks for.
    ("/etc/services", "netbase"),
    ("/usr/bin/curl", "curl"),
    ("/usr/bin/systemd-analyze", "systemd"),
    ("/usr/bin/iscsi-test-cu", "libiscsi-bin"),
    ("/usr/sbin/perfdhcp", "kea-admin"),
    ("/usr/bin/c++", "g++"),
    ("/usr/sbin/mariadbd", "mariadb-server"),
    ("/usr/bin/mariadb", "mariadb-client"),
    ("/usr/bin/rsync", "rsync"),
    ("/usr/bin/lsof", "lsof"),
    // The file that `python3 -m venv` misses without the package.
    ("/usr/share/doc/python3-venv/copyright", "python3-venv"),
    ("/usr/bin/chromium", "chromium"),
    ("/usr/bin/chromedriver", "chromium-driver"),
];

/// Packages that the lab needs and that are not installed.
pub fn missing() -> Vec<&'static str> {
    NEEDED
        .iter()
        .filter(|(file, _)| !is_there(file))
        .map(|(_, package)| *package)
        .collect()
}

/// Installs what the lab needs and is missing; does nothing, at once, when all is there.
///
/// # Errors
/// When packages are missing and there is neither root nor `sudo`, or apt-get fails.
pub fn ensure() -> anyhow::Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    tracing::info!("installing {list}");
    apt_get(&["update", "-q"])?;
    let mut install = vec!["install", "-q", "-y", "--no-install-recommends"];
    install.extend(&missing);
    apt_get(&install)?;
    let still = self::missing();
    anyhow::ensure!(
        still.is_empty(),
        "apt-get installed {list}, but these packages do not hold what the lab expects: {}",
        still.join(" ")
    );
    Ok(())
}

fn apt_get(args: &[&str]) -> anyhow::Result<()> {
    let root = nix::unistd::geteuid().is_root();
    anyhow::ensure!(
        root || is_there("/usr/bin/sudo"),
        "missing packages, and this is neither root nor is there sudo; as root, run: apt-get {}",
        args.join(" ")
    );
    let mut command = Command::new(if root { "env" } else { "sudo" });
    if !root {
        command.arg("env");
    }
    command
        .arg("DEBIAN_FRONTEND=noninteractive")
        .args(["apt-get", "-o", "DPkg::Lock::Timeout=300"])
        .args(args);
    command::output(&mut command).context("cannot install what the virtual room needs")?;
    Ok(())
}

/// /usr-merged and older layouts alike.
fn is_there(file: &str) -> bool {
    let path = Path::new(file);
    let sibling = |from: &str, to: &str| Path::new(&file.replacen(from, to, 1)).exists();
    path.exists()
        || sibling("/usr/sbin/", "/usr/bin/")
        || sibling("/usr/sbin/", "/sbin/")
        || sibling("/usr/bin/", "/usr/sbin/")
        || sibling("/usr/bin/", "/bin/")
}
