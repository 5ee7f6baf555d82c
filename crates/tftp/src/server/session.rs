//! One transfer on its own thread and socket.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use socket2::SockRef;
use tokio_util::sync::CancellationToken;

use super::complaints::Complaints;
use super::lookout::Lookout;
use super::registry::Place;
use super::source::{FileBody, OpenError};
use super::{Notice, ServeOptions, TransferError, TransferReport};
use crate::packet::{ErrorCode, Mode, Packet, Request};
use crate::transfer::{Event, Failure, Transfer, Transmit};
use crate::{negotiate, to_netascii};

/// How often a waiting transfer looks at its timer and at the signals.
const TICK: Duration = Duration::from_millis(100);
/// Bytes read from a file at once, for several blocks.
const READ_BYTES: usize = 64 * 1024;
/// Largest file in bytes that is converted to netascii; text files are small.
const NETASCII_BYTES_MAX: u64 = 1024 * 1024;
/// Longest datagram from a reader that means anything; longer ones are cut (ERROR texts).
const DATAGRAM_BYTES_MAX: usize = 516;
/// A firmware ends its size probe within this time; one that ends later was given up.
const PROBE_LIMIT: Duration = Duration::from_secs(2);
/// Waits between the tries to send when the system has no buffer to spare.
const SEND_RETRY: Duration = Duration::from_millis(2);

/// What a transfer's thread needs.
pub(super) struct Session {
    pub(super) options: Arc<ServeOptions>,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    /// The request as it came; it decoded well.
    pub(super) request: Vec<u8>,
    pub(super) place: Place,
    pub(super) complaints: Arc<Complaints>,
    pub(super) cancel: CancellationToken,
}

/// The file with the part of it that was read last, in a buffer that is used again and again.
struct Reader {
    body: Box<dyn FileBody>,
    chunk: Vec<u8>,
    /// Bytes of `chunk` that hold the file's.
    filled: usize,
    chunk_offset: u64,
    /// Where the block that was asked for last ends, and its length.
    last: (u64, usize),
}

impl Session {
    /// Serves the request to its end and reports it.
    pub(super) fn run(self) {
        let started = Instant::now();
        let Ok(Packet::ReadRequest(request)) = Packet::decode(&self.request) else {
            return;
        };
        let mut outcome = self.attempt(&request);
        // A firmware may ask again, word for word and from the same port, right after it has ended
        // its size probe; the listener can see that before the end of the probe is seen here.
        if outcome.is_none()
            && self.place.signals.take_repeated()
            && !self.place.signals.is_superseded()
            && started.elapsed() < PROBE_LIMIT
        {
            outcome = self.attempt(&request);
        }
        if let Some((bytes, error)) = outcome {
            let report = TransferReport {
                peer: self.peer.ip(),
                file: request.file.escape_debug().to_string(),
                bytes,
                duration: started.elapsed(),
                error,
            };
            if self.log(&report) {
                (self.options.on_notice)(Notice::Transfer(report));
            }
        }
    }

    /// Logs how it went; false for one of many failures of a peer, which are not told one by one.
    fn log(&self, report: &TransferReport) -> bool {
        let (peer, file) = (report.peer, &report.file);
        let Some(error) = &report.error else {
            let duration_ms = u64::try_from(report.duration.as_millis()).unwrap_or(u64::MAX);
            if self.options.own_address == Some(peer) {
                // The server's own probe, every minute.
                tracing::debug!(file, duration_ms, "this server received {file}");
                return false;
            }
            tracing::info!(
                client.address = %peer, file, bytes = report.bytes, duration_ms,
                "{peer} received {file}"
            );
            return true;
        };
        let what = format!("did not get {file}: {error}");
        match error {
            TransferError::Refused(_) => self.complaints.refused(peer, &what),
            TransferError::Broken(_) => self.complaints.failed(peer, &what),
        }
    }

