//! Identity of one boot of this machine's kernel.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";

/// Changes with every boot of the machine, so it tells whether memory file systems are still the same.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(pub [u8; 16]);

impl BootId {
    /// That of the running kernel.
    ///
    /// # Errors
    /// If `/proc` is not there or holds something else.
    pub fn current() -> io::Result<Self> {
        let text = fs::read_to_string(Path::new(BOOT_ID_FILE))?;
        Self::parse(&text)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the boot id is not a UUID"))
    }

    fn parse(text: &str) -> Option<Self> {
        let digits: Vec<u8> = text
            .trim()
            .bytes()
            .filter(|&byte| byte != b'-')
            .map(|byte| char::from(byte).to_digit(16).map(|digit| digit as u8))
            .collect::<Option<_>>()?;
        let bytes: Vec<u8> = digits
            .chunks_exact(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect();
        (digits.len() == 32).then_some(())?;
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Debug for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
