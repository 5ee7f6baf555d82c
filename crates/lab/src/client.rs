//! QEMU clients: un-modified machines without a disk, their serial console and their monitor.

mod console;
mod machine;
mod monitor;
mod setup;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::namespace::Namespace;
use crate::process::Process;
use crate::room::Inner;
use crate::{png, wait};
use console::Console;
pub use console::Seen;
use monitor::Monitor;
pub use setup::Setup;

/// Which firmware powers the client on, and so how it meets the server first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS with the e1000 card's iPXE ROM (already speaks iPXE).
    Bios,
    /// OVMF with the e1000 card's iPXE EFI ROM (already speaks iPXE).
    UefiRom,
    /// OVMF's own PXE on a virtio card: fetches an EFI boot file by TFTP.
    UefiPxe,
    /// OVMF's own HTTP Boot on a virtio card: fetches an EFI boot file by HTTP.
    UefiHttp,
    /// OVMF's own iSCSI initiator on a virtio card, without PXE; it boots nothing until its
    /// settings are typed in ([`Client::enter_setup`]) and the disk is chosen there.
    UefiIscsi,
}

/// One client.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Short name; its files in the room's directory start with it.
    pub name: String,
    /// Firmware and card.
    pub firmware: Firmware,
    /// Main memory in MiB; the tiny image needs 192 (BIOS) or 256 (UEFI), Debian 384.
    pub memory_mb: u32,
    /// MAC address, `52:54:00:xx:xx:xx`.
    pub mac: String,
}

impl ClientOptions {
    /// A client with 384 MiB, enough for every image.
    pub fn new(name: &str, firmware: Firmware, mac: &str) -> Self {
        Self {
            name: name.to_owned(),
            firmware,
            memory_mb: 384,
            mac: mac.to_owned(),
        }
    }
}

/// A powered-on QEMU client; dropping it pulls the plug.
#[derive(Debug)]
pub struct Client {
    options: ClientOptions,
    console: Console,
    monitor: Monitor,
    process: Process,
    room: Arc<Inner>,
    next_command: AtomicU32,
}

impl Client {
    /// Starts QEMU on `tap` and reads its serial console from the first instruction on.
    pub(crate) fn power_on(
        room: &Arc<Inner>,
        switch: &Namespace,
        tap: &str,
        options: ClientOptions,
    ) -> anyhow::Result<Self> {
        let files = machine::Files::prepare(room, &options)?;
        let mut qemu = switch.command("qemu-system-x86_64");
        machine::arguments(&mut qemu, &options, tap, &files)?;
        let process = switch.spawn(&format!("{}-qemu", options.name), &mut qemu)?;
        let connected = Monitor::connect(&files.monitor).and_then(|monitor| {
            let console = Console::open(&files.serial, &files.serial_log)?;
            monitor.command("cont")?;
            Ok((console, monitor))
        });
        let (console, monitor) = connected.with_context(|| {
            format!(
                "QEMU for client {} did not start:\n{}",
                options.name,
                process.log()
            )
        })?;
        Ok(Self {
            options,
            console,
            monitor,
            process,
            room: Arc::clone(room),
            next_command: AtomicU32::new(0),
        })
    }

    /// What the client was made of.
    pub fn options(&self) -> &ClientOptions {
        &self.options
    }

    /// When power came on.
    pub fn powered_on_at(&self) -> Instant {
        self.console.connected_at()
    }

    /// Waits at most `limit` until the serial console shows one of `markers`, in text not
    /// consumed by an earlier wait.
    ///
    /// # Errors
    /// With the console's last lines, when the limit passes or QEMU ends.
    pub fn wait_for(&self, markers: &[&str], limit: Duration) -> anyhow::Result<Seen> {
        let seen = wait::until(limit, || {
            if let Some(seen) = self.console.take(markers) {
                return Ok(Some(seen));
            }
            anyhow::ensure!(
                self.process.is_running(),
                "QEMU of client {} ended before it showed {markers:?}:\n{}\nconsole:\n{}",
                self.options.name,
                self.process.log(),
                self.console.tail()
            );
            Ok(None)
        })?;
        seen.with_context(|| {
            format!(
                "client {} did not show {markers:?} within {limit:?}; its console last said:\n{}",
                self.options.name,
                self.console.tail()
            )
        })
    }

