//! Data disks: what a client sees beside its system disk.

use serde::{Deserialize, Serialize};

use crate::{BootPolicy, DiskId, DiskIdentity, ImageId, VersionRef};

/// Highest logical unit number of a data disk; the lowest is 1, as 0 is the system disk.
pub const DATA_LUN_MAX: u8 = 31;

/// Whether a client may write on a data disk, and what happens to what it writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DataAccess {
    /// It may not write: all clients read the same.
    #[default]
    ReadOnly,
    /// Writes last until its next power-on.
    Volatile,
    /// Writes last until it is reset; the disk stays on the version on which it was made.
    Persistent,
    /// Writes become the image's next version. No choice of a client or group, but lent by an order.
    Maintenance,
}

impl DataAccess {
    /// What happens to writes; none if there are none.
    pub fn policy(self) -> Option<BootPolicy> {
        match self {
            Self::ReadOnly => None,
            Self::Volatile => Some(BootPolicy::Volatile),
            Self::Persistent => Some(BootPolicy::Persistent),
            Self::Maintenance => Some(BootPolicy::Maintenance),
        }
    }
}

/// One data disk of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataDiskEntry {
    /// Logical unit number, 1 to [`DATA_LUN_MAX`].
    pub lun: u8,
    /// What is on it at the next power-on.
    pub version: VersionRef,
    /// Whether it may be written.
    pub access: DataAccess,
    /// What the initiator recognises it by, whatever its number and version.
    pub disk: DiskIdentity,
}

/// A locally assigned NAA identifier (SPC-4 §7.8.6.6.1): the upper 4 bits are 3.
const NAA_LOCALLY_ASSIGNED: u64 = 3 << 60;
/// An odd number, so that multiplying by it loses nothing; its bits have no pattern.
const MIX: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
/// Hexadecimal digits of a serial number.
const SERIAL_DIGITS: usize = 20;

impl DiskIdentity {
    /// The identity of an image as data disk of the client that has this system disk. It follows from both alone, so it
    /// is the same whenever the client is given the image.
    #[must_use]
    pub fn data_disk(&self, image: ImageId) -> Self {
        // Distinct for distinct clients, and for distinct images: both steps can be undone.
        let own = self.id.0.as_u128().wrapping_mul(MIX);
        let mut bytes = (own ^ image.0.as_u128().rotate_left(29)).to_be_bytes();
        // A UUID of our own making (RFC 9562 §5.8).
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let id = DiskId(uuid::Uuid::from_bytes(bytes));
        let simple = id.simple();
        let [.., a, b, c, d, e, f, g, h] = bytes;
        let low = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        Self {
            id,
            serial: simple[simple.len() - SERIAL_DIGITS..].to_owned(),
            naa: NAA_LOCALLY_ASSIGNED | low & !(0xf << 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(number: u8) -> DiskIdentity {
        DiskIdentity {
            id: format!("01940000-0000-7000-8000-0000000000{number:02x}")
                .parse()
                .unwrap(),
            serial: String::new(),
            naa: 0,
        }
    }

    #[test]
    fn a_data_disk_is_another_one_for_each_client_and_each_image_and_stays_the_same() {
        let image = |number: u8| -> ImageId {
            format!("01940000-1111-7000-9000-00000000ff{number:02x}")
                .parse()
                .unwrap()
        };
        let mut found = Vec::new();
        for client in 1..=4 {
            for number in [1, 2, 0x11] {
                let disk = system(client).data_disk(image(number));
                assert_eq!(disk, system(client).data_disk(image(number)));
                assert_eq!(disk.naa >> 60, 3);
                assert!(disk.serial.len() <= 32);
                assert_eq!(disk.id.0.get_version_num(), 8);
                found.push(disk);
            }
        }
        for (at, disk) in found.iter().enumerate() {
            for other in &found[..at] {
                assert_ne!(disk.id, other.id);
                assert_ne!(disk.naa, other.naa);
                assert_ne!(disk.serial, other.serial);
            }
        }
    }
}
