//! From bytes to whole PDUs, with digests.

use bytes::{Buf as _, Bytes, BytesMut};

use super::error::ProtocolError;
use crate::negotiation::DEFAULT_MAX_RECV_DATA_SEGMENT_LENGTH;
use crate::pdu::{HEADER_BYTES, Header, Segments, padding};

/// Space for one read of a connection that has little to say.
const READ_BYTES_MIN: usize = 4096;

/// Most space for one read.
const READ_BYTES_MAX: usize = 256 * 1024;

/// Room beside the longest data: for its header, and for what follows it.
const READ_ROOM: usize = 4096;

/// A PDU of which so much is missing is read to its end and no further, so that the next one begins in a buffer of its own
/// and need not be moved.
const READ_TO_END_BYTES_MIN: usize = 32 * 1024;

/// The same before the login: anybody may open a connection.
const READ_BYTES_MAX_BEFORE_LOGIN: usize = 8 * 1024;

/// Shorter data that is kept for as long as the initiator likes is copied: it keeps its whole read
/// alive otherwise, a multiple of its own size.
const SHARE_BYTES_MIN: usize = 64 * 1024;

/// Data shorter than this is copied out, so that it does not keep a whole buffer alive.
const COPY_BYTES_MAX: usize = 1024;

/// Most buffers whose data is still in use that are kept for later, so that a long write needs no new memory for each of
/// its parts: those of eight writes of 1 MiB.
const LENT_MAX: usize = 32;

const DIGEST_BYTES: usize = 4;

/// A PDU as it came. Additional header segments are checked and dropped: they carry parts of
/// CDBs longer than 16 bytes and lengths of bidirectional commands, neither of which a disk has.
pub(super) struct Pdu {
    pub(super) header: Header,
    pub(super) data: Bytes,
    /// The data digest does not match.
    pub(super) is_damaged: bool,
}

/// Received data that waits for more from the initiator.
pub(super) fn kept(data: &Bytes) -> Bytes {
    if data.len() < SHARE_BYTES_MIN {
        Bytes::copy_from_slice(data)
    } else {
        data.clone()
    }
}

/// The receive buffer.
pub(super) struct Receive {
    buffer: BytesMut,
    /// What `buffer` keeps in memory: it sees no more of that than the part that is not used up.
    allocated: usize,
    /// Used up; each can be used again when what was split off it is gone. All as long as the longest read.
    lent: Vec<BytesMut>,
    /// Bytes needed for the PDU at the front, if its header was seen.
    wanted: usize,
    /// Space offered for the next read.
    read_bytes: usize,
    read_bytes_max: usize,
    data_bytes_max: usize,
    header_digest: bool,
    data_digest: bool,
}

