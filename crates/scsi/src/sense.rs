//! Sense data: why a command ended with CHECK CONDITION (SPC-4 §4.5).

/// Broad class of a failure (SPC-4 table 48).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SenseKey {
    /// Nothing to report.
    NoSense = 0x0,
    /// The logical unit cannot be accessed.
    NotReady = 0x2,
    /// Data could not be read or written.
    MediumError = 0x3,
    /// The server failed.
    HardwareError = 0x4,
    /// The request is wrong.
    IllegalRequest = 0x5,
    /// Something happened that the initiator must know before it goes on.
    UnitAttention = 0x6,
    /// Writes are not allowed.
    DataProtect = 0x7,
    /// A copy between disks ended early.
    CopyAborted = 0xa,
    /// The command was ended by the target and may be repeated.
    AbortedCommand = 0xb,
    /// The data compared differ.
    Miscompare = 0xe,
}

/// The field of the request that was refused (SPC-4 §4.5.2.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FieldPointer {
    /// True for a field of the CDB, false for one of the parameter list.
    pub in_cdb: bool,
    /// Byte offset of the field.
    pub byte: u16,
    /// Highest bit of the field, if it is a part of a byte.
    pub bit: Option<u8>,
}

/// Why a command failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{key:?}, additional sense {code:02x}/{qualifier:02x}")]
pub struct Sense {
    /// Class.
    pub key: SenseKey,
    /// ADDITIONAL SENSE CODE.
    pub code: u8,
    /// ADDITIONAL SENSE CODE QUALIFIER.
    pub qualifier: u8,
    /// INFORMATION: the first bad LBA, or the offset of a miscompare in bytes.
    pub information: Option<u64>,
    /// The field that was refused.
    pub pointer: Option<FieldPointer>,
}

