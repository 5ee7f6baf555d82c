use super::*;

#[test]
fn a_descriptor_of_split_extents_is_read() {
    let text = "# Disk DescriptorFile\nversion=1\nCID=1a2b3c4d\nparentCID=ffffffff\ncreateType=\"custom\"\n\n\
        RW 4192256 SPARSE \"a disk-s001.vmdk\"\nRW 100 FLAT \"b.vmdk\" 63\nRW 7 ZERO\nddb.adapterType = \"ide\"\n";
    let descriptor = VmdkDescriptor::parse(text.as_bytes()).unwrap();
    assert_eq!((descriptor.cid, descriptor.parent_cid), (0x1a2b_3c4d, None));
    let kinds: Vec<_> = descriptor
        .extents
        .iter()
        .map(|extent| (extent.sectors, extent.kind.clone()))
        .collect();
    let file = |name: &str| name.to_owned();
    assert_eq!(
        kinds,
        [
            (
                4_192_256,
                VmdkExtentKind::Sparse {
                    file: file("a disk-s001.vmdk")
                }
            ),
            (
                100,
                VmdkExtentKind::Flat {
                    file: file("b.vmdk"),
                    sector: 63
                }
            ),
            (7, VmdkExtentKind::Zero),
        ]
    );
}

#[test]
fn a_line_without_sense_is_refused_with_its_place() {
    for (text, place) in [
        ("CID=xyz\n", 0),
        ("version=1\nRW many SPARSE \"a\"\n", 10),
        ("\n\nRW 10 SPARSE unquoted\n", 2),
        ("RW 10 VMFSRDM \"a\"\n", 0),
        ("RW 10 FLAT \"a\" -1\n", 0),
    ] {
        let error = VmdkDescriptor::parse(text.as_bytes()).unwrap_err();
        assert_eq!(error.offset, place, "{text}: {error}");
    }
}
