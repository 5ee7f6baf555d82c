//! Parameter lists that name blocks.

use crate::field::{u16_at, u32_at, u64_at};
use crate::{BLOCK_LIMITS, BlockRange, Sense};

/// Blocks that UNMAP gives back.
pub type UnmapRange = BlockRange;

/// Reads the parameter list of UNMAP (SBC-3 §5.28.2) and checks it against the capacity.
///
/// # Errors
/// PARAMETER LIST LENGTH ERROR, INVALID FIELD IN PARAMETER LIST past the limits of the block
/// limits page, or LOGICAL BLOCK ADDRESS OUT OF RANGE. Nothing has been unmapped then.
pub fn unmap_ranges(list: &[u8], capacity_blocks: u64) -> Result<Vec<UnmapRange>, Sense> {
    if list.is_empty() {
        return Ok(Vec::new());
    }
    if list.len() < HEADER_BYTES {
        return Err(Sense::PARAMETER_LENGTH);
    }
    let stated = usize::from(u16_at(list, 2));
    let descriptors = &list[HEADER_BYTES..];
    let descriptors = &descriptors[..stated.min(descriptors.len())];
    if descriptors.len() / DESCRIPTOR_BYTES > BLOCK_LIMITS.unmap_descriptors_max as usize {
        return Err(Sense::parameter_field(2));
    }
    let mut ranges = Vec::new();
    let mut total = 0;
    for descriptor in descriptors.chunks_exact(DESCRIPTOR_BYTES) {
        let range = BlockRange {
            lba: u64_at(descriptor, 0),
            blocks: u64::from(u32_at(descriptor, 8)),
        };
        range.check(capacity_blocks)?;
        total += range.blocks;
        if total > u64::from(BLOCK_LIMITS.unmap_blocks_max) {
            return Err(Sense::INVALID_FIELD_IN_PARAMETERS);
        }
        if range.blocks > 0 {
            ranges.push(range);
        }
    }
    Ok(ranges)
}

const HEADER_BYTES: usize = 8;
const DESCRIPTOR_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn list(ranges: &[(u64, u32)]) -> Vec<u8> {
        let length = ranges.len() as u16 * 16;
        let mut list = (length + 6).to_be_bytes().to_vec();
        list.extend_from_slice(&length.to_be_bytes());
        list.extend_from_slice(&[0; 4]);
        for (lba, blocks) in ranges {
            list.extend_from_slice(&lba.to_be_bytes());
            list.extend_from_slice(&blocks.to_be_bytes());
            list.extend_from_slice(&[0; 4]);
        }
        list
    }

    #[test]
    fn no_blocks_at_the_end_of_the_disk_are_allowed_and_one_is_not() {
        assert_eq!(unmap_ranges(&list(&[(100, 0)]), 100), Ok(vec![]));
        assert_eq!(
            unmap_ranges(&list(&[(0, 8), (100, 1)]), 100),
            Err(Sense::LBA_OUT_OF_RANGE)
        );
    }

    #[test]
    fn a_list_shorter_than_it_says_is_read_as_far_as_it_goes() {
        let mut short = list(&[(1, 2), (3, 4)]);
        short.truncate(8 + 16 + 5);
        assert_eq!(
            unmap_ranges(&short, 100),
            Ok(vec![BlockRange { lba: 1, blocks: 2 }])
        );
        assert_eq!(unmap_ranges(&short[..7], 100), Err(Sense::PARAMETER_LENGTH));
    }

    #[test]
    fn the_limits_of_the_block_limits_page_hold() {
        let big = BLOCK_LIMITS.unmap_blocks_max;
        assert!(unmap_ranges(&list(&[(0, big)]), 1 << 40).is_ok());
        assert!(unmap_ranges(&list(&[(0, big), (0, 1)]), 1 << 40).is_err());
        assert!(unmap_ranges(&list(&[(0, 1); 257]), 1 << 40).is_err());
    }
}
