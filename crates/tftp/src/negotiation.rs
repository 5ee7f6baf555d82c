//! What client and server agree on before the first block (RFC 2347).

use std::time::Duration;

use crate::packet::{Options, Packet};

/// Block size without the option (RFC 1350 §2), in bytes.
pub const BLKSIZE_DEFAULT: u16 = 512;
/// Least block size that may be asked for (RFC 2348), in bytes.
pub const BLKSIZE_MIN: u16 = 8;
/// Greatest block size that may be asked for (RFC 2348), in bytes.
pub const BLKSIZE_MAX: u16 = 65464;
/// Longest time-out that may be asked for (RFC 2349), in seconds.
const TIMEOUT_SECS_MAX: u64 = 255;
/// Wait before the first retransmission if the client does not ask for another.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(1);

/// The most that a server agrees to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Block size in bytes, [`BLKSIZE_MIN`] to [`BLKSIZE_MAX`]. The default is [`BLKSIZE_MAX`]: a
    /// client asks for what it can take. Blocks over the path's MTU less 32 bytes (1468 on
    /// Ethernet) travel as IP fragments; set 1468 where a network drops those.
    pub blksize_max: u16,
    /// Blocks sent before an ACK is awaited (RFC 7440), 1 or more.
    pub windowsize_max: u16,
    /// Bytes of such a window. The default of 64 KiB fits the receive buffer that Linux gives a
    /// socket. Seen: atftp loses the tail of each window of 128 KiB and waits for the timer.
    pub window_bytes_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            blksize_max: BLKSIZE_MAX,
            windowsize_max: 64,
            window_bytes_max: 64 * 1024,
        }
    }
}

/// The parameters of one transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// Bytes of each block but the last.
    pub blksize: u16,
    /// Blocks sent before an ACK is awaited.
    pub windowsize: u16,
    /// Wait before the first retransmission; the longest one if the client did not ask for it.
    pub timeout: Duration,
    /// True if the client asked for that wait (RFC 2349), which is then kept.
    pub timeout_asked: bool,
    /// True if the client asked for the file's size.
    pub size_asked: bool,
    /// The options accepted, as the OACK names them; empty if the client asked for none, and the
    /// transfer then starts with the first block (RFC 2347).
    pub accepted: Vec<(&'static str, u64)>,
}

/// Answers the client's options. Unknown options and unusable values are passed over, as RFC 2347
/// has it; the first of two equal names counts.
pub fn negotiate(options: &Options<'_>, limits: &Limits, file_bytes: u64) -> Negotiated {
    let mut agreed = Negotiated {
        blksize: BLKSIZE_DEFAULT,
        windowsize: 1,
        timeout: TIMEOUT_DEFAULT,
        timeout_asked: false,
        size_asked: false,
        accepted: Vec::new(),
    };
    for (name, value) in options {
        let Ok(value) = value.trim().parse::<u64>() else {
            continue;
        };
        let known = ["blksize", "timeout", "tsize", "windowsize"];
        let Some(name) = known.into_iter().find(|k| k.eq_ignore_ascii_case(name)) else {
            continue;
        };
        if agreed.accepted.iter().any(|(seen, _)| *seen == name) {
            continue;
        }
        if let Some(accepted) = agreed.accept(name, value, limits, file_bytes) {
            agreed.accepted.push((name, accepted));
        }
    }
    agreed.bound_window(limits);
    agreed
}

impl Negotiated {
    /// Takes one option; its value for the OACK, or none if it cannot be accepted.
    fn accept(&mut self, name: &str, value: u64, limits: &Limits, file_bytes: u64) -> Option<u64> {
        match name {
            "blksize" => {
                let asked = at_least(value, BLKSIZE_MIN)?;
                self.blksize = asked.min(limits.blksize_max.clamp(BLKSIZE_MIN, BLKSIZE_MAX));
                Some(self.blksize.into())
            }
            "windowsize" => {
                self.windowsize = at_least(value, 1)?.min(limits.windowsize_max.max(1));
                Some(self.windowsize.into())
            }
            // The value may not be changed, only accepted or passed over (RFC 2349).
            "timeout" => (1..=TIMEOUT_SECS_MAX).contains(&value).then(|| {
                self.timeout = Duration::from_secs(value);
                self.timeout_asked = true;
                value
            }),
            "tsize" => {
                self.size_asked = true;
                Some(file_bytes)
            }
            _ => None,
        }
    }

    /// Fits the window's bytes under their limit once both options are known.
    fn bound_window(&mut self, limits: &Limits) {
        let fitting = (limits.window_bytes_max / u32::from(self.blksize)).max(1);
        self.windowsize = self
            .windowsize
            .min(u16::try_from(fitting).unwrap_or(u16::MAX));
        for (name, value) in &mut self.accepted {
            if *name == "windowsize" {
                *value = self.windowsize.into();
            }
        }
    }

    /// The OACK, or none if the client asked for nothing.
    pub fn option_ack(&self) -> Option<Vec<u8>> {
        if self.accepted.is_empty() {
            return None;
        }
        let values: Vec<String> = self.accepted.iter().map(|(_, v)| v.to_string()).collect();
        let options = self
            .accepted
            .iter()
            .zip(&values)
            .map(|((name, _), value)| (*name, value.as_str()))
            .collect();
        Some(Packet::OptionAck { options }.to_vec())
    }
}

/// The value if it is not below the least one; above 65535 counts as 65535.
fn at_least(value: u64, least: u16) -> Option<u16> {
    let value = u16::try_from(value).unwrap_or(u16::MAX);
    (value >= least).then_some(value)
}

#[cfg(test)]
mod tests;
