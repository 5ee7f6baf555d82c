//! The stages of a boot.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How far a boot has come. In the order in which a boot passes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The PC's firmware asked for an address.
    Dhcp,
    /// The boot loader (iPXE) was fetched over TFTP or HTTP.
    Loader,
    /// iPXE asked for an address.
    Ipxe,
    /// The client's disk was made ready.
    Disk,
    /// The boot script was answered.
    Script,
    /// The firmware (iPXE) logged in to the disk.
    FirmwareLogin,
    /// The operating system logged in to the disk.
    OsLogin,
    /// The operating system asked for its address.
    OsDhcp,
    /// The operating system is up.
    Up,
    /// The boot failed.
    Failed,
    /// The session with the disk ended.
    SessionEnded,
}

impl Stage {
    /// All stages in order.
    pub const ALL: [Self; 11] = [
        Self::Dhcp,
        Self::Loader,
        Self::Ipxe,
        Self::Disk,
        Self::Script,
        Self::FirmwareLogin,
        Self::OsLogin,
        Self::OsDhcp,
        Self::Up,
        Self::Failed,
        Self::SessionEnded,
    ];

    /// The stable key, e.g. `firmware_login`: stored, sent as JSON, and the key of translations.
    pub fn key(self) -> &'static str {
        match self {
            Self::Dhcp => "dhcp",
            Self::Loader => "loader",
            Self::Ipxe => "ipxe",
            Self::Disk => "disk",
            Self::Script => "script",
            Self::FirmwareLogin => "firmware_login",
            Self::OsLogin => "os_login",
            Self::OsDhcp => "os_dhcp",
            Self::Up => "up",
            Self::Failed => "failed",
            Self::SessionEnded => "session_ended",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.key())
    }
}

/// The text is the key of no stage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a boot stage")]
pub struct UnknownStage(String);

impl FromStr for Stage {
    type Err = UnknownStage;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|stage| stage.key() == text)
            .ok_or_else(|| UnknownStage(text.to_owned()))
    }
}
