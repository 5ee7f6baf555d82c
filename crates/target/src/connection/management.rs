//! Task management: aborts and resets wait until what they abort has come to rest.

use std::collections::HashSet;
use std::sync::Arc;

use dess_iscsi::{Lun, TaskFunction, TaskId, TaskManagementRequest, TaskManagementResponse};
use dess_model::SessionEnd;
use dess_scsi::Sense;
use tokio::sync::oneshot;

use super::{Completion, ConnectionTask, LoggedIn};
use crate::sessions::Session;

/// A request whose commands still run.
pub(super) struct PendingReset {
    task: TaskId,
    response: TaskManagementResponse,
    /// Commands of this connection on disk threads.
    running: HashSet<TaskId>,
    /// Commands of other connections may still run.
    others: bool,
    /// It ends all sessions of the target.
    ends_sessions: bool,
}

impl PendingReset {
    pub(super) fn others_at_rest(&mut self, task: TaskId) {
        if self.task == task {
            self.others = false;
        }
    }
}

impl ConnectionTask {
    pub(super) fn handle_management(&mut self, request: TaskManagementRequest) {
        use TaskFunction::{
            AbortTask, AbortTaskSet, ClearTaskSet, LogicalUnitReset, TargetColdReset,
            TargetWarmReset,
        };
        let (of_unit, resets) = match request.function {
            AbortTask | AbortTaskSet | ClearTaskSet => (true, false),
            LogicalUnitReset => (true, true),
            TargetWarmReset | TargetColdReset => (false, true),
        };
        let units = self.logged_in.as_ref().map(|logged_in| &logged_in.units);
        let found = units.and_then(|units| units.find(request.lun));
        let lun = found.map(|(lun, _)| lun);
        if of_unit && lun.is_none() {
            let response = TaskManagementResponse::LunDoesNotExist;
            self.connection
                .task_management_response(request.task, response);
            return;
        }
        let lun = lun.filter(|_| of_unit);
        let response = match request.function {
            AbortTask if request.affected.is_empty() => TaskManagementResponse::TaskDoesNotExist,
            _ => TaskManagementResponse::FunctionComplete,
        };
        let others = match request.function {
            AbortTask | AbortTaskSet => false,
            _ => self.abort_others(request.task, lun, resets),
        };
        let running = self.forget(&request.affected);
        self.resets.push(PendingReset {
            task: request.task,
            response,
            running,
            others,
            ends_sessions: request.function == TargetColdReset,
        });
        self.answer_resets();
    }

    /// Aborts the commands of the other sessions of the target on a logical unit, or on all; true if there are any
    /// sessions.
    fn abort_others(&mut self, task: TaskId, lun: Option<u8>, resets: bool) -> bool {
        let Some(LoggedIn { session, units, .. }) = &self.logged_in else {
            return false;
        };
        let hit = units
            .all()
            .filter(|(of, _)| lun.is_none_or(|lun| lun == *of));
        for (of, unit) in hit.filter(|_| resets) {
            unit.reset();
            session.add_attention(of, Sense::DEVICE_RESET);
            self.service
                .attention_for_others(session, of, Sense::DEVICE_RESET);
        }
        let others = self.service.other_sessions(session);
        if others.is_empty() {
            return false;
        }
        // A reset tells them all already (RFC 7143 §11.5.1: TAS is 0, so an abort has no other answer).
        let attention = (!resets).then_some(Sense::COMMANDS_CLEARED);
        let abort = |other: &Arc<Session>| other.abort_tasks(lun, attention);
        let at_rest: Vec<_> = others.iter().map(abort).collect();
        // Weak: two sessions that reset each other must not wait for each other's end.
        let completions = self.completions.downgrade();
        tokio::spawn(async move {
            for one in at_rest {
                let _ = one.await;
            }
            if let Some(completions) = completions.upgrade() {
                let _ = completions.send(Completion::OthersAtRest(task));
            }
        });
        true
    }

    /// Takes aborted commands off the books; those on disk threads are returned.
    fn forget(&mut self, tasks: &[TaskId]) -> HashSet<TaskId> {
        self.throttle.remove(|one| one.is_one_of(tasks));
        let mut on_threads = HashSet::new();
        for task in tasks {
            if let Some(index) = self.long_reads.iter().position(|read| read.is_of(*task)) {
                // Only reads: a piece that still comes is dropped.
                self.long_reads.remove(index);
                self.running.remove(task);
            } else if self.running.contains_key(task) {
                on_threads.insert(*task);
            }
        }
        on_threads
    }

    /// Another session resets the disk, or preempts this one.
    pub(super) fn abort_all(
        &mut self,
        lun: Option<u8>,
        attention: Option<Sense>,
        done: oneshot::Sender<()>,
    ) {
        let on_lun = lun.map(|lun| Lun::from_number(lun.into()));
        let tasks = self.connection.abort_tasks(on_lun);
        if let (Some(attention), Some(logged_in)) = (attention, &self.logged_in)
            && !tasks.is_empty()
        {
            match lun {
                Some(lun) => logged_in.session.add_attention(lun, attention),
                None => logged_in.session.add_attention_to_all(attention),
            }
        }
        self.forget(&tasks);
        self.aborts.push(done);
        self.answer_resets();
    }

    /// Answers those requests whose commands have come to rest.
    pub(super) fn answer_resets(&mut self) {
        if self.running.is_empty() {
            for done in self.aborts.drain(..) {
                let _ = done.send(());
            }
        }
        if self.resets.is_empty() {
            return;
        }
        let mut ready = Vec::new();
        let running = &self.running;
        self.resets.retain_mut(|reset| {
            reset.running.retain(|task| running.contains_key(task));
            let done = reset.running.is_empty() && !reset.others;
            if done {
                ready.push((reset.task, reset.response, reset.ends_sessions));
            }
            !done
        });
        for (task, response, ends_sessions) in ready {
            self.connection.task_management_response(task, response);
            if ends_sessions {
                self.end_all();
            }
        }
    }

    /// A cold reset ends the sessions of all initiators, also the own one (RFC 7143 §11.6).
    fn end_all(&mut self) {
        let reason = SessionEnd::TargetReset;
        if let Some(logged_in) = &self.logged_in {
            for other in self.service.other_sessions(&logged_in.session) {
                other.end(reason);
            }
        }
        self.end.get_or_insert(reason);
    }
}
