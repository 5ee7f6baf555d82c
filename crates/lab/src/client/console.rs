//! A client's serial console: read from power-on, with the time of every piece.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::machine::Line;
use crate::process::{TAIL_LINES, tail};

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
    keyboard: File,
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
    /// Starts reading the serial line of a QEMU that has opened `line` but has no power yet.
    ///
    /// `line` is a pair of FIFOs: firmware writes single bytes, of which a socket's buffer holds
    /// only a few hundred, and QEMU drops what does not fit.
    pub(crate) fn open(line: &Line, log_path: &Path) -> anyhow::Result<Self> {
        // Held for a moment, so that opening does not wait even for a QEMU that has just died.
        let both = OpenOptions::new().read(true).write(true).clone();
        let held = [both.open(&line.output)?, both.open(&line.input)?];
        let screen = File::open(&line.output)?;
        let keyboard = OpenOptions::new().write(true).open(&line.input)?;
        drop(held);
        let connected_at = Instant::now();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let log = File::create(log_path)?;
        let reader = (screen, log, Arc::clone(&shared));
        std::thread::Builder::new()
            .name("lab-console".to_owned())
            .spawn(move || {
                let (screen, log, shared) = reader;
                read_all(screen, log, &shared, connected_at);
            })?;
        Ok(Self {
            connected_at,
            log_path: log_path.to_owned(),
            keyboard,
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
        (&self.keyboard)
            .write_all(text.as_bytes())
            .context("cannot write to the client's serial console")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&lock(&self.shared).bytes).into_owned()
    }

    /// What has arrived after the first `from` bytes.
    pub(crate) fn bytes_after(&self, from: usize) -> Vec<u8> {
        lock(&self.shared)
            .bytes
            .get(from..)
            .unwrap_or_default()
            .to_vec()
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

fn read_all(mut screen: File, mut log: File, shared: &Mutex<Shared>, start: Instant) {
    let mut piece = [0_u8; 4096];
    loop {
        let len = match screen.read(&mut piece) {
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
