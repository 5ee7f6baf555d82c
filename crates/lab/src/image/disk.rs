//! A raw GPT disk that boots under BIOS and UEFI, made without loop devices.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::command;

/// What goes on a disk.
pub(super) struct Contents<'a> {
    /// Directory that becomes the root file system; holds `boot/vmlinuz` and `boot/initramfs`.
    pub(super) root: &'a Path,
    /// Label of the root file system.
    pub(super) label: &'a str,
    /// Size of the root partition in MiB.
    pub(super) root_mib: u64,
    /// Size of an empty ext4 partition after it in MiB; 0 = none.
    pub(super) data_mib: u64,
    /// Kernel command line.
    pub(super) command_line: &'a str,
}

const SECTOR_BYTES: u64 = 512;
const MIB: u64 = 1024 * 1024;
const MIB_SECTORS: u64 = MIB / SECTOR_BYTES;
/// First sector of the BIOS boot partition (1 MiB) that holds GRUB's core image.
const BIOS_START: u64 = MIB_SECTORS;
/// The EFI system partition: start in sectors, size in MiB.
const ESP_START: u64 = 2 * MIB_SECTORS;
const ESP_MIB: u64 = 8;
const ROOT_START: u64 = ESP_START + ESP_MIB * MIB_SECTORS;

/// Makes the disk at `path`; scratch files go beside it.
pub(super) fn make(path: &Path, contents: &Contents<'_>) -> anyhow::Result<()> {
    let scratch = tempfile::tempdir_in(path.parent().context("the disk has no directory")?)?;
    let data_start = ROOT_START + contents.root_mib * MIB_SECTORS;
    let end = data_start + contents.data_mib * MIB_SECTORS;
    // One MiB for the second GPT.
    let file = File::create(path)?;
    file.set_len(end * SECTOR_BYTES + MIB)?;
    partition(path, contents, data_start)?;
    ext4(path, ROOT_START, contents.root_mib, |mke2fs| {
        mke2fs.args(["-L", contents.label, "-d"]).arg(contents.root);
    })?;
    if contents.data_mib > 0 {
        ext4(path, data_start, contents.data_mib, |mke2fs| {
            mke2fs.args(["-L", "data"]);
        })?;
    }
    let config = scratch.path().join("grub.cfg");
    std::fs::write(
        &config,
        format!(
            "echo DESS-GRUB\nset root=(hd0,gpt3)\nlinux /boot/vmlinuz {}\ninitrd /boot/initramfs\nboot\n",
            contents.command_line
        ),
    )?;
    efi_system_partition(path, &config, scratch.path())?;
    bios_grub(&file, &config, scratch.path())?;
    file.sync_all()?;
    Ok(())
}

fn partition(path: &Path, contents: &Contents<'_>, data_start: u64) -> anyhow::Result<()> {
    let mut table = format!(
        "label: gpt\n\
         start={BIOS_START}, size={MIB_SECTORS}, type=21686148-6449-6E6F-744E-656564454649\n\
         start={ESP_START}, size={}, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\n\
         start={ROOT_START}, size={}, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4\n",
        ESP_MIB * MIB_SECTORS,
        contents.root_mib * MIB_SECTORS
    );
    if contents.data_mib > 0 {
        let size = contents.data_mib * MIB_SECTORS;
        table += &format!(
            "start={data_start}, size={size}, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4\n"
        );
    }
    let mut sfdisk = Command::new("sfdisk")
        .arg("--quiet")
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot run sfdisk")?;
    sfdisk
        .stdin
        .take()
        .context("sfdisk has no input")?
        .write_all(table.as_bytes())?;
    anyhow::ensure!(sfdisk.wait()?.success(), "sfdisk refused:\n{table}");
    Ok(())
}

