//! Codes of an authenticator (RFC 6238 with HMAC-SHA-1, 6 digits, 30 s: what all apps speak), and
//! recovery codes for who lost it. Time is passed in.

use hmac::{Hmac, KeyInit, Mac};
use qrcode::{Color, EcLevel, QrCode};
use rand::RngExt;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::session::hex;
use crate::problem::encode;

/// Seconds that a code lasts (RFC 6238 §4.1).
const STEP_SECS: i64 = 30;
/// Steps before and after the present one whose codes count too, for clocks that are a little off
/// (RFC 6238 §5.2).
const STEPS_AROUND: i64 = 1;
/// Bytes of a key: the output of the hash function (RFC 4226 §4, R6).
const KEY_BYTES: usize = 20;
/// Recovery codes that a user gets.
const RECOVERY_CODES: usize = 10;
/// Letters of base32 (RFC 4648 §6).
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The key that the server shares with the authenticator.
#[derive(Clone)]
pub(crate) struct TotpKey([u8; KEY_BYTES]);

impl TotpKey {
    pub(crate) fn random() -> Self {
        Self(rand::rng().random())
    }

    /// The key in base32, as it is stored and as people type it.
    pub(crate) fn base32(&self) -> String {
        // 20 bytes are 32 letters, without a rest.
        let letters = self.0.chunks_exact(5).flat_map(|five| {
            let bits = five
                .iter()
                .fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
            (0..8).rev().map(move |index| {
                let letter = (bits >> (index * 5)) & 31;
                char::from(BASE32[usize::try_from(letter).unwrap_or(0)])
            })
        });
        letters.collect()
    }

    /// What [`TotpKey::base32`] made; none for anything else.
    pub(crate) fn from_base32(text: &str) -> Option<Self> {
        if text.len() != KEY_BYTES / 5 * 8 {
            return None;
        }
        let mut key = [0; KEY_BYTES];
        for (five, letters) in key.chunks_exact_mut(5).zip(text.as_bytes().chunks_exact(8)) {
            let bits = letters.iter().try_fold(0_u64, |bits, letter| {
                let value = BASE32.iter().position(|known| known == letter)?;
                Some(bits << 5 | value as u64)
            })?;
            five.copy_from_slice(&bits.to_be_bytes()[3..]);
        }
        Some(Self(key))
    }

    /// The code of a time step (RFC 4226 §5.3).
    fn code(&self, step: i64) -> u32 {
        let mut mac = Hmac::<Sha1>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(&step.to_be_bytes());
        let digest = mac.finalize().into_bytes();
        let offset = usize::from(digest[19] & 15);
        let word = [
            digest[offset] & 0x7f,
            digest[offset + 1],
            digest[offset + 2],
            digest[offset + 3],
        ];
        u32::from_be_bytes(word) % 1_000_000
    }

    /// The time step whose code this is, of those that count now; none if it is none. Takes as long
    /// for every code.
    pub(crate) fn step_of(&self, entered: &str, unix_secs: i64) -> Option<i64> {
        let digits: String = entered.chars().filter(|c| !c.is_whitespace()).collect();
        let now = unix_secs.div_euclid(STEP_SECS);
        let mut found = None;
        for step in now - STEPS_AROUND..=now + STEPS_AROUND {
            let code = format!("{:06}", self.code(step));
            if bool::from(code.as_bytes().ct_eq(digits.as_bytes())) {
                found = Some(step);
            }
        }
        found
    }

    /// What an authenticator shows at this time.
    #[cfg(test)]
    pub(crate) fn code_text(&self, unix_secs: i64) -> String {
        format!("{:06}", self.code(unix_secs.div_euclid(STEP_SECS)))
    }

    /// The address that an authenticator takes from the picture
    /// (<https://github.com/google/google-authenticator/wiki/Key-Uri-Format>).
    pub(crate) fn address(&self, site: &str, user: &str) -> String {
        // A colon would end the name of the site.
        let site = encode(&site.replace(':', " ")).replace('/', "%2F");
        let user = encode(user);
        let key = self.base32();
        format!("otpauth://totp/{site}:{user}?secret={key}&issuer={site}")
    }
}

/// A text as a square of dark and light: the data of an SVG path in a view box of this width.
#[derive(Clone, Debug)]
pub(crate) struct Picture {
    pub(crate) width: usize,
    pub(crate) path: String,
}

