//! Byte ranges of HTTP requests (RFC 9110 §14).

/// Which part of a file a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// All of it; also for a range that is malformed, of another unit or one of several, which a
    /// server may ignore (RFC 9110 §14.2).
    Whole,
    /// Status 206.
    Part {
        /// First byte.
        start: u64,
        /// One after the last byte; greater than `start`, at most the file's length.
        end: u64,
    },
    /// Status 416: nothing of it is in the file.
    Unsatisfiable,
}

/// Reads a `Range` header for a file of `length` bytes.
pub fn byte_range(header: &str, length: u64) -> ByteRange {
    let Some((unit, set)) = header.split_once('=') else {
        return ByteRange::Whole;
    };
    let Some((first, last)) = set.trim().split_once('-') else {
        return ByteRange::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return ByteRange::Whole;
    }
    match (position(first), position(last)) {
        (Some(Bound::Absent), Some(Bound::At(suffix))) => {
            part(length.saturating_sub(suffix), length)
        }
        (Some(Bound::At(first)), Some(Bound::Absent)) => part(first, length),
        (Some(Bound::At(first)), Some(Bound::At(last))) if first <= last => {
            part(first, length.min(last.saturating_add(1)))
        }
        _ => ByteRange::Whole,
    }
}

enum Bound {
    Absent,
    At(u64),
}

/// None if it is no number; one beyond 2^64 is as good as the greatest.
fn position(text: &str) -> Option<Bound> {
    let text = text.trim();
    if text.is_empty() {
        return Some(Bound::Absent);
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| Bound::At(text.parse().unwrap_or(u64::MAX)))
}

fn part(start: u64, end: u64) -> ByteRange {
    if start < end {
        ByteRange::Part { start, end }
    } else {
        ByteRange::Unsatisfiable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ByteRange::{Part, Unsatisfiable, Whole};

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        for (header, range) in [
            ("bytes=0-0", Part { start: 0, end: 1 }),
            ("bytes=0-499", Part { start: 0, end: 500 }),
            (
                "bytes=500-",
                Part {
                    start: 500,
                    end: 1000,
                },
            ),
            (
                "bytes=-200",
                Part {
                    start: 800,
                    end: 1000,
                },
            ),
            (
                "bytes=-5000",
                Part {
                    start: 0,
                    end: 1000,
                },
            ),
            (
                "bytes=990-5000",
                Part {
                    start: 990,
                    end: 1000,
                },
            ),
            ("BYTES = 1 - 2", Part { start: 1, end: 3 }),
            (
                "bytes=999-99999999999999999999999",
                Part {
                    start: 999,
                    end: 1000,
                },
            ),
            ("bytes=1000-", Unsatisfiable),
            ("bytes=1000-2000", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=5-4", Whole),
            ("bytes=-", Whole),
            ("bytes=0-1,5-6", Whole),
            ("bytes=a-b", Whole),
            ("bytes=+1-2", Whole),
            ("bytes", Whole),
            ("items=0-1", Whole),
            ("", Whole),
        ] {
            assert_eq!(byte_range(header, 1000), range, "{header}");
        }
        assert_eq!(byte_range("bytes=0-", 0), Unsatisfiable);
        assert_eq!(byte_range("bytes=-1", 0), Unsatisfiable);
    }
}
