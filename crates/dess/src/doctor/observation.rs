//! What the doctor sees. Whatever could not be looked at is none, which is not the same as empty.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use dess_dhcp::Binding;
use dess_model::{MacAddr, ProbeReport, SiteSnapshot, Timestamp};
use dess_node::supervisor::protocol::ServiceStatus;

/// Everything that was looked at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observation {
    pub(crate) now: Timestamp,
    pub(crate) is_root: bool,
    /// The services; none if nobody runs them.
    pub(crate) services: Option<Vec<ServiceStatus>>,
    pub(crate) probes: Vec<ProbeReport>,
    pub(crate) snapshot: SnapshotSeen,
    pub(crate) database: DatabaseSeen,
    /// The latest time that is written anywhere.
    pub(crate) newest: Option<Timestamp>,
    pub(crate) links: Vec<LinkSeen>,
    /// Ports of ours that other programs have.
    pub(crate) taken: Vec<PortSeen>,
    pub(crate) space: Vec<SpaceSeen>,
    pub(crate) files: Vec<FileSeen>,
    /// Versions in use that cannot be opened.
    pub(crate) broken_versions: Vec<VersionSeen>,
    pub(crate) missing_loaders: Vec<String>,
    pub(crate) leases: Vec<Binding>,
    pub(crate) rogues: Vec<RogueSeen>,
}

/// The site snapshot.
#[derive(Clone, Debug, Default)]
pub(crate) enum SnapshotSeen {
    #[default]
    Absent,
    Unreadable(String),
    Read(Box<SiteSnapshot>),
}

/// The database.
#[derive(Clone, Debug, Default)]
pub(crate) enum DatabaseSeen {
    /// There is none: the site was not set up.
    #[default]
    Absent,
    /// It does not answer, or not well.
    Fails(String),
    /// It works; the site's revision, if there is a site.
    Works(Option<u64>),
}

#[derive(Clone, Debug)]
pub(crate) struct LinkSeen {
    pub(crate) name: String,
    /// None if the interface is down, so that nobody can know.
    pub(crate) carrier: Option<bool>,
    pub(crate) mbit: Option<u32>,
    pub(crate) addresses: Vec<Ipv4Addr>,
}

#[derive(Clone, Debug)]
pub(crate) struct PortSeen {
    pub(crate) protocol: &'static str,
    pub(crate) port: u16,
    pub(crate) holder: String,
}

#[derive(Clone, Debug)]
pub(crate) struct SpaceSeen {
    pub(crate) path: PathBuf,
    pub(crate) total_bytes: u64,
    pub(crate) free_bytes: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct FileSeen {
    pub(crate) path: PathBuf,
    pub(crate) state: FileState,
    /// True if it holds secrets: nobody else may read it.
    pub(crate) is_secret: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum FileState {
    Missing,
    There {
        /// Permission bits.
        mode: u32,
        /// None if it is ours.
        foreign_owner: Option<u32>,
        is_directory: bool,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct VersionSeen {
    pub(crate) image: String,
    pub(crate) directory: PathBuf,
    pub(crate) detail: String,
}

#[derive(Clone, Debug)]
pub(crate) struct RogueSeen {
    pub(crate) interface: String,
    pub(crate) server: Ipv4Addr,
    pub(crate) mac: Option<MacAddr>,
}
