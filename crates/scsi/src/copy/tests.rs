use super::*;

const NAA: u64 = 0x3001_0203_0405_0607;

fn unit() -> LogicalUnit {
    LogicalUnit {
        serial: "0123456789abcdef".into(),
        naa: NAA,
        target_name: "iqn.2026-01.test:seat1".into(),
        capacity_blocks: 1000,
        physical_block_exponent: 3,
        read_only: false,
        thin: true,
    }
}

fn target(naa: u64) -> Vec<u8> {
    let mut descriptor = vec![0xe4, 0, 0, 0, 1, 3, 0, 8];
    descriptor.extend_from_slice(&naa.to_be_bytes());
    descriptor.resize(32, 0);
    descriptor[30] = 2;
    descriptor
}

fn segment(index: u16, source: u64, destination: u64, blocks: u16) -> Vec<u8> {
    let mut descriptor = vec![0x02, 0, 0, 24, 0, 0];
    descriptor.extend_from_slice(&index.to_be_bytes());
    descriptor.extend_from_slice(&[0, 0]);
    descriptor.extend_from_slice(&blocks.to_be_bytes());
    descriptor.extend_from_slice(&source.to_be_bytes());
    descriptor.extend_from_slice(&destination.to_be_bytes());
    descriptor
}

fn list(targets: &[Vec<u8>], segments: &[Vec<u8>]) -> Vec<u8> {
    let (targets, segments) = (targets.concat(), segments.concat());
    let mut list = vec![7, 0];
    list.extend_from_slice(&(targets.len() as u16).to_be_bytes());
    list.extend_from_slice(&[0; 4]);
    list.extend_from_slice(&(segments.len() as u32).to_be_bytes());
    list.extend_from_slice(&[0; 4]);
    [list, targets, segments].concat()
}

fn read(targets: &[Vec<u8>], segments: &[Vec<u8>]) -> Result<Vec<CopySegment>, Sense> {
    copy_segments(&list(targets, segments), &unit())
}

#[test]
fn segments_within_the_disk_are_read() {
    let found = read(&[target(NAA)], &[segment(0, 0, 990, 10)]).unwrap();
    let range = |lba| BlockRange { lba, blocks: 10 };
    let expected = CopySegment {
        source: range(0),
        destination: range(990),
    };
    assert_eq!(found, [expected]);
    assert_eq!(copy_segments(&[], &unit()), Ok(vec![]));
}

#[test]
fn what_cannot_be_copied_is_refused_with_its_own_sense() {
    let one = || segment(0, 0, 500, 8);
    let refused = |targets: &[Vec<u8>], segments: &[Vec<u8>]| read(targets, segments).unwrap_err();
    assert_eq!(
        refused(&[target(NAA + 1)], &[one()]),
        Sense::COPY_TARGET_UNREACHABLE
    );
    assert_eq!(
        refused(&[target(NAA)], &[segment(1, 0, 500, 8)]),
        Sense::UNREACHABLE_COPY_TARGET
    );
    assert_eq!(
        refused(&[target(NAA)], &[segment(0, 0, 993, 8)]),
        Sense::COPY_ABORTED
    );
    let three = [target(NAA), target(NAA), target(NAA)];
    assert_eq!(refused(&three, &[one()]), Sense::TOO_MANY_TARGETS);
    let nine: Vec<_> = (0..9).map(|_| one()).collect();
    assert_eq!(refused(&[target(NAA)], &nine), Sense::TOO_MANY_SEGMENTS);
    assert_eq!(refused(&three, &nine), Sense::PARAMETER_LENGTH);
    let mut fibre = target(NAA);
    fibre[0] = 0xe0;
    assert_eq!(
        refused(&[fibre], &[one()]),
        Sense::UNKNOWN_TARGET_DESCRIPTOR
    );
    let mut stream = one();
    stream[0] = 0x03;
    assert_eq!(
        refused(&[target(NAA)], &[stream]),
        Sense::UNKNOWN_SEGMENT_DESCRIPTOR
    );
}

#[test]
fn a_list_that_is_cut_off_is_refused_wherever_it_ends() {
    let whole = list(&[target(NAA)], &[segment(0, 0, 500, 8)]);
    for end in 1..whole.len() {
        let cut = copy_segments(&whole[..end], &unit());
        assert_eq!(cut, Err(Sense::PARAMETER_LENGTH), "{end}");
    }
}

#[test]
fn only_the_list_that_was_copied_has_a_status() {
    let mut copied = list(&[target(NAA)], &[segment(0, 0, 500, 8)]);
    let record = CopyRecord::new(&copied, true).unwrap();
    let status = |list_id| results(CopyUse::Status { list_id }, Some(&record));
    assert_eq!(status(7).unwrap(), [0, 0, 0, 8, 1, 0, 1, 0, 0, 0, 0, 0]);
    assert_eq!(status(8), Err(Sense::cdb_field(2, None)));
    copied[1] = 0x18;
    assert_eq!(CopyRecord::new(&copied, true), None);
}
