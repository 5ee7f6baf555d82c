//! Requests to the iSCSI service over its local control socket: one JSON line each way.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{
    ClientCounters, ClientId, DiskId, LoginKind, PoolStatus, TcpCounters, Timestamp, VersionRef,
};

/// What `boot`, `node` and the CLI may ask of the iSCSI service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum TargetRequest {
    /// The client powers on: make its disk, or rotate a volatile one, and drop stale sessions.
    /// Refused while its operating system runs.
    PowerOn {
        /// The client.
        client: ClientId,
        /// The address of the firmware that asked.
        peer: IpAddr,
    },
    /// Drop the client's writes. Refused while a session is open, unless `force`. The client
    /// then has to power on: a system that still runs is not let in again.
    Reset {
        /// The client.
        client: ClientId,
        /// End open sessions first.
        force: bool,
        /// What [`ClientEntry::reset_epoch`](crate::ClientEntry::reset_epoch) becomes; what the
        /// client writes from its next power-on on belongs to it.
        epoch: u32,
    },
    /// The client is about to be removed: drop its disk with all that is kept of it. Refused
    /// while a session is open, unless `force`.
    Remove {
        /// The client.
        client: ClientId,
        /// End open sessions first.
        force: bool,
    },
    /// End the writing of the maintenance client's overlay, so that a version can be made of it; once
    /// more: answers the same. Refused while the client runs; waits for up to ten seconds to see
    /// whether it does.
    Seal {
        /// The client.
        client: ClientId,
    },
    /// Give a sealed overlay back: no version was made of it. Not sealed: does nothing.
    Unseal {
        /// The client.
        client: ClientId,
    },
    /// Drop a sealed overlay of which a version was made. Not there any more: does nothing.
    Release {
        /// The client.
        client: ClientId,
    },
    /// Drop the maintenance client's overlay, sealed or not. Refused while a session is open, unless
    /// `force`.
    Discard {
        /// The client.
        client: ClientId,
        /// End open sessions first.
        force: bool,
    },
    /// Keep, bring back or remove what a persistent client wrote, or tell what is kept. All but the list are refused while
    /// a session is open.
    Snapshot {
        /// The client.
        client: ClientId,
        /// What to do.
        order: SnapshotOrder,
    },
    /// The client was switched on and will boot soon: read ahead what its boots read. Answered at once.
    Expect {
        /// The client.
        client: ClientId,
    },
    /// End all sessions of the client.
    Disconnect {
        /// The client.
        client: ClientId,
    },
    /// Sessions and disks.
    Status,
    /// How full the pool of the overlays is.
    Pool,
    /// Drop a disk with all that is kept of it that belongs to no client of the site snapshot any more. Refused if it does.
    Collect {
        /// The disk.
        disk: DiskId,
    },
}

/// What to do with the snapshots of a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum SnapshotOrder {
    /// Tell which there are.
    List,
    /// Keep what the disk holds now.
    Create {
        /// Under this name.
        name: String,
    },
    /// Make the disk hold what it held then. What it holds now is put away like what was reset.
    Restore {
        /// Its name.
        name: String,
    },
    /// Remove one.
    Remove {
        /// Its name.
        name: String,
    },
}