impl Receive {
    pub(super) fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
            allocated: 0,
            lent: Vec::new(),
            wanted: HEADER_BYTES,
            read_bytes: READ_BYTES_MIN,
            read_bytes_max: READ_BYTES_MAX_BEFORE_LOGIN,
            data_bytes_max: DEFAULT_MAX_RECV_DATA_SEGMENT_LENGTH as usize,
            header_digest: false,
            data_digest: false,
        }
    }

    /// What holds in full feature phase.
    pub(super) fn configure(
        &mut self,
        data_bytes_max: u32,
        header_digest: bool,
        data_digest: bool,
    ) {
        self.data_bytes_max = data_bytes_max as usize;
        self.read_bytes_max = READ_BYTES_MAX;
        self.header_digest = header_digest;
        self.data_digest = data_digest;
    }

    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        let missing = self.wanted.saturating_sub(self.buffer.len());
        let free = self.buffer.capacity() - self.buffer.len();
        // Nothing has to be moved out of an empty one.
        let half_used = self.buffer.is_empty() && free < self.read_bytes / 2;
        if free < missing || free < READ_BYTES_MIN / 2 || half_used {
            let wanted = missing.max(self.read_bytes);
            if !self.buffer.try_reclaim(wanted) {
                self.exchange(wanted);
            }
            self.allocated = self.buffer.capacity();
        }
        &mut self.buffer
    }

    /// Most bytes to read now.
    pub(super) fn limit(&self) -> usize {
        match self.wanted.saturating_sub(self.buffer.len()) {
            missing @ READ_TO_END_BYTES_MIN.. => missing,
            _ => usize::MAX,
        }
    }

    /// Goes on in another buffer, because the data of this one is still in use.
    fn exchange(&mut self, wanted: usize) {
        if wanted < READ_BYTES_MAX {
            return self.buffer.reserve(wanted);
        }
        let needed = self.buffer.len() + wanted;
        let free = |buffer: &mut BytesMut| buffer.try_reclaim(needed);
        let mut next = match self.lent.iter_mut().position(free) {
            Some(index) => self.lent.swap_remove(index),
            None => BytesMut::with_capacity(needed.max(READ_BYTES_MAX + READ_ROOM)),
        };
        next.extend_from_slice(&self.buffer);
        let mut used_up = std::mem::replace(&mut self.buffer, next);
        used_up.clear();
        if self.lent.len() < LENT_MAX {
            self.lent.push(used_up);
        }
    }

    /// Notes that bytes were appended: a read that filled its space gets more next time.
    pub(super) fn note_received(&mut self) {
        if self.buffer.len() == self.buffer.capacity() {
            self.read_bytes = (self.read_bytes * 2).min(self.read_bytes_max);
        }
    }

    /// Memory that is kept, in bytes.
    pub(super) fn capacity(&self) -> usize {
        self.allocated + self.lent.len() * READ_BYTES_MAX
    }

    /// Gives memory back if no part of a PDU waits.
    pub(super) fn trim(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
            self.lent = Vec::new();
            self.allocated = 0;
            self.read_bytes = READ_BYTES_MIN;
        }
    }

    pub(super) fn clear(&mut self) {
        self.buffer.clear();
    }

    /// Splits the next whole PDU off.
    pub(super) fn next_pdu(&mut self) -> Result<Option<Pdu>, ProtocolError> {
        self.wanted = HEADER_BYTES;
        let Some(&header) = self.buffer.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let segments = Segments::of(&header);
        if segments.data_bytes > self.data_bytes_max {
            return Err(ProtocolError::DataTooLong {
                length: segments.data_bytes,
                limit: self.data_bytes_max,
            });
        }
        let header_end = HEADER_BYTES + segments.ahs_bytes;
        let data_start = header_end + if self.header_digest { DIGEST_BYTES } else { 0 };
        let padded_end = data_start + segments.data_bytes + padding(segments.data_bytes);
        let has_data_digest = self.data_digest && segments.data_bytes > 0;
        let end = padded_end + if has_data_digest { DIGEST_BYTES } else { 0 };
        // The lengths are not to be trusted before the digest over them was checked.
        if self.buffer.len() < data_start {
            self.wanted = data_start;
            return Ok(None);
        }
        if self.header_digest && !self.digest_fits(0, header_end) {
            return Err(ProtocolError::HeaderDigest);
        }
        if self.buffer.len() < end {
            self.wanted = end;
            return Ok(None);
        }
        let is_damaged = has_data_digest && !self.digest_fits(data_start, padded_end);
        Ok(Some(Pdu {
            header,
            data: self.take(data_start, segments.data_bytes, end),
            is_damaged,
        }))
    }

    fn digest_fits(&self, start: usize, end: usize) -> bool {
        let digest = crc32c::crc32c(&self.buffer[start..end]);
        self.buffer[end..end + DIGEST_BYTES] == digest.to_le_bytes()
    }

    fn take(&mut self, data_start: usize, data_bytes: usize, end: usize) -> Bytes {
        if data_bytes == 0 {
            self.buffer.advance(end);
            return Bytes::new();
        }
        if data_bytes < COPY_BYTES_MAX {
            let data = Bytes::copy_from_slice(&self.buffer[data_start..data_start + data_bytes]);
            self.buffer.advance(end);
            return data;
        }
        self.buffer.advance(data_start);
        let data = self.buffer.split_to(data_bytes).freeze();
        self.buffer.advance(end - data_start - data_bytes);
        data
    }
}
