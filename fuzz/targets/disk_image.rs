//! Any header of a disk image decodes or is refused.
#![no_main]

use dess_disk::format::{qcow2::Qcow2Header, vhd, vhdx, vmdk};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = Qcow2Header::decode(bytes) {
        assert!((9..=21).contains(&header.cluster_bits));
        assert!(header.l1_entries <= 4 << 20, "no table is taken at its word");
    }
    let _ = vhd::VhdFooter::decode(bytes);
    if let Ok(header) = vhd::VhdDynamicHeader::decode(bytes) {
        assert!(header.block_bytes.is_power_of_two());
    }
    if let Ok(header) = vmdk::VmdkHeader::decode(bytes) {
        assert!(header.grain_sectors.is_power_of_two() && header.table_entries.is_power_of_two());
    }
    if let Ok(descriptor) = vmdk::VmdkDescriptor::parse(bytes) {
        let sectors: u128 = descriptor.extents.iter().map(|extent| u128::from(extent.sectors)).sum();
        assert!(sectors < 1 << 64);
    }
    let _ = vhdx::ParentLocator::decode(bytes);
    // Checksums stand in the way of everything behind them.
    for length in [4096, 64 << 10] {
        let mut table = bytes.to_vec();
        table.resize(length, 0);
        let _ = vhdx::VhdxItems::decode(&table);
        table[4..8].fill(0);
        let crc = crc32c::crc32c(&table);
        table[4..8].copy_from_slice(&crc.to_le_bytes());
        let _ = vhdx::VhdxHeader::decode(&table);
        let _ = vhdx::VhdxRegions::decode(&table);
    }
});
