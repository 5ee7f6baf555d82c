//! Task management, logout, pings and asynchronous messages.

use std::time::Duration;

use super::full_feature::FullFeature;
use super::outbox::Outbox;
use super::receive::Pdu;
use super::tasks::{Task, TaskState};
use super::window::Place;
use crate::command::{Lun, TaskFunction, TaskId, TaskManagementRequest, TaskManagementResponse};
use crate::event::{CloseReason, Event};
use crate::pdu::{
    AsyncEvent, AsyncMessage, LogoutReason, LogoutRequest, LogoutResponse, LogoutResult, NO_TAG,
    NopIn, NopOut, RejectReason, TaskRequest, TaskResponse,
};

/// Response codes that never come from the engine (RFC 7143 §11.6.1).
const REASSIGNMENT_NOT_SUPPORTED: u8 = 4;
const NOT_SUPPORTED: u8 = 5;
const REJECTED: u8 = 255;

/// Seconds after which an initiator that we asked to log out may be back (Time2Wait, RFC 7143
/// §11.15.4): longer than a restart takes.
const RESTART_SECS: u16 = 1;

impl FullFeature {
    pub(super) fn task_request(
        &mut self,
        outbox: &mut Outbox,
        request: &TaskRequest,
        pdu: &Pdu,
    ) -> Result<(), CloseReason> {
        if request.itt == NO_TAG {
            return self.reject(outbox, pdu, RejectReason::InvalidPduField);
        }
        if self.tasks.find(request.itt).is_some() {
            return self.reject(outbox, pdu, RejectReason::TaskInProgress);
        }
        if request.immediate && self.too_many_immediate() {
            return self.reject(outbox, pdu, RejectReason::ImmediateCommandReject);
        }
        let lun = Lun(request.lun);
        let function = match request.function {
            1 => return self.abort_task(outbox, request),
            2 => TaskFunction::AbortTaskSet,
            4 => TaskFunction::ClearTaskSet,
            5 => TaskFunction::LogicalUnitReset,
            6 => TaskFunction::TargetWarmReset,
            7 => TaskFunction::TargetColdReset,
            3 => return answer(outbox, request.itt, NOT_SUPPORTED),
            8 => return answer(outbox, request.itt, REASSIGNMENT_NOT_SUPPORTED),
            _ => return answer(outbox, request.itt, REJECTED),
        };
        let is_for_all = matches!(
            function,
            TaskFunction::TargetWarmReset | TaskFunction::TargetColdReset
        );
        let affected = self.abort_where(outbox, |task| is_for_all || task.lun == lun);
        self.deliver(outbox, request, function, affected);
        Ok(())
    }

    /// Forgets the commands that fit; returns those that were delivered.
    pub(super) fn abort_where(
        &mut self,
        outbox: &mut Outbox,
        fits: impl Fn(&Task) -> bool,
    ) -> Vec<TaskId> {
        let doomed: Vec<TaskId> = self
            .tasks
            .iter()
            .filter(|(_, task)| !matches!(task.state, TaskState::Management) && fits(task))
            .map(|(id, _)| id)
            .collect();
        let mut delivered = Vec::new();
        for id in doomed {
            if self.forget(outbox, id) {
                delivered.push(id);
            }
        }
        self.admit_waiting(outbox);
        delivered
    }

    pub(super) fn task_management_response(
        &mut self,
        outbox: &mut Outbox,
        id: TaskId,
        response: TaskManagementResponse,
    ) {
        let is_request = self
            .tasks
            .get_mut(id)
            .is_some_and(|task| matches!(task.state, TaskState::Management));
        if !is_request {
            return;
        }
        if let Some(task) = self.remove(outbox, id) {
            // A fresh answer cannot fail: only refusals close.
            let _ = answer(outbox, task.itt, response.code());
        }
    }

    /// Takes a task out of the table and gives back its room.
    pub(super) fn remove(&mut self, outbox: &mut Outbox, id: TaskId) -> Option<Task> {
        let task = self.tasks.remove(id)?;
        if task.in_window {
            outbox.window.release();
        }
        self.solicited -= task.solicited;
        Some(task)
    }

    pub(super) fn nop_out(&mut self, outbox: &mut Outbox, request: &NopOut, data: &[u8]) {
        // Without a task tag it is the answer to our ping, or wants none.
        if request.itt == NO_TAG {
            return;
        }
        let limit = self.parameters.initiator_max_recv_data_segment_length as usize;
        let data = &data[..data.len().min(limit)];
        let answer = NopIn {
            lun: 0,
            itt: request.itt,
            ttt: NO_TAG,
            sequence: outbox.next_sequence(),
        };
        outbox.send(&answer.encode(data.len()), data);
    }

    /// Asks the initiator whether it is still there.
    pub(super) fn ping(&mut self, outbox: &mut Outbox) {
        let ping = NopIn {
            lun: 0,
            itt: NO_TAG,
            ttt: self.next_ttt(),
            sequence: outbox.peek_sequence(),
        };
        outbox.send(&ping.encode(0), &[]);
    }

