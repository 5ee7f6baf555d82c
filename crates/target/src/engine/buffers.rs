//! Memory for data between disk and peer, used again and again: what a peer is sent stays in the processor's cache, and
//! the kernel need not map and clear pages for every piece.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Shortest buffer, in bytes.
const SHORTEST: usize = 16 * 1024;
/// Longest buffer that is kept, in bytes: a piece that a disk thread reads.
const LONGEST: usize = 256 * 1024;
/// Lengths are powers of two.
const CLASSES: usize = (LONGEST / SHORTEST).ilog2() as usize + 1;
/// Most memory that is kept for later, in bytes.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// Buffers that are free. Those in use are bounded by what each connection may hold.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    free: Mutex<Free>,
}

#[derive(Debug, Default)]
struct Free {
    /// By length; the one that was used last goes out first.
    classes: [Vec<Box<[u8]>>; CLASSES],
    bytes: usize,
}

/// A buffer in use; goes back when dropped, also as [`Bytes`].
#[derive(Debug)]
pub(crate) struct Buffer {
    memory: Box<[u8]>,
    length: usize,
    home: Arc<Buffers>,
}

impl Buffers {
    /// A buffer of `length` bytes with any content.
    pub(crate) fn take(self: &Arc<Self>, length: usize) -> Buffer {
        let size = length.next_power_of_two().max(SHORTEST);
        let memory = class_of(size).and_then(|class| self.lock().take(class));
        Buffer {
            memory: memory.unwrap_or_else(|| vec![0; size].into_boxed_slice()),
            length,
            home: Arc::clone(self),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Free {
    fn take(&mut self, class: usize) -> Option<Box<[u8]>> {
        let memory = self.classes[class].pop()?;
        self.bytes -= memory.len();
        Some(memory)
    }

    /// Keeps the memory if there is room, else gives it back to be freed.
    fn put(&mut self, memory: Box<[u8]>) -> Option<Box<[u8]>> {
        match class_of(memory.len()) {
            Some(class) if self.bytes + memory.len() <= KEPT_BYTES_MAX => {
                self.bytes += memory.len();
                self.classes[class].push(memory);
                None
            }
            _ => Some(memory),
        }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.length]
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.length]
    }
}

impl From<Buffer> for Bytes {
    fn from(buffer: Buffer) -> Self {
        Self::from_owner(buffer)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        // Freed without the lock.
        let _too_many = self.home.lock().put(memory);
    }
}

/// Which class buffers of this size are, if they are kept; `size` is a power of two.
fn class_of(size: usize) -> Option<usize> {
    (SHORTEST..=LONGEST)
        .contains(&size)
        .then(|| (size / SHORTEST).ilog2() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_when_the_last_piece_of_it_was_sent() {
        let buffers = Arc::new(Buffers::default());
        let mut buffer = buffers.take(100_000);
        buffer.as_mut().fill(7);
        let memory = buffer.as_ref().as_ptr();
        let mut sent = Bytes::from(buffer);
        let last = sent.split_off(99_999);
        drop(sent);
        assert_ne!(buffers.take(100_000).as_ref().as_ptr(), memory);
        assert_eq!(last[..], [7]);
        drop(last);
        let again = buffers.take(70_000);
        assert_eq!(
            (again.as_ref().as_ptr(), again.as_ref().len()),
            (memory, 70_000)
        );
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let buffers = Arc::new(Buffers::default());
        let many: Vec<_> = (0..100).map(|_| buffers.take(LONGEST)).collect();
        drop(many);
        assert_eq!(buffers.lock().bytes, KEPT_BYTES_MAX);
        drop(buffers.take(LONGEST + 1));
        drop(buffers.take(0));
        assert!(buffers.lock().bytes <= KEPT_BYTES_MAX);
    }
}
