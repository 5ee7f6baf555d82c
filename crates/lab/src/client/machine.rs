//! The QEMU command line of each firmware.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::{ClientOptions, Firmware};
use crate::accel;
use crate::room::Inner;

/// Debian's OVMF: code, and the blank variable store that each client gets a fresh copy of.
const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const OVMF_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// The two directions of a client's serial line, as FIFOs.
pub(crate) struct Line {
    /// What QEMU takes for the path of both.
    path: PathBuf,
    /// To the client.
    pub(crate) input: PathBuf,
    /// From the client.
    pub(crate) output: PathBuf,
}

impl Line {
    fn create(path: PathBuf) -> anyhow::Result<Self> {
        let line = Self {
            input: path.with_added_extension("in"),
            output: path.with_added_extension("out"),
            path,
        };
        for fifo in [&line.input, &line.output] {
            mkfifo(fifo, Mode::S_IRUSR | Mode::S_IWUSR)
                .with_context(|| format!("cannot make {fifo:?}"))?;
        }
        Ok(line)
    }
}

/// Files of one client in the room's directory.
pub(crate) struct Files {
    pub(crate) serial: Line,
    pub(crate) serial_log: PathBuf,
    pub(crate) monitor: PathBuf,
    variables: Option<PathBuf>,
}

impl Files {
    pub(crate) fn prepare(room: &Inner, options: &ClientOptions) -> anyhow::Result<Self> {
        let variables = match options.firmware {
            Firmware::Bios => None,
            Firmware::UefiRom | Firmware::UefiPxe | Firmware::UefiHttp | Firmware::UefiIscsi => {
                let copy = room.new_file(&options.name, "vars");
                std::fs::copy(OVMF_VARS, &copy)
                    .with_context(|| format!("cannot copy {OVMF_VARS} (package ovmf)"))?;
                Some(copy)
            }
        };
        Ok(Self {
            serial: Line::create(room.new_file(&options.name, "serial"))?,
            serial_log: room.new_file(&options.name, "console"),
            monitor: room.new_file(&options.name, "monitor"),
            variables,
        })
    }
}

/// Adds the arguments that make `qemu` the client of `options` on `tap`.
pub(crate) fn arguments(
    qemu: &mut Command,
    options: &ClientOptions,
    tap: &str,
    files: &Files,
) -> anyhow::Result<()> {
    qemu.args(["-nodefaults", "-display", "none", "-vga", "std"]);
    qemu.args(accel::chosen()?.arguments());
    qemu.args(["-m", &options.memory_mb.to_string()]);
    // Every PC has a UUID of its own (DHCP option 97).
    let tail = options.mac.replace(':', "");
    qemu.args(["-uuid", &format!("5e55d15c-0000-4000-8000-{tail}")]);
    // No power before somebody reads the serial line.
    qemu.arg("-S");
    let line = utf8(&files.serial.path)?;
    qemu.args(["-chardev", &format!("pipe,id=serial,path={line}")]);
    qemu.args(["-serial", "chardev:serial"]);
    let monitor = utf8(&files.monitor)?;
    qemu.args([
        "-chardev",
        &format!("socket,id=monitor,path={monitor},server=on,wait=off"),
    ]);
    qemu.args(["-mon", "chardev=monitor,mode=readline"]);
    qemu.args([
        "-netdev",
        &format!("tap,id=net0,ifname={tap},script=no,downscript=no"),
    ]);
    let card = |model: &str| {
        format!(
            "{model},id=card0,netdev=net0,mac={},bootindex=1",
            options.mac
        )
    };
    match options.firmware {
        Firmware::Bios => {
            // graphics=off makes SeaBIOS mirror its text to the serial line.
            qemu.args(["-machine", "pc,graphics=off", "-boot", "n"]);
            qemu.args(["-device", &card("e1000")]);
        }
        Firmware::UefiRom => {
            qemu.args(["-machine", "q35", "-device", &card("e1000")]);
        }
        Firmware::UefiPxe => {
            // No ROM: the firmware's own virtio and PXE drivers.
            qemu.args(["-machine", "q35", "-device"]);
            qemu.arg(card("virtio-net-pci,romfile="));
            qemu.args(["-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n"]);
        }
        Firmware::UefiHttp | Firmware::UefiIscsi => {
            qemu.args(["-machine", "q35", "-device"]);
            qemu.arg(card("virtio-net-pci,romfile="));
            qemu.args(["-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n"]);
            qemu.args(["-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n"]);
        }
    }
    if options.firmware == Firmware::UefiIscsi {
        // Else OVMF waits for no key.
        qemu.args(["-boot", "menu=on,splash-time=30000"]);
    }
    if let Some(variables) = &files.variables {
        let code = format!("if=pflash,format=raw,readonly=on,file={OVMF_CODE}");
        qemu.args(["-drive", &code]);
        let variables = utf8(variables)?;
        qemu.args(["-drive", &format!("if=pflash,format=raw,file={variables}")]);
    }
    Ok(())
}

fn utf8(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("the room's path is not UTF-8")
}
