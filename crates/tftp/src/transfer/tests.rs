use super::*;
use crate::negotiation::{Limits, negotiate};
use proptest::prelude::*;
use std::collections::VecDeque;

const OACK_OPTIONS: &[(&str, &str)] = &[("tsize", "0"), ("blksize", "1468"), ("windowsize", "4")];

fn transfer(options: &[(&str, &str)], file_bytes: u64) -> Transfer {
    let agreed = negotiate(&options.to_vec(), &Limits::default(), file_bytes);
    Transfer::new(agreed, file_bytes)
}

/// Numbers of all blocks that may be sent now.
fn blocks(transfer: &mut Transfer, now: Instant) -> Vec<u16> {
    std::iter::from_fn(|| transfer.poll_transmit(now))
        .map(|transmit| match transmit {
            Transmit::Data { header, .. } => u16::from_be_bytes([header[2], header[3]]),
            Transmit::Packet(packet) => panic!("{packet:?}"),
        })
        .collect()
}

fn ack(transfer: &mut Transfer, now: Instant, block: u16) {
    let packet = Packet::Ack { block }.to_vec();
    transfer.handle_datagram(now, &packet).unwrap();
}

fn error(transfer: &mut Transfer, now: Instant, code: ErrorCode) {
    let message = "User aborted the transfer";
    let packet = Packet::Error { code, message }.to_vec();
    transfer.handle_datagram(now, &packet).unwrap();
}

fn assert_ended(mut transfer: Transfer, event: Event) {
    assert_eq!(transfer.poll_event(), Some(event));
    assert_eq!(transfer.poll_event(), None);
    assert_eq!(transfer.poll_timeout(), None);
    assert_eq!(transfer.poll_transmit(Instant::now()), None);
    assert!(transfer.is_ended());
}

#[test]
fn a_plain_transfer_goes_block_by_block_to_the_short_last_one() {
    let now = Instant::now();
    let mut plain = transfer(&[], 1025);
    for block in 1..=3 {
        assert_eq!(blocks(&mut plain, now), [block]);
        ack(&mut plain, now, block);
    }
    assert_ended(plain, Event::Completed);
}

#[test]
fn a_file_of_whole_blocks_ends_with_an_empty_one() {
    let now = Instant::now();
    for (bytes, lengths) in [(1024, vec![512, 512, 0]), (0, vec![0])] {
        let mut even = transfer(&[], bytes);
        let mut seen = Vec::new();
        let mut block = 0;
        while let Some(Transmit::Data { length, .. }) = even.poll_transmit(now) {
            seen.push(length);
            block += 1;
            ack(&mut even, now, block);
        }
        assert_eq!(seen, lengths);
        assert_ended(even, Event::Completed);
    }
}

#[test]
fn options_are_acknowledged_first_and_data_waits_for_ack_zero() {
    let now = Instant::now();
    let mut windowed = transfer(OACK_OPTIONS, 10_000);
    let oack = b"\0\x06tsize\x0010000\0blksize\x001468\0windowsize\x004\0".to_vec();
    assert_eq!(
        windowed.poll_transmit(now),
        Some(Transmit::Packet(oack.clone()))
    );
    assert_eq!(windowed.poll_transmit(now), None);
    ack(&mut windowed, now, 1);
    assert_eq!(windowed.poll_transmit(now), None);
    let later = windowed.poll_timeout().unwrap();
    windowed.handle_timeout(later);
    assert_eq!(windowed.poll_transmit(later), Some(Transmit::Packet(oack)));
    ack(&mut windowed, later, 0);
    assert_eq!(blocks(&mut windowed, later), [1, 2, 3, 4]);
    ack(&mut windowed, later, 0);
    ack(&mut windowed, later, 4);
    assert_eq!(blocks(&mut windowed, later), [5, 6, 7]);
    ack(&mut windowed, later, 7);
    assert_ended(windowed, Event::Completed);
}