impl Sense {
    /// NO ADDITIONAL SENSE INFORMATION, for REQUEST SENSE when there is nothing to tell.
    pub const NONE: Self = Self::new(SenseKey::NoSense, 0x00, 0x00);
    /// INVALID COMMAND OPERATION CODE.
    pub const INVALID_OPCODE: Self = Self::new(SenseKey::IllegalRequest, 0x20, 0x00);
    /// LOGICAL BLOCK ADDRESS OUT OF RANGE.
    pub const LBA_OUT_OF_RANGE: Self = Self::new(SenseKey::IllegalRequest, 0x21, 0x00);
    /// INVALID FIELD IN CDB.
    pub const INVALID_FIELD_IN_CDB: Self = Self::new(SenseKey::IllegalRequest, 0x24, 0x00);
    /// LOGICAL UNIT NOT SUPPORTED.
    pub const LUN_NOT_SUPPORTED: Self = Self::new(SenseKey::IllegalRequest, 0x25, 0x00);
    /// INVALID FIELD IN PARAMETER LIST.
    pub const INVALID_FIELD_IN_PARAMETERS: Self = Self::new(SenseKey::IllegalRequest, 0x26, 0x00);
    /// PARAMETER LIST LENGTH ERROR.
    pub const PARAMETER_LENGTH: Self = Self::new(SenseKey::IllegalRequest, 0x1a, 0x00);
    /// SAVING PARAMETERS NOT SUPPORTED.
    pub const SAVING_NOT_SUPPORTED: Self = Self::new(SenseKey::IllegalRequest, 0x39, 0x00);
    /// WRITE PROTECTED.
    pub const WRITE_PROTECTED: Self = Self::new(SenseKey::DataProtect, 0x27, 0x00);
    /// SPACE ALLOCATION FAILED WRITE PROTECT: the store is full.
    pub const SPACE_ALLOCATION_FAILED: Self = Self::new(SenseKey::DataProtect, 0x27, 0x07);
    /// THIN PROVISIONING SOFT THRESHOLD REACHED: the overlay is larger than its soft limit.
    pub const SOFT_THRESHOLD: Self = Self::new(SenseKey::UnitAttention, 0x38, 0x07);
    /// UNRECOVERED READ ERROR.
    pub const UNRECOVERED_READ: Self = Self::new(SenseKey::MediumError, 0x11, 0x00);
    /// WRITE ERROR.
    pub const WRITE_ERROR: Self = Self::new(SenseKey::MediumError, 0x0c, 0x00);
    /// MISCOMPARE DURING VERIFY OPERATION.
    pub const MISCOMPARE: Self = Self::new(SenseKey::Miscompare, 0x1d, 0x00);
    /// INTERNAL TARGET FAILURE.
    pub const INTERNAL_FAILURE: Self = Self::new(SenseKey::HardwareError, 0x44, 0x00);
    /// LOGICAL UNIT NOT READY, CAUSE NOT REPORTABLE.
    pub const NOT_READY: Self = Self::new(SenseKey::NotReady, 0x04, 0x00);
    /// POWER ON, RESET, OR BUS DEVICE RESET OCCURRED: the first thing a new nexus hears.
    pub const POWER_ON: Self = Self::new(SenseKey::UnitAttention, 0x29, 0x00);
    /// BUS DEVICE RESET FUNCTION OCCURRED: after a LUN or target reset.
    pub const DEVICE_RESET: Self = Self::new(SenseKey::UnitAttention, 0x29, 0x03);
    /// I_T NEXUS LOSS OCCURRED.
    pub const NEXUS_LOSS: Self = Self::new(SenseKey::UnitAttention, 0x29, 0x07);
    /// RESERVATIONS PREEMPTED: another initiator cleared all registrations.
    pub const RESERVATIONS_PREEMPTED: Self = Self::new(SenseKey::UnitAttention, 0x2a, 0x03);
    /// RESERVATIONS RELEASED: the persistent reservation is gone.
    pub const RESERVATIONS_RELEASED: Self = Self::new(SenseKey::UnitAttention, 0x2a, 0x04);
    /// REGISTRATIONS PREEMPTED: another initiator removed the registration.
    pub const REGISTRATIONS_PREEMPTED: Self = Self::new(SenseKey::UnitAttention, 0x2a, 0x05);
    /// COMMANDS CLEARED BY ANOTHER INITIATOR: it cleared the task set.
    pub const COMMANDS_CLEARED: Self = Self::new(SenseKey::UnitAttention, 0x2f, 0x00);
    /// PARAMETER LIST: INLINE DATA LENGTH EXCEEDED.
    pub const INLINE_DATA_TOO_LONG: Self = Self::new(SenseKey::IllegalRequest, 0x26, 0x0b);
    /// TOO MANY TARGET DESCRIPTORS.
    pub const TOO_MANY_TARGETS: Self = Self::new(SenseKey::IllegalRequest, 0x26, 0x06);
    /// UNSUPPORTED TARGET DESCRIPTOR TYPE CODE.
    pub const UNKNOWN_TARGET_DESCRIPTOR: Self = Self::new(SenseKey::IllegalRequest, 0x26, 0x07);
    /// TOO MANY SEGMENT DESCRIPTORS.
    pub const TOO_MANY_SEGMENTS: Self = Self::new(SenseKey::IllegalRequest, 0x26, 0x08);
    /// UNSUPPORTED SEGMENT DESCRIPTOR TYPE CODE.
    pub const UNKNOWN_SEGMENT_DESCRIPTOR: Self = Self::new(SenseKey::IllegalRequest, 0x26, 0x09);
    /// A copy names blocks that the disk does not have.
    pub const COPY_ABORTED: Self = Self::new(SenseKey::CopyAborted, 0x00, 0x00);
    /// UNREACHABLE COPY TARGET: a segment names a target that the list does not have.
    pub const UNREACHABLE_COPY_TARGET: Self = Self::new(SenseKey::CopyAborted, 0x08, 0x04);
    /// COPY TARGET DEVICE NOT REACHABLE: a target is another disk.
    pub const COPY_TARGET_UNREACHABLE: Self = Self::new(SenseKey::CopyAborted, 0x0d, 0x02);
    /// INVALID RELEASE OF PERSISTENT RESERVATION.
    pub const INVALID_RELEASE: Self = Self::new(SenseKey::IllegalRequest, 0x26, 0x04);
    /// MODE PARAMETERS CHANGED: another initiator changed a mode page.
    pub const MODE_CHANGED: Self = Self::new(SenseKey::UnitAttention, 0x2a, 0x01);

    /// Sense without information or field pointer.
    pub const fn new(key: SenseKey, code: u8, qualifier: u8) -> Self {
        Self {
            key,
            code,
            qualifier,
            information: None,
            pointer: None,
        }
    }

