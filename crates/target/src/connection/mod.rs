//! One connection: its task, from accept to the end of its last command.

mod commands;
mod leave;
mod login;
mod lookout;
mod management;
mod reads;
mod report;
mod throttled;

use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes};
use dess_iscsi::{Charge, CloseReason, Connection, ConnectionConfig, Event, TaskId};
use dess_model::{SessionEnd, Timestamp};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use crate::accounts::{Meter, Operation};
use crate::admission::{Throttle, Turn};
use crate::boot_profiles::Recording;
use crate::engine::{Failure, Held, Outcome, Units};
use crate::listener::{Place, watch_peer};
use crate::service::Service;
use crate::sessions::{Order, Session};

use leave::Leave;
use lookout::Pace;
use management::PendingReset;
use reads::LongRead;
use report::Progress;
use throttled::Throttled;

/// Output that may wait for the peer before no more commands of it are carried out, in bytes; small
/// enough to stay in the cache.
const OUTPUT_BYTES_MAX: usize = 512 * 1024;
/// Commands after which the answers are sent, so that the peer works on them meanwhile.
const COMMANDS_PER_SEND: u32 = 16;
/// Most bytes of reads that may be in work on disk threads for one connection.
const READ_AHEAD_BYTES_MAX: u64 = 4 << 20;
/// Memory is counted in these units, in bytes.
const MEMORY_UNIT: usize = 64 * 1024;
/// Pieces of output that one write takes (the kernel's limit is 1024).
const SLICES_MAX: usize = 256;
/// How long a discovery session may last; it keeps its place among the half-open connections, as
/// anybody may open one.
const DISCOVERY_MAX: Duration = Duration::from_secs(30);
/// How long the last output may take when we end a session.
const FAREWELL: Duration = Duration::from_millis(200);

/// What disk threads and other tasks tell a connection.
pub(crate) enum Completion {
    /// A command is done; the bytes are those that it kept in memory.
    Done(TaskId, u64, Result<Outcome, Failure>),
    /// The range of a long read is free for it.
    Granted(TaskId, Held),
    /// A piece of a long read.
    Piece(TaskId, u64, Result<Bytes, Failure>),
    /// Other sessions have come to rest for a reset that this one asked for.
    OthersAtRest(TaskId),
}

/// The state of one connection's task.
pub(crate) struct ConnectionTask {
    service: Arc<Service>,
    socket: TcpStream,
    peer: SocketAddr,
    connection: Connection,
    tsih: u16,
    place: Place,
    completed: mpsc::UnboundedReceiver<Completion>,
    completions: mpsc::UnboundedSender<Completion>,
    orders: mpsc::UnboundedReceiver<Order>,
    orders_sender: mpsc::UnboundedSender<Order>,
    /// Commands on disk threads, and long reads.
    running: HashMap<TaskId, Running>,
    /// Commands that wait for a limit of the client or its group.
    throttle: Throttle<Throttled>,
    /// Bytes of reads in work on disk threads.
    read_ahead: u64,
    /// Memory for them, and for answers that the peer does not take.
    memory: Charge,
    long_reads: VecDeque<LongRead>,
    resets: Vec<PendingReset>,
    aborts: Vec<tokio::sync::oneshot::Sender<()>>,
    logged_in: Option<LoggedIn>,
    /// What it may do before others of its thread get their turn.
    turn: Turn,
    meter: Meter,
    pace: Pace,
    progress: Progress,
    leave: Leave,
    end: Option<SessionEnd>,
    /// When a discovery session must be over.
    expires: Option<Instant>,
}

/// What a connection has from its login on.
struct LoggedIn {
    session: Arc<Session>,
    units: Arc<Units>,
    /// The boot that it belongs to, while what that reads is noted.
    recording: Option<Arc<Recording>>,
}

/// A command that is not answered at once.
struct Running {
    /// How it is counted.
    operation: Option<Operation>,
    /// When it came.
    since: Instant,
}

