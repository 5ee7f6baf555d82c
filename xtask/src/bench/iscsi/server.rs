//! The servers: DESS and tgt, each serving one disk on loopback.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dess_model::host::ALLOCATOR_ENVIRONMENT;
use rustix::fs::{Advice, fadvise};

use super::session::Portal;

const START_LIMIT: Duration = Duration::from_secs(60);
const IQN: &str = "iqn.2026-11.io.dess:bench";

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// DESS, a golden image with an overlay.
    Overlay,
    /// DESS, one plain file.
    File,
    /// tgt with one I/O thread.
    Tgt1,
    /// tgt with 16 I/O threads, its default.
    Tgt16,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Overlay, Self::File, Self::Tgt1, Self::Tgt16];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Overlay => "DESS, image + overlay",
            Self::File => "DESS, file",
            Self::Tgt1 => "tgt -t 1",
            Self::Tgt16 => "tgt -t 16",
        }
    }

    pub(super) fn is_tgt(self) -> bool {
        matches!(self, Self::Tgt1 | Self::Tgt16)
    }
}

/// A running server.
pub(super) struct Server {
    pub(super) kind: Kind,
    pub(super) portal: Portal,
    child: Child,
    /// What holds its disk: files, and directories of files.
    stores: Vec<PathBuf>,
}

impl Server {
    /// Starts a server for the raw image, with its own files below `directory`.
    pub(super) fn start(kind: Kind, dess: &Path, image: &Path, directory: &Path) -> Result<Self> {
        let address = free_address()?;
        let child = match kind {
            Kind::Overlay | Kind::File => start_dess(kind, dess, image, directory, address)?,
            Kind::Tgt1 => start_tgt(directory, address, 1)?,
            Kind::Tgt16 => start_tgt(directory, address, 16)?,
        };
        let portal = Portal {
            address,
            target: IQN.to_owned(),
            lun: u16::from(kind.is_tgt()),
        };
        let mut server = Self {
            kind,
            portal,
            child,
            stores: vec![image.to_owned()],
        };
        if kind == Kind::Overlay {
            server.stores.push(overlay_of(directory));
        }
        server.wait()?;
        if kind.is_tgt() {
            configure_tgt(address, image)?;
        }
        Ok(server)
    }

    /// Lets the kernel forget what it holds of the disk in memory, so that reads come from the storage.
    pub(super) fn forget_cached(&self) -> Result<()> {
        for file in self.files()? {
            // Only what is on the storage can be forgotten.
            file.sync_all()?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
        Ok(())
    }

    /// Brings all of the disk into memory.
    pub(super) fn read_cached(&self) -> Result<()> {
        for mut file in self.files()? {
            io::copy(&mut file, &mut io::sink())?;
        }
        Ok(())
    }

    fn files(&self) -> Result<Vec<fs::File>> {
        let mut paths = Vec::new();
        for store in &self.stores {
            match store.is_dir() {
                true => {
                    for entry in fs::read_dir(store)? {
                        paths.push(entry?.path());
                    }
                }
                false => paths.push(store.clone()),
            }
        }
        paths.retain(|path| path.is_file());
        let open = |path: &PathBuf| fs::File::open(path).map_err(Into::into);
        paths.iter().map(open).collect()
    }

    /// CPU time of all threads so far.
    pub(super) fn cpu(&self) -> Result<Duration> {
        let tasks = format!("/proc/{}/task", self.child.id());
        let mut nanos = 0;
        for task in fs::read_dir(&tasks)? {
            let path = task?.path().join("schedstat");
            let text = fs::read_to_string(&path)?;
            let on_cpu = text.split(' ').next().and_then(|word| word.parse().ok());
            nanos += on_cpu.unwrap_or(0_u64);
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Resident memory in MiB, without pages of files.
    pub(super) fn resident_mib(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kib: f64 = kib.context("no VmRSS")?.parse()?;
        Ok(kib / 1024.0)
    }

    /// Waits until the portal takes connections.
    fn wait(&mut self) -> Result<()> {
        let started = Instant::now();
        while TcpStream::connect(self.portal.address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended: {status}", self.kind.name());
            }
            if started.elapsed() > START_LIMIT {
                bail!("{} takes no connections", self.kind.name());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if self.kind.is_tgt() {
            let socket = format!("/var/run/tgtd/socket.{}", control(self.portal.address));
            let _ = fs::remove_file(format!("{socket}.lock"));
            let _ = fs::remove_file(socket);
        }
    }
}

fn start_dess(
    kind: Kind,
    dess: &Path,
    image: &Path,
    directory: &Path,
    address: SocketAddr,
) -> Result<Child> {
    let mut command = Command::new(dess);
    command
        // As the supervisor runs it.
        .envs(ALLOCATOR_ENVIRONMENT)
        .args(["iscsi", "serve", "--iqn", IQN, "--listen"])
        .arg(address.to_string())
        .arg("--image")
        .arg(image);
    if kind == Kind::Overlay {
        command.arg("--overlay").arg(overlay_of(directory));
    }
    start(&mut command, &directory.join(format!("{kind:?}.log")))
}

fn overlay_of(directory: &Path) -> PathBuf {
    directory.join("overlay")
}

fn start_tgt(directory: &Path, address: SocketAddr, threads: usize) -> Result<Child> {
    let mut command = Command::new("tgtd");
    command
        .args(["-f", "-C", &control(address).to_string()])
        .args(["-t", &threads.to_string()])
        .arg("--iscsi")
        .arg(format!("portal={address}"));
    start(&mut command, &directory.join(format!("tgt-{threads}.log")))
}

fn start(command: &mut Command, log: &Path) -> Result<Child> {
    let log = fs::File::create(log)?;
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {:?}", command.get_program()))
}

/// Number of a daemon's control socket, which tells it from others; at most 32767.
fn control(address: SocketAddr) -> u16 {
    address.port() & 0x7fff
}

fn configure_tgt(address: SocketAddr, image: &Path) -> Result<()> {
    let store = image.display().to_string();
    let target = "--mode target --op new --tid 1 -T";
    let access = "--mode target --op bind --tid 1 -I";
    let unit = "--mode logicalunit --op new --tid 1 --lun 1 --bstype rdwr -b";
    for (step, value) in [(target, IQN), (access, "ALL"), (unit, &store)] {
        let mut command = Command::new("tgtadm");
        command.args(["-C", &control(address).to_string(), "--lld", "iscsi"]);
        let output = command
            .args(step.split(' '))
            .arg(value)
            .output()
            .context("cannot run tgtadm")?;
        if !output.status.success() {
            bail!("tgtadm: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    Ok(())
}

fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?)
}

/// Makes a raw image without holes; each block begins with its number.
pub(super) fn make_image(path: &Path, bytes: u64) -> Result<()> {
    let mut file = std::io::BufWriter::with_capacity(1 << 20, fs::File::create(path)?);
    let mut noise = [0; 4096];
    fs::File::open("/dev/urandom")?.read_exact(&mut noise)?;
    for block in 0..bytes / 4096 {
        noise[..8].copy_from_slice(&block.to_le_bytes());
        file.write_all(&noise)?;
    }
    Ok(file.into_inner()?.sync_all()?)
}
