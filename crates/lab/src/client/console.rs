//! A client's serial console: read from power-on, with the time of every piece.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::process::{TAIL_LINES, tail};
use crate::wait;

/// A marker that appeared on the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Index into the markers that were waited for.
    pub marker: usize,
    /// Time from power-on to the marker's arrival.
    pub at: Duration,
}

#[derive(Debug)]
pub(crate) struct Console {
    connected_at: Instant,
    log_path: PathBuf,
    stream: UnixStream,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    bytes: Vec<u8>,
    /// (length of `bytes` after a piece arrived, when since power-on).
    arrivals: Vec<(usize, Duration)>,
    /// Bytes that an earlier wait has consumed.
    consumed: usize,
    closed: bool,
}

impl Console {
    /// Connects to QEMU's serial socket (QEMU powers on when we do) and starts reading.
    pub(crate) fn connect(socket: &Path, log_path: &Path) -> anyhow::Result<Self> {
        let stream = connect(socket)?;
        let connected_at = Instant::now();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let log = File::create(log_path)?;
        let reader = (stream.try_clone()?, log, Arc::clone(&shared));
        std::thread::Builder::new()
            .name("lab-console".to_owned())
            .spawn(move || {
                let (stream, log, shared) = reader;
                read_all(stream, log, &shared, connected_at);
            })?;
        Ok(Self {
            connected_at,
            log_path: log_path.to_owned(),
            stream,
            shared,
        })
    }

    pub(crate) fn connected_at(&self) -> Instant {
        self.connected_at
    }

    pub(crate) fn log_path(&self) -> &Path {
        &self.log_path
    }

    /// The first of `markers` in unconsumed text; consumes everything up to its end.
    pub(crate) fn take(&self, markers: &[&str]) -> Option<Seen> {
        let mut shared = lock(&self.shared);
        let fresh = &shared.bytes[shared.consumed..];
        let (start, marker) = markers
            .iter()
            .enumerate()
            .filter_map(|(index, marker)| Some((find(fresh, marker.as_bytes())?, index)))
            .min()?;
        let end = shared.consumed + start + markers[marker].len();
        shared.consumed = end;
        let arrival = shared.arrivals.partition_point(|(len, _)| *len < end);
        let at = shared.arrivals.get(arrival)?.1;
        Some(Seen { marker, at })
    }

    /// Types `text` on the serial line.
    pub(crate) fn send(&self, text: &str) -> anyhow::Result<()> {
        (&self.stream)
            .write_all(text.as_bytes())
            .context("cannot write to the client's serial console")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&lock(&self.shared).bytes).into_owned()
    }

    pub(crate) fn tail(&self) -> String {
        tail(&self.text(), TAIL_LINES)
    }

    /// Fails when QEMU has closed the line.
    pub(crate) fn check_open(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            !lock(&self.shared).closed,
            "the client's serial console closed; it last said:\n{}",
            self.tail()
        );
        Ok(())
    }
}

/// Connects to a socket that QEMU is about to open.
pub(crate) fn connect(socket: &Path) -> anyhow::Result<UnixStream> {
    wait::until(CONNECT_LIMIT, || Ok(UnixStream::connect(socket).ok()))?
        .with_context(|| format!("no answer at {socket:?} within {CONNECT_LIMIT:?}"))
}

/// Most time QEMU may need to open its sockets on a loaded machine.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);

fn read_all(mut stream: UnixStream, mut log: File, shared: &Mutex<Shared>, start: Instant) {
    let mut piece = [0_u8; 4096];
    loop {
        let len = match stream.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(len) => len,
        };
        // The log is for people; a full disk must not end the test's own view.
        let _ = log.write_all(&piece[..len]);
        let mut shared = lock(shared);
        shared.bytes.extend_from_slice(&piece[..len]);
        let total = shared.bytes.len();
        shared.arrivals.push((total, start.elapsed()));
    }
    lock(shared).closed = true;
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len().max(1))
        .position(|window| window == needle)
}
