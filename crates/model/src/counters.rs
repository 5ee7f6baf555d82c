//! What the iSCSI service counts for each client.

use serde::{Deserialize, Serialize};

use crate::ClientId;

/// Counters of one client since the iSCSI service started, over all of its sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ClientCounters {
    /// Whose.
    pub client: ClientId,
    /// Reads.
    pub read: OperationCounters,
    /// Writes of all kinds.
    pub write: OperationCounters,
    /// Flushes (SYNCHRONIZE CACHE).
    pub flush: OperationCounters,
    /// Unmaps.
    pub unmap: OperationCounters,
    /// Commands under way now.
    pub queue_depth: u64,
    /// Most commands that were under way in one session.
    pub queue_depth_max: u64,
    /// Commands that had to wait for a limit.
    pub throttled: u64,
    /// Sum of their waits, in microseconds.
    pub throttled_us: u64,
}

/// Counters of one kind of command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OperationCounters {
    /// Commands that were carried out.
    pub count: u64,
    /// Bytes that they moved.
    pub bytes: u64,
    /// Mean time from a command's arrival to its answer, in microseconds.
    pub mean_us: u64,
    /// Half of them took less, in microseconds; at most a quarter too high.
    pub p50_us: u64,
    /// 99 of 100 took less, in microseconds; at most a quarter too high.
    pub p99_us: u64,
}

/// What the kernel knows of a session's TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TcpCounters {
    /// Smoothed round-trip time in microseconds.
    pub rtt_us: u32,
    /// Segments sent again since the connection began.
    pub retransmits: u32,
}
