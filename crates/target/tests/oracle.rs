//! Random commands on an overlay, many in flight, against a plain array of bytes.

#![expect(
    clippy::unwrap_used,
    reason = "a failure of a test's set-up is a failure of the test"
)]

mod support;

use std::collections::HashMap;

use support::initiator::{Initiator, cdb_10};
use support::room::{IMAGE_BYTES, Site};

/// Commands under way at once.
const DEPTH: usize = 16;
const COMMANDS: usize = 3000;
/// A small part of the disk, so that commands overlap often.
const BLOCKS: u64 = 2048;

/// A small generator (PCG); the seed is all of its state.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// What the answer to a command must be: the data, for a read.
type Expected = HashMap<u32, Option<Vec<u8>>>;

struct Run {
    session: Initiator,
    model: Vec<u8>,
    expected: Expected,
    random: Random,
}

impl Run {
    /// Starts one random command and does the same to the model. Commands that overlap are
    /// carried out in the order in which they were sent.
    fn step(&mut self) {
        let kind = self.random.below(10);
        let blocks_max = if kind == 0 { 1024 } else { 40 };
        let blocks = 1 + self.random.below(blocks_max);
        let lba = self.random.below(BLOCKS - blocks);
        let (from, to) = (lba as usize * 512, (lba + blocks) as usize * 512);
        let fill = self.random.below(256) as u8;
        let start = |opcode, flags| {
            let mut cdb = cdb_10(opcode, lba as u32, blocks as u16);
            cdb[1] = flags;
            cdb
        };
        let length = (to - from) as u32;
        match kind {
            0..=3 => {
                let itt = self.session.start(&start(0x28, 0), &[], length).unwrap();
                self.expected
                    .insert(itt, Some(self.model[from..to].to_vec()));
            }
            4..=6 => {
                let data: Vec<u8> = (from..to).map(|at| fill ^ (at / 7) as u8).collect();
                let flags = if fill < 64 { 0x08 } else { 0 };
                let itt = self
                    .session
                    .start(&start(0x2a, flags), &data, length)
                    .unwrap();
                self.model[from..to].copy_from_slice(&data);
                self.expected.insert(itt, None);
            }
            7 => {
                let fill = fill & 1;
                let itt = self
                    .session
                    .start(&start(0x41, 0), &[fill; 512], 512)
                    .unwrap();
                self.model[from..to].fill(fill);
                self.expected.insert(itt, None);
            }
            8 => {
                let mut list = vec![0, 22, 0, 16, 0, 0, 0, 0];
                list.extend_from_slice(&lba.to_be_bytes());
                list.extend_from_slice(&(blocks as u32).to_be_bytes());
                list.extend_from_slice(&[0; 4]);
                let cdb = [0x42, 0, 0, 0, 0, 0, 0, 0, list.len() as u8, 0];
                let itt = self.session.start(&cdb, &list, list.len() as u32).unwrap();
                self.model[from..to].fill(0);
                self.expected.insert(itt, None);
            }
            _ => {
                // VERIFY with all of the data.
                let data = self.model[from..to].to_vec();
                let itt = self
                    .session
                    .start(&start(0x2f, 0x02), &data, length)
                    .unwrap();
                self.expected.insert(itt, None);
            }
        }
    }

    /// Takes PDUs until one command has ended, and checks it.
    fn finish_one(&mut self, partial: &mut HashMap<u32, Vec<u8>>) {
        loop {
            let pdu = self.session.receive().unwrap();
            let itt = u32::from_be_bytes(pdu.bhs[16..20].try_into().unwrap());
            let opcode = pdu.bhs[0] & 0x3f;
            if opcode == 0x25 {
                let at = u32::from_be_bytes(pdu.bhs[40..44].try_into().unwrap()) as usize;
                let data = partial.entry(itt).or_default();
                assert_eq!(data.len(), at, "data in order");
                data.extend_from_slice(&pdu.data);
                if pdu.bhs[1] & 0x01 == 0 {
                    continue;
                }
            } else {
                assert_eq!(opcode, 0x21);
            }
            assert_eq!(pdu.bhs[3], 0, "status of {itt}, sense {:02x?}", pdu.data);
            let data = partial.remove(&itt).unwrap_or_default();
            let expected = self.expected.remove(&itt).unwrap();
            assert!(data == expected.unwrap_or_default(), "data of {itt}");
            return;
        }
    }
}

#[test]
fn overlapping_commands_leave_what_their_order_says() {
    let seed = std::env::var("DESS_TEST_SEED").map_or(1, |seed| seed.parse().unwrap());
    println!("seed {seed} (repeat with DESS_TEST_SEED={seed})");
    let site = Site::new();
    let running = site.start();
    running.power_on(&site, 2);
    let mut session = Initiator::login(&site.login(2)).unwrap();
    session.become_ready().unwrap();
    let mut run = Run {
        session,
        model: site.image.clone(),
        expected: HashMap::new(),
        random: Random(seed),
    };
    assert_eq!(run.model.len(), IMAGE_BYTES);
    let mut partial = HashMap::new();
    for _ in 0..COMMANDS {
        run.step();
        if run.expected.len() >= DEPTH {
            run.finish_one(&mut partial);
        }
    }
    while !run.expected.is_empty() {
        run.finish_one(&mut partial);
    }
    running.stop();
}
