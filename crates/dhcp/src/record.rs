//! The lease journal's records: fixed size, so that a torn write damages no neighbour.
//!
//! | bytes | content (little-endian) |
//! |---|---|
//! | 0 | kind: 1 leased, 2 quarantined, 3 service started, 4 stopped; 0 is space not yet written |
//! | 1 | format, 1 |
//! | 2..8 | kinds 1, 2: MAC address |
//! | 8..12 | IPv4 address, most significant byte first |
//! | 12..20 | end, milliseconds since the Unix epoch |
//! | 20..28 | zero |
//! | 2..18 | kinds 3, 4: boot id of the kernel |
//! | 18..20 | zero |
//! | 20..28 | until when leases given before may be missing, milliseconds since the Unix epoch |
//! | 28..32 | CRC-32C of bytes 0..28 |
//!
//! A record divides a sector evenly: a power cut leaves it whole or unwritten. The file is a plain
//! sequence of records, oldest first, followed by zeros (space reserved ahead). A released lease
//! is a lease whose end has passed. Replaying a record twice changes nothing.
//!
//! A power cut may lose the last records; the service's starts and stops tell whether there was
//! one ([`JournalContent::doubt_until`]).

use std::net::Ipv4Addr;

use dess_model::{MacAddr, Timestamp};

use crate::lease::{Binding, BindingState};

/// Bytes of a record.
pub const RECORD_BYTES: usize = 32;
const FORMAT: u8 = 1;
const KIND_LEASED: u8 = 1;
const KIND_QUARANTINED: u8 = 2;
const KIND_STARTED: u8 = 3;
const KIND_STOPPED: u8 = 4;

const _: () = assert!(512 % RECORD_BYTES == 0);

/// A run of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// The kernel's id of this boot of the machine; zero if it is unknown.
    pub boot_id: [u8; 16],
    /// Until when leases that were given before the run may be missing.
    pub doubt_until: Timestamp,
    /// True for the record of a clean stop: all before it is on disk.
    pub stopped: bool,
}

/// What a journal holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalContent {
    /// Good records, oldest first.
    pub records: Vec<Binding>,
    /// The last start or stop of the service; none in a file of before there were such records,
    /// when each lease was on disk before its client was told.
    pub session: Option<Session>,
    /// Bytes up to the end of the last record, good or damaged: where the next one goes.
    pub used_bytes: usize,
    /// Records with a wrong checksum (a write cut off by a power failure, or a damaged disk).
    pub damaged: usize,
}

impl JournalContent {
    /// Until when leases may be missing, for a start now; `longest_ms` is how long a lease lasts
    /// at most. The kernel keeps what a killed service wrote, so leases are lost only if the
    /// machine has booted since without a clean stop.
    pub fn doubt_until(&self, boot_id: [u8; 16], now: Timestamp, longest_ms: i64) -> Timestamp {
        let latest = Timestamp(now.0.saturating_add(longest_ms));
        let is_same_boot = |last: &Session| last.boot_id == boot_id && boot_id != [0; 16];
        match self.session {
            Some(last) if !last.stopped && !is_same_boot(&last) => latest,
            Some(last) => last.doubt_until.min(latest),
            None => Timestamp(0),
        }
    }
}

/// The record of a binding; none for an offer, which lives in memory only.
pub fn encode_record(binding: &Binding) -> Option<[u8; RECORD_BYTES]> {
    let kind = match binding.state {
        BindingState::Offered => return None,
        BindingState::Leased => KIND_LEASED,
        BindingState::Quarantined => KIND_QUARANTINED,
    };
    let mut record = [0; RECORD_BYTES];
    record[0] = kind;
    record[1] = FORMAT;
    record[2..8].copy_from_slice(&binding.mac.0);
    record[8..12].copy_from_slice(&binding.address.octets());
    record[12..20].copy_from_slice(&binding.expires_at.0.to_le_bytes());
    Some(sealed(record))
}

/// The record of a start or stop.
pub fn encode_session(session: &Session) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    record[0] = if session.stopped {
        KIND_STOPPED
    } else {
        KIND_STARTED
    };
    record[1] = FORMAT;
    record[2..18].copy_from_slice(&session.boot_id);
    record[20..28].copy_from_slice(&session.doubt_until.0.to_le_bytes());
    sealed(record)
}

fn sealed(mut record: [u8; RECORD_BYTES]) -> [u8; RECORD_BYTES] {
    let checksum = crc32c::crc32c(&record[..28]);
    record[28..].copy_from_slice(&checksum.to_le_bytes());
    record
}

fn is_whole(record: &[u8; RECORD_BYTES]) -> bool {
    record[28..] == crc32c::crc32c(&record[..28]).to_le_bytes() && record[1] == FORMAT
}

/// Reads the record of a start or stop; none if it is another one, or damaged.
pub fn decode_session(record: &[u8; RECORD_BYTES]) -> Option<Session> {
    let known = matches!(record[0], KIND_STARTED | KIND_STOPPED) && is_whole(record);
    known.then_some(())?;
    Some(Session {
        boot_id: *record[2..].first_chunk()?,
        doubt_until: Timestamp(i64::from_le_bytes(*record[20..].first_chunk()?)),
        stopped: record[0] == KIND_STOPPED,
    })
}

