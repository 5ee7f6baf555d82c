//! The open sessions: who is there, and how to end them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dess_model::{ClientId, LoginKind, SessionEnd, SessionStatus, Timestamp};
use dess_scsi::{CopyRecord, Sense};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::accounts::Account;
use crate::listener::Vigilance;
use crate::tcp_info::TcpState;

/// What other tasks ask of a connection.
pub(crate) enum Order {
    /// End the session.
    End(SessionEnd),
    /// Abort all commands on a logical unit, or on all; answer when none runs any more. If there were any, their initiator
    /// hears of it by the unit attention.
    Abort(Option<u8>, Option<Sense>, oneshot::Sender<()>),
    /// Find out sooner whether the peer is gone.
    Watch(Vigilance),
}

/// A SCSI initiator port (RFC 7143 §4.4.1): a session with the same one replaces the older session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InitiatorPort {
    /// InitiatorName.
    pub(crate) name: String,
    /// The initiator's part of the session identifier.
    pub(crate) isid: [u8; 6],
}

impl InitiatorPort {
    /// Its TransportID (SPC-4 §7.6.4.6), format 01b.
    pub(crate) fn transport_id(&self) -> Vec<u8> {
        let mut text = format!("{},i,0x", self.name).into_bytes();
        for byte in self.isid {
            text.extend_from_slice(format!("{byte:02x}").as_bytes());
        }
        text.resize((text.len() + 1).next_multiple_of(4).max(20), 0);
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        let mut id = vec![0x45, 0];
        id.extend_from_slice(&length.to_be_bytes());
        id.extend_from_slice(&text);
        id
    }
}

/// One session in full feature phase.
pub(crate) struct Session {
    /// Names the session until its end.
    pub(crate) id: u64,
    /// Target session identifying handle.
    pub(crate) tsih: u16,
    /// Whose disk it uses; none in standalone mode.
    pub(crate) client: Option<ClientId>,
    /// Whose session it is.
    pub(crate) port: InitiatorPort,
    /// TargetName.
    pub(crate) target: String,
    /// Firmware or operating system.
    pub(crate) kind: LoginKind,
    /// The initiator's address.
    pub(crate) peer: SocketAddr,
    /// If its begin and its end are logged: how many of its address were not before it.
    pub(crate) logged: Option<u64>,
    /// Since when.
    pub(crate) since: Timestamp,
    /// What it did so far.
    pub(crate) counters: Counters,
    /// Limits and counters of its client.
    pub(crate) account: Arc<Account>,
    /// What the kernel said of its TCP connection when it was asked last, and when that was.
    tcp: Mutex<Option<(Timestamp, TcpState)>>,
    /// Numbers of the logical units that it sees.
    luns: Vec<u8>,
    /// Unit attentions with the logical unit of each.
    attentions: Mutex<Vec<(u8, Sense)>>,
    /// One bit for each logical unit that has any.
    attention_pending: AtomicU32,
    last_copy: Mutex<Option<CopyRecord>>,
    orders: mpsc::UnboundedSender<Order>,
    over: CancellationToken,
}

/// Counters of a session; written by its own task only.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) read_bytes: AtomicU64,
    pub(crate) written_bytes: AtomicU64,
    pub(crate) reads: AtomicU64,
    pub(crate) writes: AtomicU64,
    last_command: AtomicI64,
}

/// What is known of a session when it begins.
pub(crate) struct Opening {
    pub(crate) tsih: u16,
    pub(crate) client: Option<ClientId>,
    pub(crate) account: Arc<Account>,
    pub(crate) port: InitiatorPort,
    pub(crate) target: String,
    pub(crate) kind: LoginKind,
    pub(crate) peer: SocketAddr,
    pub(crate) logged: Option<u64>,
}

/// Logical unit numbers fit into the bits of a word.
const _: () = assert!((dess_model::DATA_LUN_MAX as u32) < u32::BITS);

/// Commands of ended sessions still run on disk threads: the storage hangs.
#[derive(Debug, thiserror::Error)]
#[error("commands of {sessions} ended sessions still wait for the storage after {} s", END_WITHIN.as_secs())]
pub(crate) struct StillRunning {
    sessions: usize,
}