    /// Serves the request once: bytes acknowledged and the error, or none for a size probe.
    fn attempt(&self, request: &Request<'_>) -> Option<(u64, Option<TransferError>)> {
        match self.socket() {
            Ok(socket) => self.serve(request, &socket),
            Err(error) => {
                let reason = format!("no socket to {}: {error}", self.peer);
                Some((0, Some(Failure::Aborted(reason).into())))
            }
        }
    }

    /// A socket from the asked address to the client only; datagrams of others never arrive.
    fn socket(&self) -> io::Result<UdpSocket> {
        let socket = UdpSocket::bind((self.local.ip(), 0))?;
        socket.connect(self.peer)?;
        socket.set_read_timeout(Some(TICK))?;
        Ok(socket)
    }

    fn serve(
        &self,
        request: &Request<'_>,
        socket: &UdpSocket,
    ) -> Option<(u64, Option<TransferError>)> {
        let body = match self.open(request) {
            Ok(body) => body,
            Err(error) => {
                let (code, message) = answer(&error);
                let packet = Packet::Error { code, message }.to_vec();
                if let Err(error) = socket.send(&packet) {
                    tracing::debug!(%error, "cannot tell {} of the refusal", self.peer);
                }
                return Some((0, Some(TransferError::Refused(error.to_string()))));
            }
        };
        let length = body.length();
        let agreed = negotiate(&request.options, &self.options.limits, length);
        let mut transfer = Transfer::new(agreed, length);
        match self.drive(&mut transfer, socket, &mut Reader::new(body)) {
            Event::Completed => Some((length, None)),
            Event::Probed => {
                tracing::debug!(file = request.file, "{} asked for the size", self.peer);
                None
            }
            Event::Failed { failure, bytes } => Some((bytes, Some(failure.into()))),
        }
    }

    fn open(&self, request: &Request<'_>) -> Result<Box<dyn FileBody>, OpenError> {
        let body = self.options.source.open(request.file, self.peer.ip())?;
        match request.mode {
            Mode::Octet => Ok(body),
            Mode::Netascii if body.length() > NETASCII_BYTES_MAX => Err(OpenError::Refused(
                format!("{} is too large for netascii; use octet", request.file),
            )),
            Mode::Netascii => {
                let length = usize::try_from(body.length()).unwrap_or(0);
                let mut file = vec![0; length];
                let read = body
                    .read_at(0, &mut file)
                    .map_err(|error| OpenError::Unreadable(error.to_string()))?;
                file.truncate(read);
                Ok(Box::new(Bytes::from(to_netascii(&file))))
            }
        }
    }

    /// The loop: send what may be sent, wait for the client, look at the clock.
    fn drive(&self, transfer: &mut Transfer, socket: &UdpSocket, reader: &mut Reader) -> Event {
        let mut datagram = [0; DATAGRAM_BYTES_MAX];
        let mut now = Instant::now();
        let mut lookout = Lookout::default();
        loop {
            while let Some(transmit) = transfer.poll_transmit(now) {
                if let Err(failure) = send(socket, reader, &transmit) {
                    failure.apply(transfer);
                }
            }
            if let Some(event) = transfer.poll_event() {
                return event;
            }
            reader.read_ahead();
            match lookout.recv(socket, &mut datagram, || self.place.is_alone()) {
                Ok(length) => {
                    now = Instant::now();
                    // Anything else than TFTP on a transfer's own socket is noise.
                    let _ = transfer.handle_datagram(now, &datagram[..length]);
                }
                Err(error) if is_no_datagram(&error) => now = Instant::now(),
                Err(_) => transfer.handle_peer_gone(),
            }
            if transfer.has_progress() {
                self.place.signals.note_progress();
            }
            if self.place.signals.is_superseded() {
                return superseded(transfer);
            }
            if self.cancel.is_cancelled() {
                transfer.abort(ErrorCode::NotDefined, "the server stops");
            }
            transfer.handle_timeout(now);
        }
    }
}

