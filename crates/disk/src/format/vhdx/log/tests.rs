//! Logs written by hand after \[MS-VHDX\] 2.3, and one that QEMU wrote.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::format::tests::qemu;
use crate::format::vhdx::{HEADER_BYTES, HEADER_OFFSETS, REGION_OFFSETS, VhdxRegions};
use crate::format::{Chain, Unpacker};

const LOG_ID: [u8; 16] = *b"a log of our own";
const SECTOR: usize = SECTOR_BYTES as usize;
/// Of the disk, and of a block.
const MIB: usize = 1 << 20;

/// An entry as it lies in a log that begins with its tail.
fn entry(sequence: u64, tail: u64, file_bytes: u64, changes: &[Change]) -> Vec<u8> {
    let mut bytes = vec![0; (64 + changes.len() * 32).next_multiple_of(SECTOR)];
    bytes[..4].copy_from_slice(MAGIC);
    bytes[12..16].copy_from_slice(&(tail as u32 * SECTOR as u32).to_le_bytes());
    bytes[16..24].copy_from_slice(&sequence.to_le_bytes());
    bytes[24..28].copy_from_slice(&(changes.len() as u32).to_le_bytes());
    bytes[32..48].copy_from_slice(&LOG_ID);
    bytes[48..56].copy_from_slice(&file_bytes.to_le_bytes());
    bytes[56..64].copy_from_slice(&file_bytes.to_le_bytes());
    for (index, change) in changes.iter().enumerate() {
        let at = 64 + index * 32;
        let place = match change {
            Change::Zeros { offset, length } => {
                bytes[at..at + 4].copy_from_slice(b"zero");
                bytes[at + 8..at + 16].copy_from_slice(&length.to_le_bytes());
                *offset
            }
            Change::Sector {
                offset,
                bytes: content,
            } => {
                bytes[at..at + 4].copy_from_slice(b"desc");
                bytes[at + 4..at + 8].copy_from_slice(&content[4092..]);
                bytes[at + 8..at + 16].copy_from_slice(&content[..8]);
                let mut sector = content.clone();
                sector[..4].copy_from_slice(b"data");
                sector[4..8].copy_from_slice(&((sequence >> 32) as u32).to_le_bytes());
                sector[4092..].copy_from_slice(&(sequence as u32).to_le_bytes());
                bytes.extend(sector);
                *offset
            }
        };
        bytes[at + 16..at + 24].copy_from_slice(&place.to_le_bytes());
        bytes[at + 24..at + 32].copy_from_slice(&sequence.to_le_bytes());
    }
    let length = bytes.len() as u32;
    bytes[8..12].copy_from_slice(&length.to_le_bytes());
    seal(&mut bytes);
    bytes
}

fn seal(table: &mut [u8]) {
    let sum = checksum(table);
    table[4..8].copy_from_slice(&sum.to_le_bytes());
}

fn sector(offset: u64, fill: u8) -> Change {
    let bytes = (0..SECTOR).map(|at| fill ^ at as u8).collect();
    Change::Sector { offset, bytes }
}

/// A file of 8 blocks of 1 MiB, of which QEMU has written three.
struct Image {
    path: PathBuf,
    bytes: Vec<u8>,
    bat: usize,
    _directory: tempfile::TempDir,
}

impl Image {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.vhdx");
        let name = path.to_str().unwrap();
        let options = "block_size=1M,log_size=1M";
        qemu(
            "qemu-img",
            &["create", "-q", "-f", "vhdx", "-o", options, name, "8M"],
        );
        qemu("qemu-io", &["-c", "write -P 0x11 0 3M", name]);
        let bytes = fs::read(&path).unwrap();
        let regions = VhdxRegions::decode(&bytes[REGION_OFFSETS[0] as usize..]).unwrap();
        Self {
            path,
            bat: regions.bat.0 as usize,
            bytes,
            _directory: directory,
        }
    }

    fn log_start(&self) -> usize {
        let header = HEADER_OFFSETS[0] as usize;
        VhdxHeader::decode(&self.bytes[header..]).unwrap().log.0 as usize
    }

    /// Puts entries into the log, the first one at `sector`.
    fn log(&mut self, mut sector: usize, entries: &[Vec<u8>]) -> &mut Self {
        let start = self.log_start();
        for entry in entries {
            for part in entry.chunks(SECTOR) {
                let at = start + sector % (MIB / SECTOR) * SECTOR;
                self.bytes[at..at + SECTOR].copy_from_slice(part);
                sector += 1;
            }
        }
        self
    }

    /// The file's headers say that it was not closed; reads the whole disk.
    fn read(&mut self) -> Result<Vec<u8>, String> {
        for at in HEADER_OFFSETS.map(|at| at as usize) {
            let header = &mut self.bytes[at..at + HEADER_BYTES];
            header[48..64].copy_from_slice(&LOG_ID);
            seal(header);
        }
        fs::write(&self.path, &self.bytes).unwrap();
        let read = read_all(&self.path);
        assert!(
            fs::read(&self.path).unwrap() == self.bytes,
            "the source was changed"
        );
        read
    }

    /// The first sector of the block table with one block pointing elsewhere.
    fn table(&self, block: usize, entry: u64) -> Change {
        let mut bytes = self.bytes[self.bat..self.bat + SECTOR].to_vec();
        bytes[block * 8..block * 8 + 8].copy_from_slice(&entry.to_le_bytes());
        Change::Sector {
            offset: self.bat as u64,
            bytes,
        }
    }
}

