//! One file on its way to one client.

mod window;

use std::time::{Duration, Instant};

use crate::negotiation::Negotiated;
use crate::packet::{DecodeError, ErrorCode, Packet};

use window::{Timer, Window, wire_number};

/// Retransmissions without any progress before the client counts as gone.
const RETRANSMISSIONS_MAX: u32 = 8;
/// The same before its first ACK, when the request may have been forged.
const FIRST_RETRANSMISSIONS_MAX: u32 = 4;
/// Shortest wait before the first retransmission: enough for a firmware that writes to its disk.
const TIMEOUT_MIN: Duration = Duration::from_millis(200);
/// The wait in round trips, as long as that is between the shortest and the agreed one.
const TIMEOUT_ROUND_TRIPS: u32 = 4;
/// Longest part in bytes that is kept of a client's error message.
const MESSAGE_BYTES_MAX: usize = 128;

/// The sending half of a transfer, as a value: datagrams and time in, datagrams and an end out.
///
/// ```text
///            OACK sent                ACK n: window n+1.. sent            last block acknowledged
/// Negotiating ────────► (ACK 0) ────► Sending ──────────────────────────► Ended
///      └── ERROR or silence: a size probe ──────────┴── ERROR, silence, abort ──► Ended
/// ```
/// Without options it starts in `Sending`. The bytes themselves never pass through here: a
/// [`Transmit::Data`] says which part of the file belongs into the datagram.
///
/// Duplicated ACKs cannot double the traffic (the Sorcerer's Apprentice, RFC 1123 §4.2.3.1): with
/// a window of one they are never answered; with larger windows, where a repeated ACK means that
/// the window's first block was lost, one is answered at most once, and as many repeated ACKs are
/// passed over as copies of the last window went out.
#[derive(Debug)]
pub struct Transfer {
    agreed: Negotiated,
    file_bytes: u64,
    state: State,
    /// OACK or ERROR that is to be sent next.
    outgoing: Option<Vec<u8>>,
    event: Option<Event>,
    /// Round trip of a window: the longest of late (RFC 1123 §4.2.3.2 wants an adaptive timer).
    round_trip: Option<Duration>,
}

#[derive(Debug)]
enum State {
    Negotiating { timer: Timer },
    Sending(Window),
    Ended,
}

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// Complete as it is.
    Packet(Vec<u8>),
    /// A block: the header, then `length` bytes of the file from `offset` on.
    Data {
        /// Operation and block number.
        header: [u8; 4],
        /// First byte.
        offset: u64,
        /// How many bytes; fewer than the block size only in the last block.
        length: usize,
    },
}

/// How a transfer ended. There is exactly one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The client has the whole file.
    Completed,
    /// The client only wanted to know the size; no byte was acknowledged.
    Probed,
    /// It failed.
    Failed {
        /// Why.
        failure: Failure,
        /// Bytes acknowledged until then.
        bytes: u64,
    },
}

/// Why a transfer failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The client sent an ERROR.
    #[error("the client ended it with error {}: {message}", u16::from(*code))]
    PeerError {
        /// Its code.
        code: ErrorCode,
        /// Its message, shortened and printable.
        message: String,
    },
    /// The client no longer answers.
    #[error("the client stopped answering")]
    TimedOut,
    /// The client's port is closed (ICMP).
    #[error("the client closed its port")]
    PeerGone,
    /// This side gave up.
    #[error("{0}")]
    Aborted(String),
}

impl Transfer {
    /// A transfer of a file of `file_bytes` bytes, on the terms agreed.
    pub fn new(agreed: Negotiated, file_bytes: u64) -> Self {
        let outgoing = agreed.option_ack();
        let timer = Timer::idle();
        let state = match outgoing {
            Some(_) => State::Negotiating { timer },
            None => State::Sending(Window::after(0, timer)),
        };
        Self {
            agreed,
            file_bytes,
            state,
            outgoing,
            event: None,
            round_trip: None,
        }
    }

