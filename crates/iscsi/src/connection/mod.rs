//! One TCP connection of the target side, as a value.
//!
//! `receive` cuts bytes into PDUs; [`Connection`] runs the login and then hands them to
//! `full_feature` (dispatch, window), `write` (data from the initiator, R2T), `manage` (task
//! management, logout, ping), `text_exchange`; answers go through `respond` and `outbox` to
//! `output`.

mod config;
mod error;
mod full_feature;
mod manage;
mod outbox;
mod output;
mod receive;
mod respond;
mod tasks;
mod text_exchange;
mod window;
mod write;

#[cfg(test)]
mod tests;

use std::io::IoSlice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tracing::debug;

use crate::budget::Budget;
use crate::command::{Lun, ScsiResponse, TaskId, TaskManagementResponse};
use crate::directory::TargetDirectory;
use crate::event::{CloseReason, Event, LoginRefused};
use crate::login::{Login, LoginStatus, Reply};
use crate::pdu::{LoginRequest, LoginResponse, Stage, opcode};

pub use config::{ConnectionConfig, Limits};
pub use error::ProtocolError;

use full_feature::FullFeature;
use outbox::Outbox;
use receive::{Pdu, Receive};
use window::Window;

/// An idle connection gives back buffers larger than this, in bytes.
const IDLE_BYTES_MAX: usize = 4096;

/// Idle time after which buffers are given back.
const IDLE_AFTER: Duration = Duration::from_secs(2);

/// How often a write that waits for memory is tried again.
const MEMORY_AGAIN: Duration = Duration::from_millis(10);

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
    config: ConnectionConfig,
    phase: Phase,
    receive: Receive,
    outbox: Outbox,
    started: Instant,
    last_received: Instant,
    /// Since when buffers might be given back.
    idle_since: Instant,
    /// When a write that waits for memory is tried again.
    memory_again: Instant,
    /// When the ping that is out was sent.
    pinged: Option<Instant>,
}

/// Where a connection is. It only goes forward.
enum Phase {
    Login(Box<Login>),
    FullFeature(Box<FullFeature>),
    Closed,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(now: Instant, config: ConnectionConfig) -> Self {
        let login = Login::new(&config);
        Self {
            phase: Phase::Login(Box::new(login)),
            receive: Receive::new(),
            outbox: Outbox::new(config.limits.queue_depth),
            started: now,
            last_received: now,
            idle_since: now,
            memory_again: now,
            pinged: None,
            config,
        }
    }

    /// Where received bytes are appended; has free capacity.
    pub fn receive_buffer(&mut self) -> &mut BytesMut {
        self.receive.buffer()
    }

    /// Most bytes that are worth reading at once into the receive buffer: more is not wrong, but has to be moved.
    pub fn receive_limit(&self) -> usize {
        self.receive.limit()
    }

    /// Takes what was appended to the receive buffer.
    pub fn handle_received(&mut self, now: Instant, directory: &dyn TargetDirectory) {
        self.last_received = now;
        self.idle_since = now;
        self.memory_again = now + MEMORY_AGAIN;
        self.pinged = None;
        self.receive.note_received();
        loop {
            if matches!(self.phase, Phase::Closed) {
                return self.receive.clear();
            }
            match self.receive.next_pdu() {
                Ok(Some(pdu)) => self.handle_pdu(pdu, directory),
                Ok(None) => return,
                Err(error) => self.end(CloseReason::Protocol(error)),
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let idle = self.is_trimmable().then(|| self.idle_since + IDLE_AFTER);
        let (due, again) = match &self.phase {
            Phase::Login(_) => (Some(self.started + self.config.limits.login_timeout), None),
            Phase::FullFeature(session) => {
                let again = session.lacks_memory.then_some(self.memory_again);
                (self.ping_due(), again)
            }
            Phase::Closed => return None,
        };
        [idle, due, again].into_iter().flatten().min()
    }

    /// Does what is due: login deadline, ping, giving back the memory of an idle connection.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.is_trimmable() && now >= self.idle_since + IDLE_AFTER {
            self.trim(now);
        }
        let login_deadline = self.started + self.config.limits.login_timeout;
        let ping_due = self.ping_due();
        if let Phase::FullFeature(session) = &mut self.phase
            && session.lacks_memory
            && now >= self.memory_again
        {
            session.admit_waiting(&mut self.outbox);
            self.memory_again = now + MEMORY_AGAIN;
        }
        match &mut self.phase {
            Phase::Login(_) if now >= login_deadline => self.end(CloseReason::LoginTimeout),
            Phase::FullFeature(session) if ping_due.is_some_and(|due| now >= due) => {
                if self.pinged.is_some() {
                    return self.end(CloseReason::PingTimeout);
                }
                session.ping(&mut self.outbox);
                self.pinged = Some(now);
            }
            _ => {}
        }
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.outbox.events.pop_front()
    }

