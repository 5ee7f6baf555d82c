//! What goes out: events, and PDUs with their sequence numbers and digests.

use std::collections::VecDeque;

use bytes::Bytes;

use super::output::Output;
use super::window::Window;
use crate::event::Event;
use crate::pdu::{HEADER_BYTES, Header, Sequence, padding};

const DIGEST_BYTES: usize = 4;

/// The way out of a connection.
pub(super) struct Outbox {
    pub(super) output: Output,
    pub(super) events: VecDeque<Event>,
    pub(super) window: Window,
    stat_sn: u32,
    header_digest: bool,
    data_digest: bool,
}

impl Outbox {
    pub(super) fn new(queue_depth: u16) -> Self {
        Self {
            output: Output::default(),
            events: VecDeque::new(),
            window: Window::new(0, queue_depth),
            stat_sn: 1,
            header_digest: false,
            data_digest: false,
        }
    }

    pub(super) fn set_digests(&mut self, header: bool, data: bool) {
        self.header_digest = header;
        self.data_digest = data;
    }

    /// Numbers of a PDU that has a status number of its own.
    pub(super) fn next_sequence(&mut self) -> Sequence {
        let sequence = self.peek_sequence();
        self.stat_sn = self.stat_sn.wrapping_add(1);
        sequence
    }

    /// Numbers of a PDU that shows the next status number without using it (R2T, our ping).
    pub(super) fn peek_sequence(&self) -> Sequence {
        Sequence {
            stat_sn: self.stat_sn,
            exp_cmd_sn: self.window.exp_cmd_sn(),
            max_cmd_sn: self.window.max_cmd_sn(),
        }
    }

    /// Numbers of a Data-In PDU without status.
    // Seen: iPXE takes StatSN of any Data-In PDU as that of the last status.
    pub(super) fn past_sequence(&self) -> Sequence {
        Sequence {
            stat_sn: self.stat_sn.wrapping_sub(1),
            ..self.peek_sequence()
        }
    }

    /// Sends a PDU with data that is copied.
    pub(super) fn send(&mut self, header: &Header, data: &[u8]) {
        let place = self.extend(data.len());
        place.data(&mut self.output).copy_from_slice(data);
        self.seal(place, header);
    }

    /// Makes room for a PDU with `length` bytes of data; [`seal`](Self::seal) finishes it.
    pub(super) fn extend(&mut self, length: usize) -> Place {
        let place = Place {
            data_start: HEADER_BYTES + self.header_digest_bytes(),
            length,
            total: self.pdu_bytes(length),
        };
        self.output.extend(place.total);
        place
    }

    /// Bytes of a PDU with `length` bytes of data.
    fn pdu_bytes(&self, length: usize) -> usize {
        let digest = if self.data_digest && length > 0 {
            DIGEST_BYTES
        } else {
            0
        };
        HEADER_BYTES + self.header_digest_bytes() + length + padding(length) + digest
    }

    fn header_digest_bytes(&self) -> usize {
        if self.header_digest { DIGEST_BYTES } else { 0 }
    }

    /// Writes header, padding and digests of the PDU that was made room for last.
    pub(super) fn seal(&mut self, place: Place, header: &Header) {
        let (header_digest, data_digest) = (self.header_digest, self.data_digest);
        let pdu = self.output.tail(place.total);
        pdu[..HEADER_BYTES].copy_from_slice(header);
        if header_digest {
            let digest = crc32c::crc32c(header).to_le_bytes();
            pdu[HEADER_BYTES..place.data_start].copy_from_slice(&digest);
        }
        let data_end = place.data_start + place.length;
        let padded_end = data_end + padding(place.length);
        pdu[data_end..padded_end].fill(0);
        if data_digest && place.length > 0 {
            let digest = crc32c::crc32c(&pdu[place.data_start..padded_end]).to_le_bytes();
            pdu[padded_end..].copy_from_slice(&digest);
        }
    }

    /// Sends a PDU whose data is shared, not copied.
    pub(super) fn send_shared(&mut self, header: &Header, pieces: impl Iterator<Item = Bytes>) {
        self.output.push(header);
        if self.header_digest {
            self.output.push(&crc32c::crc32c(header).to_le_bytes());
        }
        let mut length = 0;
        let mut digest = 0;
        for piece in pieces {
            length += piece.len();
            if self.data_digest {
                digest = crc32c::crc32c_append(digest, &piece);
            }
            self.output.push_shared(piece);
        }
        let zeros = &[0; 3][..padding(length)];
        if !zeros.is_empty() {
            self.output.push(zeros);
        }
        if self.data_digest && length > 0 {
            let digest = crc32c::crc32c_append(digest, zeros);
            self.output.push(&digest.to_le_bytes());
        }
    }

    /// Memory that is kept, in bytes.
    pub(super) fn capacity(&self) -> usize {
        self.output.capacity() + self.events.capacity() * size_of::<Event>()
    }

    /// Gives memory back where nothing waits.
    pub(super) fn trim(&mut self) {
        self.output.trim();
        self.events.shrink_to_fit();
    }
}

/// Room for a PDU at the end of the output.
#[derive(Clone, Copy)]
pub(super) struct Place {
    data_start: usize,
    length: usize,
    total: usize,
}

impl Place {
    /// Where its data goes.
    pub(super) fn data(self, output: &mut Output) -> &mut [u8] {
        &mut output.tail(self.total)[self.data_start..self.data_start + self.length]
    }
}
