//! Limits of clients and groups on the command line.

use anyhow::{Result, bail};
use clap::Args;
use dess_model::{IoLimits, OverlayLimits, RateLimits};
use dess_node::operations::LimitsChange;

use crate::output::bytes;

/// Limits to set; `none` takes one away.
#[derive(Args)]
pub(crate) struct LimitArguments {
    /// Bytes read per second, e.g. `200M` (MiB), or `none`.
    #[arg(long, value_name = "BYTES")]
    limit_read: Option<String>,
    /// Bytes written per second, e.g. `50M` (MiB), or `none`.
    #[arg(long, value_name = "BYTES")]
    limit_write: Option<String>,
    /// Reads per second, or `none`.
    #[arg(long, value_name = "COUNT")]
    limit_read_iops: Option<String>,
    /// Writes per second, or `none`.
    #[arg(long, value_name = "COUNT")]
    limit_write_iops: Option<String>,
    /// How much may be used at once after a pause, as milliseconds of the limited rate, or `none`
    /// for one second.
    #[arg(long, value_name = "MILLISECONDS")]
    limit_burst: Option<String>,
    /// Size of the overlay above which it is reported, e.g. `20G` (GiB), or `none`. Of a group: of each of its clients.
    #[arg(long, value_name = "BYTES")]
    limit_overlay_soft: Option<String>,
    /// Size above which the overlay does not grow: writes that need more space are refused; or `none`.
    #[arg(long, value_name = "BYTES")]
    limit_overlay: Option<String>,
}

impl LimitArguments {
    pub(crate) fn change(&self) -> Result<LimitsChange> {
        Ok(LimitsChange {
            read_bytes_per_sec: parsed(self.limit_read.as_deref(), parse_bytes)?,
            read_iops: parsed(self.limit_read_iops.as_deref(), parse_count)?,
            write_bytes_per_sec: parsed(self.limit_write.as_deref(), parse_bytes)?,
            write_iops: parsed(self.limit_write_iops.as_deref(), parse_count)?,
            burst_ms: parsed(self.limit_burst.as_deref(), |text| {
                text.parse().ok().filter(|ms| *ms > 0)
            })?,
            overlay_soft_bytes: parsed(self.limit_overlay_soft.as_deref(), parse_bytes)?,
            overlay_hard_bytes: parsed(self.limit_overlay.as_deref(), parse_bytes)?,
        })
    }
}

/// Limits in a few words: `read 200.0 MiB/s, write 500 IOPS`.
pub(crate) fn describe(limits: &IoLimits) -> String {
    if limits.is_none() {
        return "none".to_owned();
    }
    let direction = |name: &str, limits: &RateLimits| {
        let rate = limits
            .bytes_per_sec
            .map(|rate| format!("{name} {}/s", bytes(rate)));
        let iops = limits.iops.map(|iops| format!("{name} {iops} IOPS"));
        rate.into_iter().chain(iops).collect::<Vec<_>>()
    };
    let mut parts = direction("read", &limits.read);
    parts.extend(direction("write", &limits.write));
    if limits.burst_ms.is_some() {
        parts.push(format!("burst {} ms", limits.burst().as_millis()));
    }
    parts.join(", ")
}

/// Limits of an overlay in a few words: `soft 10.0 GiB, hard 20.0 GiB`.
pub(crate) fn describe_overlay(limits: &OverlayLimits) -> String {
    let soft = limits.soft_bytes.map(|at| format!("soft {}", bytes(at)));
    let hard = limits.hard_bytes.map(|at| format!("hard {}", bytes(at)));
    let parts: Vec<String> = soft.into_iter().chain(hard).collect();
    match parts.is_empty() {
        true => "none".to_owned(),
        false => parts.join(", "),
    }
}

/// None if nothing is said, the inner one if the limit is taken away.
fn parsed<T>(text: Option<&str>, parse: impl Fn(&str) -> Option<T>) -> Result<Option<Option<T>>> {
    match text {
        None => Ok(None),
        Some("none") => Ok(Some(None)),
        Some(text) => match parse(text) {
            Some(value) => Ok(Some(Some(value))),
            None => bail!("\"{text}\" is no limit; write a number (bytes with K, M or G) or none"),
        },
    }
}

fn parse_count(text: &str) -> Option<u64> {
    text.parse().ok().filter(|count| *count > 0)
}

/// `50M` is 50 MiB.
pub(crate) fn parse_bytes(text: &str) -> Option<u64> {
    let unit = match text.chars().next_back()? {
        'k' | 'K' => 1 << 10,
        'm' | 'M' => 1 << 20,
        'g' | 'G' => 1 << 30,
        't' | 'T' => 1 << 40,
        _ => return parse_count(text),
    };
    parse_count(&text[..text.len() - 1])?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(parse_bytes("50M"), Some(50 << 20));
        assert_eq!(parse_bytes("2g"), Some(2 << 30));
        assert_eq!(parse_bytes("1048576"), Some(1 << 20));
        for wrong in ["", "M", "0", "-1", "1.5M", "99999999999G", "십"] {
            assert_eq!(parse_bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn none_takes_a_limit_away_and_silence_keeps_it() {
        assert_eq!(parsed(Some("none"), parse_count).unwrap(), Some(None));
        assert_eq!(parsed(None, parse_count).unwrap(), None);
        assert!(parsed(Some("much"), parse_count).is_err());
    }
}