    /// Runs a shell `script` (one line) in the guest through the image's serial agent and gives
    /// its output. The image must be up.
    ///
    /// # Errors
    /// When it fails, or does not end within `limit`.
    pub fn run(&self, script: &str, limit: Duration) -> anyhow::Result<String> {
        let (output, status) = self.start(script)?.wait(limit)?;
        anyhow::ensure!(
            status == 0,
            "client {}: {script}: exit status {status}\n{output}",
            self.options.name
        );
        Ok(output)
    }

    /// Starts a shell `script` (one line) in the guest without waiting for its end.
    ///
    /// # Errors
    /// When the console is gone.
    pub fn start(&self, script: &str) -> anyhow::Result<Running<'_>> {
        anyhow::ensure!(!script.contains('\n'), "one line per guest command");
        let id = self.next_command.fetch_add(1, Ordering::Relaxed);
        self.console.send(&format!("{id} {script}\n"))?;
        Ok(Running {
            client: self,
            script: script.to_owned(),
            id,
        })
    }

    /// Enters the set-up of a UEFI client that was just powered on or reset.
    ///
    /// # Errors
    /// With the screen, when the set-up does not come within `limit`.
    pub fn enter_setup(&self, limit: Duration) -> anyhow::Result<Setup<'_>> {
        Setup::enter(self, limit)
    }

    /// Everything the serial console has shown since power-on.
    pub fn console_text(&self) -> String {
        self.console.text()
    }

    /// File with everything the serial console has shown.
    pub fn console_log(&self) -> &Path {
        self.console.log_path()
    }

    /// Pulls or plugs the client's network cable.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn set_link(&self, plugged: bool) -> anyhow::Result<()> {
        let state = if plugged { "on" } else { "off" };
        self.monitor.command(&format!("set_link card0 {state}"))?;
        Ok(())
    }

    /// Presses the reset button.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn reset(&self) -> anyhow::Result<()> {
        self.monitor.command("system_reset")?;
        Ok(())
    }

    /// Takes a picture of the screen; gives the PNG's path in the room's directory.
    ///
    /// # Errors
    /// When QEMU does not answer or the picture cannot be written.
    pub fn screenshot(&self) -> anyhow::Result<PathBuf> {
        let ppm = self.room.new_file(&self.options.name, "ppm");
        self.monitor
            .command(&format!("screendump {}", ppm.display()))?;
        let path = ppm.with_extension("png");
        std::fs::write(&path, png::from_ppm(&std::fs::read(&ppm)?)?)?;
        std::fs::remove_file(&ppm)?;
        Ok(path)
    }

    /// Pulls the plug.
    pub fn power_off(&self) {
        self.process.kill();
    }

    /// Waits at most `limit` until the system in it has switched the machine off.
    ///
    /// # Errors
    /// With the console's last lines, when it does not.
    pub fn wait_until_off(&self, limit: Duration) -> anyhow::Result<()> {
        let off = wait::until(limit, || Ok((!self.is_running()).then_some(())))?;
        off.with_context(|| {
            format!(
                "client {} is not off within {limit:?}; its console last said:\n{}",
                self.options.name,
                self.console.tail()
            )
        })
    }

    /// Whether the machine has power.
    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }
}

/// A guest command under way.
#[derive(Debug)]
pub struct Running<'a> {
    client: &'a Client,
    script: String,
    id: u32,
}

impl Running<'_> {
    /// Waits at most `limit` for the command's end; gives its output and exit status.
    ///
    /// # Errors
    /// With the console's last lines, when the limit passes.
    pub fn wait(&self, limit: Duration) -> anyhow::Result<(String, i32)> {
        let begin = format!("DESS-BEGIN {}\n", self.id);
        let end = format!("\nDESS-END {} ", self.id);
        wait::until(limit, || {
            self.client.console.check_open()?;
            let text = self.client.console.text().replace('\r', "");
            let Some((_, after)) = text.split_once(&begin) else {
                return Ok(None);
            };
            let framed = format!("\n{after}");
            let Some((output, status)) = framed.split_once(&end) else {
                return Ok(None);
            };
            let Some((status, _)) = status.split_once('\n') else {
                return Ok(None);
            };
            let status = status.parse().context("the agent's exit status")?;
            Ok(Some((output.trim().to_owned(), status)))
        })?
        .with_context(|| {
            format!(
                "client {}: {:?} did not end within {limit:?}; its console last said:\n{}",
                self.client.options.name,
                self.script,
                self.client.console.tail()
            )
        })
    }
}
