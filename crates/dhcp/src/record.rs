//! The lease journal's records: fixed size, so that a torn write damages no neighbour.
//!
//! | bytes | content (little-endian) |
//! |---|---|
//! | 0 | kind: 1 leased, 2 quarantined; 0 is space not yet written |
//! | 1 | format, 1 |
//! | 2..8 | MAC address |
//! | 8..12 | IPv4 address, most significant byte first |
//! | 12..20 | end, milliseconds since the Unix epoch |
//! | 20..28 | zero |
//! | 28..32 | CRC-32C of bytes 0..28 |
//!
//! A record divides a sector evenly: a power cut leaves it whole or unwritten. The file is a plain
//! sequence of records, oldest first, followed by zeros (space reserved ahead). A released lease
//! is a lease whose end has passed. Replaying a record twice changes nothing.
//!
//! An address is written as leased already when it is offered; if nobody takes the offer up, a
//! record with a passed end follows.

use std::net::Ipv4Addr;

use dess_model::{MacAddr, Timestamp};

use crate::lease::{Binding, BindingState};

/// Bytes of a record.
pub const RECORD_BYTES: usize = 32;
const FORMAT: u8 = 1;
const KIND_LEASED: u8 = 1;
const KIND_QUARANTINED: u8 = 2;

const _: () = assert!(512 % RECORD_BYTES == 0);

/// What a journal holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalContent {
    /// Good records, oldest first.
    pub records: Vec<Binding>,
    /// Bytes up to the end of the last record, good or damaged: where the next one goes.
    pub used_bytes: usize,
    /// Records with a wrong checksum (a write cut off by a power failure, or a damaged disk).
    pub damaged: usize,
}

/// The record of a binding; none for an offer, which lives in memory only (the disk may have the
/// lease that it announces, see [`Ahead`](crate::Ahead)).
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
    let checksum = crc32c::crc32c(&record[..28]);
    record[28..].copy_from_slice(&checksum.to_le_bytes());
    Some(record)
}

/// Reads one record; none if it is damaged.
pub fn decode_record(record: &[u8; RECORD_BYTES]) -> Option<Binding> {
    let checksum = u32::from_le_bytes(*record.last_chunk()?);
    if crc32c::crc32c(&record[..28]) != checksum || record[1] != FORMAT {
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
        match decode_record(record) {
            Some(binding) => content.records.push(binding),
            None => content.damaged += 1,
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