/// What a task waited for.
enum Action {
    Readable,
    Writable,
    Completion(Completion),
    Order(Order),
    Tick,
    /// There is more to do already.
    GoOn,
    GiveWay,
    Stop,
}

impl ConnectionTask {
    pub(crate) fn new(
        service: Arc<Service>,
        socket: TcpStream,
        peer: SocketAddr,
        tsih: u16,
        place: Place,
    ) -> Self {
        let (completions, completed) = mpsc::unbounded_channel();
        let (orders_sender, orders) = mpsc::unbounded_channel();
        let now = Instant::now();
        let config = ConnectionConfig {
            peer: peer.ip().to_canonical(),
            // The kernel knows it as long as the socket is open.
            portal: socket.local_addr().unwrap_or(peer),
            portal_group_tag: 1,
            tsih,
            seed: rand::random(),
            memory: service.accounts.memory(),
            limits: service.limits,
        };
        let memory = Charge::new(service.accounts.memory());
        Self {
            service,
            socket,
            peer,
            connection: Connection::new(now, config),
            tsih,
            place,
            completed,
            completions,
            orders,
            orders_sender,
            running: HashMap::new(),
            throttle: Throttle::new(now),
            read_ahead: 0,
            memory,
            long_reads: VecDeque::new(),
            resets: Vec::new(),
            aborts: Vec::new(),
            logged_in: None,
            turn: Turn::new(),
            meter: Meter::new(now),
            pace: Pace::new(),
            progress: Progress::new(now),
            leave: Leave::Staying,
            end: None,
            expires: None,
        }
    }

    /// Serves the connection until it ends and nothing of it runs any more.
    pub(crate) async fn run(mut self) {
        let end = loop {
            let more = match self.work().await {
                Ok(more) => more,
                Err(error) => break self.end.unwrap_or(report::end_of(&error)),
            };
            if self.leave != Leave::Staying {
                self.go_on_leaving(Instant::now());
            }
            if let Some(end) = self.end {
                break end;
            }
            while self.turn.is_over() {
                tokio::task::yield_now().await;
                self.turn.begin();
            }
            let looks_out = !more && !self.pace.is_enough();
            if looks_out {
                match self.look_out().await {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(error) => break report::end_of(&error),
                }
            }
            self.pace.begin();
            let action = self.wait(!looks_out).await;
            if let Err(error) = self.apply(action) {
                break report::end_of(&error);
            }
        };
        self.finish(end).await;
    }

    /// Carries out what has arrived, as far as the peer takes the answers. True if it could go on
    /// at once, but others shall have their turn before.
    async fn work(&mut self) -> io::Result<bool> {
        loop {
            let mut commands = 0;
            while commands < COMMANDS_PER_SEND
                && self.may_take_more()
                && let Some(event) = self.connection.poll_event()
            {
                commands += 1;
                self.turn.charge_command();
                self.handle_event(event).await;
            }
            self.release_throttled();
            self.continue_long_reads();
            let before = self.connection.output_bytes();
            self.send()?;
            self.settle_account();
            self.settle_memory();
            if self.turn.is_over() {
                return Ok(self.end.is_none());
            }
            let stuck = self.connection.output_bytes() == before;
            let paused = commands == COMMANDS_PER_SEND || (before >= OUTPUT_BYTES_MAX && !stuck);
            // Go on if the kernel made room for what had to stop.
            if self.end.is_some() || !paused {
                return Ok(false);
            }
        }
    }

    fn may_take_more(&self) -> bool {
        self.end.is_none()
            && self.leave.takes_commands()
            && !self.turn.is_over()
            && self.connection.output_bytes() < OUTPUT_BYTES_MAX
            && self.read_ahead < READ_AHEAD_BYTES_MAX
            && self.has_memory()
    }

    /// False if the client has used up its memory, and this connection some of it: it goes on when that is free again.
    fn has_memory(&self) -> bool {
        self.memory.bytes() == 0 || !self.memory.budget().is_full()
    }

