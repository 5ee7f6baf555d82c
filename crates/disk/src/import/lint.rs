//! What is looked at in a disk that is imported: whether a PC could boot it. Findings are shown, never fatal.

use std::io;

use flate2::Crc;
use serde::{Deserialize, Serialize};

use super::windows::{self, DriverStart, Unreadable, WindowsSeen};

const SECTOR_BYTES: u64 = 512;
/// Sizes that are no multiple of this make the last block of the disk an odd one.
const ALIGNMENT_BYTES: u64 = 4096;
const MBR_ENTRIES: usize = 4;
const MBR_PROTECTIVE: u8 = 0xee;
const MBR_EFI_SYSTEM: u8 = 0xef;
/// Most entries of a GPT that are looked at, and their largest size.
const GPT_ENTRIES_MAX: u32 = 1024;
const GPT_ENTRY_BYTES_MAX: u32 = 512;
/// Most partitions that are looked at for Windows, which has up to five.
const WINDOWS_PARTITIONS_MAX: usize = 16;
/// C12A7328-F81F-11D2-BA4B-00A0C93EC93B as it lies on the disk (UEFI 2.10 §5.3.3).
const GPT_EFI_SYSTEM: [u8; 16] = [
    0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b,
];

/// How a disk is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum PartitionTable {
    /// Not, or not in a way that is known.
    None,
    /// By the table in the first sector.
    Mbr,
    /// By a GUID partition table.
    Gpt,
}

/// Something about a disk that people should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Finding {
    /// Nothing in the first sector that firmware could run.
    #[error("no boot sector: a PC with BIOS does not boot it")]
    NoBootSector,
    /// Neither MBR nor GPT.
    #[error("no partition table")]
    NoPartitionTable,
    /// No FAT file system in an EFI system partition.
    #[error("no EFI system partition: a PC with UEFI does not boot it")]
    NoEfiSystemPartition,
    /// An MBR without a partition to boot from, which Windows needs.
    #[error("no partition is active: Windows does not boot from it with BIOS")]
    NoActivePartition,
    /// A partition that ends behind the disk.
    #[error(
        "partition {number} ends at byte {end_bytes}, behind the end of the disk: the image is cut off"
    )]
    PartitionBehindEnd {
        /// Its number, from 1.
        number: u32,
        /// Where it ends, in bytes.
        end_bytes: u64,
    },
    /// The GPT is damaged.
    #[error("the GUID partition table has a wrong checksum")]
    GptDamaged,
    /// The last sector is not the copy of the GPT.
    #[error(
        "the copy of the GUID partition table is not at the end of the disk: the disk was cut off or enlarged"
    )]
    GptCopyMissing,
    /// Made on a disk with sectors of 4096 bytes.
    #[error(
        "the disk was made with sectors of 4096 bytes; served with 512, its partitions are not found"
    )]
    LargeSectors,
    /// The size is no multiple of 4096.
    #[error("the size is no multiple of 4096 bytes")]
    OddSize,
    /// Windows pages over the network.
    #[error(
        "Windows has a page file ({setting}): a PC that cannot reach the server for a moment crashes; turn it off in the image"
    )]
    PageFile {
        /// What the registry says.
        setting: String,
    },
    /// The disk is behind a network card that starts after the disk is needed.
    #[error(
        "network driver {service} starts {start}: a PC with its card stops with INACCESSIBLE_BOOT_DEVICE (0x7B)"
    )]
    NetworkDriverNotAtBoot {
        /// The driver's service.
        service: String,
        /// When it starts.
        start: DriverStart,
    },
    /// A file system that may hold a Windows.
    #[error("partition {number} cannot be looked at for Windows: {reason}")]
    WindowsUnreadable {
        /// Its number, from 1.
        number: u32,
        /// Why, for people.
        reason: String,
    },
}

/// What was seen of a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DiskLint {
    /// How it is divided.
    pub table: PartitionTable,
    /// It has a boot sector for BIOS.
    pub bios: bool,
    /// It has an EFI system partition with a file system.
    pub uefi: bool,
    /// The Windows on it, if there is one that can be looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<WindowsSeen>,
    /// What people should know.
    pub findings: Vec<Finding>,
}

/// Reads a part of the disk; the range lies in it.
pub type Read<'a> = &'a dyn Fn(u64, &mut [u8]) -> io::Result<()>;

/// A partition that somebody put on the disk.
struct Partition {
    number: u32,
    start: u64,
    end: u64,
    efi_system: bool,
    active: bool,
}

/// Looks at a disk of `size_bytes`.
///
/// # Errors
/// If it cannot be read.
pub fn lint(size_bytes: u64, read: Read<'_>) -> io::Result<DiskLint> {
    let mut findings = Vec::new();
    let first = sector(size_bytes, 0, read)?;
    let signed = first[510..] == [0x55, 0xaa];
    let bios = signed && first[..440].iter().any(|&byte| byte != 0);
    let mbr = if signed { mbr_partitions(&first) } else { None };
    let protective = first[450] == MBR_PROTECTIVE;
    let second = sector(size_bytes, SECTOR_BYTES, read)?;
    let (table, partitions) = match mbr {
        _ if second.starts_with(b"EFI PART") => {
            let partitions = gpt_partitions(size_bytes, &second, read, &mut findings)?;
            (PartitionTable::Gpt, partitions)
        }
        Some(partitions) if !protective => (PartitionTable::Mbr, partitions),
        _ => {
            let large = sector(size_bytes, 4096, read)?.starts_with(b"EFI PART");
            findings.push(match large {
                true => Finding::LargeSectors,
                false => Finding::NoPartitionTable,
            });
            (PartitionTable::None, Vec::new())
        }
    };
    let mut uefi = false;
    for partition in partitions.iter().filter(|partition| partition.efi_system) {
        let start = sector(size_bytes, partition.start, read)?;
        uefi |= start[54..57] == *b"FAT" || start[82..85] == *b"FAT";
    }
    if table == PartitionTable::Mbr && bios && !partitions.iter().any(|found| found.active) {
        findings.push(Finding::NoActivePartition);
    }
    findings.extend(
        partitions
            .iter()
            .filter(|found| found.end > size_bytes)
            .map(|found| Finding::PartitionBehindEnd {
                number: found.number,
                end_bytes: found.end,
            }),
    );
    if !bios {
        findings.push(Finding::NoBootSector);
    }
    if !uefi {
        findings.push(Finding::NoEfiSystemPartition);
    }
    if !size_bytes.is_multiple_of(ALIGNMENT_BYTES) {
        findings.push(Finding::OddSize);
    }
    let windows = look_for_windows(size_bytes, &partitions, read, &mut findings)?;
    Ok(DiskLint {
        table,
        bios,
        uefi,
        windows,
        findings,
    })
}

