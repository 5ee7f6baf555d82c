//! Parameter lists of a peer: UNMAP.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u64, &[u8])| {
    let (capacity, list) = input;
    if let Ok(ranges) = dess_scsi::unmap_ranges(list, capacity) {
        assert!(ranges.len() <= list.len() / 16, "no more ranges than bytes for them");
    }
});