    pub(super) fn logout(
        &mut self,
        outbox: &mut Outbox,
        request: &LogoutRequest,
    ) -> Result<(), CloseReason> {
        let result = match request.reason {
            LogoutReason::CloseSession => LogoutResult::Closed,
            LogoutReason::CloseConnection if request.cid == self.cid => LogoutResult::Closed,
            LogoutReason::CloseConnection => LogoutResult::CidNotFound,
            LogoutReason::RemoveForRecovery => LogoutResult::RecoveryNotSupported,
            LogoutReason::Unknown(_) => LogoutResult::CleanupFailed,
        };
        let response = LogoutResponse {
            result,
            itt: request.itt,
            sequence: outbox.next_sequence(),
            time2wait: match self.logout_requested {
                true => self.parameters.default_time2wait.min(RESTART_SECS),
                false => self.parameters.default_time2wait,
            },
            time2retain: 0,
        };
        outbox.send(&response.encode(), &[]);
        match result {
            LogoutResult::Closed => Err(CloseReason::Logout),
            _ => Ok(()),
        }
    }

    pub(super) fn request_logout(&mut self, outbox: &mut Outbox, within: Duration) -> bool {
        let within_secs = u16::try_from(within.as_secs()).unwrap_or(u16::MAX);
        self.logout_requested = true;
        self.send_async(
            outbox,
            Lun(0),
            AsyncEvent::LogoutRequest { within_secs },
            &[],
        )
    }

    pub(super) fn announce_drop(&mut self, outbox: &mut Outbox, time2wait: u16) -> bool {
        let event = AsyncEvent::SessionDrop {
            time2wait,
            time2retain: 0,
        };
        self.send_async(outbox, Lun(0), event, &[])
    }

    pub(super) fn send_scsi_event(&mut self, outbox: &mut Outbox, lun: Lun, sense: &[u8]) -> bool {
        let sense = &sense[..sense.len().min(252)];
        let mut data = (sense.len() as u16).to_be_bytes().to_vec();
        data.extend_from_slice(sense);
        self.send_async(outbox, lun, AsyncEvent::Scsi, &data)
    }

    fn send_async(&self, outbox: &mut Outbox, lun: Lun, event: AsyncEvent, data: &[u8]) -> bool {
        if !self.family.understands_reject() {
            return false;
        }
        let message = AsyncMessage {
            lun: lun.0,
            event,
            sequence: outbox.next_sequence(),
        };
        outbox.send(&message.encode(data.len()), data);
        true
    }

    fn abort_task(
        &mut self,
        outbox: &mut Outbox,
        request: &TaskRequest,
    ) -> Result<(), CloseReason> {
        let found = self.tasks.find(request.referenced_task_tag).filter(|&id| {
            self.tasks
                .get(id)
                .is_some_and(|task| !matches!(task.state, TaskState::Management))
        });
        let Some(id) = found else {
            // Not here: either done, or not yet come (RFC 7143 §11.6.1).
            let response = match outbox.window.place(request.ref_cmd_sn) {
                Place::Outside => TaskManagementResponse::TaskDoesNotExist,
                Place::Next | Place::Early => TaskManagementResponse::FunctionComplete,
            };
            return answer(outbox, request.itt, response.code());
        };
        let is_delivered = self.forget(outbox, id);
        self.admit_waiting(outbox);
        if !is_delivered {
            let response = TaskManagementResponse::FunctionComplete;
            return answer(outbox, request.itt, response.code());
        }
        self.deliver(outbox, request, TaskFunction::AbortTask, vec![id]);
        Ok(())
    }

    /// Removes a command; true if the engine knows it.
    fn forget(&mut self, outbox: &mut Outbox, id: TaskId) -> bool {
        let Some(task) = self.remove(outbox, id) else {
            return false;
        };
        match task.state {
            TaskState::Delivered => true,
            TaskState::Collecting(_) => {
                self.waiting.retain(|&waiting| waiting != id);
                false
            }
            TaskState::Management => false,
        }
    }

    fn deliver(
        &mut self,
        outbox: &mut Outbox,
        request: &TaskRequest,
        function: TaskFunction,
        affected: Vec<TaskId>,
    ) {
        if !request.immediate {
            outbox.window.occupy();
        }
        let lun = Lun(request.lun);
        let task = self.tasks.insert(Task {
            itt: request.itt,
            lun,
            in_window: !request.immediate,
            read: false,
            expected: 0,
            data_sn: 0,
            sent: 0,
            solicited: 0,
            memory: None,
            state: TaskState::Management,
        });
        let event = TaskManagementRequest {
            task,
            function,
            lun,
            affected,
        };
        outbox.events.push_back(Event::TaskManagement(event));
    }
}

impl TaskManagementResponse {
    fn code(self) -> u8 {
        match self {
            Self::FunctionComplete => 0,
            Self::TaskDoesNotExist => 1,
            Self::LunDoesNotExist => 2,
            Self::NotSupported => NOT_SUPPORTED,
            Self::AuthorizationFailed => 6,
            Self::Rejected => REJECTED,
        }
    }
}

/// Answers a request at once. Never closes; the result is that of a handler, for its callers.
fn answer(outbox: &mut Outbox, itt: u32, response: u8) -> Result<(), CloseReason> {
    let response = TaskResponse {
        response,
        itt,
        sequence: outbox.next_sequence(),
    };
    outbox.send(&response.encode(), &[]);
    Ok(())
}