/// A snapshot of a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotStatus {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// The version below it.
    pub version: VersionRef,
    /// Bytes of storage that it takes.
    pub allocated_bytes: u64,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum TargetReply {
    /// Done, with the disk's state after it.
    Disk(DiskStatus),
    /// The overlay is sealed.
    Sealed(SealedStatus),
    /// Done, with the snapshots of the disk after it.
    Snapshots {
        /// Oldest first.
        snapshots: Vec<SnapshotStatus>,
    },
    /// Done.
    Done,
    /// All sessions and disks.
    Status {
        /// Open sessions.
        sessions: Vec<SessionStatus>,
        /// Disks known to the service.
        disks: Vec<DiskStatus>,
        /// Counters of the clients that had a session since the service started.
        #[serde(default)]
        clients: Vec<ClientCounters>,
        /// What boots read and what was read ahead for them since the service started.
        #[serde(default)]
        boot_profiles: Vec<BootProfileStatus>,
    },
    /// How full the pool is.
    Pool(PoolStatus),
    /// Not done.
    Error(ControlError),
}

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum ControlError {
    /// The client is not in the site snapshot.
    #[error("client {client} is not registered")]
    UnknownClient {
        /// As asked.
        client: ClientId,
    },
    /// The operator has not approved the client.
    #[error("client {client} waits for approval")]
    NotApproved {
        /// As asked.
        client: ClientId,
    },
    /// No image version is assigned.
    #[error("client {client} has no image assigned")]
    NoImage {
        /// As asked.
        client: ClientId,
    },
    /// The client runs.
    #[error("client {client} is running ({sessions} open sessions); shut it down, or force")]
    Running {
        /// As asked.
        client: ClientId,
        /// How many.
        sessions: u32,
    },
    /// The pool is so full that no client gets a new overlay.
    #[error(
        "the storage for clients' writes is full to {used_percent} %; client {client} gets no new overlay"
    )]
    NoRoom {
        /// As asked.
        client: ClientId,
        /// Percent of the pool in use.
        used_percent: u8,
    },
    /// The disk belongs to a client.
    #[error("disk {disk} belongs to client {client}")]
    InUse {
        /// As asked.
        disk: DiskId,
        /// Whose it is.
        client: ClientId,
    },
    /// The store failed.
    #[error("the disk of client {client} cannot be used: {message}")]
    Disk {
        /// As asked.
        client: ClientId,
        /// Cause, for people.
        message: String,
    },
    /// The request could not be read.
    #[error("malformed request: {message}")]
    Malformed {
        /// What was wrong.
        message: String,
    },
}

/// State of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DiskState {
    /// Can be written.
    Ready,
    /// A flush failed; writes are refused until it is checked.
    ReadOnly,
    /// A version is being made of it; the client cannot power on.
    Sealed,
}

/// A sealed maintenance overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedStatus {
    /// The disk.
    pub disk: DiskId,
    /// Number of the overlay among those of its disk; part of its directory's name.
    pub generation: u64,
    /// The version on which it was made.
    pub base: VersionRef,
    /// Bytes that were written or discarded, in whole blocks.
    pub changed_bytes: u64,
}

/// What the boots of a version read, and how much of it was foreseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BootProfileStatus {
    /// The version.
    pub version: VersionRef,
    /// How many boots its profile was made of.
    pub boots: u32,
    /// Bytes that are read ahead for the next boot, if they are not in memory.
    pub profile_bytes: u64,
    /// Bytes that were read ahead since the service started.
    pub ahead_bytes: u64,
    /// Bytes that were to be read ahead, but were in memory.
    pub ahead_warm_bytes: u64,
    /// Units of the disk that boots read since the service started.
    pub units_read: u64,
    /// Those of them that the profile named before.
    pub units_predicted: u64,
    /// Reads of these boots that were answered from memory.
    pub reads_from_memory: u64,
    /// Reads of these boots that waited for the storage.
    pub reads_from_storage: u64,
}

impl BootProfileStatus {
    /// A version that nobody has booted.
    pub fn new(version: VersionRef) -> Self {
        Self {
            version,
            boots: 0,
            profile_bytes: 0,
            ahead_bytes: 0,
            ahead_warm_bytes: 0,
            units_read: 0,
            units_predicted: 0,
            reads_from_memory: 0,
            reads_from_storage: 0,
        }
    }
}

/// A disk, for people and checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DiskStatus {
    /// Whose.
    pub client: ClientId,
    /// Its logical unit number: 0 for the system disk.
    #[serde(default)]
    pub lun: u8,
    /// Its state.
    pub state: DiskState,
    /// Size in bytes, as the initiator sees it.
    pub size_bytes: u64,
    /// Bytes that the client has written (allocated in the overlay).
    pub overlay_bytes: u64,
    /// Counts the overlays that this disk has had, from 1.
    pub generation: u64,
    /// The version below the overlay. After a reset the one that is assigned.
    pub version: Option<VersionRef>,
    /// True if the request dropped all writes, or found none. After a reset the rest of this is what
    /// the next power-on makes.
    pub fresh: bool,
}

/// An open session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionStatus {
    /// Whose.
    pub client: ClientId,
    /// Number of the session.
    pub session: u64,
    /// Firmware or operating system.
    pub kind: LoginKind,
    /// The initiator's address and port.
    pub peer: String,
    /// Since when.
    pub since: Timestamp,
    /// Last command.
    pub last_command: Timestamp,
    /// Bytes read since the login.
    pub read_bytes: u64,
    /// Bytes written since the login.
    pub written_bytes: u64,
    /// Its TCP connection; none if the kernel does not tell.
    #[serde(default)]
    pub tcp: Option<TcpCounters>,
}
