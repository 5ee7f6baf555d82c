//! Operational keys and what they were negotiated to (RFC 7143 §13).

/// What a session was negotiated to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionParameters {
    /// CRC32C after each header.
    pub header_digest: bool,
    /// CRC32C after each data segment.
    pub data_digest: bool,
    /// The initiator waits for R2T before it sends data beyond immediate data.
    pub initial_r2t: bool,
    /// Commands may carry data.
    pub immediate_data: bool,
    /// Longest data segment that the initiator takes, in bytes.
    pub initiator_max_recv_data_segment_length: u32,
    /// Longest data segment that we take, in bytes.
    pub target_max_recv_data_segment_length: u32,
    /// Longest data sequence, in bytes.
    pub max_burst_length: u32,
    /// Most unsolicited data of a command, in bytes.
    pub first_burst_length: u32,
    /// Most R2Ts of a command without an answer.
    pub max_outstanding_r2t: u16,
}