    /// Answers a read with GOOD and `transfer_length` bytes (what the CDB asks for), which `fill`
    /// writes piece by piece: it gets the offset within the data and the place, and must fill it
    /// whole. Only what the initiator expects, and was not sent before, is asked for.
    ///
    /// Meant for short data that is in memory; longer data goes as `Bytes` by [`complete`](Self::complete).
    ///
    /// # Errors
    /// That of `fill`; then nothing is sent and the command is still open.
    pub fn complete_read<E>(
        &mut self,
        task: TaskId,
        transfer_length: u32,
        fill: impl FnMut(usize, &mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        match &mut self.phase {
            Phase::FullFeature(session) => {
                session.complete_read(&mut self.outbox, task, transfer_length, fill)
            }
            _ => Ok(()),
        }
    }

    /// Sends the next part of a read's data ahead of [`complete`](Self::complete), which carries
    /// the last part (or a bad status).
    pub fn provide_data_in(&mut self, task: TaskId, data: Bytes) {
        if let Phase::FullFeature(session) = &mut self.phase {
            session.provide_data_in(&mut self.outbox, task, data);
        }
    }

    /// Answers a command. Ignored if the command was aborted meanwhile.
    pub fn complete(&mut self, task: TaskId, response: ScsiResponse) {
        if let Phase::FullFeature(session) = &mut self.phase {
            session.complete(&mut self.outbox, task, response);
        }
    }

    /// Answers a task management request.
    pub fn task_management_response(&mut self, task: TaskId, response: TaskManagementResponse) {
        if let Phase::FullFeature(session) = &mut self.phase {
            session.task_management_response(&mut self.outbox, task, response);
        }
    }

    /// Forgets all commands on a logical unit (all logical units if none is given), because
    /// another session reset it or cleared its task set. Returns those that were delivered.
    pub fn abort_tasks(&mut self, lun: Option<Lun>) -> Vec<TaskId> {
        match &mut self.phase {
            Phase::FullFeature(session) => session.abort_where(&mut self.outbox, |task| {
                lun.is_none_or(|lun| task.lun.number() == lun.number())
            }),
            _ => Vec::new(),
        }
    }

    /// Write data is counted in this budget from now on: that of the client that has logged in.
    pub fn set_memory(&mut self, memory: Arc<Budget>) {
        if let Phase::FullFeature(session) = &mut self.phase {
            session.memory = memory;
        }
    }

    /// The logical unit that a task is for; none if it was answered or aborted.
    pub fn lun_of(&self, task: TaskId) -> Option<Lun> {
        match &self.phase {
            Phase::FullFeature(session) => session.lun_of(task),
            _ => None,
        }
    }

    /// Commands and requests that are not yet answered.
    pub fn active_tasks(&self) -> usize {
        match &self.phase {
            Phase::FullFeature(session) => session.task_count(),
            _ => 0,
        }
    }

    /// Asks the initiator to log out within `within` (Async Message, event 1). Returns false if
    /// this initiator cannot be asked: then just close.
    pub fn request_logout(&mut self, within: Duration) -> bool {
        match &mut self.phase {
            Phase::FullFeature(session) => session.request_logout(&mut self.outbox, within),
            _ => false,
        }
    }

    /// Tells the initiator that its session is dropped, and after how many seconds it may come back (Async Message,
    /// event 3). Returns false if this initiator cannot be told: then just close.
    pub fn announce_drop(&mut self, time2wait: u16) -> bool {
        match &mut self.phase {
            Phase::FullFeature(session) => session.announce_drop(&mut self.outbox, time2wait),
            _ => false,
        }
    }

    /// Tells the initiator of a change of a logical unit (Async Message, event 0) by sense data.
    /// Returns false if this initiator cannot be told.
    pub fn send_scsi_event(&mut self, lun: Lun, sense: &[u8]) -> bool {
        match &mut self.phase {
            Phase::FullFeature(session) => session.send_scsi_event(&mut self.outbox, lun, sense),
            _ => false,
        }
    }

    /// Ends the connection from our side: [`Event::Closed`] follows. Queued output stays.
    pub fn close(&mut self) {
        self.end(CloseReason::Requested);
    }

    /// Bytes that wait to be sent.
    pub fn output_bytes(&self) -> usize {
        self.outbox.output.len()
    }

    /// Appends up to `max` pieces of the output to `slices`, in order, for one vectored write.
    pub fn output<'a>(&'a self, slices: &mut Vec<IoSlice<'a>>, max: usize) {
        self.outbox.output.slices(slices, max);
    }

