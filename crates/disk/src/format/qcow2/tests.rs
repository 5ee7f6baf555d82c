use super::*;

/// The header of a small image of version 3 with a backing file.
fn header() -> Vec<u8> {
    let mut bytes = vec![0; 256];
    bytes[..4].copy_from_slice(MAGIC);
    bytes[4..8].copy_from_slice(&3u32.to_be_bytes());
    bytes[8..16].copy_from_slice(&160u64.to_be_bytes());
    bytes[16..20].copy_from_slice(&8u32.to_be_bytes());
    bytes[20..24].copy_from_slice(&16u32.to_be_bytes());
    bytes[24..32].copy_from_slice(&(1u64 << 30).to_be_bytes());
    bytes[36..40].copy_from_slice(&2u32.to_be_bytes());
    bytes[40..48].copy_from_slice(&0x30000u64.to_be_bytes());
    bytes[100..104].copy_from_slice(&104u32.to_be_bytes());
    bytes[104..108].copy_from_slice(&EXTENSION_BACKING_FORMAT.to_be_bytes());
    bytes[108..112].copy_from_slice(&3u32.to_be_bytes());
    bytes[112..115].copy_from_slice(b"raw");
    bytes[160..168].copy_from_slice(b"base.img");
    bytes
}

#[test]
fn a_header_is_read() {
    let header = Qcow2Header::decode(&header()).unwrap();
    assert_eq!(header.backing_file.as_deref(), Some("base.img"));
    assert_eq!(header.backing_format.as_deref(), Some("raw"));
    assert_eq!((header.cluster_bits, header.size_bytes), (16, 1 << 30));
}

#[test]
fn a_refused_field_is_named_by_its_offset() {
    let cases: [(usize, &[u8]); 8] = [
        (4, &4u32.to_be_bytes()),
        (20, &8u32.to_be_bytes()),
        (32, &1u32.to_be_bytes()),
        (36, &1u32.to_be_bytes()),
        (36, &u32::MAX.to_be_bytes()),
        (72, &(1u64 << 40).to_be_bytes()),
        (100, &90u32.to_be_bytes()),
        (8, &250u64.to_be_bytes()),
    ];
    for (offset, value) in cases {
        let mut bytes = header();
        bytes[offset..offset + value.len()].copy_from_slice(value);
        let error = Qcow2Header::decode(&bytes).unwrap_err();
        assert_eq!(error.offset, offset as u64, "{error}");
    }
}

#[test]
fn no_header_panics() {
    let whole = header();
    for cut in 0..whole.len() {
        let _ = Qcow2Header::decode(&whole[..cut]);
    }
    let mut state = 7u64;
    for _ in 0..50_000 {
        let mut bytes = whole.clone();
        for _ in 0..3 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let at = (state >> 40) as usize % bytes.len();
            bytes[at] = (state >> 30) as u8;
        }
        if let Ok(header) = Qcow2Header::decode(&bytes) {
            assert!(header.l1_entries <= L1_ENTRIES_MAX);
        }
    }
}
