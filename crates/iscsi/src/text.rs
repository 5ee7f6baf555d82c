//! Text of login and text PDUs: `key=value` pairs, each ended by a NUL (RFC 7143 §6.1).

/// Longest key (RFC 7143 §6.1).
const KEY_BYTES_MAX: usize = 63;

/// Most pairs that one negotiation may have; the RFC defines about 30 keys.
const PAIRS_MAX: usize = 256;

/// Longest binary value in bytes (RFC 7143 §12.1.3 bounds CHAP values by 1024).
const BINARY_BYTES_MAX: usize = 1024;

/// Text that is not what the RFC asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Not UTF-8.
    #[error("the text is not UTF-8")]
    NotUtf8,
    /// A pair without `=`, or with an impossible key.
    #[error("a pair has no or an impossible key")]
    Key,
    /// More pairs than any negotiation needs.
    #[error("more than {PAIRS_MAX} pairs")]
    TooMany,
    /// Not a hexadecimal or base64 constant, or too long.
    #[error("not a binary value")]
    Binary,
}

/// Splits text into pairs, in order.
///
/// # Errors
/// If the text is not UTF-8, a pair has no valid key, or there are too many.
pub fn parse(text: &[u8]) -> Result<Vec<(&str, &str)>, TextError> {
    let text = std::str::from_utf8(text).map_err(|_| TextError::NotUtf8)?;
    let mut pairs = Vec::new();
    // Empty pieces: the end, and NULs that some initiators use as padding.
    for pair in text.split('\0').filter(|piece| !piece.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or(TextError::Key)?;
        if key.is_empty() || key.len() > KEY_BYTES_MAX || !key.bytes().all(is_key_byte) {
            return Err(TextError::Key);
        }
        if pairs.len() == PAIRS_MAX {
            return Err(TextError::TooMany);
        }
        pairs.push((key, value));
    }
    Ok(pairs)
}

/// The characters of standard labels, and the `#` of public extension keys such as X#NodeArchitecture (RFC 7143 §13.22).
fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-+@_#".contains(&byte)
}

/// Appends a pair.
pub fn push(text: &mut Vec<u8>, key: &str, value: &str) {
    text.extend_from_slice(key.as_bytes());
    text.push(b'=');
    text.extend_from_slice(value.as_bytes());
    text.push(0);
}

/// Reads a decimal or `0x` hexadecimal number.
pub fn number(value: &str) -> Option<u32> {
    let (digits, radix) = match hex_digits(value) {
        Some(digits) => (digits, 16),
        None => (value, 10),
    };
    // from_str_radix takes a sign, which the RFC does not.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}

/// Reads a binary value: `0x` hexadecimal or `0b` base64.
///
/// # Errors
/// If it has neither form or is longer than any value that the RFC defines.
pub fn decode_binary(value: &str) -> Result<Vec<u8>, TextError> {
    if value.len() > 2 + 2 * BINARY_BYTES_MAX {
        return Err(TextError::Binary);
    }
    if let Some(digits) = hex_digits(value) {
        return decode_hex(digits).ok_or(TextError::Binary);
    }
    let digits = value
        .strip_prefix("0b")
        .or_else(|| value.strip_prefix("0B"));
    digits.and_then(decode_base64).ok_or(TextError::Binary)
}

/// Writes a binary value as a `0x` hexadecimal constant.
pub fn encode_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut value = String::with_capacity(2 + 2 * bytes.len());
    value.push_str("0x");
    for byte in bytes {
        value.push(char::from(DIGITS[usize::from(byte >> 4)]));
        value.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    value
}

fn hex_digits(value: &str) -> Option<&str> {
    value
        .strip_prefix("0x")
        .or_else(|| value.strip_prefix("0X"))
}

fn decode_hex(digits: &str) -> Option<Vec<u8>> {
    if digits.is_empty() {
        return None;
    }
    let nibble = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let mut bytes = Vec::with_capacity(digits.len().div_ceil(2));
    // An odd count is a number without its leading zero.
    let (first, rest) = digits.as_bytes().split_at(digits.len() % 2);
    if let [digit] = first {
        bytes.push(nibble(*digit)?);
    }
    for pair in rest.chunks_exact(2) {
        bytes.push(nibble(pair[0])? << 4 | nibble(pair[1])?);
    }
    Some(bytes)
}

fn decode_base64(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.trim_end_matches('=').as_bytes();
    if digits.is_empty() || digits.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let mut pending = 0u32;
    let mut bits = 0;
    for &digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        pending = pending << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((pending >> bits) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pairs_keep_their_order_and_values_may_hold_equal_signs() {
        let pairs = parse(b"A=1\0B=x=y\0C=\0\0").unwrap();
        assert_eq!(pairs, [("A", "1"), ("B", "x=y"), ("C", "")]);
    }

    #[test]
    fn a_last_pair_without_its_nul_is_taken() {
        assert_eq!(parse(b"A=1\0B=2").unwrap(), [("A", "1"), ("B", "2")]);
    }

    #[test]
    fn impossible_text_is_refused() {
        assert_eq!(parse(b"A\0"), Err(TextError::Key));
        assert_eq!(parse(b"=1\0"), Err(TextError::Key));
        assert_eq!(parse(b"A B=1\0"), Err(TextError::Key));
        assert_eq!(
            parse(format!("{}=1", "k".repeat(64)).as_bytes()),
            Err(TextError::Key)
        );
        assert_eq!(parse(b"A=\xff\0"), Err(TextError::NotUtf8));
        assert_eq!(
            parse("a=1\0".repeat(257).as_bytes()),
            Err(TextError::TooMany)
        );
    }

    #[test]
    fn numbers_are_decimal_or_hexadecimal() {
        assert_eq!(number("262144"), Some(262_144));
        assert_eq!(number("0x40000"), Some(262_144));
        for bad in ["", "-1", "+1", "1k", "0x", "4294967296", " 1"] {
            assert_eq!(number(bad), None, "{bad}");
        }
    }

    #[test]
    fn binary_values_come_in_both_encodings() {
        assert_eq!(decode_binary("0x0102ff").unwrap(), [1, 2, 255]);
        assert_eq!(decode_binary("0X102").unwrap(), [1, 2]);
        assert_eq!(decode_binary("0bAQL/").unwrap(), [1, 2, 255]);
        assert_eq!(decode_binary("0BAQI=").unwrap(), [1, 2]);
        for bad in ["", "12", "0x", "0xzz", "0b", "0bA", "0b*AAA"] {
            assert_eq!(decode_binary(bad), Err(TextError::Binary), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_fail(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            if let Ok(pairs) = parse(&bytes) {
                let mut again = Vec::new();
                for (key, value) in &pairs {
                    push(&mut again, key, value);
                }
                prop_assert_eq!(parse(&again).unwrap(), pairs);
            }
        }

        #[test]
        fn hexadecimal_survives_a_round_trip(bytes in proptest::collection::vec(any::<u8>(), 1..64)) {
            prop_assert_eq!(decode_binary(&encode_hex(&bytes)).unwrap(), bytes);
        }
    }
}