    /// Counts the memory that answers take: what the kernel takes at once is not worth counting.
    fn settle_memory(&mut self) {
        let bytes = self.connection.output_bytes() + self.read_ahead as usize;
        self.memory.set(bytes / MEMORY_UNIT * MEMORY_UNIT);
    }

    async fn handle_event(&mut self, event: Event) {
        match event {
            Event::LoggedIn(login) => self.log_in(*login).await,
            Event::LoginRefused(refused) => self.report_refusal(&refused),
            Event::Command(command) => self.handle_command(command),
            Event::TaskManagement(request) => self.handle_management(request),
            Event::Closed(reason) => self.handle_closed(&reason),
        }
    }

    fn handle_closed(&mut self, reason: &CloseReason) {
        let end = match reason {
            CloseReason::Logout => SessionEnd::Logout,
            CloseReason::LoginRefused(_) => SessionEnd::Closed,
            CloseReason::LoginTimeout => {
                self.report_late_login();
                SessionEnd::Closed
            }
            CloseReason::Protocol(error) => {
                self.report_malformed(error);
                SessionEnd::Protocol
            }
            CloseReason::PingTimeout => SessionEnd::Dead,
            CloseReason::Requested => SessionEnd::Administrative,
        };
        self.end.get_or_insert(end);
    }

    /// Waits for something to do; with `more` work at hand, only looks whether there is any.
    async fn wait(&mut self, more: bool) -> Action {
        let wants_input = self.may_take_more();
        let has_output = self.connection.output_bytes() > 0;
        let deadline = self.progress.next(self.connection.poll_timeout());
        let throttled = self.throttle.next().filter(|_| wants_input);
        let deadline = [throttled, self.leave.deadline()]
            .into_iter()
            .flatten()
            .fold(deadline, Instant::min);
        if more && Instant::now() >= deadline {
            return Action::Tick;
        }
        tokio::select! {
            biased;
            () = self.service.stopping.cancelled(), if self.leave == Leave::Staying => Action::Stop,
            Some(order) = self.orders.recv() => Action::Order(order),
            Some(completion) = self.completed.recv() => Action::Completion(completion),
            // An error shows at the read or write that follows.
            _ = self.socket.writable(), if has_output => Action::Writable,
            _ = self.socket.readable(), if wants_input => Action::Readable,
            () = std::future::ready(()), if more => Action::GoOn,
            () = sleep_until(deadline.into()) => Action::Tick,
            () = self.place.gives_way() => Action::GiveWay,
        }
    }

    fn apply(&mut self, action: Action) -> io::Result<()> {
        match action {
            Action::Readable => {
                self.receive()?;
            }
            Action::Writable => self.send()?,
            Action::Completion(completion) => {
                self.handle_completion(completion);
                while let Ok(more) = self.completed.try_recv() {
                    self.handle_completion(more);
                }
            }
            Action::Order(Order::End(reason)) => self.end = Some(reason),
            Action::Order(Order::Abort(lun, attention, done)) => {
                self.abort_all(lun, attention, done);
            }
            Action::Order(Order::Watch(vigilance)) => watch_peer(&self.socket, vigilance)?,
            Action::Tick => {
                let now = Instant::now();
                self.connection.handle_timeout(now);
                self.report_progress(now);
                if self.expires.is_some_and(|expires| expires <= now) {
                    self.end = Some(SessionEnd::Closed);
                }
            }
            Action::GoOn => {}
            Action::GiveWay => self.end = Some(SessionEnd::Closed),
            Action::Stop => self.begin_leave(Instant::now()),
        }
        Ok(())
    }

