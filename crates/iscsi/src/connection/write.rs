//! SCSI commands as they come, and the collection of write data (RFC 7143 §4.2.5.2, §11.7, §11.8).

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::full_feature::FullFeature;
use super::outbox::Outbox;
use super::receive::{Pdu, kept};
use super::tasks::{Burst, Collecting, DataFault, Task, TaskState};
use crate::budget::Charge;
use crate::command::{Lun, ScsiCommand, TaskAttribute, TaskId};
use crate::event::{CloseReason, Event};
use crate::pdu::{DataOut, NO_TAG, ReadyToTransfer, RejectReason, ScsiRequest};

/// Most PDUs that the data of one command may be spread over: 8 MiB in pieces of 512 bytes.
const PIECES_MAX: usize = 16_384;

/// What a piece costs besides its bytes.
const PIECE_COST: usize = 128;

impl FullFeature {
    pub(super) fn scsi_command(
        &mut self,
        outbox: &mut Outbox,
        request: ScsiRequest,
        pdu: Pdu,
    ) -> Result<(), CloseReason> {
        if request.itt == NO_TAG {
            return self.reject(outbox, &pdu, RejectReason::InvalidPduField);
        }
        if self.tasks.find(request.itt).is_some() {
            return self.reject(outbox, &pdu, RejectReason::TaskInProgress);
        }
        if request.immediate && self.too_many_immediate() {
            return self.reject(outbox, &pdu, RejectReason::ImmediateCommandReject);
        }
        if !request.write && !pdu.data.is_empty() {
            return self.reject(outbox, &pdu, RejectReason::InvalidPduField);
        }
        if !request.immediate {
            outbox.window.occupy();
        }
        let mut pieces = Vec::new();
        let mut memory = None;
        let mut state = TaskState::Delivered;
        if request.write && request.expected_data_transfer_length > 0 {
            let charge = memory.insert(Charge::new(Arc::clone(&self.memory)));
            let collecting = self.collect(request.clone(), pdu.data, charge);
            if collecting.is_whole() {
                pieces = collecting.pieces;
            } else {
                state = TaskState::Collecting(Box::new(collecting));
            }
        }
        let is_whole = matches!(state, TaskState::Delivered);
        let task = self.tasks.insert(Task {
            itt: request.itt,
            lun: Lun(request.lun),
            in_window: !request.immediate,
            read: request.read,
            expected: request.expected_data_transfer_length,
            data_sn: 0,
            sent: 0,
            solicited: 0,
            memory,
            state,
        });
        if is_whole {
            outbox
                .events
                .push_back(Event::Command(command(task, &request, pieces)));
        } else {
            self.proceed(outbox, task);
        }
        Ok(())
    }

    /// Takes a Data-Out PDU. One for a task that is not there is dropped: it was aborted.
    pub(super) fn data_out(&mut self, outbox: &mut Outbox, pdu: Pdu) -> Result<(), CloseReason> {
        let Ok(header) = DataOut::decode(&pdu.header) else {
            return self.reject(outbox, &pdu, RejectReason::InvalidPduField);
        };
        let Some(id) = self.tasks.find(header.itt) else {
            return Ok(());
        };
        let first_burst = self.parameters.first_burst_length;
        let Some(Task {
            state: TaskState::Collecting(collecting),
            expected,
            memory: Some(memory),
            ..
        }) = self.tasks.get_mut(id)
        else {
            return self.reject(outbox, &pdu, RejectReason::ProtocolError);
        };
        let limit = first_burst.min(*expected);
        let is_damaged = pdu.is_damaged;
        if is_damaged {
            collecting.fault.get_or_insert(DataFault::Digest);
        }
        if let Err(fault) = collecting.take(&header, &pdu.data, limit, memory) {
            collecting.fault.get_or_insert(fault);
        }
        if is_damaged {
            self.reject(outbox, &pdu, RejectReason::DataDigestError)?;
        }
        self.proceed(outbox, id);
        Ok(())
    }

    /// Gives the write commands their R2T that waited for others to be done.
    pub(super) fn admit_waiting(&mut self, outbox: &mut Outbox) {
        self.lacks_memory = false;
        while let Some(&id) = self.waiting.front() {
            let mut needed = 0;
            if let Some(Task {
                state: TaskState::Collecting(collecting),
                expected,
                memory: Some(memory),
                ..
            }) = self.tasks.get_mut(id)
            {
                needed = (*expected - collecting.received) as usize;
                if self.solicited > 0 && self.solicited + needed > self.limits.max_write_data {
                    return;
                }
                if !memory.try_grow(needed) {
                    self.lacks_memory = true;
                    return;
                }
            }
            self.waiting.pop_front();
            if let Some(task) = self.tasks.get_mut(id) {
                task.solicited = needed;
                self.solicited += needed;
                if let TaskState::Collecting(collecting) = &mut task.state {
                    collecting.is_admitted = true;
                    self.send_r2t(outbox, id);
                }
            }
        }
    }

