//! The tiny image: Debian's kernel, a busybox initramfs, a small ext4 root.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::disk;
use crate::command;

const INIT: &str = include_str!("tiny/init.sh");

/// Drivers of the room's two cards, iSCSI by iBFT, and the root; their dependencies come along.
const MODULES: &[&str] = &[
    "e1000",
    "virtio_net",
    "virtio_pci",
    "iscsi_ibft",
    "iscsi_tcp",
    "sd_mod",
    "crc32c_generic",
    "ext4",
];

const COMMAND_LINE: &str = "console=ttyS0,115200 quiet loglevel=3 panic=10 \
    nokaslr mitigations=off nowatchdog cryptomgr.notests random.trust_cpu=on";

/// Everything the image depends on.
pub(super) fn key() -> anyhow::Result<String> {
    Ok([
        INIT,
        include_str!("tiny.rs"),
        include_str!("disk.rs"),
        &kernel_package()?,
        &installed_version("open-iscsi")?,
        &installed_version("busybox-static")?,
    ]
    .join("\n"))
}

/// Fills `directory` with `disk.raw`, `vmlinuz` and `initramfs`.
pub(super) fn make(directory: &Path) -> anyhow::Result<()> {
    let scratch = tempfile::tempdir_in(directory)?;
    let kernel = unpack_kernel(scratch.path())?;
    let initramfs = directory.join("initramfs");
    make_initramfs(&scratch.path().join("initramfs"), &kernel, &initramfs)?;
    let vmlinuz = directory.join("vmlinuz");
    std::fs::copy(kernel.image(), &vmlinuz)?;
    let root = scratch.path().join("root");
    std::fs::create_dir_all(root.join("boot"))?;
    std::fs::copy(&vmlinuz, root.join("boot/vmlinuz"))?;
    std::fs::copy(&initramfs, root.join("boot/initramfs"))?;
    disk::make(
        &directory.join("disk.raw"),
        &disk::Contents {
            root: &root,
            label: "tinyroot",
            root_mib: 48,
            data_mib: 0,
            command_line: COMMAND_LINE,
        },
    )
}

/// An unpacked Debian kernel package.
struct Kernel {
    tree: PathBuf,
    release: String,
}

impl Kernel {
    fn image(&self) -> PathBuf {
        self.tree.join(format!("boot/vmlinuz-{}", self.release))
    }

    /// Files of `module` and its dependencies, in load order.
    fn module_files(&self, module: &str) -> anyhow::Result<Vec<PathBuf>> {
        let lines = command::output(
            Command::new("modprobe")
                .arg("--dirname")
                .arg(&self.tree)
                .args(["--set-version", &self.release, "--show-depends", module]),
        )?;
        Ok(lines
            .lines()
            .filter_map(|line| line.strip_prefix("insmod "))
            .map(|path| PathBuf::from(path.trim()))
            .collect())
    }
}

fn unpack_kernel(scratch: &Path) -> anyhow::Result<Kernel> {
    let package = kernel_package()?;
    let (name, _version) = package.split_once('=').context("a package and version")?;
    let release = name.strip_prefix("linux-image-").context("a kernel")?;
    let downloads = scratch.join("downloads");
    std::fs::create_dir(&downloads)?;
    command::output(
        Command::new("apt-get")
            .args(["download", "-q", &package])
            .current_dir(&downloads),
    )?;
    let archive = std::fs::read_dir(&downloads)?
        .next()
        .context("apt-get downloaded nothing")??
        .path();
    let tree = scratch.join("kernel");
    command::output(
        Command::new("dpkg-deb")
            .arg("--extract")
            .arg(&archive)
            .arg(&tree),
    )?;
    command::output(Command::new("depmod").arg("-b").arg(&tree).arg(release))?;
    Ok(Kernel {
        tree,
        release: release.to_owned(),
    })
}

fn make_initramfs(tree: &Path, kernel: &Kernel, output: &Path) -> anyhow::Result<()> {
    for directory in ["bin", "modules", "etc", "run", "tmp"] {
        std::fs::create_dir_all(tree.join(directory))?;
    }
    let init = tree.join("init");
    std::fs::write(&init, INIT)?;
    std::fs::set_permissions(&init, std::fs::Permissions::from_mode(0o755))?;
    let busybox = which("busybox").context("busybox is missing (package busybox-static)")?;
    std::fs::copy(busybox, tree.join("bin/busybox"))?;
    symlink("busybox", tree.join("bin/sh"))?;
    copy_program(tree, "iscsistart")?;

    let mut order = Vec::new();
    for module in MODULES {
        for file in kernel.module_files(module)? {
            let name = file
                .file_name()
                .and_then(|name| name.to_str())
                .context("a module's file name")?
                .to_owned();
            if !order.contains(&name) {
                std::fs::copy(&file, tree.join("modules").join(&name))?;
                order.push(name);
            }
        }
    }
    std::fs::write(tree.join("modules/order"), order.join("\n") + "\n")?;
    // The legacy lz4 frame is the one the kernel reads; the fastest to unpack under emulation.
    command::output(
        Command::new("sh")
            .args([
                "-ec",
                "cd \"$1\"; find . | cpio -o -H newc --quiet -R 0:0 | lz4 -q -l -9 > \"$2\"",
                "sh",
            ])
            .arg(tree)
            .arg(output),
    )?;
    Ok(())
}

/// Copies a program of this machine and the shared libraries it loads.
fn copy_program(tree: &Path, program: &str) -> anyhow::Result<()> {
    let path = which(program).with_context(|| format!("{program} is missing"))?;
    std::fs::copy(&path, tree.join("bin").join(program))?;
    let libraries = command::output(Command::new("ldd").arg(&path))?;
    for library in libraries
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
    {
        let copy = tree.join(library.trim_start_matches('/'));
        std::fs::create_dir_all(copy.parent().context("a library's directory")?)?;
        std::fs::copy(library, &copy)?;
    }
    Ok(())
}

/// The kernel package that `linux-image-amd64` stands for today, as `name=version`.
fn kernel_package() -> anyhow::Result<String> {
    let found = command::run("apt-cache", ["depends", "linux-image-amd64"])?
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-"))
        .map(str::to_owned);
    let name = found.context("apt knows no linux-image-amd64; run apt-get update")?;
    let version = command::run("apt-cache", ["show", "--no-all-versions", &name])?
        .lines()
        .find_map(|line| line.strip_prefix("Version: "))
        .context("apt knows no version of the kernel")?
        .to_owned();
    Ok(format!("{name}={version}"))
}

fn installed_version(package: &str) -> anyhow::Result<String> {
    command::run("dpkg-query", ["--show", package])
}

fn which(program: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .map(|directory| Path::new(directory).join(program))
        .find(|path| path.exists())
}