/// Light squares around the picture (ISO/IEC 18004 §9.1).
const QUIET: usize = 4;

/// A QR code; none if the text is too long for one.
pub(crate) fn picture(text: &str) -> Option<Picture> {
    let code = QrCode::with_error_correction_level(text, EcLevel::M).ok()?;
    let width = code.width();
    let mut path = String::new();
    for (index, color) in code.to_colors().into_iter().enumerate() {
        if color == Color::Dark {
            let (x, y) = (index % width + QUIET, index / width + QUIET);
            path.push_str(&format!("M{x} {y}h1v1h-1z"));
        }
    }
    Some(Picture {
        width: width + 2 * QUIET,
        path,
    })
}

/// New recovery codes: 50 random bits each, `XXXXX-XXXXX`.
pub(crate) fn recovery_codes() -> Vec<String> {
    let mut rng = rand::rng();
    (0..RECOVERY_CODES)
        .map(|_| {
            let mut half = || -> String {
                let letters = (0..5).map(|_| char::from(BASE32[rng.random_range(0..32)]));
                letters.collect()
            };
            format!("{}-{}", half(), half())
        })
        .collect()
}

/// What is stored of a recovery code; case, spaces and hyphens do not matter. Each user's differ,
/// and guessing is slowed down, so a plain hash is enough.
pub(crate) fn recovery_hash(user: &str, code: &str) -> String {
    let letters: String = code
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|letter| letter.to_ascii_uppercase())
        .collect();
    hex(&Sha256::digest(format!("{user}\n{letters}").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of the vectors of RFC 6238, appendix B.
    fn key() -> TotpKey {
        TotpKey(*b"12345678901234567890")
    }

    #[test]
    fn the_vectors_of_the_rfc_are_met() {
        for (secs, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(format!("{:06}", key().code(secs / 30)), code, "{secs}");
            assert_eq!(key().step_of(code, secs), Some(secs / 30));
        }
    }

    #[test]
    fn a_code_counts_one_step_early_and_one_late_and_no_more() {
        let step = 50_000_000;
        let code = format!("{:06}", key().code(step));
        let spaced = format!(" {} {} ", &code[..3], &code[3..]);
        for (secs, expected) in [
            (step * 30 - 31, None),
            (step * 30 - 30, Some(step)),
            (step * 30, Some(step)),
            (step * 30 + 59, Some(step)),
            (step * 30 + 60, None),
        ] {
            assert_eq!(key().step_of(&spaced, secs), expected, "{secs}");
        }
        for wrong in ["", "00000", "0000000", "abcdef", "１２３４５６"] {
            assert_eq!(key().step_of(wrong, step * 30), None, "{wrong}");
        }
    }

    #[test]
    fn a_key_survives_base32() {
        assert_eq!(key().base32(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        let random = TotpKey::random();
        let back = TotpKey::from_base32(&random.base32()).unwrap();
        assert_eq!(back.0, random.0);
        for wrong in ["", "GEZD", &"1".repeat(32), &"한".repeat(32)] {
            assert!(TotpKey::from_base32(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn the_picture_holds_the_address() {
        let address = key().address("코리아: PC방", "admin");
        assert!(address.starts_with("otpauth://totp/%EC%BD%94"), "{address}");
        assert!(address.contains(":admin?secret=GEZD"), "{address}");
        let picture = picture(&address).unwrap();
        // A finder pattern's corner, after the quiet zone.
        assert!(picture.path.starts_with("M4 4h1v1h-1z"));
        assert!((25 + 8..=177 + 8).contains(&picture.width));
    }

    #[test]
    fn recovery_codes_differ_and_are_taken_as_people_type_them() {
        let codes = recovery_codes();
        let distinct: std::collections::HashSet<_> = codes.iter().collect();
        assert_eq!((codes.len(), distinct.len()), (10, 10));
        let code = &codes[0];
        let typed = format!(" {} ", code.to_lowercase().replace('-', " "));
        assert_eq!(recovery_hash("a", code), recovery_hash("a", &typed));
        assert_ne!(recovery_hash("a", code), recovery_hash("b", code));
        assert_ne!(recovery_hash("a", code), recovery_hash("a", &codes[1]));
    }
}
