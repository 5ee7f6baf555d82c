//! The services of a server, and what a probe of one finds.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{MacAddr, Timestamp};

/// The network card that the DHCP probe speaks for: locally administered, so no maker's. From the server itself it gets an
/// offer that holds no address; nobody registers it.
pub const PROBE_MAC: MacAddr = MacAddr([0x02, b'D', b'E', b'S', b'S', 0x01]);
/// The iSCSI target that exists for the probe alone.
pub const PROBE_TARGET: &str = "iqn.2026-11.io.dess:probe-disk";
/// Who logs in to it; also its CHAP user.
pub const PROBE_INITIATOR: &str = "iqn.2026-11.io.dess:probe";
/// With this, block 0 of the probe disk begins.
pub const PROBE_DISK_MARK: &[u8] = b"DESS probe disk\n";

/// The five services, each a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ServiceName {
    /// Addresses and boot information.
    Dhcp,
    /// Boot files and scripts.
    Boot,
    /// Disks.
    Iscsi,
    /// Management daemon.
    Node,
    /// Admin page.
    Web,
}

impl ServiceName {
    /// All services in the order in which they start.
    pub const START_ORDER: [Self; 5] = [Self::Node, Self::Iscsi, Self::Boot, Self::Dhcp, Self::Web];

    /// The name of the subcommand and of the process.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dhcp => "dhcp",
            Self::Boot => "boot",
            Self::Iscsi => "iscsi",
            Self::Node => "node",
            Self::Web => "web",
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not one of the five services.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a service; the services are dhcp, boot, iscsi, node and web")]
pub struct UnknownService(pub String);

impl FromStr for ServiceName {
    type Err = UnknownService;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::START_ORDER
            .into_iter()
            .find(|name| name.as_str() == text)
            .ok_or_else(|| UnknownService(text.to_owned()))
    }
}

/// What the last probe of a service found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProbeReport {
    /// Which service.
    pub service: ServiceName,
    /// Why it does not work; none if it does.
    pub failure: Option<ProbeFailure>,
    /// When it was probed.
    pub at: Timestamp,
    /// Since when it works, or does not.
    pub since: Timestamp,
    /// How long the probe took, in milliseconds.
    pub duration_ms: u64,
}

impl ProbeReport {
    /// True if the service did what it is for.
    pub fn works(&self) -> bool {
        self.failure.is_none()
    }
}

/// What was asked of a service that did not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ProbeStep {
    /// A DISCOVER that wants an offer.
    Dhcp,
    /// A boot file by TFTP.
    Tftp,
    /// A boot script by HTTP.
    Script,
    /// A boot file by HTTP.
    HttpFile,
    /// A login to the probe disk.
    Login,
    /// Block 0 of the probe disk.
    Read,
    /// How the management daemon is.
    Control,
    /// The page.
    Page,
}

/// Why a service does not work. The text is English, for the command line and the log; the page has its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum ProbeFailure {
    /// It has nothing to serve yet.
    #[error("there is no site snapshot; run `dess init`, or start `dess node`")]
    NoSite,
    /// It serves an interface that has no address of the site.
    #[error("interface {interface} has no address in a network of the site")]
    NoAddress {
        /// Which.
        interface: String,
    },
    /// Nobody listens.
    #[error("nobody listens at {at}")]
    Refused {
        /// Address and port, or the path of a socket.
        at: String,
    },
    /// No answer in time.
    #[error("no answer from {at} within {limit_ms} ms")]
    Silent {
        /// Address and port, or the path of a socket.
        at: String,
        /// How long was waited.
        limit_ms: u64,
        /// For what.
        step: ProbeStep,
    },
    /// The connection broke, or could not be made.
    #[error("{at}: {detail}")]
    Broken {
        /// Address and port, or the path of a socket.
        at: String,
        /// What the system said.
        detail: String,
    },
    /// It answered something that no client could use.
    #[error("{at} answered something unusable: {detail}")]
    Unusable {
        /// Address and port, or the path of a socket.
        at: String,
        /// To what.
        step: ProbeStep,
        /// What was wrong.
        detail: String,
    },
    /// It does not give a file that PCs boot from.
    #[error("boot file {file} cannot be fetched: {detail}")]
    BootFile {
        /// Its name.
        file: String,
        /// What the service said.
        detail: String,
    },
    /// The login to the probe disk was refused.
    #[error("the iSCSI service refused the probe's login with status {status:#06x}")]
    LoginRefused {
        /// Status class and detail (RFC 7143 §11.13.5).
        status: u16,
    },
    /// The secret of the probe disk cannot be read.
    #[error("cannot read the probe's secret {}", path.display())]
    NoSecret {
        /// The file.
        path: PathBuf,
    },
    /// The prober may not do what it must.
    #[error("not permitted; run as root")]
    NotPermitted,
}

/// True for the address of a peer that can only be this machine itself: it came over the loopback interface, or from the
/// address that it reached.
pub fn is_own_peer(peer: IpAddr, reached: IpAddr) -> bool {
    let (peer, reached) = (peer.to_canonical(), reached.to_canonical());
    peer.is_loopback() || peer == reached
}
