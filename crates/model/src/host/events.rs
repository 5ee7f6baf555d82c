//! The event socket: Unix datagrams from every service to `node`.

use std::collections::VecDeque;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::{Event, EventKind, Timestamp};

/// Most events kept while `node` is away; the oldest go first.
const BUFFERED_EVENTS_MAX: usize = 4096;
/// Longest event in bytes.
const EVENT_BYTES_MAX: usize = 16 * 1024;
/// How often kept events are tried again.
const FLUSH_EVERY: Duration = Duration::from_millis(250);

/// Sends events without ever blocking; keeps them a while if `node` is away.
#[derive(Clone, Debug)]
pub struct EventSender {
    shared: Arc<Mutex<Outbox>>,
}

#[derive(Debug)]
struct Outbox {
    path: PathBuf,
    socket: Option<UnixDatagram>,
    waiting: VecDeque<Vec<u8>>,
    /// No use in trying before this: `node` was away a moment ago.
    away_until: Option<Instant>,
    dropped: u64,
}

impl EventSender {
    /// A sender to the socket at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let outbox = Outbox {
            path: path.into(),
            socket: None,
            waiting: VecDeque::new(),
            away_until: None,
            dropped: 0,
        };
        Self {
            shared: Arc::new(Mutex::new(outbox)),
        }
    }

    /// Sends an event that happens now.
    pub fn send(&self, kind: EventKind) {
        let event = Event {
            at: Timestamp::now(),
            kind,
        };
        let Ok(datagram) = serde_json::to_vec(&event) else {
            return;
        };
        let mut outbox = self.lock();
        if outbox.waiting.len() >= BUFFERED_EVENTS_MAX {
            outbox.waiting.pop_front();
            outbox.dropped += 1;
        }
        outbox.waiting.push_back(datagram);
        if outbox
            .away_until
            .is_none_or(|until| Instant::now() >= until)
        {
            outbox.flush();
        }
    }

    /// Tries kept events again until the future is dropped; every service runs one of these.
    pub async fn keep_flushing(&self) {
        loop {
            tokio::time::sleep(FLUSH_EVERY).await;
            self.lock().flush();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Outbox> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outbox {
    fn flush(&mut self) {
        self.away_until = None;
        while let Some(datagram) = self.waiting.front() {
            let Some(socket) = self.socket.take().or_else(|| connect(&self.path)) else {
                self.away_until = Some(Instant::now() + FLUSH_EVERY);
                return;
            };
            match socket.send(datagram) {
                Ok(_) => {
                    self.waiting.pop_front();
                    self.socket = Some(socket);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.socket = Some(socket);
                    return;
                }
                Err(_) => return,
            }
        }
        if self.dropped > 0 {
            tracing::warn!(
                events.dropped = self.dropped,
                "node was away; old events were dropped"
            );
            self.dropped = 0;
        }
    }
}

fn connect(path: &Path) -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    socket.connect(path).ok()?;
    Some(socket)
}

/// The receiving end, owned by `node`.
#[derive(Debug)]
pub struct EventReceiver {
    socket: tokio::net::UnixDatagram,
    buffer: Vec<u8>,
}

impl EventReceiver {
    /// Binds the socket at `path`, replacing one that a dead process left.
    ///
    /// # Errors
    /// If the path cannot be bound.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = tokio::net::UnixDatagram::bind(path)?;
        Ok(Self {
            socket,
            buffer: vec![0; EVENT_BYTES_MAX],
        })
    }

    /// The next event. Malformed datagrams are logged and passed over. Cancel safe.
    ///
    /// # Errors
    /// If the socket fails.
    pub async fn recv(&mut self) -> io::Result<Event> {
        loop {
            let length = self.socket.recv(&mut self.buffer).await?;
            match serde_json::from_slice(&self.buffer[..length]) {
                Ok(event) => return Ok(event),
                Err(error) => tracing::warn!(%error, "malformed event"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MacAddr;

    #[tokio::test]
    async fn events_sent_while_node_is_away_arrive_when_it_returns() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.sock");
        let sender = EventSender::new(&path);
        let kind = EventKind::Script {
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            bootable: true,
            code: None,
        };
        sender.send(kind.clone());
        let flushing = sender.clone();
        let flusher = tokio::spawn(async move { flushing.keep_flushing().await });
        let mut receiver = EventReceiver::bind(&path).unwrap();
        sender.send(kind.clone());
        assert_eq!(receiver.recv().await.unwrap().kind, kind);
        assert_eq!(receiver.recv().await.unwrap().kind, kind);
        drop(receiver);
        sender.send(kind.clone());
        let mut receiver = EventReceiver::bind(&path).unwrap();
        assert_eq!(receiver.recv().await.unwrap().kind, kind);
        flusher.abort();
    }
}