    /// Drops the first `count` bytes of the output, which were sent.
    ///
    /// # Panics
    /// If `count` is more than [`output_bytes`](Self::output_bytes).
    pub fn advance_output(&mut self, count: usize) {
        self.outbox.output.advance(count);
    }

    /// Memory in buffers, in bytes; for tests.
    #[cfg(test)]
    fn kept_bytes(&self) -> usize {
        self.receive.capacity() + self.outbox.capacity()
    }

    /// The next command number; for tests.
    #[cfg(test)]
    fn expected_cmd_sn(&self) -> u32 {
        self.outbox.window.exp_cmd_sn()
    }

    fn is_trimmable(&self) -> bool {
        self.receive.capacity() > IDLE_BYTES_MAX || self.outbox.capacity() > IDLE_BYTES_MAX
    }

    fn trim(&mut self, now: Instant) {
        self.receive.trim();
        self.outbox.trim();
        if let Phase::FullFeature(session) = &mut self.phase {
            session.trim();
        }
        // What is still in use is looked at again later.
        self.idle_since = now;
    }

    fn ping_due(&self) -> Option<Instant> {
        let interval = self.config.limits.ping_interval?;
        Some(self.pinged.unwrap_or(self.last_received) + interval)
    }

    fn end(&mut self, reason: CloseReason) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        debug!(?reason, "the connection ends");
        self.phase = Phase::Closed;
        self.receive.clear();
        self.outbox.events.push_back(Event::Closed(reason));
    }

    fn handle_pdu(&mut self, pdu: Pdu, directory: &dyn TargetDirectory) {
        match &mut self.phase {
            Phase::Login(_) => self.handle_login_pdu(&pdu, directory),
            Phase::FullFeature(session) => {
                if let Err(reason) = session.handle_pdu(&mut self.outbox, pdu, directory) {
                    self.end(reason);
                }
            }
            Phase::Closed => {}
        }
    }

    fn handle_login_pdu(&mut self, pdu: &Pdu, directory: &dyn TargetDirectory) {
        let Phase::Login(login) = &mut self.phase else {
            return;
        };
        if opcode(&pdu.header) != LoginRequest::OPCODE {
            let opcode = opcode(&pdu.header);
            return self.end(CloseReason::Protocol(ProtocolError::NotLoggedIn { opcode }));
        }
        let request = match LoginRequest::decode(&pdu.header) {
            Ok(request) => request,
            Err(error) => return self.end(CloseReason::Protocol(ProtocolError::Malformed(error))),
        };
        // Login Requests are immediate: the first command has the number that the login carries.
        self.outbox.window = Window::new(request.cmd_sn, self.config.limits.queue_depth);
        match login.handle(&request, &pdu.data, directory) {
            Ok(reply) => {
                let is_last = reply.nsg == Some(Stage::FullFeature);
                self.send_login_response(&request, &reply, 0, is_last);
                if is_last {
                    self.enter_full_feature();
                }
            }
            Err(status) => {
                let identity = login.claimed_identity();
                self.refuse_login(&request, identity, status);
            }
        }
    }

    fn send_login_response(
        &mut self,
        request: &LoginRequest,
        reply: &Reply,
        status: u16,
        is_last: bool,
    ) {
        let response = LoginResponse {
            more: false,
            csg: request.csg,
            nsg: reply.nsg,
            isid: request.isid,
            tsih: if is_last { self.config.tsih } else { 0 },
            itt: request.itt,
            sequence: self.outbox.next_sequence(),
            status,
        };
        self.outbox
            .send(&response.encode(reply.text.len()), &reply.text);
    }

    fn refuse_login(
        &mut self,
        request: &LoginRequest,
        identity: Option<crate::directory::LoginIdentity>,
        status: LoginStatus,
    ) {
        self.send_login_response(request, &Reply::default(), status.code(), false);
        let refused = LoginRefused { identity, status };
        self.outbox
            .events
            .push_back(Event::LoginRefused(Box::new(refused)));
        self.end(CloseReason::LoginRefused(status));
    }

    fn enter_full_feature(&mut self) {
        let Phase::Login(login) = std::mem::replace(&mut self.phase, Phase::Closed) else {
            return;
        };
        let cid = login.cid();
        let Some(facts) = login.finish(self.config.tsih) else {
            unreachable!("a login that is done was admitted");
        };
        let parameters = facts.parameters;
        self.receive.configure(
            parameters.target_max_recv_data_segment_length,
            parameters.header_digest,
            parameters.data_digest,
        );
        self.outbox
            .set_digests(parameters.header_digest, parameters.data_digest);
        let session = FullFeature::new(&facts, cid, &self.config);
        self.phase = Phase::FullFeature(Box::new(session));
        self.outbox
            .events
            .push_back(Event::LoggedIn(Box::new(facts)));
    }
}