#[test]
fn a_size_probe_is_no_failure_however_the_firmware_ends_it() {
    let now = Instant::now();
    for code in [ErrorCode::OptionRefused, ErrorCode::NotDefined] {
        let mut probe = transfer(OACK_OPTIONS, 10_000);
        probe.poll_transmit(now);
        error(&mut probe, now, code);
        assert_ended(probe, Event::Probed);
    }
    let mut silent = transfer(&[("tsize", "0")], 10_000);
    while let Some(deadline) = silent
        .poll_timeout()
        .or(silent.poll_transmit(now).map(|_| now))
    {
        silent.handle_timeout(deadline);
    }
    assert_ended(silent, Event::Probed);
    let mut closed = transfer(OACK_OPTIONS, 10_000);
    closed.poll_transmit(now);
    closed.handle_peer_gone();
    assert_ended(closed, Event::Probed);
}

#[test]
fn an_error_of_the_client_ends_the_transfer_with_its_words() {
    let now = Instant::now();
    let mut full = transfer(&[], 10_000);
    blocks(&mut full, now);
    ack(&mut full, now, 1);
    blocks(&mut full, now);
    let packet = b"\0\x05\0\x03no \x1b[31mroom\0";
    full.handle_datagram(now, packet).unwrap();
    let failure = Failure::PeerError {
        code: ErrorCode::DiskFull,
        message: "no \\u{1b}[31mroom".into(),
    };
    assert_ended(
        full,
        Event::Failed {
            failure,
            bytes: 512,
        },
    );
}

#[test]
fn silence_is_answered_with_growing_waits_and_then_given_up() {
    let start = Instant::now();
    let mut lost = transfer(&[], 10_000);
    assert_eq!(blocks(&mut lost, start), [1]);
    ack(&mut lost, start, 1);
    let mut waits = Vec::new();
    let mut now = start;
    loop {
        let sent = blocks(&mut lost, now);
        let Some(deadline) = lost.poll_timeout() else {
            break;
        };
        assert_eq!(sent, [2]);
        lost.handle_timeout(deadline - Duration::from_millis(1));
        assert_eq!(blocks(&mut lost, now), [] as [u16; 0]);
        waits.push((deadline - now).as_millis());
        now = deadline;
        lost.handle_timeout(now);
    }
    assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 8000, 8000, 8000]);
    let failure = Failure::TimedOut;
    assert_ended(
        lost,
        Event::Failed {
            failure,
            bytes: 512,
        },
    );
}

#[test]
fn the_wait_follows_the_round_trip_within_its_bounds() {
    let mut now = Instant::now();
    let mut plain = transfer(&[], 100_000);
    blocks(&mut plain, now);
    assert_eq!(plain.poll_timeout(), Some(now + Duration::from_secs(1)));
    for (block, round_trip_ms, wait_ms) in [(1, 1, 200), (2, 150, 600), (3, 900, 1000)] {
        now += Duration::from_millis(round_trip_ms);
        ack(&mut plain, now, block);
        blocks(&mut plain, now);
        let deadline = now + Duration::from_millis(wait_ms);
        assert_eq!(plain.poll_timeout(), Some(deadline), "{round_trip_ms} ms");
    }
}

#[test]
fn the_clients_time_out_is_kept() {
    let now = Instant::now();
    let mut slow = transfer(&[("timeout", "20")], 10);
    slow.poll_transmit(now);
    assert_eq!(slow.poll_timeout(), Some(now + Duration::from_secs(20)));
    ack(&mut slow, now, 0);
    blocks(&mut slow, now);
    assert_eq!(slow.poll_timeout(), Some(now + Duration::from_secs(20)));
}

#[test]
fn duplicated_acks_do_not_wake_the_sorcerers_apprentice() {
    let now = Instant::now();
    let mut plain = transfer(&[], 10_000);
    assert_eq!(blocks(&mut plain, now), [1]);
    for block in 1..10 {
        ack(&mut plain, now, block);
        ack(&mut plain, now, block);
        assert_eq!(blocks(&mut plain, now), [block + 1]);
        ack(&mut plain, now, block);
        assert_eq!(blocks(&mut plain, now), [] as [u16; 0]);
    }
}

