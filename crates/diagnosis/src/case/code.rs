//! The codes of faults: the one table that the page, the CLI and `docs/faults.md` follow.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::limits::{
    CONFLICT_QUIET_MS, DISK_QUIET_MS, LINK_QUIET_MS, NO_ADDRESS_QUIET_MS, ROGUE_QUIET_MS,
};
use super::{Severity, Subject};

/// A fault that has a name. 1x: services; 2x: a boot; 3x: addresses; 5x: space and network;
/// 6x: speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Code {
    /// A service is down, or up and does not work.
    E11,
    /// A PC asks for its boot file and never acknowledges what is sent: TFTP is blocked.
    E12,
    /// A PC asks for a boot file that is not there.
    E13,
    /// Disk read error: the storage fails, or is so slow that clients give up.
    E21,
    /// No boot device: the disk is missing, empty or has nothing on it that starts.
    E22,
    /// Check cable: a PC, or the server's own network card, lost its link.
    E23,
    /// A PC reboots over and over before its operating system is up.
    E24,
    /// A PC fetches its boot loader over and over and never gets to its disk.
    E25,
    /// A PC fetched its boot loader and does not run it: wrong architecture, or Secure Boot.
    E26,
    /// A PC's firmware takes no notice of what it is offered.
    E27,
    /// A PC's login to its disk is refused.
    E28,
    /// A PC has another address than the one that is reserved for it.
    E31,
    /// Two machines use one address.
    E32,
    /// No address is left for a PC.
    E33,
    /// The space for clients' writes is nearly full.
    E51,
    /// Another DHCP server answers in the room.
    E52,
    /// A PC's link loses packets.
    E61,
    /// A PC boots much slower than the others with the same image.
    E62,
}

/// When a case is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// As soon as the thing is looked at and found well.
    Absent,
    /// When it was not seen for so many milliseconds.
    Quiet(u64),
    /// When the PC's operating system logs in to its disk.
    OsLogin,
    /// When the PC's operating system is up.
    Up,
}

impl Code {
    /// All codes in order.
    pub const ALL: [Self; 18] = [
        Self::E11,
        Self::E12,
        Self::E13,
        Self::E21,
        Self::E22,
        Self::E23,
        Self::E24,
        Self::E25,
        Self::E26,
        Self::E27,
        Self::E28,
        Self::E31,
        Self::E32,
        Self::E33,
        Self::E51,
        Self::E52,
        Self::E61,
        Self::E62,
    ];

    /// As people see it, e.g. `E22`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::E11 => "E11",
            Self::E12 => "E12",
            Self::E13 => "E13",
            Self::E21 => "E21",
            Self::E22 => "E22",
            Self::E23 => "E23",
            Self::E24 => "E24",
            Self::E25 => "E25",
            Self::E26 => "E26",
            Self::E27 => "E27",
            Self::E28 => "E28",
            Self::E31 => "E31",
            Self::E32 => "E32",
            Self::E33 => "E33",
            Self::E51 => "E51",
            Self::E52 => "E52",
            Self::E61 => "E61",
            Self::E62 => "E62",
        }
    }

    /// How bad it is, unless the cause says otherwise.
    pub fn severity(self) -> Severity {
        match self {
            Self::E27 | Self::E32 | Self::E51 | Self::E61 | Self::E62 => Severity::Warn,
            Self::E11
            | Self::E12
            | Self::E13
            | Self::E21
            | Self::E22
            | Self::E23
            | Self::E24
            | Self::E25
            | Self::E26
            | Self::E28
            | Self::E31
            | Self::E33
            | Self::E52 => Severity::Bad,
        }
    }

    /// When a case of this code about `subject` is over.
    pub(crate) fn closing(self, subject: &Subject) -> Closing {
        match (self, subject) {
            (Self::E24, Subject::Seat { .. }) => Closing::Up,
            (
                Self::E12
                | Self::E13
                | Self::E22
                | Self::E23
                | Self::E25
                | Self::E26
                | Self::E27
                | Self::E28
                | Self::E31,
                Subject::Seat { .. },
            ) => Closing::OsLogin,
            (Self::E21, _) => Closing::Quiet(DISK_QUIET_MS),
            (Self::E32, _) => Closing::Quiet(CONFLICT_QUIET_MS),
            (Self::E33, _) => Closing::Quiet(NO_ADDRESS_QUIET_MS),
            (Self::E52, _) => Closing::Quiet(ROGUE_QUIET_MS),
            (Self::E61, _) => Closing::Quiet(LINK_QUIET_MS),
            _ => Closing::Absent,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text is no code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not the code of a fault")]
pub struct UnknownCode(String);

impl FromStr for Code {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|code| code.as_str() == text)
            .ok_or_else(|| UnknownCode(text.to_owned()))
    }
}
