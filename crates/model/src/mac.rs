//! Ethernet addresses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A 48-bit Ethernet address; shown as `52:54:00:77:00:10`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr(pub [u8; 6]);

/// The text is not six hexadecimal bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a MAC address; write it as 52:54:00:77:00:10")]
pub struct MacParseError(String);

impl MacAddr {
    /// True for addresses that one network card can own: not group addressed, not all zero.
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }

    /// The form used in URLs and file names: `52-54-00-77-00-10`.
    pub fn hyphenated(self) -> String {
        let [a, b, c, d, e, f] = self.0;
        format!("{a:02x}-{b:02x}-{c:02x}-{d:02x}-{e:02x}-{f:02x}")
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddr {
    type Err = MacParseError;

    /// Accepts `52:54:00:77:00:10`, `52-54-00-77-00-10` and `525400770010`, any case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits: String = match text.len() {
            17 if separators_uniform(text) => text.replace([':', '-'], ""),
            12 => text.to_owned(),
            _ => return Err(MacParseError(text.to_owned())),
        };
        if digits.len() != 12 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(MacParseError(text.to_owned()));
        }
        let mut bytes = [0; 6];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[index * 2..index * 2 + 2], 16)
                .map_err(|_| MacParseError(text.to_owned()))?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for MacAddr {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "MacAddr".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "Ethernet address of one network card, as 52:54:00:77:00:10.",
            "pattern": "^[0-9A-Fa-f][02468ACEace](:[0-9A-Fa-f]{2}){5}$",
            "examples": ["52:54:00:77:00:10"],
        })
    }
}

impl TryFrom<String> for MacAddr {
    type Error = MacParseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> Self {
        mac.to_string()
    }
}

fn separators_uniform(text: &str) -> bool {
    let bytes = text.as_bytes();
    matches!(bytes[2], b':' | b'-') && [5, 8, 11, 14].iter().all(|&at| bytes[at] == bytes[2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_the_three_usual_spellings() {
        let mac = MacAddr([0x52, 0x54, 0, 0x77, 0xab, 0x10]);
        for text in ["52:54:00:77:ab:10", "52-54-00-77-AB-10", "52540077ab10"] {
            assert_eq!(text.parse(), Ok(mac), "{text}");
        }
        assert_eq!(mac.to_string(), "52:54:00:77:ab:10");
        assert_eq!(mac.hyphenated(), "52-54-00-77-ab-10");
    }

    #[test]
    fn refuses_everything_else_without_panicking() {
        for text in [
            "",
            "52:54:00:77:ab",
            "52:54-00:77:ab:10",
            "zz:54:00:77:ab:10",
            "한글한글한",
            "5254:0077:ab10:1x",
        ] {
            assert!(text.parse::<MacAddr>().is_err(), "{text}");
        }
    }
}
