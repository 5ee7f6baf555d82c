//! SCSI commands, VPD and mode pages, sense: SPC-4 and SBC-3 of a thin-provisioned disk, as values.
//!
//! [`decode()`] turns a CDB into a [`Command`]; a [`LogicalUnit`] answers those that need no data of
//! the disk ([`Query`]); what touches data ([`Medium`]) is carried out by the caller, which reports
//! a failure as [`Sense`].

mod command;
mod copy;
mod decode;
mod field;
mod inquiry;
mod mode;
mod opcodes;
mod parameters;
mod persistent;
mod reservation;
mod sense;
mod unit;

pub use command::{
    BlockRange, Command, Comparison, CopyUse, Medium, ModeForm, ModeSelect, ModeSense, OpcodeQuery,
    Query,
};
pub use copy::{CopyRecord, CopySegment, copy_segments};
pub use decode::decode;
pub use mode::ModeState;
pub use parameters::{UnmapRange, unmap_ranges};
pub use persistent::{
    Attentions, Consequences, Holder, PersistentError, PersistentIn, PersistentOut,
    PersistentReservations, PersistentType, Registration, SavedReservations,
};
pub use reservation::Reservation;
pub use sense::{FieldPointer, Sense, SenseKey};
pub use unit::{
    BLOCK_LIMITS, BlockLimits, LbaExtent, LogicalUnit, lba_status, lun_number, report_luns,
};

/// Size of a logical block in bytes.
pub const LOGICAL_BLOCK_BYTES: u64 = 512;

/// Logical blocks in the unit in which space is kept and given back, as a power of two: 4 KiB.
pub const GRANULARITY_EXPONENT: u8 = 3;