    /// Starts the collection with the immediate data of the command.
    fn collect(&self, request: ScsiRequest, data: Bytes, memory: &mut Charge) -> Collecting {
        let expected = request.expected_data_transfer_length;
        let received = data.len() as u32;
        let mut fault = None;
        if expected > self.limits.max_command_data {
            fault = Some(DataFault::TooLong);
        } else if received > 0 && !self.parameters.immediate_data {
            fault = Some(DataFault::Unexpected);
        } else if received > expected.min(self.parameters.first_burst_length) {
            fault = Some(DataFault::Amount);
        } else if received > 0 && !memory.try_grow(data.len() + PIECE_COST) {
            fault = Some(DataFault::NoMemory);
        }
        // With InitialR2T=Yes nothing unsolicited follows, whatever the F bit says.
        let has_more = !request.last && !self.parameters.initial_r2t;
        let keeps = received > 0 && fault.is_none();
        let piece = if received == expected {
            data
        } else {
            kept(&data)
        };
        Collecting {
            request,
            pieces: if keeps { vec![piece] } else { Vec::new() },
            received: if keeps { received } else { 0 },
            unsolicited: has_more.then_some(0),
            bursts: VecDeque::new(),
            asked_to: 0,
            is_admitted: false,
            is_waiting: false,
            fault,
        }
    }

    /// Does what the data that is here allows: fail, deliver, or ask for more.
    fn proceed(&mut self, outbox: &mut Outbox, id: TaskId) {
        let Some(task) = self.tasks.get_mut(id) else {
            return;
        };
        let TaskState::Collecting(collecting) = &mut task.state else {
            return;
        };
        if let Some(fault) = collecting.fault {
            if collecting.is_quiet() {
                task.state = TaskState::Delivered;
                self.complete(outbox, id, fault.response());
            }
        } else if collecting.is_whole() {
            let pieces = std::mem::take(&mut collecting.pieces);
            let event = Event::Command(command(id, &collecting.request, pieces));
            task.state = TaskState::Delivered;
            outbox.events.push_back(event);
        } else if collecting.unsolicited.is_some() {
            // The initiator goes on by itself.
        } else if collecting.is_admitted {
            self.send_r2t(outbox, id);
        } else if !collecting.is_waiting {
            collecting.is_waiting = true;
            collecting.asked_to = collecting.received;
            self.waiting.push_back(id);
            self.admit_waiting(outbox);
        }
    }

    /// Asks for as many bursts as may be on their way at once.
    fn send_r2t(&mut self, outbox: &mut Outbox, id: TaskId) {
        let at_once = usize::from(self.parameters.max_outstanding_r2t.max(1));
        loop {
            let ttt = self.next_ttt();
            let max_burst = self.parameters.max_burst_length;
            let Some(task) = self.tasks.get_mut(id) else {
                return;
            };
            let TaskState::Collecting(collecting) = &mut task.state else {
                return;
            };
            let left = task.expected - collecting.asked_to;
            if left == 0 || collecting.bursts.len() >= at_once || collecting.fault.is_some() {
                return;
            }
            let length = left.min(max_burst);
            let r2t = ReadyToTransfer {
                lun: task.lun.0,
                itt: task.itt,
                ttt,
                sequence: outbox.peek_sequence(),
                r2t_sn: task.data_sn,
                buffer_offset: collecting.asked_to,
                desired_data_transfer_length: length,
            };
            task.data_sn += 1;
            collecting.asked_to += length;
            collecting.bursts.push_back(Burst {
                ttt,
                data_sn: 0,
                end: collecting.asked_to,
            });
            outbox.send(&r2t.encode(), &[]);
        }
    }
}

impl Collecting {
    /// Takes a piece of data; `limit` is the end of unsolicited data.
    fn take(
        &mut self,
        header: &DataOut,
        data: &Bytes,
        limit: u32,
        memory: &mut Charge,
    ) -> Result<(), DataFault> {
        let (data_sn, end) = if header.ttt == NO_TAG {
            let number = self.unsolicited.as_mut().ok_or(DataFault::Unexpected)?;
            (number, limit)
        } else {
            let burst = self.bursts.front_mut().ok_or(DataFault::Unexpected)?;
            if burst.ttt != header.ttt {
                return Err(DataFault::Sequence);
            }
            (&mut burst.data_sn, burst.end)
        };
        let is_in_order = header.data_sn == *data_sn && header.buffer_offset == self.received;
        *data_sn = data_sn.wrapping_add(1);
        let is_solicited = header.ttt != NO_TAG;
        // The sequence ends by its F bit, good or bad: the answer waits for it (RFC 7143 §7.9).
        if header.last {
            if is_solicited {
                self.bursts.pop_front();
            } else {
                self.unsolicited = None;
            }
        }
        if self.fault.is_some() {
            return Ok(());
        }
        if !is_in_order {
            return Err(DataFault::Sequence);
        }
        if data.len() > (end - self.received.min(end)) as usize || self.pieces.len() >= PIECES_MAX {
            return Err(DataFault::Amount);
        }
        // The bytes that were asked for are counted already.
        let bytes = if is_solicited { 0 } else { data.len() };
        if !data.is_empty() && !memory.try_grow(bytes + PIECE_COST) {
            return Err(DataFault::NoMemory);
        }
        self.received += data.len() as u32;
        if !data.is_empty() {
            self.pieces.push(kept(data));
        }
        if header.last && is_solicited && self.received != end {
            return Err(DataFault::Amount);
        }
        Ok(())
    }
}

fn command(task: TaskId, request: &ScsiRequest, data_out: Vec<Bytes>) -> ScsiCommand {
    ScsiCommand {
        task,
        itt: request.itt,
        lun: Lun(request.lun),
        cdb: request.cdb,
        attribute: TaskAttribute::from_bits(request.attribute),
        read: request.read,
        write: request.write,
        expected_transfer_length: request.expected_data_transfer_length,
        data_out,
    }
}