/// How long the commands of a session that is ended may take.
const END_WITHIN: Duration = Duration::from_secs(10);

/// All open sessions.
#[derive(Default)]
pub(crate) struct Sessions {
    open: Mutex<Vec<Arc<Session>>>,
    last_id: AtomicU64,
}

impl Counters {
    pub(crate) fn count_read(&self, bytes: u64) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn count_write(&self, bytes: u64) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn commands(&self) -> u64 {
        self.reads.load(Ordering::Relaxed) + self.writes.load(Ordering::Relaxed)
    }

    /// When the initiator was heard last.
    pub(crate) fn last_command(&self) -> Timestamp {
        Timestamp(self.last_command.load(Ordering::Relaxed))
    }

    pub(crate) fn touch(&self, now: Timestamp) {
        self.last_command.store(now.0, Ordering::Relaxed);
    }
}

impl Session {
    /// The next unit attention of a logical unit that the initiator has not heard of.
    pub(crate) fn take_attention(&self, lun: u8) -> Option<Sense> {
        if self.attention_pending.load(Ordering::Acquire) & (1 << lun) == 0 {
            return None;
        }
        let mut attentions = lock(&self.attentions);
        let at = attentions.iter().position(|(of, _)| *of == lun);
        let next = at.map(|at| attentions.remove(at).1);
        self.note_pending(&attentions);
        next
    }

    /// Establishes a unit attention condition of a logical unit; the same one twice is told once.
    pub(crate) fn add_attention(&self, lun: u8, sense: Sense) {
        let mut attentions = lock(&self.attentions);
        if !attentions.contains(&(lun, sense)) {
            attentions.push((lun, sense));
        }
        self.note_pending(&attentions);
    }

    /// The same for all logical units.
    pub(crate) fn add_attention_to_all(&self, sense: Sense) {
        for &lun in &self.luns {
            self.add_attention(lun, sense);
        }
    }

    fn note_pending(&self, attentions: &[(u8, Sense)]) {
        let pending = attentions.iter().fold(0, |bits, (lun, _)| bits | 1 << lun);
        self.attention_pending.store(pending, Ordering::Release);
    }

    /// How the last EXTENDED COPY ended.
    pub(crate) fn copy_record(&self) -> Option<CopyRecord> {
        *lock(&self.last_copy)
    }

    /// Keeps the end of an EXTENDED COPY with this parameter list, if the initiator may ask for it.
    pub(crate) fn record_copy(&self, list: &[u8], good: bool) {
        if let Some(record) = CopyRecord::new(list, good) {
            *lock(&self.last_copy) = Some(record);
        }
    }

    /// Asks the session's task to end it.
    pub(crate) fn end(&self, reason: SessionEnd) {
        // If the task is gone, it has ended.
        let _ = self.orders.send(Order::End(reason));
    }

    /// Asks the session's task to abort all commands on a logical unit, or on all; the receiver resolves when none runs. If
    /// there were any, their initiator hears of it by `attention`.
    pub(crate) fn abort_tasks(
        &self,
        lun: Option<u8>,
        attention: Option<Sense>,
    ) -> oneshot::Receiver<()> {
        let (done, receiver) = oneshot::channel();
        // If the task is gone, the sender is dropped and the receiver resolves at once.
        let _ = self.orders.send(Order::Abort(lun, attention, done));
        receiver
    }

    /// Has the kernel find out sooner whether the peer is gone; the session then ends.
    pub(crate) fn watch_peer(&self, vigilance: Vigilance) {
        let _ = self.orders.send(Order::Watch(vigilance));
    }

    /// The state for people.
    pub(crate) fn status(&self) -> Option<SessionStatus> {
        Some(SessionStatus {
            client: self.client?,
            session: self.id,
            kind: self.kind,
            peer: self.peer.to_string(),
            since: self.since,
            last_command: self.counters.last_command(),
            read_bytes: self.counters.read_bytes.load(Ordering::Relaxed),
            written_bytes: self.counters.written_bytes.load(Ordering::Relaxed),
            tcp: self.tcp().map(|(_, tcp)| tcp.counters),
        })
    }

