//! Standalone mode: one raw file as LUN 0, without a site; for tests, benchmarks and rescue.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dess_disk::{BlockDevice, BlockRead};
use dess_iscsi::{Access, ChapCredentials, ChapSecret, LoginIdentity, LoginStatus, TargetPortals};
use dess_model::Secret;
use dess_scsi::{LOGICAL_BLOCK_BYTES, LogicalUnit};
use rustix::fs::FallocateFlags;
use rustix::io::{Errno, ReadWriteFlags};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::engine::Unit;
use crate::error::ServeError;
use crate::listener;
use crate::service::Service;
use crate::site::Site;

/// What standalone mode serves, and to whom.
#[derive(Clone, Debug)]
pub struct StandaloneOptions {
    /// Portals to listen on.
    pub listen: Vec<SocketAddr>,
    /// Raw image; a size that is no multiple of 512 loses its last bytes.
    pub image: PathBuf,
    /// Refuses writes.
    pub read_only: bool,
    /// TargetName.
    pub iqn: String,
    /// Whether UNMAP is offered (it punches holes into the file).
    pub thin: bool,
    /// CHAP user and secret; anybody may log in without.
    pub chap: Option<(String, Secret)>,
    /// Threads for reads that are not in memory, and as many for flushes.
    pub disk_threads: usize,
}

/// The one disk of standalone mode.
pub(crate) struct SingleDisk {
    iqn: String,
    listen: Vec<SocketAddr>,
    chap: Option<(String, Secret)>,
    unit: Arc<Unit>,
}

/// Serves one raw file until `cancel`. `ready` is sent with the bound addresses (port 0 is
/// replaced by the port that the kernel chose).
///
/// # Errors
/// If the file cannot be opened or a portal cannot be bound.
pub async fn serve_file(
    options: StandaloneOptions,
    ready: oneshot::Sender<Vec<SocketAddr>>,
    cancel: CancellationToken,
) -> Result<(), ServeError> {
    let listeners = listener::bind_all(&options.listen)?;
    let bound: Vec<SocketAddr> = listeners
        .iter()
        .filter_map(|listener| listener.local_addr().ok())
        .collect();
    let device =
        FileDisk::open(&options.image, options.read_only).map_err(|source| ServeError::Image {
            path: options.image.clone(),
            source,
        })?;
    let naa = naa_of(&options.iqn);
    let description = LogicalUnit {
        serial: format!("{naa:016x}"),
        naa,
        target_name: options.iqn.clone(),
        capacity_blocks: device.size_bytes() / LOGICAL_BLOCK_BYTES,
        read_only: options.read_only,
        thin: options.thin,
    };
    let single = SingleDisk {
        iqn: options.iqn,
        listen: bound.clone(),
        chap: options.chap,
        unit: Arc::new(Unit::new(description, Arc::new(device))),
    };
    let service = Service::start(Site::Single(single), options.disk_threads, None)?;
    // If nobody waits for it, the service runs all the same.
    let _ = ready.send(bound);
    tokio::select! {
        () = cancel.cancelled() => {}
        () = listener::accept_all(&service, listeners) => {}
    }
    service.stop().await;
    Ok(())
}

/// A locally assigned NAA identifier (type 3) that depends on the target's name alone (FNV-1a).
fn naa_of(iqn: &str) -> u64 {
    let hash = iqn.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    (3 << 60) | (hash >> 4)
}

impl SingleDisk {
    pub(crate) fn unit(&self) -> Arc<Unit> {
        Arc::clone(&self.unit)
    }

    pub(crate) fn access(&self, identity: &LoginIdentity) -> Result<Access, LoginStatus> {
        if identity.target_name.as_deref() != Some(self.iqn.as_str()) {
            return Err(LoginStatus::NotFound);
        }
        Ok(Access {
            chap: self.chap.as_ref().map(|(user, secret)| ChapCredentials {
                initiator: ChapSecret {
                    user: user.clone(),
                    secret: secret.expose().as_bytes().to_vec(),
                },
                target: None,
            }),
            cookie: 0,
        })
    }

    pub(crate) fn discover(&self) -> Vec<TargetPortals> {
        vec![TargetPortals {
            target_name: self.iqn.clone(),
            portals: self.listen.clone(),
        }]
    }
}

/// A raw file as a disk.
struct FileDisk {
    file: File,
    size_bytes: u64,
    read_only: bool,
    /// The file system cannot tell whether a read would wait (tmpfs never does).
    waits_unknown: AtomicBool,
}

impl FileDisk {
    fn open(path: &Path, read_only: bool) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(!read_only).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self {
            file,
            size_bytes: bytes - bytes % LOGICAL_BLOCK_BYTES,
            read_only,
            waits_unknown: AtomicBool::new(false),
        })
    }

    fn may_write(&self) -> io::Result<()> {
        match self.read_only {
            true => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            false => Ok(()),
        }
    }
}

impl BlockRead for FileDisk {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn try_read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if self.waits_unknown.load(Ordering::Relaxed) {
            return self.read_at(offset, buffer);
        }
        let wanted = buffer.len();
        let mut slices = [IoSliceMut::new(buffer)];
        match rustix::io::preadv2(&self.file, &mut slices, offset, ReadWriteFlags::NOWAIT) {
            Ok(read) if read == wanted => Ok(()),
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Err(io::ErrorKind::WouldBlock.into()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                self.waits_unknown.store(true, Ordering::Relaxed);
                self.read_at(offset, buffer)
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl BlockDevice for FileDisk {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.may_write()?;
        self.file.write_all_at(data, offset)
    }

    fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        self.may_write()?;
        if length == 0 {
            return Ok(());
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&self.file, flags, offset, length)?;
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}