    /// INVALID FIELD IN CDB that names the byte and, for a part of a byte, its highest bit.
    pub const fn cdb_field(byte: u16, bit: Option<u8>) -> Self {
        let mut sense = Self::INVALID_FIELD_IN_CDB;
        sense.pointer = Some(FieldPointer {
            in_cdb: true,
            byte,
            bit,
        });
        sense
    }

    /// INVALID FIELD IN PARAMETER LIST that names the byte.
    pub const fn parameter_field(byte: u16) -> Self {
        let mut sense = Self::INVALID_FIELD_IN_PARAMETERS;
        sense.pointer = Some(FieldPointer {
            in_cdb: false,
            byte,
            bit: None,
        });
        sense
    }

    /// The same with an INFORMATION field.
    #[must_use]
    pub const fn with_information(mut self, information: u64) -> Self {
        self.information = Some(information);
        self
    }

    /// Current sense data in fixed format, 18 bytes (SPC-4 §4.5.3). An INFORMATION above 32 bits
    /// does not fit and is left out.
    pub fn fixed(&self) -> [u8; 18] {
        let mut data = [0; 18];
        data[0] = 0x70;
        data[2] = self.key as u8;
        data[7] = 10;
        data[12] = self.code;
        data[13] = self.qualifier;
        if let Some(information) = self.information.and_then(|wide| u32::try_from(wide).ok()) {
            data[0] |= 0x80;
            data[3..7].copy_from_slice(&information.to_be_bytes());
        }
        if let Some(pointer) = self.pointer {
            data[15..18].copy_from_slice(&pointer.encode());
        }
        data
    }

    /// Current sense data in descriptor format (SPC-4 §4.5.2).
    pub fn descriptor(&self) -> Vec<u8> {
        let mut data = vec![0x72, self.key as u8, self.code, self.qualifier, 0, 0, 0, 0];
        if let Some(information) = self.information {
            data.extend_from_slice(&[0x00, 0x0a, 0x80, 0]);
            data.extend_from_slice(&information.to_be_bytes());
        }
        if let Some(pointer) = self.pointer {
            data.extend_from_slice(&[0x02, 0x06, 0, 0]);
            data.extend_from_slice(&pointer.encode());
            data.push(0);
        }
        // At most 8 + 12 + 8 bytes.
        data[7] = (data.len() - 8) as u8;
        data
    }

    /// Sense data in the format that the control mode page asks for.
    pub fn encode(&self, descriptor_format: bool) -> Vec<u8> {
        if descriptor_format {
            self.descriptor()
        } else {
            self.fixed().to_vec()
        }
    }
}

impl FieldPointer {
    fn encode(self) -> [u8; 3] {
        let mut first = 0x80;
        if self.in_cdb {
            first |= 0x40;
        }
        if let Some(bit) = self.bit {
            first |= 0x08 | (bit & 0x07);
        }
        let [high, low] = self.byte.to_be_bytes();
        [first, high, low]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_sense_carries_the_field_pointer() {
        assert_eq!(
            Sense::cdb_field(1, Some(7)).fixed(),
            [
                0x70, 0, 0x05, 0, 0, 0, 0, 0x0a, 0, 0, 0, 0, 0x24, 0, 0, 0xcf, 0, 1
            ]
        );
    }

    #[test]
    fn fixed_sense_carries_information_only_when_it_fits() {
        let small = Sense::MISCOMPARE.with_information(0x0102_0304).fixed();
        assert_eq!(small[0], 0xf0);
        assert_eq!(small[3..7], [1, 2, 3, 4]);
        let wide = Sense::MISCOMPARE.with_information(1 << 40).fixed();
        assert_eq!(wide[0], 0x70);
        assert_eq!(wide[3..7], [0; 4]);
    }

    #[test]
    fn descriptor_sense_counts_its_descriptors() {
        assert_eq!(
            Sense::LBA_OUT_OF_RANGE
                .with_information(1 << 40)
                .descriptor(),
            [
                0x72, 5, 0x21, 0, 0, 0, 0, 12, 0, 0x0a, 0x80, 0, 0, 0, 1, 0, 0, 0, 0, 0
            ]
        );
    }
}
