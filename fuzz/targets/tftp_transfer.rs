//! A transfer takes any datagrams and time-outs in any order: it never sends outside of the file,
//! never more than a window for one datagram, and it ends by itself when the client is silent.
//!
//! The first bytes choose options and size; then each byte is a step, with arguments after it.
#![no_main]

use std::time::{Duration, Instant};

use dess_tftp::{BLKSIZE_MAX, ErrorCode, Limits, Transfer, Transmit, negotiate};
use libfuzzer_sys::fuzz_target;

/// Time-outs in a row after which a transfer without an answer must be over.
const SILENCE_MAX: usize = 16;

struct Client<'a> {
    transfer: Transfer,
    now: Instant,
    file_bytes: u64,
    window_max: usize,
    last_block: u16,
    rest: &'a [u8],
}

fuzz_target!(|data: &[u8]| {
    let [choice, a, b, c, rest @ ..] = data else { return };
    let file_bytes = u64::from(u32::from_be_bytes([0, *a, *b, *c]));
    let (blksize, windowsize) = (
        ["8", "512", "1468", "65464"][usize::from(choice >> 2 & 3)],
        ["1", "2", "16", "64"][usize::from(choice >> 4 & 3)],
    );
    let mut options = Vec::new();
    if choice & 1 == 1 {
        options.extend([("blksize", blksize), ("windowsize", windowsize)]);
    }
    if choice & 2 == 2 {
        options.push(("tsize", "0"));
    }
    if choice & 0x40 == 0x40 {
        options.push(("timeout", "2"));
    }
    let agreed = negotiate(&options, &Limits::default(), file_bytes);
    let mut client = Client {
        window_max: usize::from(agreed.windowsize),
        transfer: Transfer::new(agreed, file_bytes),
        now: Instant::now(),
        file_bytes,
        last_block: 0,
        rest,
    };
    client.drain();
    while client.step() {
        client.drain();
    }
    for _ in 0..SILENCE_MAX {
        client.time_out();
        client.drain();
    }
    assert!(client.transfer.is_ended(), "silence ends a transfer");
    assert_eq!(client.transfer.poll_timeout(), None);
});

impl Client<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    /// False when the input is used up.
    fn step(&mut self) -> bool {
        let Some(step) = self.byte() else { return false };
        let argument = self.byte().unwrap_or(0);
        match step & 7 {
            0 | 1 => self.acknowledge(self.last_block),
            2 => self.acknowledge(self.last_block.wrapping_sub(argument.into())),
            3 => self.acknowledge(u16::from_be_bytes([step, argument])),
            4 => self.time_out(),
            5 => self.now += Duration::from_millis(u64::from(argument) * 8),
            6 if argument == 255 => self.transfer.handle_peer_gone(),
            6 if argument == 254 => self.transfer.abort(ErrorCode::NotDefined, "stopped"),
            _ => {
                let length = usize::from(argument).min(self.rest.len());
                let (datagram, rest) = self.rest.split_at(length);
                self.rest = rest;
                let _ = self.transfer.handle_datagram(self.now, datagram);
            }
        }
        true
    }

    fn acknowledge(&mut self, block: u16) {
        let [high, low] = block.to_be_bytes();
        let packet = [0, 4, high, low];
        assert_eq!(self.transfer.handle_datagram(self.now, &packet), Ok(()));
    }

    fn time_out(&mut self) {
        if let Some(deadline) = self.transfer.poll_timeout() {
            self.now = self.now.max(deadline);
        }
        self.transfer.handle_timeout(self.now);
    }

    /// Takes everything that may be sent now.
    fn drain(&mut self) {
        let mut blocks = 0;
        let mut packets = 0;
        while let Some(transmit) = self.transfer.poll_transmit(self.now) {
            match transmit {
                Transmit::Packet(packet) => {
                    packets += 1;
                    assert!(packet.len() <= 512, "an OACK or ERROR is short");
                }
                Transmit::Data { header, offset, length } => {
                    blocks += 1;
                    assert_eq!(header[..2], [0, 3]);
                    assert!(length <= usize::from(BLKSIZE_MAX));
                    assert!(offset + length as u64 <= self.file_bytes, "inside the file");
                    self.last_block = u16::from_be_bytes([header[2], header[3]]);
                }
            }
            assert!(blocks <= self.window_max && packets <= 1, "no more than a window");
        }
        let _ = self.transfer.poll_event();
        assert_eq!(self.transfer.poll_event(), None, "there is one end");
    }
}