    /// What the kernel said of its TCP connection when it was asked last, and when that was.
    pub(crate) fn tcp(&self) -> Option<(Timestamp, TcpState)> {
        *lock(&self.tcp)
    }

    /// True if the initiator sent something after `looked`, or its kernel acknowledged something.
    pub(crate) fn was_heard_since(&self, looked: Timestamp) -> bool {
        let acknowledged = self.tcp().is_some_and(|(at, tcp)| {
            let ago = i64::from(tcp.acknowledged_ms_ago);
            Timestamp(at.0.saturating_sub(ago)) > looked
        });
        acknowledged || self.counters.last_command() > looked
    }

    /// True if the kernel told of its TCP connection at `looked` or later.
    pub(crate) fn was_told_since(&self, looked: Timestamp) -> bool {
        self.tcp().is_some_and(|(at, _)| at >= looked)
    }

    /// Keeps what the kernel says of its TCP connection now.
    pub(crate) fn set_tcp(&self, tcp: TcpState) {
        *lock(&self.tcp) = Some((Timestamp::now(), tcp));
    }
}

impl Sessions {
    /// Registers a session of a target with these logical units; its task hears orders at the other end of `orders`.
    pub(crate) fn open(
        &self,
        opening: Opening,
        luns: &[u8],
        now: Timestamp,
        orders: mpsc::UnboundedSender<Order>,
    ) -> Arc<Session> {
        let session = Arc::new(Session {
            id: self.last_id.fetch_add(1, Ordering::Relaxed) + 1,
            tsih: opening.tsih,
            client: opening.client,
            port: opening.port,
            target: opening.target,
            kind: opening.kind,
            peer: opening.peer,
            logged: opening.logged,
            since: now,
            counters: Counters::default(),
            account: opening.account,
            tcp: Mutex::default(),
            luns: luns.to_vec(),
            attentions: Mutex::default(),
            attention_pending: AtomicU32::new(0),
            last_copy: Mutex::default(),
            orders,
            over: CancellationToken::new(),
        });
        session.counters.touch(now);
        session.add_attention_to_all(Sense::POWER_ON);
        lock(&self.open).push(Arc::clone(&session));
        session
    }

    /// Forgets a session. Its task calls this last, when nothing of it runs any more.
    pub(crate) fn close(&self, session: &Session) {
        lock(&self.open).retain(|open| open.id != session.id);
        if let Some((_, tcp)) = session.tcp() {
            let retransmits = tcp.counters.retransmits;
            session.account.count_retransmits(retransmits.into());
        }
        session.over.cancel();
    }

    /// Ends the matching sessions and waits until nothing of them runs any more; the number of
    /// them.
    pub(crate) async fn end(
        &self,
        reason: SessionEnd,
        matches: impl Fn(&Session) -> bool,
    ) -> Result<usize, StillRunning> {
        let ending = self.matching(matches);
        for session in &ending {
            session.end(reason);
        }
        let all_over = async {
            for session in &ending {
                session.over.cancelled().await;
            }
        };
        let over = tokio::time::timeout(END_WITHIN, all_over).await;
        over.map_err(|_| StillRunning {
            sessions: ending.len(),
        })?;
        Ok(ending.len())
    }

    /// The matching sessions.
    pub(crate) fn matching(&self, matches: impl Fn(&Session) -> bool) -> Vec<Arc<Session>> {
        lock(&self.open)
            .iter()
            .filter(|session| matches(session))
            .cloned()
            .collect()
    }

    /// How many sessions match.
    pub(crate) fn count(&self, matches: impl Fn(&Session) -> bool) -> usize {
        let open = lock(&self.open);
        open.iter().filter(|session| matches(session)).count()
    }

    /// True if an open session has this handle.
    pub(crate) fn has_tsih(&self, tsih: u16) -> bool {
        lock(&self.open).iter().any(|session| session.tsih == tsih)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
