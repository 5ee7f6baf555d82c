//! Standalone mode: one raw file, or an overlay over it, as LUN 0, without a site; for tests, benchmarks and rescue.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use dess_disk::{BlockDevice, Note, RawDisk, RawOverlay};
use dess_iscsi::{Access, ChapCredentials, ChapSecret, LoginIdentity, LoginStatus};
use dess_model::Secret;
use dess_scsi::{GRANULARITY_EXPONENT, LOGICAL_BLOCK_BYTES, LogicalUnit};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::engine::{FlowId, Unit, Units};
use crate::error::ServeError;
use crate::listener;
use crate::service::{Service, on_thread};
use crate::site::Site;
use crate::workers::Workers;

/// What standalone mode serves, and to whom.
#[derive(Clone, Debug)]
pub struct StandaloneOptions {
    /// Portals to listen on.
    pub listen: Vec<SocketAddr>,
    /// Raw image; its size is a multiple of 512 bytes.
    pub image: PathBuf,
    /// Directory of an overlay that takes the writes; it is made if there is none. None: the image is written itself.
    pub overlay: Option<PathBuf>,
    /// Refuses writes.
    pub read_only: bool,
    /// How large the physical blocks are said to be.
    pub geometry: Geometry,
    /// TargetName.
    pub iqn: String,
    /// Whether UNMAP is offered (it punches holes into the file or the overlay).
    pub thin: bool,
    /// What initiators must prove; anybody may log in without.
    pub chap: Option<StandaloneChap>,
    /// Threads for reads that are not in memory, and as many for flushes.
    pub disk_threads: usize,
}

/// Size of the physical blocks that a disk states beside its logical ones of 512 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Geometry {
    /// 512n: physical blocks of 512 bytes, as the usual raw image has been made for.
    #[default]
    Native,
    /// 512e: physical blocks of 4096 bytes, as the disks of a site have.
    Emulated,
}

impl Geometry {
    fn physical_block_exponent(self) -> u8 {
        match self {
            Self::Native => 0,
            Self::Emulated => GRANULARITY_EXPONENT,
        }
    }
}

/// Names and secrets of CHAP (RFC 7143 §12.1.3).
#[derive(Clone, Debug)]
pub struct StandaloneChap {
    /// Name and secret that an initiator must know.
    pub initiator: (String, Secret),
    /// Name and secret by which the target proves itself to an initiator that asks for it.
    pub target: Option<(String, Secret)>,
}

/// The one disk of standalone mode.
pub(crate) struct SingleDisk {
    iqn: String,
    chap: Option<StandaloneChap>,
    units: Arc<Units>,
    /// Keeps the overlay for this process.
    _overlay: Option<RawOverlay>,
}

/// Serves one disk until `cancel`. `ready` is sent with the bound addresses (port 0 is
/// replaced by the port that the kernel chose).
///
/// # Errors
/// If the image or its overlay cannot be used, or a portal cannot be bound.
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
    let (device, note, overlay) = open(&options).await?;
    let naa = naa_of(&options.iqn);
    let description = LogicalUnit {
        serial: format!("{naa:016x}"),
        naa,
        target_name: options.iqn.clone(),
        capacity_blocks: device.size_bytes() / LOGICAL_BLOCK_BYTES,
        physical_block_exponent: options.geometry.physical_block_exponent(),
        read_only: options.read_only,
        thin: options.thin,
    };
    let unit = Unit::open(description, device, note, FlowId::next());
    let single = SingleDisk {
        iqn: options.iqn,
        chap: options.chap,
        units: Arc::new(Units::new(Arc::new(unit), Vec::new(), Vec::new())),
        _overlay: overlay,
    };
    let workers = Workers::start().map_err(ServeError::Threads)?;
    let site = Site::Single(single);
    let service = Service::start(site, workers.places(), options.disk_threads, None)?;
    service.listens_on(&listeners);
    // If nobody waits for it, the service runs all the same.
    let _ = ready.send(bound);
    tokio::select! {
        () = cancel.cancelled() => {}
        () = listener::accept_all(&service, listeners) => {}
    }
    service.stop().await;
    Ok(())
}

type Opened = (Arc<dyn BlockDevice>, Note, Option<RawOverlay>);

/// Opens what is served, with where its reservations are kept; the overlay, if any, is to be kept as long.
async fn open(options: &StandaloneOptions) -> Result<Opened, ServeError> {
    let image = options.image.clone();
    let directory = options.overlay.clone();
    let read_only = options.read_only;
    on_thread(move || {
        let Some(directory) = directory else {
            let device = RawDisk::open(&image, read_only).map_err(ServeError::Image)?;
            let note = RawDisk::reservations(&image);
            return Ok((Arc::new(device) as Arc<dyn BlockDevice>, note, None));
        };
        let overlay = RawOverlay::open(&image, &directory).map_err(ServeError::Overlay)?;
        let device = Arc::clone(&overlay.disk) as Arc<dyn BlockDevice>;
        Ok((device, overlay.disk.reservations(), Some(overlay)))
    })
    .await
}

/// A locally assigned NAA identifier (type 3) that depends on the target's name alone (FNV-1a).
fn naa_of(iqn: &str) -> u64 {
    let hash = iqn.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    (3 << 60) | (hash >> 4)
}

fn chap_secret((user, secret): &(String, Secret)) -> ChapSecret {
    ChapSecret {
        user: user.clone(),
        secret: secret.expose().as_bytes().to_vec(),
    }
}

impl SingleDisk {
    pub(crate) fn units(&self) -> Arc<Units> {
        Arc::clone(&self.units)
    }

    pub(crate) fn access(&self, identity: &LoginIdentity) -> Result<Access, LoginStatus> {
        if identity.target_name.as_deref() != Some(self.iqn.as_str()) {
            return Err(LoginStatus::NotFound);
        }
        Ok(Access {
            chap: self.chap.as_ref().map(|chap| ChapCredentials {
                initiator: chap_secret(&chap.initiator),
                target: chap.target.as_ref().map(chap_secret),
            }),
            cookie: 0,
        })
    }

    /// Its target's name.
    pub(crate) fn iqn(&self) -> &str {
        &self.iqn
    }
}
