//! NTFS, read-only, as far as finding a file by its path and reading it needs it. All integers are little-endian.
//!
//! The volume is somebody else's: nothing in it is trusted. Records have at most 64 KiB, lists and runs are counted, and every read of the
//! disk takes from a budget, so that tables that lead in a circle come to an end.

use std::cell::Cell;

use super::Unreadable;
use super::index::{Step, search};
use super::record::{Attribute, ListEntry, Record};
use super::runs::Runs;
use crate::format::{le32, le64};
use crate::import::lint::Read;

const SECTOR_BYTES: u64 = 512;
const CLUSTER_BYTES_MAX: u64 = 2 << 20;
const RECORD_BYTES_MAX: u64 = 4096;
const INDEX_BYTES_MAX: u64 = 64 << 10;
/// Most bytes of a list of attributes (NTFS itself has the same limit).
const LIST_BYTES_MAX: u64 = 256 << 10;
/// Most levels of a directory's tree: with 4 KiB nodes, six hold more names than a volume has files.
const INDEX_DEPTH_MAX: usize = 10;
/// Most bytes that are read, with a sector's worth for every read: a sound Windows takes some ten MiB.
const READ_BYTES_MAX: u64 = 256 << 20;

const MFT: u64 = 0;
const ROOT: u64 = 5;
const ATTRIBUTE_LIST: u32 = 0x20;
const DATA: u32 = 0x80;
const INDEX_ROOT: u32 = 0x90;
const INDEX_ALLOCATION: u32 = 0xa0;
/// Name of the attributes that make a directory.
const DIRECTORY: &str = "$I30";

/// A partition with NTFS.
pub(super) struct Volume<'a> {
    read: Read<'a>,
    start: u64,
    end: u64,
    bytes_left: Cell<u64>,
    cluster_bytes: u64,
    record_bytes: u64,
    mft: Content,
}

/// What a file holds.
pub(super) enum Content {
    /// It lies in the file's record.
    Resident(Vec<u8>),
    /// It lies in clusters of the volume.
    Clusters(Runs),
}

impl Content {
    /// Its length in bytes.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Resident(bytes) => bytes.len() as u64,
            Self::Clusters(runs) => runs.length,
        }
    }
}

impl<'a> Volume<'a> {
    /// Opens the volume that lies from `start` to `end` of the disk; `None` if it has another file system.
    pub(super) fn open(read: Read<'a>, start: u64, end: u64) -> Result<Option<Self>, Unreadable> {
        let mut volume = Self {
            read,
            start,
            end,
            bytes_left: Cell::new(READ_BYTES_MAX),
            cluster_bytes: 0,
            record_bytes: 0,
            mft: Content::Resident(Vec::new()),
        };
        let mut boot = [0; SECTOR_BYTES as usize];
        if end.saturating_sub(start) < SECTOR_BYTES {
            return Ok(None);
        }
        volume.read_volume(0, &mut boot)?;
        if &boot[3..11] == b"-FVE-FS-" {
            return Err(Unreadable::Damaged("it is encrypted with BitLocker"));
        }
        if &boot[3..11] != b"NTFS    " {
            return Ok(None);
        }
        let sector_bytes = u64::from(u16::from_le_bytes([boot[11], boot[12]]));
        // Above 128, a power of two.
        let sectors = match boot[13] {
            few @ 0..=128 => u64::from(few),
            many => 1u64
                .checked_shl(u32::from(256 - u16::from(many)))
                .unwrap_or(0),
        };
        volume.cluster_bytes = sector_bytes.saturating_mul(sectors);
        let whole = volume.cluster_bytes.is_power_of_two();
        if !whole || !(SECTOR_BYTES..=CLUSTER_BYTES_MAX).contains(&volume.cluster_bytes) {
            return Err(Unreadable::Damaged("its clusters have an impossible size"));
        }
        volume.record_bytes = volume.table_bytes(boot[64], RECORD_BYTES_MAX)?;
        volume.open_mft(le64(&boot, 48)?)?;
        Ok(Some(volume))
    }

    /// A size that the boot sector tells in clusters, or as a negative power of two in bytes.
    fn table_bytes(&self, told: u8, most: u64) -> Result<u64, Unreadable> {
        let bytes = match told as i8 {
            clusters @ 1.. => self.cluster_bytes * clusters as u64,
            power => 1u64.checked_shl(power.unsigned_abs().into()).unwrap_or(0),
        };
        match bytes.is_power_of_two() && (SECTOR_BYTES..=most).contains(&bytes) {
            true => Ok(bytes),
            false => Err(Unreadable::Damaged("its records have an impossible size")),
        }
    }

    /// The table of all files is a file itself: its first record tells where the others are.
    fn open_mft(&mut self, cluster: u64) -> Result<(), Unreadable> {
        let at = cluster.saturating_mul(self.cluster_bytes);
        let mut bytes = vec![0; self.record_bytes as usize];
        self.read_volume(at, &mut bytes)?;
        let first = Record::decode(bytes, *b"FILE")?;
        let Some(data) = first.attributes().find(|found| found.is(DATA, "")) else {
            return Err(Unreadable::Damaged("its file table is missing"));
        };
        self.mft = self.content([data])?;
        // A table in many pieces has a list of them, which the pieces known so far lead to.
        if let Some(whole) = self.attribute(MFT, DATA, "")? {
            self.mft = whole;
        }
        Ok(())
    }

    /// The content of a file; `None` if there is no such file. Names are those of Windows, of ASCII letters.
    pub(super) fn file(&self, path: &[&str]) -> Result<Option<Content>, Unreadable> {
        let mut record = ROOT;
        for name in path {
            match self.child(record, name)? {
                Some(child) => record = child,
                None => return Ok(None),
            }
        }
        self.attribute(record, DATA, "")
    }

