//! Which boot of the machine this is.

use std::{fs, io};

const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";

/// The running kernel's id: another one after every boot.
pub(crate) fn current() -> io::Result<[u8; 16]> {
    let digits = fs::read_to_string(BOOT_ID_FILE)?.trim().replace('-', "");
    u128::from_str_radix(&digits, 16)
        .map(u128::to_be_bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
