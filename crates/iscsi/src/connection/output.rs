//! Bytes that wait to be sent: headers and small data in one buffer, large data shared.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

/// Pieces of data shorter than this are copied next to their header: cheaper than a slice of
/// their own in the vectored write.
const COPY_BYTES_MAX: usize = 1024;

/// A buffer that grew beyond this is given back as soon as it is empty.
const KEEP_BYTES_MAX: usize = 1 << 20;

enum Piece {
    /// So many bytes of `inline`, after those of the pieces before.
    Inline(usize),
    Shared(Bytes),
}

/// A queue of bytes.
#[derive(Default)]
pub(super) struct Output {
    /// Always initialised as a whole; `start..end` is in use.
    inline: Vec<u8>,
    start: usize,
    end: usize,
    pieces: VecDeque<Piece>,
    length: usize,
}

impl Output {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Memory that is kept, in bytes.
    pub(super) fn capacity(&self) -> usize {
        self.inline.len()
    }

    /// Appends `count` bytes of any content; [`tail`](Self::tail) fills them.
    pub(super) fn extend(&mut self, count: usize) {
        if self.end + count > self.inline.len() {
            self.make_room(count);
        }
        self.end += count;
        self.length += count;
        match self.pieces.back_mut() {
            Some(Piece::Inline(length)) => *length += count,
            _ => self.pieces.push_back(Piece::Inline(count)),
        }
    }

    /// The last `count` bytes, which were appended by [`extend`](Self::extend).
    pub(super) fn tail(&mut self, count: usize) -> &mut [u8] {
        &mut self.inline[self.end - count..self.end]
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.extend(bytes.len());
        self.tail(bytes.len()).copy_from_slice(bytes);
    }

    pub(super) fn push_shared(&mut self, bytes: Bytes) {
        if bytes.len() < COPY_BYTES_MAX {
            return self.push(&bytes);
        }
        self.length += bytes.len();
        self.pieces.push_back(Piece::Shared(bytes));
    }

    /// Takes back the last bytes, all of them appended by [`extend`](Self::extend) or
    /// [`push`](Self::push), until only `length` are left.
    pub(super) fn truncate(&mut self, length: usize) {
        while self.length > length {
            let excess = self.length - length;
            let Some(Piece::Inline(count)) = self.pieces.back_mut() else {
                unreachable!("only inline bytes are taken back");
            };
            let taken = excess.min(*count);
            *count -= taken;
            if *count == 0 {
                self.pieces.pop_back();
            }
            self.end -= taken;
            self.length -= taken;
        }
    }

    pub(super) fn slices<'a>(&'a self, slices: &mut Vec<IoSlice<'a>>, max: usize) {
        let mut offset = self.start;
        for piece in self.pieces.iter().take(max) {
            match piece {
                Piece::Inline(length) => {
                    slices.push(IoSlice::new(&self.inline[offset..offset + length]));
                    offset += length;
                }
                Piece::Shared(bytes) => slices.push(IoSlice::new(bytes)),
            }
        }
    }

    pub(super) fn advance(&mut self, mut count: usize) {
        assert!(count <= self.length, "more was sent than was queued");
        self.length -= count;
        while count > 0 {
            let Some(front) = self.pieces.front_mut() else {
                unreachable!("the pieces add up to the length");
            };
            let (taken, is_empty) = match front {
                Piece::Inline(length) => {
                    let taken = count.min(*length);
                    *length -= taken;
                    self.start += taken;
                    (taken, *length == 0)
                }
                Piece::Shared(bytes) => {
                    let taken = count.min(bytes.len());
                    bytes::Buf::advance(bytes, taken);
                    (taken, bytes.is_empty())
                }
            };
            count -= taken;
            if is_empty {
                self.pieces.pop_front();
            }
        }
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            if self.inline.len() > KEEP_BYTES_MAX {
                self.inline = Vec::new();
            }
        }
    }

    /// Gives memory back if nothing waits.
    pub(super) fn trim(&mut self) {
        if self.length == 0 {
            *self = Self::default();
        }
    }

    fn make_room(&mut self, count: usize) {
        let used = self.end - self.start;
        if self.start > 0 {
            self.inline.copy_within(self.start..self.end, 0);
            self.start = 0;
            self.end = used;
        }
        let needed = used + count;
        if needed > self.inline.len() {
            let grown = needed.max(self.inline.len() * 2).max(512);
            self.inline.resize(grown, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn contents(output: &Output) -> Vec<u8> {
        let mut slices = Vec::new();
        output.slices(&mut slices, usize::MAX);
        slices.iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(Vec<u8>),
        Shared(usize, u8),
        PushAndTakeBack(usize),
        Advance(usize),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 1..200).prop_map(Step::Push),
            (1usize..3000, any::<u8>()).prop_map(|(length, byte)| Step::Shared(length, byte)),
            (1usize..2000).prop_map(Step::PushAndTakeBack),
            (0usize..4000).prop_map(Step::Advance),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_queue_of_bytes(steps in proptest::collection::vec(any_step(), 0..60)) {
            let mut output = Output::default();
            let mut expected = Vec::new();
            for step in steps {
                match step {
                    Step::Push(bytes) => {
                        output.push(&bytes);
                        expected.extend(bytes);
                    }
                    Step::Shared(length, byte) => {
                        output.push_shared(Bytes::from(vec![byte; length]));
                        expected.extend(std::iter::repeat_n(byte, length));
                    }
                    Step::PushAndTakeBack(length) => {
                        let before = output.len();
                        output.push(&vec![0xaa; length]);
                        output.truncate(before);
                    }
                    Step::Advance(count) => {
                        let count = count.min(output.len());
                        output.advance(count);
                        expected.drain(..count);
                    }
                }
                prop_assert_eq!(output.len(), expected.len());
                prop_assert_eq!(&contents(&output), &expected);
            }
        }
    }
}