    /// The file of this name in a directory.
    fn child(&self, directory: u64, name: &str) -> Result<Option<u64>, Unreadable> {
        let Some(Content::Resident(root)) = self.attribute(directory, INDEX_ROOT, DIRECTORY)?
        else {
            return Ok(None);
        };
        let node_bytes = u64::from(le32(&root, 8)?);
        if !node_bytes.is_power_of_two() || !(SECTOR_BYTES..=INDEX_BYTES_MAX).contains(&node_bytes)
        {
            return Err(Unreadable::Damaged(
                "a directory's nodes have an impossible size",
            ));
        }
        let mut nodes = None;
        let mut step = search(&root, 16, name)?;
        for _ in 0..INDEX_DEPTH_MAX {
            let below = match step {
                Step::Found(record) => return Ok(Some(record)),
                Step::Missing => return Ok(None),
                Step::Below(place) => place,
            };
            if nodes.is_none() {
                nodes = self.attribute(directory, INDEX_ALLOCATION, DIRECTORY)?;
            }
            let Some(nodes) = &nodes else {
                return Err(Unreadable::Damaged("a directory lacks its nodes"));
            };
            // Places are told in clusters, or in sectors if a cluster is larger than a node.
            let unit = match self.cluster_bytes <= node_bytes {
                true => self.cluster_bytes,
                false => SECTOR_BYTES,
            };
            let mut bytes = vec![0; node_bytes as usize];
            self.read_content(nodes, below.saturating_mul(unit), &mut bytes)?;
            let node = Record::decode(bytes, *b"INDX")?;
            step = search(node.bytes(), 24, name)?;
        }
        Err(Unreadable::Damaged("a directory's tree has no end"))
    }

    /// What an attribute of a file holds, wherever its pieces are.
    fn attribute(&self, record: u64, kind: u32, name: &str) -> Result<Option<Content>, Unreadable> {
        let base = self.record(record)?;
        let list = base.attributes().find(|found| found.is(ATTRIBUTE_LIST, ""));
        let Some(list) = list else {
            let own = base.attributes().filter(|found| found.is(kind, name));
            let own: Vec<Attribute<'_>> = own.collect();
            return match own.is_empty() {
                true => Ok(None),
                false => self.content(own).map(Some),
            };
        };
        let list = self.content([list])?;
        if list.length() > LIST_BYTES_MAX {
            return Err(Unreadable::Damaged("a list of attributes is too long"));
        }
        let mut bytes = vec![0; list.length() as usize];
        self.read_content(&list, 0, &mut bytes)?;
        let mut records: Vec<(u64, Record)> = Vec::new();
        let mut wanted = Vec::new();
        for entry in ListEntry::all(&bytes).filter(|entry| entry.is(kind, name)) {
            if records.iter().all(|(number, _)| *number != entry.record) {
                records.push((entry.record, self.record(entry.record)?));
            }
            wanted.push(entry);
        }
        let pieces = wanted.iter().filter_map(|entry| {
            let (_, record) = records.iter().find(|(number, _)| *number == entry.record)?;
            record
                .attributes()
                .find(|found| found.id == entry.id && found.is(kind, name))
        });
        let pieces: Vec<Attribute<'_>> = pieces.collect();
        match pieces.is_empty() {
            true => Ok(None),
            false => self.content(pieces).map(Some),
        }
    }

    /// Puts the pieces of an attribute together.
    fn content<'r>(
        &self,
        pieces: impl IntoIterator<Item = Attribute<'r>>,
    ) -> Result<Content, Unreadable> {
        let mut runs = Runs::default();
        for piece in pieces {
            if let Some(value) = piece.resident()? {
                return Ok(Content::Resident(value.to_vec()));
            }
            runs.add(&piece)?;
        }
        Ok(Content::Clusters(runs))
    }

    fn record(&self, number: u64) -> Result<Record, Unreadable> {
        let mut bytes = vec![0; self.record_bytes as usize];
        let at = number.saturating_mul(self.record_bytes);
        self.read_content(&self.mft, at, &mut bytes)?;
        Record::decode(bytes, *b"FILE")
    }

    /// Reads a part of a file.
    pub(super) fn read_content(
        &self,
        content: &Content,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), Unreadable> {
        let within = offset.checked_add(buffer.len() as u64);
        if within.is_none_or(|end| end > content.length()) {
            return Err(Unreadable::Damaged("a file is shorter than its tables say"));
        }
        let runs = match content {
            Content::Resident(bytes) => {
                let from = offset as usize;
                buffer.copy_from_slice(&bytes[from..from + buffer.len()]);
                return Ok(());
            }
            Content::Clusters(runs) => runs,
        };
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            let left = (buffer.len() - done) as u64;
            let (place, length) = runs.piece(at, left, self.cluster_bytes)?;
            let part = &mut buffer[done..done + length as usize];
            match place {
                Some(place) => self.read_volume(place, part)?,
                None => part.fill(0),
            }
            done += length as usize;
        }
        Ok(())
    }

    fn read_volume(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Unreadable> {
        let cost = SECTOR_BYTES + buffer.len() as u64;
        let left = self.bytes_left.get().checked_sub(cost);
        self.bytes_left.set(left.ok_or(Unreadable::Endless)?);
        let at = self.start.saturating_add(offset);
        if at.saturating_add(buffer.len() as u64) > self.end {
            return Err(Unreadable::Damaged(
                "its tables lead behind the end of the partition",
            ));
        }
        (self.read)(at, buffer).map_err(Unreadable::Read)
    }
}