/// Why a datagram did not go out.
enum SendFailure {
    Read(io::Error),
    Socket(io::Error),
}

impl SendFailure {
    fn apply(self, transfer: &mut Transfer) {
        match self {
            Self::Read(error) => {
                tracing::error!(%error, "cannot read a boot file");
                transfer.abort(ErrorCode::NotDefined, "the server cannot read the file");
            }
            Self::Socket(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                transfer.handle_peer_gone();
            }
            // As if lost on the way: the timer repeats it.
            Self::Socket(error) => tracing::debug!(%error, "cannot send"),
        }
    }
}

impl Reader {
    fn new(body: Box<dyn FileBody>) -> Self {
        Self {
            body,
            chunk: Vec::new(),
            filled: 0,
            chunk_offset: 0,
            last: (0, 0),
        }
    }

    fn block(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        self.last = (offset.saturating_add(length as u64), length);
        if self.within(offset, length).is_none() {
            self.fill(offset, length)?;
        }
        self.within(offset, length)
            .map(|range| &self.chunk[range])
            .ok_or_else(|| io::Error::other("the file was cut short while it was sent"))
    }

    /// Reads the block that follows, which the client asks for next, while the client is busy with
    /// the one before.
    fn read_ahead(&mut self) {
        let (offset, length) = self.last;
        let rest = self.body.length().saturating_sub(offset);
        let length = usize::try_from(rest).map_or(length, |rest| rest.min(length));
        if rest > 0 && self.within(offset, length).is_none() {
            // Who needs the block reads again and hears of the error.
            let _ = self.fill(offset, length);
        }
    }

    /// Where the chunk has these bytes; nothing if it does not have all.
    fn within(&self, offset: u64, length: usize) -> Option<Range<usize>> {
        let start = usize::try_from(offset.checked_sub(self.chunk_offset)?).ok()?;
        let end = start.checked_add(length)?;
        (end <= self.filled).then_some(start..end)
    }

    fn fill(&mut self, offset: u64, length: usize) -> io::Result<()> {
        self.chunk.resize(READ_BYTES.max(length), 0);
        self.filled = 0;
        self.chunk_offset = offset;
        self.filled = self.body.read_at(offset, &mut self.chunk)?;
        Ok(())
    }
}

fn send(socket: &UdpSocket, reader: &mut Reader, transmit: &Transmit) -> Result<(), SendFailure> {
    let sent = match transmit {
        Transmit::Packet(packet) => socket.send(packet),
        Transmit::Data {
            header,
            offset,
            length,
        } => {
            let block = reader.block(*offset, *length).map_err(SendFailure::Read)?;
            let parts = [IoSlice::new(header), IoSlice::new(block)];
            match SockRef::from(socket).send_vectored(&parts) {
                Err(error) if error.raw_os_error() == Some(ENOBUFS) => {
                    std::thread::sleep(SEND_RETRY);
                    SockRef::from(socket).send_vectored(&parts)
                }
                sent => sent,
            }
        }
    };
    sent.map(|_| ()).map_err(SendFailure::Socket)
}

/// The device's queue is full.
const ENOBUFS: i32 = 105;

fn is_no_datagram(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

/// The client began anew from the same port: after its size probe that is how it goes.
fn superseded(transfer: &mut Transfer) -> Event {
    transfer.abort(ErrorCode::NotDefined, "the client asked again");
    match transfer.poll_event() {
        Some(Event::Failed { bytes: 0, .. }) | None => Event::Probed,
        Some(event) => event,
    }
}

/// What the client is told.
fn answer(error: &OpenError) -> (ErrorCode, &'static str) {
    match error {
        OpenError::NotFound(_) => (ErrorCode::FileNotFound, "File not found"),
        OpenError::Refused(_) => (ErrorCode::AccessViolation, "This file is not served"),
        OpenError::Unreadable(_) => (ErrorCode::NotDefined, "The server cannot read the file"),
    }
}