/// The first Windows of all partitions.
fn look_for_windows(
    size_bytes: u64,
    partitions: &[Partition],
    read: Read<'_>,
    findings: &mut Vec<Finding>,
) -> io::Result<Option<WindowsSeen>> {
    for partition in partitions.iter().take(WINDOWS_PARTITIONS_MAX) {
        match windows::look(read, partition.start, partition.end.min(size_bytes)) {
            Ok(None) => {}
            Ok(Some(seen)) => {
                findings.extend(windows::findings(&seen));
                return Ok(Some(seen));
            }
            Err(Unreadable::Read(error)) => return Err(error),
            Err(other) => {
                findings.push(Finding::WindowsUnreadable {
                    number: partition.number,
                    reason: other.to_string(),
                });
                if let Unreadable::Endless = other {
                    break;
                }
            }
        }
    }
    Ok(None)
}

/// A sector; zeros behind the end of the disk.
fn sector(size_bytes: u64, offset: u64, read: Read<'_>) -> io::Result<[u8; 512]> {
    let mut sector = [0; SECTOR_BYTES as usize];
    if offset.saturating_add(SECTOR_BYTES) <= size_bytes {
        read(offset, &mut sector)?;
    }
    Ok(sector)
}

/// `None` if the first sector holds no table.
fn mbr_partitions(first: &[u8; 512]) -> Option<Vec<Partition>> {
    let mut partitions = Vec::new();
    for (number, entry) in (1..).zip(first[446..510].chunks(16)).take(MBR_ENTRIES) {
        let (state, kind) = (entry[0], entry[4]);
        let (start, sectors) = (u64::from(le32(entry, 8)), u64::from(le32(entry, 12)));
        if state & 0x7f != 0 {
            return None;
        }
        if kind != 0 && sectors != 0 {
            partitions.push(Partition {
                number,
                start: start * SECTOR_BYTES,
                end: (start + sectors) * SECTOR_BYTES,
                efi_system: kind == MBR_EFI_SYSTEM,
                active: state == 0x80,
            });
        }
    }
    (!partitions.is_empty()).then_some(partitions)
}

fn gpt_partitions(
    size_bytes: u64,
    header: &[u8; 512],
    read: Read<'_>,
    findings: &mut Vec<Finding>,
) -> io::Result<Vec<Partition>> {
    let header_bytes = le32(header, 12) as usize;
    let (count, entry_bytes) = (le32(header, 80), le32(header, 84));
    let known = (92..=512).contains(&header_bytes)
        && (128..=GPT_ENTRY_BYTES_MAX).contains(&entry_bytes)
        && count <= GPT_ENTRIES_MAX;
    if !known || gpt_sum(&header[..header_bytes]) != le32(header, 16) {
        findings.push(Finding::GptDamaged);
        return Ok(Vec::new());
    }
    let last = sector(size_bytes, size_bytes.saturating_sub(SECTOR_BYTES), read)?;
    if !last.starts_with(b"EFI PART") {
        findings.push(Finding::GptCopyMissing);
    }
    let place = le64(header, 72).saturating_mul(SECTOR_BYTES);
    let mut table = vec![0; count as usize * entry_bytes as usize];
    if place.saturating_add(table.len() as u64) > size_bytes {
        findings.push(Finding::GptDamaged);
        return Ok(Vec::new());
    }
    read(place, &mut table)?;
    let entries = (1..).zip(table.chunks(entry_bytes as usize));
    Ok(entries
        .filter(|(_, entry)| entry[..16] != [0; 16])
        .map(|(number, entry)| Partition {
            number,
            start: le64(entry, 32).saturating_mul(SECTOR_BYTES),
            end: le64(entry, 40)
                .saturating_add(1)
                .saturating_mul(SECTOR_BYTES),
            efi_system: entry[..16] == GPT_EFI_SYSTEM,
            active: false,
        })
        .collect())
}

/// CRC32 over a header with its checksum as zeros (UEFI 2.10 §5.3.2).
fn gpt_sum(header: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(&header[..16]);
    crc.update(&[0; 4]);
    crc.update(&header[20..]);
    crc.sum()
}

fn le32(bytes: &[u8], offset: usize) -> u32 {
    let field = bytes[offset..].first_chunk();
    u32::from_le_bytes(*field.expect("fields lie in their sector or entry"))
}

fn le64(bytes: &[u8], offset: usize) -> u64 {
    let field = bytes[offset..].first_chunk();
    u64::from_le_bytes(*field.expect("fields lie in their sector or entry"))
}

#[cfg(test)]
mod tests;
