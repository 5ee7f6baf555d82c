//! One TCP connection of the target side, as a value.

use std::io::IoSlice;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::command::{Lun, ScsiResponse, TaskId, TaskManagementResponse};
use crate::directory::TargetDirectory;
use crate::event::Event;

/// What a connection is told at its start.
#[derive(Clone, Debug)]
pub struct ConnectionConfig {
    /// The initiator's address.
    pub peer: IpAddr,
    /// Portal group of the portal that accepted the connection; 1 if there is only one.
    pub portal_group_tag: u16,
    /// Target session identifying handle that a successful login gets; not 0, and not in use by
    /// another session of the engine.
    pub tsih: u16,
    /// Random bytes for the CHAP challenge, fresh for every connection.
    pub seed: [u8; 32],
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
            login_timeout: Duration::from_secs(30),
            ping_interval: None,
        }
    }
}

/// The target's end of one iSCSI connection.
///
/// The engine owns the socket and calls, in a loop:
///
/// 1. Wait until the socket can be read (or written, if [`output_bytes`](Self::output_bytes) is
///    not 0), an answer of the disk is ready, or [`poll_timeout`](Self::poll_timeout) is over (then
///    [`handle_timeout`](Self::handle_timeout)). Do not read while `output_bytes` is above the
///    engine's own limit: that is the back-pressure on an initiator that does not read.
/// 2. Read into [`receive_buffer`](Self::receive_buffer) (it always has free capacity; append
///    only), then call [`handle_received`](Self::handle_received), which takes every whole PDU.
///    Write data is split off the buffer without a copy.
/// 3. Drain [`poll_event`](Self::poll_event). Answer each [`Event::Command`] at once or later by
///    exactly one of [`complete_read`](Self::complete_read) (data copied by a closure straight into
///    the output, no allocation: for what is in memory) and [`complete`](Self::complete) (`Bytes`,
///    sent without a copy; long data may be sent ahead by
///    [`provide_data_in`](Self::provide_data_in)); each [`Event::TaskManagement`] by
///    [`task_management_response`](Self::task_management_response). Answers may come in any order,
///    and those to tasks that were aborted meanwhile are dropped.
/// 4. Send [`output`](Self::output) by one vectored write, tell how much went out by
///    [`advance_output`](Self::advance_output).
///
/// After [`Event::Closed`] no other event comes and input is ignored: send what is left, close.
/// When the peer closes, the engine just drops the value.
pub struct Connection {
    receive: BytesMut,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(now: Instant, config: ConnectionConfig) -> Self {
        let _ = (now, config);
        Self {
            receive: BytesMut::new(),
        }
    }

    /// Where received bytes are appended; has free capacity.
    pub fn receive_buffer(&mut self) -> &mut BytesMut {
        self.receive.reserve(1);
        &mut self.receive
    }

    /// Takes what was appended to the receive buffer.
    pub fn handle_received(&mut self, now: Instant, directory: &dyn TargetDirectory) {
        let _ = (now, directory);
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Does what is due: login deadline, ping, giving back the memory of an idle connection.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }

    /// Answers a read with GOOD and `transfer_length` bytes (what the CDB asks for), which `fill`
    /// writes piece by piece: it gets the offset within the data and the place. Only what the
    /// initiator expects is asked for.
    ///
    /// # Errors
    /// That of `fill`; then nothing is sent and the command is still open.
    pub fn complete_read<E>(
        &mut self,
        task: TaskId,
        transfer_length: u32,
        fill: impl FnMut(usize, &mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let _ = (task, transfer_length, fill);
        Ok(())
    }

    /// Sends the next part of a read's data ahead of [`complete`](Self::complete), which then
    /// carries the rest (or a bad status).
    pub fn provide_data_in(&mut self, task: TaskId, data: Bytes) {
        let _ = (task, data);
    }

    /// Answers a command. Ignored if the command was aborted meanwhile.
    pub fn complete(&mut self, task: TaskId, response: ScsiResponse) {
        let _ = (task, response);
    }

    /// Answers a task management request.
    pub fn task_management_response(&mut self, task: TaskId, response: TaskManagementResponse) {
        let _ = (task, response);
    }

    /// Forgets all commands on a logical unit (all logical units if none is given), because
    /// another session reset it or cleared its task set. Returns those that were delivered.
    pub fn abort_tasks(&mut self, lun: Option<Lun>) -> Vec<TaskId> {
        let _ = lun;
        Vec::new()
    }

    /// Commands that were delivered and not yet answered.
    pub fn active_tasks(&self) -> usize {
        0
    }

    /// Asks the initiator to log out within `within` (Async Message, event 1). Returns false if
    /// this initiator cannot be asked: then just close.
    pub fn request_logout(&mut self, within: Duration) -> bool {
        let _ = within;
        false
    }

    /// Tells the initiator of a change of a logical unit (Async Message, event 0) by sense data.
    /// Returns false if this initiator cannot be told.
    pub fn send_scsi_event(&mut self, lun: Lun, sense: &[u8]) -> bool {
        let _ = (lun, sense);
        false
    }

    /// Ends the connection from our side: [`Event::Closed`] follows. Queued output stays.
    pub fn close(&mut self) {}

    /// Bytes that wait to be sent.
    pub fn output_bytes(&self) -> usize {
        0
    }

    /// Appends up to `max` pieces of the output to `slices`, in order, for one vectored write.
    pub fn output<'a>(&'a self, slices: &mut Vec<IoSlice<'a>>, max: usize) {
        let _ = (slices, max);
    }

    /// Drops the first `count` bytes of the output, which were sent.
    ///
    /// # Panics
    /// If `count` is more than [`output_bytes`](Self::output_bytes).
    pub fn advance_output(&mut self, count: usize) {
        let _ = count;
    }
}

/// How a peer broke the protocol so that the connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The first PDU is no Login Request.
    #[error("opcode {opcode:#04x} before login")]
    NotLoggedIn {
        /// The opcode.
        opcode: u8,
    },
}