fn ext4(
    path: &Path,
    start_sector: u64,
    size_mib: u64,
    more: impl FnOnce(&mut Command),
) -> anyhow::Result<()> {
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-b", "4096"]);
    mke2fs.args([
        "-E",
        &format!(
            "offset={},lazy_itable_init=0,lazy_journal_init=0",
            start_sector * SECTOR_BYTES
        ),
    ]);
    more(&mut mke2fs);
    mke2fs.arg(path).arg(format!("{}k", size_mib * 1024));
    command::output(&mut mke2fs)?;
    Ok(())
}

fn efi_system_partition(path: &Path, config: &Path, scratch: &Path) -> anyhow::Result<()> {
    let grub = scratch.join("bootx64.efi");
    grub_mkimage("x86_64-efi", &[], config, &grub)?;
    let file = path.to_str().context("the cache's path is not UTF-8")?;
    command::output(
        Command::new("mkfs.vfat")
            .args(["-F", "16", "-s", "2", "-n", "ESP"])
            .args(["--offset", &ESP_START.to_string(), file])
            .arg((ESP_MIB * 1024).to_string()),
    )?;
    let partition = format!("{file}@@{}", ESP_START * SECTOR_BYTES);
    command::run("mmd", ["-i", &partition, "::/EFI", "::/EFI/BOOT"])?;
    command::output(
        Command::new("mcopy")
            .args(["-i", &partition])
            .arg(&grub)
            .arg("::/EFI/BOOT/BOOTX64.EFI"),
    )?;
    Ok(())
}

/// Puts GRUB's boot sector and core image where `grub-bios-setup` would (it insists on a device):
/// the boot sector names the core's first sector, the core's first sector names the rest.
fn bios_grub(disk: &File, config: &Path, scratch: &Path) -> anyhow::Result<()> {
    const KERNEL_SECTOR: usize = 0x5c;
    const DRIVE_CHECK: usize = 0x66;
    const BOOT_CODE_BYTES: usize = 440;
    const BLOCK_LIST: usize = 0x1f4;
    const LOAD_SEGMENT: u16 = 0x820;

    let core_path = scratch.join("core.img");
    grub_mkimage("i386-pc", &["biosdisk"], config, &core_path)?;
    let mut core = std::fs::read(&core_path)?;
    let sectors = u64::try_from(core.len())?.div_ceil(SECTOR_BYTES);
    anyhow::ensure!(
        sectors <= MIB_SECTORS && core.len() > BLOCK_LIST + 12,
        "GRUB's core image has an odd size: {} bytes",
        core.len()
    );
    core[BLOCK_LIST..BLOCK_LIST + 8].copy_from_slice(&(BIOS_START + 1).to_le_bytes());
    core[BLOCK_LIST + 8..BLOCK_LIST + 10]
        .copy_from_slice(&u16::try_from(sectors - 1)?.to_le_bytes());
    core[BLOCK_LIST + 10..BLOCK_LIST + 12].copy_from_slice(&LOAD_SEGMENT.to_le_bytes());
    disk.write_all_at(&core, BIOS_START * SECTOR_BYTES)?;

    let mut boot = std::fs::read("/usr/lib/grub/i386-pc/boot.img")?;
    anyhow::ensure!(boot.len() == 512, "GRUB's boot.img is not one sector");
    boot[KERNEL_SECTOR..KERNEL_SECTOR + 8].copy_from_slice(&BIOS_START.to_le_bytes());
    boot[DRIVE_CHECK..DRIVE_CHECK + 2].copy_from_slice(&[0x90, 0x90]);
    // The rest of sector 0 is the protective MBR that sfdisk wrote.
    disk.write_all_at(&boot[..BOOT_CODE_BYTES], 0)?;
    Ok(())
}

fn grub_mkimage(
    format: &str,
    modules: &[&str],
    config: &Path,
    output: &Path,
) -> anyhow::Result<()> {
    command::output(
        Command::new("grub-mkimage")
            .args(["-O", format, "-p", "(hd0,gpt3)/boot/grub", "-c"])
            .arg(config)
            .arg("-o")
            .arg(output)
            .args(["part_gpt", "ext2", "linux", "echo"])
            .args(modules),
    )?;
    Ok(())
}
