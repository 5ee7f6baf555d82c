//! What the engine above the protocol sees: commands, task management and their answers.

use std::fmt;

use bytes::Bytes;

/// Names one task (a SCSI command or a task management request) of one connection.
///
/// It is never reused by that connection, unlike the initiator task tag, so that the late answer
/// of an aborted command cannot be taken for that of a newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// A logical unit number in its eight-byte wire form (SAM-5 §4.7), as a big-endian number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lun(pub u64);

impl Lun {
    /// The wire form of a small number (peripheral device addressing up to 255, else flat space).
    pub fn from_number(number: u16) -> Self {
        let number = u64::from(number & 0x3fff);
        let method = if number < 256 { 0 } else { 0x4000 };
        Self((method | number) << 48)
    }

    /// The number of a first-level logical unit (peripheral device or flat space addressing on
    /// bus 0); `None` for every other form, none of which this target has.
    pub fn number(self) -> Option<u16> {
        if self.0 & 0x0000_ffff_ffff_ffff != 0 {
            return None;
        }
        let first = (self.0 >> 48) as u16;
        match first >> 14 {
            0 if first < 256 => Some(first),
            1 => Some(first & 0x3fff),
            _ => None,
        }
    }
}

impl fmt::Debug for Lun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number() {
            Some(number) => write!(f, "Lun({number})"),
            None => write!(f, "Lun({:#018x})", self.0),
        }
    }
}

/// How a command is to be ordered among others (RFC 7143 §11.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskAttribute {
    /// None given; treated as simple.
    Untagged,
    /// May be done in any order.
    Simple,
    /// Waits for all older commands, and younger ones wait for it.
    Ordered,
    /// Goes before all others.
    HeadOfQueue,
    /// Auto contingent allegiance.
    Aca,
    /// A value that the RFC reserves.
    Reserved(u8),
}

impl TaskAttribute {
    pub(crate) fn from_bits(bits: u8) -> Self {
        match bits & 7 {
            0 => Self::Untagged,
            1 => Self::Simple,
            2 => Self::Ordered,
            3 => Self::HeadOfQueue,
            4 => Self::Aca,
            other => Self::Reserved(other),
        }
    }
}

/// A SCSI command, delivered when all of its write data is here.
#[derive(Clone, Debug)]
pub struct ScsiCommand {
    /// Names the command until it is completed or aborted.
    pub task: TaskId,
    /// The initiator task tag, for logs.
    pub itt: u32,
    /// The logical unit.
    pub lun: Lun,
    /// The command descriptor block, zero-padded; only the first 16 bytes of a longer one.
    pub cdb: [u8; 16],
    /// Ordering.
    pub attribute: TaskAttribute,
    /// The initiator expects data from us (R bit).
    pub read: bool,
    /// The initiator has data for us (W bit).
    pub write: bool,
    /// Bytes that the initiator expects to move: to us if `write`, else from us.
    pub expected_transfer_length: u32,
    /// The write data, in order, in pieces as they came; its length is `expected_transfer_length`
    /// for a write command.
    pub data_out: Vec<Bytes>,
}

impl ScsiCommand {
    /// Length of the write data in bytes.
    pub fn data_out_length(&self) -> usize {
        self.data_out.iter().map(Bytes::len).sum()
    }
}

/// The answer to a SCSI command. Residuals are computed from it by the connection.
#[derive(Clone, Debug, Default)]
pub struct ScsiResponse {
    /// SCSI status (SAM-5 §5.3.1), e.g. 0x00 GOOD, 0x02 CHECK CONDITION.
    pub status: u8,
    /// Sense data, empty if there is none.
    pub sense: Bytes,
    /// Data for the initiator, in pieces; what exceeds its expected length is not sent.
    pub data_in: Vec<Bytes>,
    /// Bytes that the CDB asks to move, in the direction of the command. A difference to what the
    /// initiator expected is reported as residual. For a read at least the length of all data.
    pub transfer_length: u64,
}

impl ScsiResponse {
    /// GOOD, for a command that moved `transfer_length` bytes of write data, or none.
    pub fn good(transfer_length: u64) -> Self {
        Self {
            transfer_length,
            ..Self::default()
        }
    }

    /// GOOD with data for the initiator, all of what the CDB asked for.
    pub fn with_data(data: Bytes) -> Self {
        Self {
            transfer_length: data.len() as u64,
            data_in: vec![data],
            ..Self::default()
        }
    }

    /// CHECK CONDITION with sense data and nothing moved.
    pub fn check_condition(sense: Bytes) -> Self {
        Self {
            status: STATUS_CHECK_CONDITION,
            sense,
            ..Self::default()
        }
    }

    /// A status without sense and data, e.g. RESERVATION CONFLICT or TASK SET FULL.
    pub fn with_status(status: u8) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }
}

/// SCSI status CHECK CONDITION.
pub const STATUS_CHECK_CONDITION: u8 = 0x02;

/// SCSI status TASK SET FULL: the initiator shall try again with fewer commands.
pub(crate) const STATUS_TASK_SET_FULL: u8 = 0x28;

/// What a task management request asks for (RFC 7143 §11.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskFunction {
    /// Abort one task of this session; its id is in `affected` if it was still active.
    AbortTask,
    /// Abort all tasks of this session on the logical unit.
    AbortTaskSet,
    /// Abort all tasks of all sessions on the logical unit.
    ClearTaskSet,
    /// Reset the logical unit.
    LogicalUnitReset,
    /// Reset all logical units; sessions stay.
    TargetWarmReset,
    /// Reset all logical units and close all sessions.
    TargetColdReset,
}

/// A task management request. The tasks in `affected` are already forgotten by the connection:
/// answers to them are dropped. The engine lets what runs come to rest and then calls
/// [`Connection::task_management_response`](crate::Connection::task_management_response).
#[derive(Clone, Debug)]
pub struct TaskManagementRequest {
    /// Names the request itself.
    pub task: TaskId,
    /// What to do.
    pub function: TaskFunction,
    /// The logical unit; without meaning for target resets.
    pub lun: Lun,
    /// Commands of this connection that were delivered, not completed, and are aborted by it.
    pub affected: Vec<TaskId>,
}

/// Answer to a task management request (RFC 7143 §11.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskManagementResponse {
    /// Done.
    FunctionComplete,
    /// The task to abort does not exist.
    TaskDoesNotExist,
    /// There is no such logical unit.
    LunDoesNotExist,
    /// Not supported by this target.
    NotSupported,
    /// Not allowed for this initiator.
    AuthorizationFailed,
    /// Refused.
    Rejected,
}
