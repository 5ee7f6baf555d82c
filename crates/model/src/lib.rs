//! Domain types and ids, site snapshot, boot policies and events: what every other crate talks about.
//!
//! The crate is pure (no sockets, files or clocks) except for the module [`host`] behind the
//! feature of the same name, which keeps the three channels between the services of one machine:
//! the snapshot file, the event socket and the control sockets.

mod access;
mod architecture;
mod client;
mod control;
mod counters;
mod data_disk;
mod event;
mod id;
mod limits;
mod mac;
mod malformed;
mod network;
mod secret;
mod service;
mod snapshot;
mod space;
mod time;

#[cfg(feature = "host")]
pub mod host;

pub use access::{AccessParseError, Role, Scope};
pub use architecture::Architecture;
pub use client::{BootPolicy, ClientEntry, DiskIdentity, IscsiIdentity};
pub use control::{
    BootProfileStatus, ControlError, DiskState, DiskStatus, SealedStatus, SessionStatus,
    SnapshotOrder, SnapshotStatus, TargetReply, TargetRequest,
};
pub use counters::{ClientCounters, OperationCounters, TcpCounters};
pub use data_disk::{DATA_LUN_MAX, DataAccess, DataDiskEntry};
pub use event::{BootStage, DhcpPhase, Event, EventKind, LoginKind, SessionEnd, TftpFailure};
pub use id::{AttemptId, CaseId, ClientId, DiskId, GroupId, ImageId, JobId, LayerId, VersionRef};
pub use limits::{BURST_DEFAULT, BURST_MS_MAX, IoLimits, RateLimits};
pub use mac::{MacAddr, MacParseError};
pub use malformed::{MalformedTally, PeerTally, Tallied};
pub use network::{AddressRange, DhcpMode, Subnet};
pub use secret::Secret;
pub use service::{
    PROBE_DISK_MARK, PROBE_INITIATOR, PROBE_MAC, PROBE_TARGET, ProbeFailure, ProbeReport,
    ProbeStep, ServiceName, UnknownService, is_own_peer,
};
pub use snapshot::{
    GroupEntry, Registration, SNAPSHOT_FORMAT, ServerEntry, SiteSnapshot, SnapshotError,
    VersionEntry,
};
pub use space::{
    Forecast, HYSTERESIS_PERCENT, OverlayLimits, PoolFigures, PoolLevel, PoolSettings, PoolStatus,
    WRITE_RATE_MIN,
};
pub use time::Timestamp;
