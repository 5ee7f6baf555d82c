//! Tasks in work: a table with stable places.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::budget::Charge;
use crate::command::{Lun, STATUS_TASK_SET_FULL, ScsiResponse, TaskId};
use crate::pdu::ScsiRequest;

/// One SCSI command or task management request in work.
pub(super) struct Task {
    pub(super) itt: u32,
    pub(super) lun: Lun,
    /// Takes room in the command window (not immediate).
    pub(super) in_window: bool,
    pub(super) read: bool,
    /// Bytes that the initiator expects to move.
    pub(super) expected: u32,
    /// Data-In PDUs or R2Ts sent so far.
    pub(super) data_sn: u32,
    /// Read data sent so far.
    pub(super) sent: u32,
    /// Write data that was asked for by R2T.
    pub(super) solicited: usize,
    /// Memory for its write data.
    pub(super) memory: Option<Charge>,
    pub(super) state: TaskState,
}

pub(super) enum TaskState {
    /// Write data is still to come.
    Collecting(Box<Collecting>),
    /// With the engine.
    Delivered,
    /// A task management request, with the engine.
    Management,
}

/// A write command whose data is not complete.
pub(super) struct Collecting {
    pub(super) request: ScsiRequest,
    pub(super) pieces: Vec<Bytes>,
    pub(super) received: u32,
    /// Unsolicited Data-Out PDUs are still to come; the number of the next.
    pub(super) unsolicited: Option<u32>,
    /// Bursts asked for, oldest first.
    pub(super) bursts: VecDeque<Burst>,
    /// End of what was asked for.
    pub(super) asked_to: u32,
    /// The budget for solicited data was granted.
    pub(super) is_admitted: bool,
    /// Waits for that budget.
    pub(super) is_waiting: bool,
    pub(super) fault: Option<DataFault>,
}

/// A burst that was asked for by an R2T.
pub(super) struct Burst {
    pub(super) ttt: u32,
    pub(super) data_sn: u32,
    pub(super) end: u32,
}

/// Why write data cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DataFault {
    /// Data that was neither asked for nor allowed.
    Unexpected,
    /// More or less than announced.
    Amount,
    /// Wrong number, offset or tag.
    Sequence,
    /// The digest does not match.
    Digest,
    /// The command announces more than any command may have.
    TooLong,
    /// There is no memory for data that was not asked for.
    NoMemory,
}

impl DataFault {
    /// The answer to the command: TASK SET FULL if the initiator is to try again, else sense data.
    pub(super) fn response(self) -> ScsiResponse {
        match self.sense() {
            Some(sense) => ScsiResponse::check_condition(Bytes::copy_from_slice(&sense)),
            None => ScsiResponse::with_status(STATUS_TASK_SET_FULL),
        }
    }

    /// Sense data in fixed format, with the codes of RFC 7143 §11.4.7.2.
    fn sense(self) -> Option<[u8; 18]> {
        const ABORTED_COMMAND: u8 = 0x0b;
        const ILLEGAL_REQUEST: u8 = 0x05;
        let (key, code, qualifier) = match self {
            Self::Unexpected => (ABORTED_COMMAND, 0x0c, 0x0c),
            Self::Amount => (ABORTED_COMMAND, 0x0c, 0x0d),
            Self::Sequence => (ABORTED_COMMAND, 0x4b, 0x00),
            Self::Digest => (ABORTED_COMMAND, 0x47, 0x05),
            Self::TooLong => (ILLEGAL_REQUEST, 0x24, 0x00),
            Self::NoMemory => return None,
        };
        let mut sense = [0; 18];
        sense[0] = 0x70;
        sense[2] = key;
        sense[7] = 10;
        sense[12] = code;
        sense[13] = qualifier;
        Some(sense)
    }
}

impl Collecting {
    /// No data is on its way.
    pub(super) fn is_quiet(&self) -> bool {
        self.unsolicited.is_none() && self.bursts.is_empty()
    }

    /// All data is here, and good.
    pub(super) fn is_whole(&self) -> bool {
        self.fault.is_none()
            && self.is_quiet()
            && self.received == self.request.expected_data_transfer_length
    }
}

struct Slot {
    generation: u32,
    task: Option<Task>,
}

/// The tasks of one connection.
#[derive(Default)]
pub(super) struct TaskTable {
    slots: Vec<Slot>,
    free: Vec<u32>,
    immediate: usize,
    /// Generation of slots that are made from now on.
    first_generation: u32,
}

impl TaskTable {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Tasks outside the command window.
    pub(super) fn immediate(&self) -> usize {
        self.immediate
    }

    pub(super) fn insert(&mut self, task: Task) -> TaskId {
        if !task.in_window {
            self.immediate += 1;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: self.first_generation,
                task: None,
            });
            (self.slots.len() - 1) as u32
        });
        let entry = &mut self.slots[slot as usize];
        entry.task = Some(task);
        TaskId {
            slot,
            generation: entry.generation,
        }
    }

    pub(super) fn get(&self, id: TaskId) -> Option<&Task> {
        self.slots
            .get(id.slot as usize)
            .filter(|slot| slot.generation == id.generation)
            .and_then(|slot| slot.task.as_ref())
    }

    pub(super) fn get_mut(&mut self, id: TaskId) -> Option<&mut Task> {
        self.slots
            .get_mut(id.slot as usize)
            .filter(|slot| slot.generation == id.generation)
            .and_then(|slot| slot.task.as_mut())
    }

    pub(super) fn remove(&mut self, id: TaskId) -> Option<Task> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        let task = slot.task.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.slot);
        if !task.in_window {
            self.immediate -= 1;
        }
        Some(task)
    }

    pub(super) fn find(&self, itt: u32) -> Option<TaskId> {
        self.iter()
            .find(|(_, task)| task.itt == itt)
            .map(|(id, _)| id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (TaskId, &Task)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let id = TaskId {
                slot: index as u32,
                generation: slot.generation,
            };
            slot.task.as_ref().map(|task| (id, task))
        })
    }

    /// Gives memory back if there are no tasks. Ids of old tasks stay void.
    pub(super) fn trim(&mut self) {
        if self.len() > 0 {
            return;
        }
        let used = self.slots.iter().map(|slot| slot.generation).max();
        self.first_generation = used.unwrap_or(self.first_generation);
        self.slots = Vec::new();
        self.free = Vec::new();
    }
}
