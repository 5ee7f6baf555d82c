//! `dess space`, `dess gc` and the marks of the pool.

use anyhow::{Result, bail};
use clap::Args;
use dess_node::operations::PoolChange;

use crate::limits::parse_bytes;

#[derive(Args)]
pub(crate) struct PoolArguments {
    /// Percent in use above which people are warned [default: 80].
    #[arg(long, value_name = "PERCENT")]
    space_warn: Option<u8>,
    /// Percent in use above which clients write slower [default: 90].
    #[arg(long, value_name = "PERCENT")]
    space_throttle: Option<u8>,
    /// Percent in use above which no client gets a new overlay [default: 95].
    #[arg(long, value_name = "PERCENT")]
    space_stop: Option<u8>,
    /// What all clients may write together while they are slowed down, per second, e.g. `32M` (MiB).
    #[arg(long, value_name = "BYTES")]
    space_rate: Option<String>,
}

impl PoolArguments {
    pub(crate) fn is_some(&self) -> bool {
        let marks = [self.space_warn, self.space_throttle, self.space_stop];
        marks.iter().any(Option::is_some) || self.space_rate.is_some()
    }

    pub(crate) fn change(&self) -> Result<PoolChange> {
        let rate = match self.space_rate.as_deref() {
            None => None,
            Some(text) => match parse_bytes(text) {
                Some(rate) => Some(rate),
                None => bail!("\"{text}\" is no rate; write a number of bytes with K, M or G"),
            },
        };
        Ok(PoolChange {
            warn_percent: self.space_warn,
            throttle_percent: self.space_throttle,
            stop_percent: self.space_stop,
            throttle_bytes_per_sec: rate,
        })
    }
}

#[derive(Args)]
pub(crate) struct GarbageArguments {
    /// Only say what would be removed.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask.
    #[arg(long, short)]
    pub(crate) yes: bool,
}
