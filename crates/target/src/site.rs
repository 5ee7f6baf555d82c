//! Which targets there are, who may log in to them, and which disks they serve.

use std::net::IpAddr;
use std::sync::Arc;

use dess_disk::{BlockDevice, DiskError, DiskSpec, DiskStore};
use dess_iscsi::{
    Access, ChapCredentials, ChapSecret, InitiatorFamily, LoginIdentity, LoginStatus, SessionType,
};
use dess_model::host::{Paths, SnapshotReader};
use dess_model::{ClientEntry, ClientId, ControlError, DiskIdentity, LoginKind, SiteSnapshot};
use dess_scsi::{GRANULARITY_EXPONENT, LOGICAL_BLOCK_BYTES, LogicalUnit};

use crate::boot_profiles::BootProfiles;
use crate::boots::Boots;
use crate::data_disks::{ClientDisks, Content, DataDisk, DataSpec};
use crate::engine::{FlowId, Unit, Units};
use crate::probe::{ProbeDisk, is_probe_target};
use crate::returning::Returning;
use crate::sessions::StillRunning;
use crate::standalone::SingleDisk;

/// Where targets and disks come from.
pub(crate) enum Site {
    /// The clients of the site snapshot, with disks of the store.
    Room(Box<Room>),
    /// One disk for everybody who knows its secret.
    Single(SingleDisk),
}

/// The clients of a site.
pub(crate) struct Room {
    pub(crate) snapshots: SnapshotReader,
    pub(crate) store: DiskStore,
    pub(crate) boots: Boots,
    pub(crate) returning: Returning,
    pub(crate) paths: Paths,
    /// Whether a client with a reserved address must come from it.
    pub(crate) check_addresses: bool,
    pub(crate) profiles: Arc<BootProfiles>,
    pub(crate) probe: ProbeDisk,
}

