//! The blocks of VHD and VHDX: 2 MiB each, those that are zero are none.

use super::chunks::{CHUNK_BYTES, Chunks};
use super::output::Output;
use crate::error::ExportError;

pub(super) const BLOCK_BYTES: u64 = 2 << 20;

/// Writes all blocks that are not zero by the version's map, each with `before` in front of it. The last one is a whole one, too.
pub(super) fn write_blocks(
    chunks: &mut Chunks<'_>,
    output: &mut Output<'_>,
    before: &[u8],
) -> Result<(), ExportError> {
    let version = chunks.version;
    let size_bytes = chunks.size_bytes();
    chunks.each_plain(&mut |offset, length, bytes| {
        let block = offset / BLOCK_BYTES * BLOCK_BYTES;
        let end = size_bytes.min(block + BLOCK_BYTES);
        if version.reads_as_zero(block, end - block) {
            return Ok(());
        }
        if offset == block {
            output.write(before)?;
        }
        match bytes {
            Some(bytes) => output.write_sparse(bytes)?,
            None => output.skip(length)?,
        }
        if offset + length == size_bytes {
            output.skip(block + BLOCK_BYTES - size_bytes)?;
        }
        Ok(())
    })
}

const _: () = assert!(BLOCK_BYTES.is_multiple_of(CHUNK_BYTES));