#[test]
fn one_duplicated_ack_of_a_window_costs_one_window_and_no_more() {
    let now = Instant::now();
    let mut windowed = transfer(&[("windowsize", "4")], 100_000);
    windowed.poll_transmit(now);
    ack(&mut windowed, now, 0);
    assert_eq!(blocks(&mut windowed, now), [1, 2, 3, 4]);
    ack(&mut windowed, now, 4);
    assert_eq!(blocks(&mut windowed, now), [5, 6, 7, 8]);
    // The network doubles the ACK, which looks as if block 5 was lost.
    ack(&mut windowed, now, 4);
    assert_eq!(blocks(&mut windowed, now), [5, 6, 7, 8]);
    ack(&mut windowed, now, 4);
    assert_eq!(blocks(&mut windowed, now), [] as [u16; 0]);
    // The client answers both copies.
    ack(&mut windowed, now, 8);
    assert_eq!(blocks(&mut windowed, now), [9, 10, 11, 12]);
    ack(&mut windowed, now, 8);
    assert_eq!(blocks(&mut windowed, now), [] as [u16; 0]);
    ack(&mut windowed, now, 12);
    assert_eq!(blocks(&mut windowed, now), [13, 14, 15, 16]);
}

#[test]
fn a_gap_in_a_window_is_refilled_from_the_gap_on() {
    let now = Instant::now();
    let mut windowed = transfer(&[("windowsize", "8")], 100_000);
    windowed.poll_transmit(now);
    ack(&mut windowed, now, 0);
    assert_eq!(blocks(&mut windowed, now).len(), 8);
    // Block 4 is lost; EDK2 answers each of 5, 6, 7, 8 with ACK 3.
    for _ in 5..=8 {
        ack(&mut windowed, now, 3);
    }
    assert_eq!(blocks(&mut windowed, now), [4, 5, 6, 7, 8, 9, 10, 11]);
}

#[test]
fn acks_of_blocks_never_sent_are_ignored() {
    let now = Instant::now();
    let mut plain = transfer(&[], 10_000);
    assert_eq!(blocks(&mut plain, now), [1]);
    for block in [2, 3, 500, 65535] {
        ack(&mut plain, now, block);
        assert_eq!(blocks(&mut plain, now), [] as [u16; 0]);
    }
    assert_eq!(plain.poll_event(), None);
}

#[test]
fn an_abort_tells_the_client_and_ends() {
    let now = Instant::now();
    let mut aborted = transfer(&[], 10_000);
    blocks(&mut aborted, now);
    aborted.abort(ErrorCode::NotDefined, "the server stops");
    assert!(!aborted.is_ended());
    let packet = b"\0\x05\0\0the server stops\0".to_vec();
    assert_eq!(aborted.poll_transmit(now), Some(Transmit::Packet(packet)));
    let failure = Failure::Aborted("the server stops".into());
    assert_ended(aborted, Event::Failed { failure, bytes: 0 });
}

/// A network that loses, doubles and reorders, deterministic by its seed.
struct Network {
    seed: u64,
    loss_percent: u64,
    flying: VecDeque<Vec<u8>>,
}

impl Network {
    fn roll(&mut self, bound: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005);
        self.seed = self.seed.wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % bound
    }

    fn carry(&mut self, datagram: Vec<u8>) {
        if self.roll(100) < self.loss_percent {
            return;
        }
        if self.roll(100) < self.loss_percent {
            self.flying.push_back(datagram.clone());
        }
        let late = self.roll(100) < self.loss_percent;
        self.flying.push_back(datagram);
        let last = self.flying.len() - 1;
        if late && last > 0 {
            self.flying.swap(last, last - 1);
        }
    }
}

/// A reader after RFC 1350 and 7440: acknowledges full windows, gaps and the last block.
struct Reader {
    blksize: usize,
    windowsize: u64,
    received: u64,
    bytes: u64,
    unacknowledged: u64,
    done: bool,
}

impl Reader {
    fn take(&mut self, block: u16, length: usize) -> Option<u16> {
        if wire_number(self.received + 1) != block {
            self.unacknowledged = 0;
            return Some(wire_number(self.received));
        }
        self.received += 1;
        self.bytes += length as u64;
        self.unacknowledged += 1;
        self.done = length < self.blksize;
        if self.done || self.unacknowledged >= self.windowsize {
            self.unacknowledged = 0;
            return Some(wire_number(self.received));
        }
        None
    }
}

/// A network that loses datagrams does not lose all of them: after this many retransmissions
/// without progress the simulated one gets through, well before a sender gives up.
const OUTAGE_RETRANSMISSIONS_MAX: u32 = 3;

