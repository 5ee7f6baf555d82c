//! Just enough PNG to keep QEMU's screen dumps (PPM) where people can open them.

use anyhow::Context as _;

/// Turns a binary PPM (`P6`, 8 bits per channel) into a PNG with stored (uncompressed) data.
///
/// # Errors
/// When `ppm` is not such a picture or is cut short.
pub(crate) fn from_ppm(ppm: &[u8]) -> anyhow::Result<Vec<u8>> {
    let (width, height, pixels) = parse_ppm(ppm).context("not a binary 8-bit PPM picture")?;
    let mut rows = Vec::with_capacity(pixels.len() + height);
    for row in pixels.chunks_exact(width * 3) {
        rows.push(0); // filter: none
        rows.extend_from_slice(row);
    }
    let mut header = Vec::new();
    header.extend_from_slice(&u32::try_from(width)?.to_be_bytes());
    header.extend_from_slice(&u32::try_from(height)?.to_be_bytes());
    header.extend_from_slice(&[8, 2, 0, 0, 0]); // depth 8, RGB, deflate, adaptive, not interlaced
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut png, *b"IHDR", &header);
    chunk(&mut png, *b"IDAT", &zlib_stored(&rows));
    chunk(&mut png, *b"IEND", &[]);
    Ok(png)
}

fn parse_ppm(ppm: &[u8]) -> Option<(usize, usize, &[u8])> {
    let mut position = 0;
    let mut token = || {
        while ppm.get(position)?.is_ascii_whitespace() {
            position += 1;
        }
        let start = position;
        while !ppm.get(position)?.is_ascii_whitespace() {
            position += 1;
        }
        std::str::from_utf8(&ppm[start..position]).ok()
    };
    if token()? != "P6" {
        return None;
    }
    let width: usize = token()?.parse().ok()?;
    let height: usize = token()?.parse().ok()?;
    if token()? != "255" || width == 0 {
        return None;
    }
    let len = width.checked_mul(height)?.checked_mul(3)?;
    let start = position + 1;
    Some((width, height, ppm.get(start..start.checked_add(len)?)?))
}

fn chunk(png: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) {
    let len = u32::try_from(data.len()).expect("a screen is far below 4 GiB");
    png.extend_from_slice(&len.to_be_bytes());
    let start = png.len();
    png.extend_from_slice(&kind);
    png.extend_from_slice(data);
    let crc = crc32(&png[start..]);
    png.extend_from_slice(&crc.to_be_bytes());
}

/// A zlib stream (RFC 1950) of stored deflate blocks (RFC 1951 section 3.2.4).
fn zlib_stored(data: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let mut blocks = data.chunks(usize::from(u16::MAX)).peekable();
    while let Some(block) = blocks.next() {
        let len = u16::try_from(block.len()).expect("chunks are at most 65535 bytes");
        stream.push(u8::from(blocks.peek().is_none()));
        stream.extend_from_slice(&len.to_le_bytes());
        stream.extend_from_slice(&(!len).to_le_bytes());
        stream.extend_from_slice(block);
    }
    let (mut a, mut b) = (1_u32, 0_u32);
    for &byte in data {
        a = (a + u32::from(byte)) % 65521;
        b = (b + a) % 65521;
    }
    stream.extend_from_slice(&((b << 16) | a).to_be_bytes());
    stream
}

fn crc32(data: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in data {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 * (crc & 1));
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_match_the_published_check_values() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let stream = zlib_stored(b"Wikipedia");
        assert_eq!(stream[stream.len() - 4..], 0x11e6_0398_u32.to_be_bytes());
    }

    #[test]
    fn a_picture_cut_short_is_refused() {
        assert!(from_ppm(b"P6\n2 2\n255\n0123456789").is_err());
        assert!(from_ppm(b"P6\n2 2\n255\n0123456789ab").is_ok());
        assert!(from_ppm(b"P5\n1 1\n255\n0").is_err());
    }
}
