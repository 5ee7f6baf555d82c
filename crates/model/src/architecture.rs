//! Processor and firmware kind of a client.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Client system architecture as sent in DHCP option 93 (RFC 4578 §2.1, IANA registry).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "u16", into = "u16")]
pub enum Architecture {
    /// 0: x86 with BIOS firmware.
    Bios,
    /// 6: x86 32-bit UEFI.
    UefiIa32,
    /// 7 (and 9, which early firmware sends): x64 UEFI.
    UefiX64,
    /// 11: ARM 64-bit UEFI.
    UefiArm64,
    /// 16: x64 UEFI, boot over HTTP.
    UefiX64Http,
    /// 19: ARM 64-bit UEFI, boot over HTTP.
    UefiArm64Http,
    /// Anything else, kept as sent.
    Unknown(u16),
}

impl From<u16> for Architecture {
    fn from(code: u16) -> Self {
        match code {
            0 => Self::Bios,
            6 => Self::UefiIa32,
            7 | 9 => Self::UefiX64,
            11 => Self::UefiArm64,
            16 => Self::UefiX64Http,
            19 => Self::UefiArm64Http,
            other => Self::Unknown(other),
        }
    }
}

impl From<Architecture> for u16 {
    fn from(architecture: Architecture) -> Self {
        match architecture {
            Architecture::Bios => 0,
            Architecture::UefiIa32 => 6,
            Architecture::UefiX64 => 7,
            Architecture::UefiArm64 => 11,
            Architecture::UefiX64Http => 16,
            Architecture::UefiArm64Http => 19,
            Architecture::Unknown(code) => code,
        }
    }
}

impl Architecture {
    /// True if the firmware asks for a URL (UEFI HTTP boot) instead of a TFTP file.
    pub fn is_http(self) -> bool {
        matches!(self, Self::UefiX64Http | Self::UefiArm64Http)
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bios => f.write_str("BIOS"),
            Self::UefiIa32 => f.write_str("UEFI IA32"),
            Self::UefiX64 => f.write_str("UEFI x64"),
            Self::UefiArm64 => f.write_str("UEFI ARM64"),
            Self::UefiX64Http => f.write_str("UEFI x64 HTTP"),
            Self::UefiArm64Http => f.write_str("UEFI ARM64 HTTP"),
            Self::Unknown(code) => write!(f, "architecture {code}"),
        }
    }
}
