//! What a connection is told at its start.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::budget::Budget;

/// What a connection is told at its start.
#[derive(Clone, Debug)]
pub struct ConnectionConfig {
    /// The initiator's address.
    pub peer: IpAddr,
    /// Our address and port that it reached.
    pub portal: SocketAddr,
    /// Portal group of the portal that accepted the connection; 1 if there is only one.
    pub portal_group_tag: u16,
    /// Target session identifying handle that a successful login gets; not 0, and not in use by
    /// another session of the engine.
    pub tsih: u16,
    /// Random bytes for the CHAP challenge, fresh for every connection.
    pub seed: [u8; 32],
    /// Memory for write data, until the connection is told of that of its client.
    pub memory: Arc<Budget>,
    /// Bounds.
    pub limits: Limits,
}

/// Bounds of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most commands in work at once; the command window (RFC 7143 §4.2.2.1). 1 to 1024.
    pub queue_depth: u16,
    /// Longest data segment that we take; declared in login. 512 to 16 MiB.
    pub max_recv_data_segment_length: u32,
    /// Longest data sequence that we agree to.
    pub max_burst_length: u32,
    /// Most unsolicited data of a command that we agree to.
    pub first_burst_length: u32,
    /// Most R2Ts of one command in flight that we agree to.
    pub max_outstanding_r2t: u16,
    /// Most write data of one command; a longer one ends with CHECK CONDITION.
    pub max_command_data: u32,
    /// Most write data that is asked for (by R2T) or held at once, in bytes; at least
    /// `max_command_data`.
    pub max_write_data: usize,
    /// Agree to unsolicited data (InitialR2T=No) only if this is false.
    pub initial_r2t: bool,
    /// Agree to data within commands.
    pub immediate_data: bool,
    /// A login must be done within this time.
    pub login_timeout: Duration,
    /// Pings an initiator that was silent for so long, and closes if it stays silent for as long
    /// again. Off by default: iPXE never answers.
    pub ping_interval: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue_depth: 128,
            max_recv_data_segment_length: 262_144,
            max_burst_length: 1_048_576,
            first_burst_length: 262_144,
            max_outstanding_r2t: 1,
            max_command_data: 8 << 20,
            max_write_data: 16 << 20,
            initial_r2t: false,
            immediate_data: true,
            login_timeout: Duration::from_secs(30),
            ping_interval: None,
        }
    }
}