    /// Looks for the next command for a short while, if the peer is quick; true if there is one.
    async fn look_out(&mut self) -> io::Result<bool> {
        if self.connection.active_tasks() > 0 || self.connection.output_bytes() > 0 {
            return Ok(false);
        }
        let began = Instant::now();
        self.pace.note_answered(began);
        let Some(limit) = self.pace.look_out() else {
            return Ok(false);
        };
        loop {
            tokio::task::yield_now().await;
            if self.receive()? {
                self.pace.note_found();
                return Ok(true);
            }
            if began.elapsed() >= limit {
                return Ok(false);
            }
        }
    }

    /// Takes what has arrived; false if nothing has.
    fn receive(&mut self) -> io::Result<bool> {
        let socket = &self.socket;
        let limit = self.connection.receive_limit();
        let buffer = self.connection.receive_buffer();
        let room = (buffer.capacity() - buffer.len()).min(limit);
        let mut buffer = buffer.limit(room);
        let mut count = None;
        let received = socket.try_io(Interest::READABLE, || {
            let received = socket.try_read_buf(&mut buffer)?;
            count = Some(received);
            // Less than there is room for has emptied the socket: it need not be asked once more.
            match (1..room).contains(&received) {
                true => Err(io::ErrorKind::WouldBlock.into()),
                false => Ok(()),
            }
        });
        match (count, received) {
            (Some(0), _) => return Err(io::ErrorKind::UnexpectedEof.into()),
            (Some(count), _) => self.turn.charge_bytes(count as u64),
            (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            (None, _) => return Ok(false),
        }
        let now = Instant::now();
        self.pace.note_arrival(now);
        self.connection.handle_received(now, self.service.as_ref());
        self.meter
            .handle_arrival(now, self.connection.active_tasks());
        if let Some(logged_in) = &self.logged_in {
            logged_in.session.counters.touch(Timestamp::now());
        }
        Ok(true)
    }

    /// Sends as much output as the kernel takes.
    fn send(&mut self) -> io::Result<()> {
        while self.connection.output_bytes() > 0 {
            let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(16);
            self.connection.output(&mut slices, SLICES_MAX);
            let socket = &self.socket;
            let offered: usize = slices.iter().map(|slice| slice.len()).sum();
            let mut count = 0;
            let sent = socket.try_io(Interest::WRITABLE, || {
                count = socket.try_write_vectored(&slices)?;
                // The kernel has no more room: it need not be asked once more.
                match (1..offered).contains(&count) {
                    true => Err(io::ErrorKind::WouldBlock.into()),
                    false => Ok(()),
                }
            });
            drop(slices);
            self.connection.advance_output(count);
            match sent {
                Ok(()) if count == 0 => return Err(io::ErrorKind::WriteZero.into()),
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn settle_account(&mut self) {
        if let Some(logged_in) = &self.logged_in {
            let depth = self.connection.active_tasks();
            self.meter.settle(&logged_in.session.account, depth);
        }
    }

    /// Ends the connection: last output, then the commands that still run, then the event.
    async fn finish(mut self, end: SessionEnd) {
        self.say_farewell(end);
        if self.connection.output_bytes() > 0 && end != SessionEnd::Closed {
            let farewell = async {
                while self.connection.output_bytes() > 0 {
                    self.socket.writable().await?;
                    self.send()?;
                }
                io::Result::Ok(())
            };
            let _ = tokio::time::timeout(FAREWELL, farewell).await;
        }
        drop(self.connection);
        drop(self.socket);
        drop(self.orders);
        // A long read that the peer did not take holds its range: commands behind it must go on.
        self.long_reads.clear();
        // Each command that runs holds a sender; when the last is gone, nothing runs.
        drop(self.completions);
        while self.completed.recv().await.is_some() {}
        for done in self.aborts {
            let _ = done.send(());
        }
        if let Some(LoggedIn { session, units, .. }) = self.logged_in {
            self.meter.settle(&session.account, 0);
            for (_, unit) in units.all() {
                unit.release(session.id);
            }
            self.service.sessions.close(&session);
            self.service.note_departure(&session);
            report::session_ended(&self.service, &session, end);
        }
    }
}