fn read_all(path: &Path) -> Result<Vec<u8>, String> {
    let whole = || -> Result<Vec<u8>, ImportError> {
        let chain = Chain::open(path, None)?;
        chain.check_whole(&|| false)?;
        let mut bytes = vec![0xee; chain.size_bytes() as usize];
        chain.read(&mut Unpacker::default(), 0, &mut bytes)?;
        Ok(bytes)
    };
    whole().map_err(|error| error.to_string())
}

/// What lies in a block: the byte, if it is the same everywhere.
fn block(disk: &[u8], number: usize) -> Option<u8> {
    let block = &disk[number * MIB..][..MIB];
    block
        .iter()
        .all(|byte| *byte == block[0])
        .then_some(block[0])
}

#[test]
fn a_log_is_laid_over_the_file_and_the_file_stays_as_it_is() {
    let mut image = Image::new();
    let length = image.bytes.len() as u64;
    // Block 5 becomes the data of block 1, block 0 is cleared, part of block 2 written: payload is not logged by anybody, but may be.
    let data = |block: usize| {
        let at = image.bat + block * 8;
        le64(&image.bytes, at).unwrap()
    };
    let first = data(0) & !0xf_ffff;
    let third = data(2) & !0xf_ffff;
    let changes = [
        image.table(5, data(1)),
        Change::Zeros {
            offset: first,
            length: MIB as u64,
        },
        sector(first + 8192, 0x22),
        sector(third + 4096, 0x33),
    ];
    let entries = [
        entry(7, 3, length, &changes[..2]),
        entry(8, 3, length, &changes[2..]),
    ];
    let disk = image.log(3, &entries).read().unwrap();
    assert_eq!((block(&disk, 1), block(&disk, 5)), (Some(0x11), Some(0x11)));
    assert!(disk[..8192].iter().all(|byte| *byte == 0));
    let Change::Sector { bytes, .. } = &changes[2] else {
        unreachable!()
    };
    assert!(
        disk[8192..][..SECTOR] == *bytes,
        "leading and trailing bytes too"
    );
    assert_eq!(disk[2 * MIB + 4095..][..3], [0x11, 0x33, 0x32]);
}

#[test]
fn only_the_newest_whole_sequence_counts_and_it_may_wrap_around() {
    let mut image = Image::new();
    let length = image.bytes.len() as u64;
    let gone = image.table(1, 0);
    let kept = image.table(2, 0);
    // An older sequence elsewhere, and one whose tail is behind another log's back.
    image.log(100, &[entry(50, 100, length, std::slice::from_ref(&gone))]);
    image.log(150, &[entry(90, 140, length, std::slice::from_ref(&gone))]);
    let wrapping = [
        entry(60, 255, length, &[gone]),
        entry(61, 255, length, &[kept]),
    ];
    let disk = image.log(255, &wrapping).read().unwrap();
    assert_eq!(
        [0, 1, 2].map(|number| block(&disk, number)),
        [Some(0x11), Some(0x11), Some(0)]
    );
}

#[test]
fn changes_before_the_tail_are_in_their_places_already() {
    let mut image = Image::new();
    let length = image.bytes.len() as u64;
    let stale = sector(image.bat as u64, 0xff);
    let entries = [
        entry(5, 10, length, &[stale]),
        entry(6, 12, length, &[sector(length, 0x44)]),
    ];
    let disk = image.log(10, &entries).read().unwrap();
    assert_eq!(block(&disk, 1), Some(0x11));
}