/// A disk that cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnitError {
    /// The client or its image went away between login and use.
    #[error("the site snapshot has no disk for this target any more")]
    Gone(#[from] ControlError),
    /// The session before it has not come to rest.
    #[error("an older session of the initiator has not ended")]
    Busy(#[from] StillRunning),
    /// The login is a power-on, which failed.
    #[error("the disk cannot be made ready")]
    PowerOn(#[source] ControlError),
    /// The store failed.
    #[error("the disk cannot be opened")]
    Disk(#[from] DiskError),
}

impl Site {
    /// Whose disk a target serves.
    pub(crate) fn client_of(&self, target: &str) -> Option<ClientId> {
        match self {
            Self::Room(room) => {
                let snapshot = room.snapshots.current()?;
                snapshot.client_by_target(target).map(|client| client.id)
            }
            Self::Single(_) => None,
        }
    }

    /// Opens the disks of a target as they are: a login of a system is no power-on. May wait for the storage.
    /// `known` is what the target served last; it stays if it is still the same.
    pub(crate) fn open_units(
        &self,
        target: &str,
        kind: LoginKind,
        known: Option<&Arc<Units>>,
    ) -> Result<Arc<Units>, UnitError> {
        match self {
            Self::Room(room) if is_probe_target(target) => Ok(room.probe.units()),
            Self::Room(room) => {
                let snapshot = room.snapshots.current();
                let client = snapshot
                    .as_deref()
                    .and_then(|snapshot| snapshot.client_by_target(target));
                let (Some(snapshot), Some(client)) = (&snapshot, client) else {
                    return Err(DiskGone.into());
                };
                room.attach(snapshot, client, kind, known)
            }
            Self::Single(single) => Ok(single.units()),
        }
    }
}

/// The snapshot has no such target.
struct DiskGone;

impl From<DiskGone> for UnitError {
    fn from(_: DiskGone) -> Self {
        Self::Gone(ControlError::Malformed {
            message: "no client has this target".to_owned(),
        })
    }
}

/// A client's disks as logical units; their work waits in one line.
fn units_of(client: &ClientEntry, disks: ClientDisks) -> Units {
    let flow = FlowId::next();
    let describe =
        |identity: &DiskIdentity, device: &dyn BlockDevice, read_only: bool| LogicalUnit {
            serial: identity.serial.clone(),
            naa: identity.naa,
            target_name: client.iscsi.target_iqn.clone(),
            capacity_blocks: device.size_bytes() / LOGICAL_BLOCK_BYTES,
            physical_block_exponent: GRANULARITY_EXPONENT,
            read_only,
            thin: !read_only,
        };
    let system = disks.system.disk;
    let shared = disks.data.iter().filter_map(|data| match data.content {
        Content::Shared(_) => Some((data.entry.lun, data.entry.version)),
        Content::Own(_) => None,
    });
    let shared = shared.collect();
    let data = disks.data.into_iter().map(|data| {
        let DataDisk { entry, content } = data;
        let (note, read_only) = match &content {
            Content::Shared(_) => (system.reservations_of_companion(entry.lun), true),
            Content::Own(disk) => (disk.reservations(), false),
        };
        let device = content.device();
        let description = describe(&entry.disk, device.as_ref(), read_only);
        let unit = Unit::open(description, device, note, flow);
        (entry.lun, Arc::new(unit))
    });
    let data = data.collect();
    let description = describe(&client.disk, system.as_ref(), false);
    let note = system.reservations();
    let unit = Unit::open(description, system, note, flow);
    Units::new(Arc::new(unit), data, shared)
}

impl Room {
    /// What the store must know to open a client's disk.
    pub(crate) fn disk_spec(
        &self,
        snapshot: &SiteSnapshot,
        client: &ClientEntry,
    ) -> Result<DiskSpec, ControlError> {
        if !client.approved {
            return Err(ControlError::NotApproved { client: client.id });
        }
        let no_image = ControlError::NoImage { client: client.id };
        let version = client.version.ok_or(no_image.clone())?;
        let entry = snapshot.version(version).ok_or(no_image)?;
        Ok(DiskSpec {
            disk: client.disk.id,
            version,
            version_dir: self.paths.images().join(&entry.directory),
            policy: client.policy,
            reset_epoch: client.reset_epoch,
        })
    }

    /// The disks as they are. Fresh ones belong to a boot: only firmware gets them, and who uses the
    /// disk for the first time of all, on which no system can still run. While the system disk is the same, so is all
    /// the rest: what initiators have set and reserved stays.
    fn attach(
        &self,
        snapshot: &SiteSnapshot,
        client: &ClientEntry,
        kind: LoginKind,
        known: Option<&Arc<Units>>,
    ) -> Result<Arc<Units>, UnitError> {
        let disk = client.disk.id;
        let disks = match self.store.attach(disk) {
            Err(DiskError::NoOverlay { dropped, .. })
                if kind == LoginKind::Firmware || !dropped =>
            {
                let spec = self.disk_spec(snapshot, client)?;
                self.power_on(&spec, &DataSpec::of(snapshot, client))?
            }
            Err(error @ DiskError::NoOverlay { .. }) => {
                self.boots.dropped(disk);
                return Err(error.into());
            }
            attached => {
                let system = attached?;
                let same = |known: &&Arc<Units>| {
                    let device = Arc::as_ptr(&known.system().device);
                    std::ptr::addr_eq(device, Arc::as_ptr(&system.disk))
                };
                if let Some(known) = known.filter(same) {
                    return Ok(Arc::clone(known));
                }
                self.attach_data(system)?
            }
        };
        for trouble in &disks.missing {
            tracing::error!(client.id = %client.id, "{} goes without: {trouble}", client.name);
        }
        Ok(Arc::new(units_of(client, disks)))
    }

    /// A system that comes back to the disk that it booted is let in from where it was let in
    /// before, and whatever is assigned to the client by now.
    fn may_log_in(
        &self,
        snapshot: &SiteSnapshot,
        identity: &LoginIdentity,
    ) -> Result<Access, LoginStatus> {
        let target = identity.target_name.as_deref();
        let client = target
            .and_then(|target| snapshot.client_by_target(target))
            .ok_or(LoginStatus::NotFound)?;
        if identity.initiator_name != client.iscsi.initiator_iqn || !client.approved {
            return Err(LoginStatus::AuthorizationFailure);
        }
        let disk = client.disk.id;
        if let Some(address) = snapshot.required_address(client)
            && self.check_addresses
            && identity.peer != IpAddr::V4(address)
            && !self.boots.may_come_back(disk, identity.peer)
        {
            return Err(LoginStatus::AuthorizationFailure);
        }
        if !self.boots.has_content(disk) && self.disk_spec(snapshot, client).is_err() {
            return Err(LoginStatus::NotFound);
        }
        Ok(Access {
            chap: Some(ChapCredentials {
                initiator: ChapSecret {
                    user: client.iscsi.chap_user.clone(),
                    secret: client.iscsi.chap_secret.expose().as_bytes().to_vec(),
                },
                target: None,
            }),
            cookie: 0,
        })
    }
}

impl Site {
    /// Whether a login may go on (see [`dess_iscsi::TargetDirectory`]).
    pub(crate) fn access(&self, identity: &LoginIdentity) -> Result<Access, LoginStatus> {
        if identity.session_type == SessionType::Discovery {
            return Ok(Access {
                chap: None,
                cookie: 0,
            });
        }
        let target = identity.target_name.as_deref();
        match self {
            Self::Room(room) if target.is_some_and(is_probe_target) => room.probe.access(identity),
            Self::Room(room) => {
                let snapshot = room.snapshots.current();
                let snapshot = snapshot.as_deref().ok_or(LoginStatus::ServiceUnavailable)?;
                room.may_log_in(snapshot, identity)
            }
            Self::Single(single) => single.access(identity),
        }
    }

    /// Whether one that proved itself may enter full feature phase.
    pub(crate) fn admit(
        &self,
        identity: &LoginIdentity,
        family: InitiatorFamily,
    ) -> Result<(), LoginStatus> {
        let Self::Room(room) = self else {
            return Ok(());
        };
        let snapshot = room.snapshots.current();
        let target = identity.target_name.as_deref();
        let client = snapshot
            .as_deref()
            .zip(target)
            .and_then(|(snapshot, target)| snapshot.client_by_target(target));
        match client {
            Some(client) if !family.is_firmware() && room.boots.is_void(client.disk.id) => {
                tracing::warn!(
                    client.id = %client.id,
                    "the system of {} still runs, but its disk was reset or is of a former boot \
                     of this server; restart the PC",
                    client.name
                );
                Err(LoginStatus::NotFound)
            }
            _ => Ok(()),
        }
    }

    /// The targets that an initiator may know of: its own.
    pub(crate) fn targets_of(&self, identity: &LoginIdentity) -> Vec<String> {
        match self {
            Self::Room(room) => {
                let snapshot = room.snapshots.current();
                let clients = snapshot.iter().flat_map(|snapshot| &snapshot.clients);
                let own = clients.filter(|client| {
                    client.approved && client.iscsi.initiator_iqn == identity.initiator_name
                });
                own.map(|client| client.iscsi.target_iqn.clone()).collect()
            }
            Self::Single(single) => vec![single.iqn().to_owned()],
        }
    }
}

/// An error with its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