    /// A datagram from the client.
    ///
    /// # Errors
    /// If it is no TFTP packet; the transfer goes on.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) -> Result<(), DecodeError> {
        match Packet::decode(datagram)? {
            Packet::Ack { block } => self.handle_ack(now, block),
            Packet::Error { code, message } => self.handle_error(code, message),
            // The request again: the listener's business. Others make no sense from a reader; an
            // ERROR in return would end what a stray packet need not end.
            Packet::ReadRequest(_)
            | Packet::WriteRequest(_)
            | Packet::Data { .. }
            | Packet::OptionAck { .. } => {}
        }
        Ok(())
    }

    /// Time has passed; nothing happens before [`poll_timeout`](Self::poll_timeout).
    pub fn handle_timeout(&mut self, now: Instant) {
        let base = self.timeout();
        let limit = match self.has_progress() {
            true => RETRANSMISSIONS_MAX,
            false => FIRST_RETRANSMISSIONS_MAX,
        };
        let timer = match &mut self.state {
            State::Negotiating { timer } => timer,
            State::Sending(window) => &mut window.timer,
            State::Ended => return,
        };
        if timer.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        if timer.retransmissions == limit {
            return self.end_silently();
        }
        timer.retransmissions += 1;
        timer.arm(now, base);
        match &mut self.state {
            State::Negotiating { .. } => self.outgoing = self.agreed.option_ack(),
            State::Sending(window) => window.go_back(),
            State::Ended => {}
        }
    }

    /// The client's port is closed, as ICMP says.
    pub fn handle_peer_gone(&mut self) {
        match self.state {
            State::Negotiating { .. } => self.end(Event::Probed),
            State::Sending(_) => self.fail(Failure::PeerGone),
            State::Ended => {}
        }
    }

    /// Ends the transfer from this side; the client is told.
    pub fn abort(&mut self, code: ErrorCode, message: &str) {
        if matches!(self.state, State::Ended) {
            return;
        }
        self.fail(Failure::Aborted(message.to_owned()));
        self.outgoing = Some(Packet::Error { code, message }.to_vec());
    }

    /// The next datagram to send, if one may be sent now.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        let base = self.timeout();
        if let Some(packet) = self.outgoing.take() {
            if let State::Negotiating { timer } = &mut self.state {
                timer.start(now, base);
            }
            return Some(Transmit::Packet(packet));
        }
        let last = self.block_count();
        let blksize = u64::from(self.agreed.blksize);
        let State::Sending(window) = &mut self.state else {
            return None;
        };
        if window.next > last.min(window.acked + u64::from(self.agreed.windowsize)) {
            return None;
        }
        let block = window.next;
        window.next += 1;
        window.highest = window.highest.max(block);
        window.timer.start(now, base);
        let offset = (block - 1) * blksize;
        let length = blksize.min(self.file_bytes - offset);
        let [high, low] = wire_number(block).to_be_bytes();
        Some(Transmit::Data {
            header: [0, 3, high, low],
            offset,
            length: usize::try_from(length).unwrap_or(usize::from(self.agreed.blksize)),
        })
    }

    /// How the transfer ended; once.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.event.take()
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Negotiating { timer } => timer.deadline,
            State::Sending(window) => window.timer.deadline,
            State::Ended => None,
        }
    }

    /// True once nothing more is to be sent or awaited.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended) && self.outgoing.is_none()
    }

    /// True if the client has acknowledged anything, be it the OACK.
    pub fn has_progress(&self) -> bool {
        match &self.state {
            State::Negotiating { .. } => false,
            State::Sending(window) => window.acked > 0 || !self.agreed.accepted.is_empty(),
            State::Ended => true,
        }
    }

    fn handle_ack(&mut self, now: Instant, number: u16) {
        let last = self.block_count();
        let base = self.timeout();
        match &mut self.state {
            State::Negotiating { .. } if number == 0 => {
                self.state = State::Sending(Window::after(0, Timer::idle()));
                // A retransmitted OACK may still wait.
                self.outgoing = None;
            }
            State::Sending(window) => {
                let windowed = self.agreed.windowsize > 1;
                let measured = window.acknowledge(now, number, windowed, base);
                if let Some(measured) = measured {
                    let faded = self.round_trip.unwrap_or_default() * 7 / 8;
                    self.round_trip = Some(faded.max(measured));
                }
                if window.acked == last {
                    return self.end(Event::Completed);
                }
                // A fresh timer runs from here, by what was just measured.
                let base = self.timeout();
                if let State::Sending(window) = &mut self.state {
                    window.timer.start(now, base);
                }
            }
            State::Negotiating { .. } | State::Ended => {}
        }
    }

    /// Wait before the first retransmission.
    fn timeout(&self) -> Duration {
        match self.round_trip {
            Some(round_trip) if !self.agreed.timeout_asked => {
                (round_trip * TIMEOUT_ROUND_TRIPS).clamp(TIMEOUT_MIN, self.agreed.timeout)
            }
            Some(_) | None => self.agreed.timeout,
        }
    }

    fn handle_error(&mut self, code: ErrorCode, message: &str) {
        let benign = matches!(code, ErrorCode::NotDefined | ErrorCode::OptionRefused);
        match &self.state {
            // Seen: EDK2 sends 8, Intel's PXE ROM sends 0 after the OACK or the first block.
            _ if benign && self.bytes_acked() == 0 => self.end(Event::Probed),
            State::Ended => {}
            State::Negotiating { .. } | State::Sending(_) => self.fail(Failure::PeerError {
                code,
                message: printable(message),
            }),
        }
    }

    fn end_silently(&mut self) {
        match self.state {
            State::Negotiating { .. } if self.agreed.size_asked => self.end(Event::Probed),
            State::Negotiating { .. } | State::Sending(_) => self.fail(Failure::TimedOut),
            State::Ended => {}
        }
    }

    fn fail(&mut self, failure: Failure) {
        let bytes = self.bytes_acked();
        self.end(Event::Failed { failure, bytes });
    }

    fn end(&mut self, event: Event) {
        if !matches!(self.state, State::Ended) {
            self.state = State::Ended;
            self.outgoing = None;
            self.event = Some(event);
        }
    }

    fn bytes_acked(&self) -> u64 {
        match &self.state {
            State::Sending(window) => {
                (window.acked * u64::from(self.agreed.blksize)).min(self.file_bytes)
            }
            State::Negotiating { .. } | State::Ended => 0,
        }
    }

    /// All blocks with the last one, which is shorter than the block size and may be empty.
    fn block_count(&self) -> u64 {
        self.file_bytes / u64::from(self.agreed.blksize) + 1
    }
}

fn printable(message: &str) -> String {
    let end = message.floor_char_boundary(MESSAGE_BYTES_MAX);
    message[..end].escape_debug().to_string()
}

#[cfg(test)]
mod tests;
