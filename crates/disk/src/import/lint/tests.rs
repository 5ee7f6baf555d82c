use super::*;

const SIZE: usize = 4 << 20;

fn look(disk: &[u8]) -> DiskLint {
    lint(disk.len() as u64, &|offset, buffer| {
        buffer.copy_from_slice(&disk[offset as usize..][..buffer.len()]);
        Ok(())
    })
    .unwrap()
}

fn put(disk: &mut [u8], offset: usize, bytes: &[u8]) {
    disk[offset..offset + bytes.len()].copy_from_slice(bytes);
}

fn mbr(disk: &mut [u8], entry: usize, state: u8, kind: u8, start: u32, sectors: u32) {
    let at = 446 + entry * 16;
    disk[at] = state;
    disk[at + 4] = kind;
    put(disk, at + 8, &start.to_le_bytes());
    put(disk, at + 12, &sectors.to_le_bytes());
    put(disk, 510, &[0x55, 0xaa]);
}

/// A disk with a GPT and an EFI system partition from sector 2048 on.
fn gpt() -> Vec<u8> {
    let mut disk = vec![0; SIZE];
    mbr(&mut disk, 0, 0, MBR_PROTECTIVE, 1, 8191);
    let mut header = vec![0; 92];
    put(&mut header, 0, b"EFI PART");
    put(&mut header, 12, &92u32.to_le_bytes());
    put(&mut header, 72, &2u64.to_le_bytes());
    put(&mut header, 80, &128u32.to_le_bytes());
    put(&mut header, 84, &128u32.to_le_bytes());
    let sum = gpt_sum(&header);
    put(&mut header, 16, &sum.to_le_bytes());
    put(&mut disk, 512, &header);
    put(&mut disk, SIZE - 512, &header);
    put(&mut disk, 1024, &GPT_EFI_SYSTEM);
    put(&mut disk, 1024 + 32, &2048u64.to_le_bytes());
    put(&mut disk, 1024 + 40, &4095u64.to_le_bytes());
    put(&mut disk, (1 << 20) + 82, b"FAT32   ");
    disk
}

#[test]
fn a_bios_disk_with_an_active_partition_lacks_only_uefi() {
    let mut disk = vec![0; SIZE];
    put(&mut disk, 0, &[0xeb, 0x63, 0x90]);
    mbr(&mut disk, 0, 0x80, 7, 2048, 4096);
    let seen = look(&disk);
    assert_eq!(
        (seen.table, seen.bios, seen.uefi),
        (PartitionTable::Mbr, true, false)
    );
    assert_eq!(seen.findings, [Finding::NoEfiSystemPartition]);
    disk[446] = 0;
    assert!(look(&disk).findings.contains(&Finding::NoActivePartition));
}

#[test]
fn a_uefi_disk_lacks_only_a_boot_sector() {
    let seen = look(&gpt());
    assert_eq!(
        (seen.table, seen.bios, seen.uefi),
        (PartitionTable::Gpt, false, true)
    );
    assert_eq!(seen.findings, [Finding::NoBootSector]);
}

#[test]
fn a_cut_off_gpt_disk_is_told() {
    let mut disk = gpt();
    disk.truncate((1 << 20) + 512);
    let findings = look(&disk).findings;
    assert!(findings.contains(&Finding::GptCopyMissing));
    let behind = Finding::PartitionBehindEnd {
        number: 1,
        end_bytes: 2 << 20,
    };
    assert!(findings.contains(&behind), "{findings:?}");
    assert!(findings.contains(&Finding::OddSize));
}

#[test]
fn damaged_tables_and_empty_disks_are_told() {
    let mut disk = gpt();
    disk[512 + 80] ^= 1;
    assert!(look(&disk).findings.contains(&Finding::GptDamaged));
    let empty = look(&vec![0; SIZE]);
    assert_eq!(empty.table, PartitionTable::None);
    assert!(empty.findings.contains(&Finding::NoPartitionTable));
    assert_eq!(look(&[0; 512]).table, PartitionTable::None);
    let mut large = vec![0; SIZE];
    put(&mut large, 4096, b"EFI PART");
    assert!(look(&large).findings.contains(&Finding::LargeSectors));
}

#[test]
fn no_table_panics() {
    let whole = gpt();
    let mut state = 3u64;
    for _ in 0..2000 {
        let mut disk = whole[..8192].to_vec();
        for _ in 0..4 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            disk[(state >> 40) as usize % 2048] = (state >> 30) as u8;
        }
        look(&disk);
    }
}
