//! Text transfers (RFC 764's NVT ASCII, RFC 1350 §1).

/// The file as netascii: LF becomes CR LF, a CR that no LF follows becomes CR NUL.
pub fn to_netascii(file: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(file.len() + file.len() / 16);
    let mut bytes = file.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\n' => text.extend_from_slice(b"\r\n"),
            b'\r' if bytes.next_if_eq(&b'\n').is_some() => text.extend_from_slice(b"\r\n"),
            b'\r' => text.extend_from_slice(b"\r\0"),
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_are_converted_and_nothing_else() {
        for (file, text) in [
            (&b""[..], &b""[..]),
            (b"a\nb", b"a\r\nb"),
            (b"a\r\nb\r", b"a\r\nb\r\0"),
            (b"\r\r\n\n", b"\r\0\r\n\r\n"),
            (b"\xff\0", b"\xff\0"),
        ] {
            assert_eq!(to_netascii(file), text, "{file:?}");
        }
    }
}