/// Carries a whole file and returns how many blocks were sent for it.
fn simulate(file_bytes: u64, blksize: u16, windowsize: u16, loss_percent: u64, seed: u64) -> u64 {
    let (asked_blksize, asked_window) = (blksize.to_string(), windowsize.to_string());
    let options = [
        ("blksize", asked_blksize.as_str()),
        ("windowsize", asked_window.as_str()),
    ];
    let mut sender = transfer(&options, file_bytes);
    let mut network = Network {
        seed,
        loss_percent,
        flying: VecDeque::new(),
    };
    let mut acks = VecDeque::new();
    let mut now = Instant::now();
    let mut reader = Reader {
        blksize: blksize.into(),
        windowsize: windowsize.into(),
        received: 0,
        bytes: 0,
        unacknowledged: 0,
        done: false,
    };
    let mut sent = 0;
    let mut retransmissions = 0;
    let mut progress = None;
    loop {
        let outage_over = retransmissions >= OUTAGE_RETRANSMISSIONS_MAX;
        network.loss_percent = if outage_over { 0 } else { loss_percent };
        while let Some(transmit) = sender.poll_transmit(now) {
            match transmit {
                Transmit::Packet(packet) => network.carry(packet),
                Transmit::Data {
                    header,
                    offset,
                    length,
                } => {
                    sent += 1;
                    assert!(offset + length as u64 <= file_bytes);
                    let length = u32::try_from(length).unwrap().to_be_bytes();
                    network.carry([&header[..], &length].concat());
                }
            }
        }
        match sender.poll_event() {
            Some(Event::Completed) => break,
            Some(Event::Failed {
                failure: Failure::TimedOut,
                ..
            }) if reader.done => break,
            Some(other) => panic!("{other:?}, seed {seed}"),
            None => {}
        }
        while let Some(datagram) = network.flying.pop_front() {
            let answer = match datagram[1] {
                6 if reader.received == 0 => Some(0),
                6 => None,
                _ => {
                    let block = u16::from_be_bytes([datagram[2], datagram[3]]);
                    let length = u32::from_be_bytes(datagram[4..8].try_into().unwrap());
                    reader.take(block, length as usize)
                }
            };
            let arrives = network.roll(100) >= network.loss_percent;
            acks.extend(
                answer
                    .filter(|_| arrives)
                    .map(|block| (block, reader.received)),
            );
        }
        match acks.pop_front() {
            Some((block, received)) => {
                if progress < Some(received) {
                    progress = Some(received);
                    retransmissions = 0;
                }
                ack(&mut sender, now, block);
            }
            None => {
                retransmissions += 1;
                if let Some(deadline) = sender.poll_timeout() {
                    now = now.max(deadline);
                    sender.handle_timeout(now);
                }
            }
        }
    }
    assert_eq!(reader.bytes, file_bytes, "seed {seed}");
    sent
}

#[test]
fn block_numbers_roll_over_in_files_of_more_than_65535_blocks() {
    for windowsize in [1, 7, 64] {
        let blocks = 2 * 65_536 + 100;
        assert_eq!(simulate(blocks * 8 + 3, 8, windowsize, 0, 1), blocks + 1);
    }
    simulate(70_000 * 8, 8, 16, 1, 7);
}

proptest! {
    #[test]
    fn files_arrive_whole_over_a_network_that_loses_doubles_and_reorders(
        file_bytes in 0u64..60_000,
        blksize in 8u16..1500,
        windowsize in 1u16..65,
        loss in 0u64..15,
        seed in any::<u64>(),
    ) {
        let least = file_bytes / u64::from(blksize) + 1;
        let sent = simulate(file_bytes, blksize, windowsize, loss, seed);
        prop_assert!(sent >= least);
        if loss == 0 {
            prop_assert_eq!(sent, least);
        }
    }

    #[test]
    fn no_datagram_makes_a_transfer_panic(
        datagrams in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..12), 0..40),
    ) {
        let now = Instant::now();
        let mut target = transfer(OACK_OPTIONS, 100_000);
        for datagram in &datagrams {
            while target.poll_transmit(now).is_some() {}
            // Garbage is refused and changes nothing; what decodes is handled.
            let _ = target.handle_datagram(now, datagram);
            let mut acked = vec![0, 4];
            acked.extend(datagram.iter().take(2));
            let _ = target.handle_datagram(now, &acked);
        }
    }
}
