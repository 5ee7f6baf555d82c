//! Which accelerator QEMU really works with here.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::{image, interrupt, wait};

/// A QEMU accelerator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// Hardware virtualisation; only when a guest was seen to run under it.
    Kvm,
    /// Emulation; works everywhere.
    Tcg,
}

impl Accelerator {
    /// QEMU's arguments for it.
    pub fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            // qemu64 was the fastest CPU model under TCG.
            Self::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "qemu64"],
        }
    }
}

/// The accelerator of this machine: `DESS_LAB_ACCEL` (`kvm` or `tcg`), else KVM when a small guest
/// boots under it, else TCG. Tried once per machine boot; the answer is kept in the cache directory.
///
/// # Errors
/// For an unknown `DESS_LAB_ACCEL`, or when the answer cannot be kept.
pub fn chosen() -> anyhow::Result<Accelerator> {
    static CHOSEN: OnceLock<Accelerator> = OnceLock::new();
    if let Some(chosen) = CHOSEN.get() {
        return Ok(*chosen);
    }
    let chosen = match std::env::var("DESS_LAB_ACCEL").as_deref() {
        Ok("kvm") => Accelerator::Kvm,
        Ok("tcg") => Accelerator::Tcg,
        Ok(other) => anyhow::bail!("DESS_LAB_ACCEL is {other:?}; it may be kvm or tcg"),
        Err(_) => remembered_or_tried()?,
    };
    Ok(*CHOSEN.get_or_init(|| chosen))
}

fn remembered_or_tried() -> anyhow::Result<Accelerator> {
    if !Path::new("/dev/kvm").exists() {
        return Ok(Accelerator::Tcg);
    }
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let memory = image::cache_directory()?.join("accelerator");
    let kept = std::fs::read_to_string(&memory).unwrap_or_default();
    match kept.strip_prefix(boot.trim()).map(str::trim) {
        Some("kvm") => return Ok(Accelerator::Kvm),
        Some("tcg") => return Ok(Accelerator::Tcg),
        _ => {}
    }
    let works = guest_boots_under_kvm().unwrap_or_else(|error| {
        tracing::debug!("the KVM trial failed: {error:#}");
        false
    });
    interrupt::check()?;
    let word = if works { "kvm" } else { "tcg" };
    tracing::info!("clients run under {word}");
    std::fs::write(&memory, format!("{} {word}\n", boot.trim()))
        .with_context(|| format!("cannot write {memory:?}"))?;
    Ok(if works {
        Accelerator::Kvm
    } else {
        Accelerator::Tcg
    })
}

/// Boots the tiny image's kernel and initramfs directly. Under real KVM its first program speaks
/// within two seconds; where /dev/kvm is a software imitation it takes minutes or never comes.
fn guest_boots_under_kvm() -> anyhow::Result<bool> {
    let (kernel, initramfs) = image::tiny_kernel()?;
    let directory = tempfile::tempdir()?;
    let serial = directory.path().join("serial");
    let mut qemu = Command::new("qemu-system-x86_64")
        .args(Accelerator::Kvm.arguments())
        .args(["-nodefaults", "-display", "none", "-m", "256", "-no-reboot"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", "console=ttyS0 quiet dess.trial panic=-1"])
        .arg("-serial")
        .arg(format!("file:{}", serial.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let started = Instant::now();
    let works = wait::until(TRIAL_LIMIT, || {
        let text = std::fs::read(&serial).unwrap_or_default();
        if String::from_utf8_lossy(&text).contains(image::TRIAL_MARKER) {
            return Ok(Some(true));
        }
        Ok(qemu.try_wait()?.map(|_| false))
    });
    let _ = qemu.kill();
    let _ = qemu.wait();
    tracing::debug!(
        elapsed_ms = started.elapsed().as_millis(),
        "KVM trial ended"
    );
    Ok(works?.unwrap_or(false))
}

/// Several times what a guest needs under real KVM.
const TRIAL_LIMIT: Duration = Duration::from_secs(12);