#[test]
fn a_damaged_log_is_refused_and_an_empty_one_is_nothing() {
    let mut image = Image::new();
    let length = image.bytes.len() as u64;
    let whole = image.bytes.clone();
    // QEMU's own log of the writes above belongs to another id.
    assert_eq!(block(&image.read().unwrap(), 1), Some(0x11));
    let good = entry(5, 10, length, &[sector(length, 1)]);
    for damaged in [9, 20, 33, 100, 4100, 8000] {
        let mut bad = good.clone();
        bad[damaged] ^= 1;
        image.bytes.clone_from(&whole);
        let read = image.log(10, &[bad]).read();
        // Not even the id is right.
        match damaged {
            33 => assert!(read.is_ok()),
            _ => assert!(
                read.is_err_and(|error| error.contains("log is damaged")),
                "{damaged}"
            ),
        }
    }
    image.bytes.clone_from(&whole);
    let lost = entry(5, 10, length + 4096, &[]);
    let error = image.log(10, &[lost]).read().unwrap_err();
    assert!(error.contains("truncated"), "{error}");
}

#[test]
fn a_hostile_log_neither_panics_nor_takes_for_ever() {
    let mut image = Image::new();
    let length = image.bytes.len() as u64;
    let whole = image.bytes.clone();
    let start = image.log_start();
    let mut state = 5u64;
    let mut random = move |bound: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % bound
    };
    for _ in 0..60 {
        let mut bad = entry(
            u64::MAX,
            random(4) as u64,
            length,
            &[
                Change::Zeros {
                    offset: (random(1 << 20) as u64) << 12,
                    length: (random(1 << 20) as u64) << 12,
                },
                sector((random(4096) as u64) << 12, 9),
            ],
        );
        for _ in 0..random(4) {
            let at = random(128);
            bad[at] = random(256) as u8;
        }
        seal(&mut bad);
        image.bytes.clone_from(&whole);
        let _ = image.log(random(4), &[bad]).read();
    }
    // Entries that all claim the rest of the log.
    for sector in 0..MIB / SECTOR {
        let at = start + sector * SECTOR;
        image.bytes[at..at + SECTOR].fill(0);
        image.bytes[at..at + 4].copy_from_slice(MAGIC);
        image.bytes[at + 8..at + 12].copy_from_slice(&(MIB as u32).to_le_bytes());
        image.bytes[at + 32..at + 48].copy_from_slice(&LOG_ID);
    }
    assert!(image.read().is_err());
}

/// QEMU empties its log after every change of a table, so that a crash hardly ever leaves one. What it wrote stays where it was.
#[test]
fn a_log_that_qemu_wrote_is_replayed_as_by_qemu() {
    let image = Image::new();
    let name = image.path.to_str().unwrap();
    qemu("qemu-io", &["-c", "write -P 0x55 3M 1M", name]);
    let mut left = fs::read(&image.path).unwrap();
    // As if the power had gone when the log was written, but not the block table.
    let table = image.bat..image.bat + SECTOR;
    assert!(left[table.clone()] != image.bytes[table.clone()]);
    left[table.clone()].copy_from_slice(&image.bytes[table]);
    let entry = image.log_start();
    assert!(left[entry..].starts_with(MAGIC));
    let log_id = left[entry + 32..entry + 48].to_vec();
    for at in HEADER_OFFSETS.map(|at| at as usize) {
        let header = &mut left[at..at + HEADER_BYTES];
        header[48..64].copy_from_slice(&log_id);
        seal(header);
    }
    fs::write(&image.path, &left).unwrap();
    let disk = read_all(&image.path).unwrap();
    assert!(
        fs::read(&image.path).unwrap() == left,
        "the source was changed"
    );
    assert_eq!((block(&disk, 1), block(&disk, 3)), (Some(0x11), Some(0x55)));
    qemu(
        "qemu-img",
        &["check", "-q", "-f", "vhdx", "-r", "all", name],
    );
    assert!(
        fs::read(&image.path).unwrap() != left,
        "QEMU found nothing to replay"
    );
    let raw = image.path.with_extension("raw");
    qemu(
        "qemu-img",
        &["convert", "-O", "raw", name, raw.to_str().unwrap()],
    );
    assert!(fs::read(raw).unwrap() == disk);
}