/// Reads the record of a binding; none if it is another one, or damaged.
pub fn decode_record(record: &[u8; RECORD_BYTES]) -> Option<Binding> {
    if !is_whole(record) {
        return None;
    }
    let state = match record[0] {
        KIND_LEASED => BindingState::Leased,
        KIND_QUARANTINED => BindingState::Quarantined,
        _ => return None,
    };
    let address: [u8; 4] = *record[8..].first_chunk()?;
    Some(Binding {
        address: Ipv4Addr::from(address),
        mac: MacAddr(*record[2..].first_chunk()?),
        state,
        expires_at: Timestamp(i64::from_le_bytes(*record[12..].first_chunk()?)),
    })
}

/// Reads a whole journal. Damaged records and a cut-off last one are passed over and counted.
pub fn read_journal(bytes: &[u8]) -> JournalContent {
    let mut content = JournalContent::default();
    let (records, tail) = bytes.as_chunks::<RECORD_BYTES>();
    for (index, record) in records.iter().enumerate() {
        if record.iter().all(|&byte| byte == 0) {
            continue;
        }
        content.used_bytes = (index + 1) * RECORD_BYTES;
        // Nothing follows a clean stop but the next start.
        if let Some(last) = &mut content.session {
            last.stopped = false;
        }
        if let Some(session) = decode_session(record) {
            content.session = Some(session);
        } else if let Some(binding) = decode_record(record) {
            content.records.push(binding);
        } else {
            content.damaged += 1;
        }
    }
    if tail.iter().any(|&byte| byte != 0) {
        content.damaged += 1;
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(last: u8, state: BindingState) -> Binding {
        Binding {
            address: Ipv4Addr::new(10, 77, 0, last),
            mac: MacAddr([0x52, 0x54, 0, 0x77, 0, last]),
            state,
            expires_at: Timestamp(1_800_000_000_000 + i64::from(last)),
        }
    }

    fn journal(count: u8) -> (Vec<Binding>, Vec<u8>) {
        let bindings: Vec<_> = (1..=count)
            .map(|last| {
                let quarantined = last % 3 == 0;
                let state = if quarantined {
                    BindingState::Quarantined
                } else {
                    BindingState::Leased
                };
                binding(last, state)
            })
            .collect();
        let bytes = bindings
            .iter()
            .filter_map(encode_record)
            .flatten()
            .collect();
        (bindings, bytes)
    }

    #[test]
    fn records_come_back_as_written_and_reserved_space_is_no_damage() {
        let (bindings, mut bytes) = journal(7);
        let used_bytes = bytes.len();
        bytes.resize(4096, 0);
        let content = read_journal(&bytes);
        assert_eq!(
            content,
            JournalContent {
                records: bindings,
                session: None,
                used_bytes,
                damaged: 0
            }
        );
        assert_eq!(encode_record(&binding(1, BindingState::Offered)), None);
    }

    #[test]
    fn a_journal_cut_at_any_byte_of_its_last_record_keeps_all_earlier_ones() {
        let (bindings, bytes) = journal(5);
        let whole = bytes.len() - RECORD_BYTES;
        for cut in whole..bytes.len() {
            let content = read_journal(&bytes[..cut]);
            assert_eq!(content.records, bindings[..4], "cut at {cut}");
            assert_eq!(content.used_bytes, whole, "cut at {cut}");
            assert_eq!(content.damaged, usize::from(cut > whole), "cut at {cut}");
            let mut zeroed = bytes[..cut].to_vec();
            zeroed.resize(4096, 0);
            // The last byte of the checksum may be zero by itself.
            let expected = if zeroed[..bytes.len()] == bytes { 5 } else { 4 };
            assert_eq!(
                read_journal(&zeroed).records.len(),
                expected,
                "zeros from {cut}"
            );
        }
    }

    #[test]
    fn leases_are_in_doubt_after_another_boot_unless_the_service_had_stopped() {
        let now = Timestamp(5_000);
        let started = Session {
            boot_id: [1; 16],
            doubt_until: Timestamp(0),
            stopped: false,
        };
        let stopped = Session {
            stopped: true,
            ..started
        };
        let doubting = Session {
            doubt_until: Timestamp(7_000),
            ..stopped
        };
        let after = |records: &[[u8; RECORD_BYTES]], boot: u8| {
            let mut bytes = records.concat();
            bytes.resize(4096, 0);
            let content = read_journal(&bytes);
            assert_eq!(content.damaged, 0);
            content.doubt_until([boot; 16], now, 10_000).0
        };
        let [started, stopped, doubting] = [started, stopped, doubting].map(|s| encode_session(&s));
        let lease = encode_record(&binding(1, BindingState::Leased)).unwrap();
        assert_eq!(after(&[started, lease], 1), 0, "killed");
        assert_eq!(after(&[started, lease], 2), 15_000, "power cut");
        assert_eq!(after(&[started, lease], 0), 15_000, "unknown boot");
        assert_eq!(after(&[started, lease, stopped], 2), 0, "clean stop");
        assert_eq!(
            after(&[started, stopped, lease], 2),
            15_000,
            "stopped, yet used"
        );
        assert_eq!(after(&[doubting], 2), 7_000, "the doubt goes on");
        assert_eq!(after(&[lease], 2), 0, "written by a former version");
        assert_eq!(after(&[], 2), 0, "a new file");
    }

    #[test]
    fn a_flipped_bit_costs_only_its_own_record() {
        let (bindings, bytes) = journal(3);
        for bit in 0..RECORD_BYTES * 8 {
            let mut damaged = bytes.clone();
            damaged[RECORD_BYTES + bit / 8] ^= 1 << (bit % 8);
            let content = read_journal(&damaged);
            assert_eq!(content.records, [bindings[0], bindings[2]], "bit {bit}");
            assert_eq!(content.damaged, 1);
        }
    }
}
