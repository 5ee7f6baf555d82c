//! What the doctor may find.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use dess_model::{MacAddr, ProbeFailure, ServiceName};
use dess_node::supervisor::protocol::LastExit;
use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// Something does not work.
    Bad,
    /// It works, but not well or not for long.
    Warning,
}

/// One cause of trouble.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub(crate) enum Finding {
    /// Some things can only be seen by root.
    NotRoot,
    /// Nobody runs the services.
    NothingRuns,
    /// A service's process does not run.
    ServiceDown {
        service: ServiceName,
        last_exit: Option<LastExit>,
        last_line: Option<String>,
    },
    /// A service runs and does not do its work.
    ServiceFails {
        service: ServiceName,
        failure: ProbeFailure,
    },
    /// Another program has a port of ours.
    PortTaken {
        protocol: &'static str,
        port: u16,
        holder: String,
    },
    /// The site names an interface that does not exist.
    InterfaceMissing {
        interface: String,
        existing: Vec<String>,
    },
    /// The cable is out, or the switch is off.
    LinkDown { interface: String },
    /// The network card has agreed on a low speed.
    LinkSlow { interface: String, mbit: u32 },
    /// The server does not have the address by which its clients know it.
    AddressChanged {
        wanted: Ipv4Addr,
        interface: String,
        found: Vec<Ipv4Addr>,
    },
    /// A boot file that PCs begin with is nowhere.
    LoaderMissing { file: String },
    /// A version of an image cannot be opened.
    ImageUnreadable {
        image: String,
        directory: PathBuf,
        detail: String,
    },
    /// A file system is full, or nearly.
    SpaceLow {
        path: PathBuf,
        free_bytes: u64,
        free_percent: u8,
    },
    /// A file belongs to somebody else, or others may write or read it.
    WrongRights {
        path: PathBuf,
        mode: u32,
        foreign_owner: Option<u32>,
        is_directory: bool,
    },
    /// A directory is missing.
    DirectoryMissing { path: PathBuf },
    /// The clock is behind what was written already.
    ClockBehind { by_secs: i64 },
    /// The clock is where no clock of a running server can be.
    ClockUnset,
    /// The site was never set up.
    NoSite,
    /// The database does not work.
    DatabaseGone { detail: String },
    /// What the services go by does not exist, or cannot be read.
    SnapshotUnreadable { detail: String },
    /// What the services go by is not what the database says.
    SnapshotStale { published: u64, wanted: u64 },
    /// All addresses are given.
    NoFreeLeases { network: String, total: u32 },
    /// Another DHCP server answers.
    RogueDhcp {
        interface: String,
        server: Ipv4Addr,
        mac: Option<MacAddr>,
    },
}

impl Finding {
    pub(crate) fn severity(&self) -> Severity {
        match self {
            Self::NotRoot | Self::LinkSlow { .. } | Self::NoFreeLeases { .. } => Severity::Warning,
            Self::SpaceLow { free_percent, .. } if *free_percent > 2 => Severity::Warning,
            _ => Severity::Bad,
        }
    }
}
