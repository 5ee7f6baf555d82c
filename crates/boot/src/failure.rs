//! What iPXE reports when a boot failed, and what it means.

use dess_model::{BootStage, EventKind, MacAddr};

/// A failure report: `/report/<mac>?stage=sanboot&errno=2c0d603b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureReport {
    /// The client's network card.
    pub mac: MacAddr,
    /// Where it failed.
    pub stage: BootStage,
    /// iPXE's error number; 0 if the disk's boot program returned without one.
    pub errno: u32,
}

/// A report that cannot be one of iPXE's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// Not a MAC address.
    #[error("the client is not named by its MAC address")]
    Mac,
    /// Not a stage.
    #[error("the stage is not one of script and sanboot")]
    Stage,
    /// Not an error number.
    #[error("the error number is not one to eight hexadecimal digits")]
    Errno,
}

/// A DESS code with what the person in front of the PC can do. Short lines of ASCII: iPXE shows
/// 80 columns and no Korean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    /// The code.
    pub code: &'static str,
    /// What is wrong.
    pub problem: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

impl FailureReport {
    /// Reads the parts of the URL.
    ///
    /// # Errors
    /// If a part is not what iPXE sends.
    pub fn parse(mac: &str, stage: &str, errno: &str) -> Result<Self, ReportError> {
        let stage = match stage {
            "script" => BootStage::Script,
            "sanboot" => BootStage::Sanboot,
            _ => return Err(ReportError::Stage),
        };
        let digits = errno.strip_prefix("0x").unwrap_or(errno);
        let hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !(1..=8).contains(&digits.len()) || !hexadecimal {
            return Err(ReportError::Errno);
        }
        Ok(Self {
            mac: mac.parse().map_err(|_| ReportError::Mac)?,
            stage,
            errno: u32::from_str_radix(digits, 16).map_err(|_| ReportError::Errno)?,
        })
    }

    /// The event for `node`.
    pub fn to_event(self) -> EventKind {
        EventKind::BootFailure {
            mac: self.mac,
            stage: self.stage,
            errno: format!("{:#010x}", self.errno),
        }
    }
}

/// What an iPXE error number means for a boot from the iSCSI disk.
///
/// Bits 24 to 30 are the POSIX-like class (iPXE `include/errno.h`); the rest says where in iPXE
/// it arose and is of no use to a person.
pub fn advice(errno: u32) -> Advice {
    match (errno >> 24) & 0x7f {
        // EACCES, EPERM: the login was refused.
        0x02 | 0x41 => Advice {
            code: "E28",
            problem: "The server refused this PC's login to its disk.",
            remedy: "Another PC may use its name: see Cases on the DESS page.",
        },
        // ECONNABORTED, ECONNREFUSED, ECONNRESET: nobody listens at the portal.
        0x0d..=0x0f => Advice {
            code: "E11",
            problem: "The disk service of the server is down.",
            remedy: "On the DESS page, see Services; restart the red one.",
        },
        // EHOSTUNREACH, ENETDOWN, ENETUNREACH, ENOTCONN, ETIMEDOUT.
        0x17 | 0x26 | 0x28 | 0x38 | 0x4c => Advice {
            code: "E23",
            problem: "The disk server cannot be reached.",
            remedy: "Check the network cable and switch of this PC and of the server.",
        },
        // ENODEV, ENOENT, ENXIO: no such target or LUN.
        0x2c | 0x2d | 0x3e => Advice {
            code: "E22",
            problem: "The server has no disk for this PC.",
            remedy: "On the DESS page, open this seat and check its image.",
        },
        // EIO and EFI's own errors (class 0x7f): read errors and missing boot sectors. ENOEXEC:
        // the boot sector has no signature.
        _ => Advice {
            code: "E22",
            problem: "This PC's disk has nothing on it that starts.",
            remedy: "On the DESS page, open this seat and reset it, or check its image.",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_errors_seen_at_real_clients_get_their_codes() {
        for (errno, code) in [
            (0x2c0d_603b, "E22"), // target name missing
            (0x1d70_4039, "E22"), // LUN missing
            (0x1d85_2039, "E22"), // disk empty, BIOS
            (0x7f22_208e, "E22"), // disk empty, UEFI
            (0x0f0a_6039, "E11"), // port closed
            (0x4c0a_6035, "E23"), // server dead
            (0x3808_6101, "E23"), // link down
            (0x0216_eb3c, "E28"), // permission denied
            (0, "E22"),
        ] {
            assert_eq!(advice(errno).code, code, "{errno:#x}");
        }
    }

    #[test]
    fn reports_are_read_strictly() {
        let mac = "52-54-00-77-00-10";
        let read = FailureReport::parse(mac, "sanboot", "0f0a6039").unwrap();
        assert_eq!(read.errno, 0x0f0a_6039);
        assert_eq!(FailureReport::parse(mac, "sanboot", "0xf0a6039"), Ok(read));
        for (mac, stage, errno, error) in [
            ("52-54", "sanboot", "1", ReportError::Mac),
            (mac, "shell", "1", ReportError::Stage),
            (mac, "script", "", ReportError::Errno),
            (mac, "script", "0x", ReportError::Errno),
            (mac, "script", "123456789", ReportError::Errno),
            (mac, "script", "+1234567", ReportError::Errno),
            (mac, "script", "${errno}", ReportError::Errno),
        ] {
            assert_eq!(FailureReport::parse(mac, stage, errno), Err(error));
        }
        let EventKind::BootFailure { errno, .. } = read.to_event() else {
            panic!("wrong event");
        };
        assert_eq!(errno, "0x0f0a6039");
    }
}
