//! SCSI commands: refused, answered, carried out at once, or handed to the disk threads.

use std::sync::Arc;

use bytes::Bytes;
use dess_iscsi::{ScsiCommand, ScsiResponse, TaskId};
use dess_scsi::{
    Command, LogicalUnit, Medium, ModeSelect, PersistentOut, Query, Sense, decode, report_luns,
};

use tokio::runtime::Handle;

use super::{Completion, ConnectionTask, LoggedIn, Running};
use crate::accounts::Operation;
use crate::engine::{Failure, Lane, Outcome, Slot, Unit, Work, carry_out, contained};
use crate::sessions::Session;

/// Largest write that is done on the connection's own task: a copy into the page cache.
const INLINE_WRITE_BYTES_MAX: usize = 256 * 1024;

/// SCSI status RESERVATION CONFLICT (SAM-5 §5.3.1).
const STATUS_RESERVATION_CONFLICT: u8 = 0x18;

impl ConnectionTask {
    pub(super) fn handle_command(&mut self, command: ScsiCommand) {
        let Some(LoggedIn { session, units, .. }) = &self.logged_in else {
            // A discovery session; its commands are refused by the protocol already.
            self.answer(command.task, Err(Sense::INVALID_OPCODE.into()));
            return;
        };
        let decoded = decode(&command.cdb);
        let Some((lun, unit)) = units.find(command.lun) else {
            let answer = absent_unit(decoded, units.luns());
            self.answer(command.task, answer);
            return;
        };
        let informs = decoded.is_ok_and(|decoded| decoded.passes_unit_attention());
        if !informs && let Some(attention) = session.take_attention(lun) {
            self.answer(command.task, Err(attention.into()));
            return;
        }
        let decoded = match decoded {
            Ok(decoded) => decoded,
            Err(sense) => {
                self.answer(command.task, Err(sense.into()));
                return;
            }
        };
        match unit.admit(session, &decoded) {
            Ok(()) => {
                if let Some((command, decoded)) = self.hold_back(command, decoded) {
                    self.dispatch(command, decoded);
                }
            }
            Err(failure) => self.answer(command.task, Err(failure)),
        }
    }

    pub(super) fn dispatch(&mut self, command: ScsiCommand, decoded: Command) {
        let Some(LoggedIn { session, units, .. }) = &self.logged_in else {
            return;
        };
        let Some((lun, unit)) = units.find(command.lun) else {
            return;
        };
        let nothing = Ok(Outcome::Taken(0));
        let answer = match decoded {
            Command::Medium(Medium::Read(range)) => {
                let unit = Arc::clone(unit);
                self.read(command.task, &unit, range);
                return;
            }
            Command::Medium(medium) => {
                let work = Work {
                    medium,
                    data: command.data_out,
                };
                let unit = Arc::clone(unit);
                self.start(command.task, unit, work);
                return;
            }
            Command::Query(query) => answer_query(session, lun, unit, &query),
            Command::ModeSelect(select) => {
                let list = parameter_list(&command.data_out, select.length);
                self.mode_select(session, lun, unit, &select, &list)
            }
            Command::CopyResults { usage, allocation } => {
                let record = session.copy_record();
                LogicalUnit::copy_results(usage, record.as_ref(), allocation)
                    .map(|data| Outcome::Data(data.into()))
                    .map_err(Failure::from)
            }
            Command::PersistentIn { action, allocation } => {
                let mut data = unit.persistent_in(action);
                data.truncate(allocation as usize);
                Ok(Outcome::Data(data.into()))
            }
            Command::PersistentOut { action, length } => {
                let list = parameter_list(&command.data_out, length);
                let unit = Arc::clone(unit);
                self.persistent_out(command.task, lun, unit, (action, list));
                return;
            }
            Command::ReportLuns { select, allocation } => {
                reported_luns(units.luns(), select, allocation)
            }
            Command::Reserve => {
                unit.reserve(session.id);
                nothing
            }
            Command::Release => {
                unit.release(session.id);
                nothing
            }
            Command::TestUnitReady | Command::StartStopUnit | Command::PreventAllow { .. } => {
                nothing
            }
        };
        self.answer(command.task, answer);
    }

    /// Changes persistent reservations on a disk thread, as what must outlive a loss of power is written first. PREEMPT AND ABORT
    /// is answered when nothing of the preempted ones runs any more.
    fn persistent_out(
        &mut self,
        task: TaskId,
        lun: u8,
        unit: Arc<Unit>,
        (action, list): (PersistentOut, Vec<u8>),
    ) {
        let Some(LoggedIn { session, .. }) = &self.logged_in else {
            return;
        };
        let session = Arc::clone(session);
        self.begin(task, None);
        let service = Arc::clone(&self.service);
        let completions = self.completions.clone();
        let runtime = Handle::current();
        let changed = Arc::clone(&unit);
        let run = move || {
            let change = || changed.persistent_out(&session.port, action, &list);
            let (result, at_rest) = match contained(change) {
                Ok(consequences) => {
                    service.attention_for_ports(&session, lun, &consequences.attentions);
                    let at_rest = service.abort_of_ports(&session, lun, &consequences.aborted);
                    (Ok(Outcome::Taken(list.len() as u64)), at_rest)
                }
                Err(failure) => (Err(failure), Vec::new()),
            };
            let done = Completion::Done(task, 0, result);
            if at_rest.is_empty() {
                let _ = completions.send(done);
                return;
            }
            // Weak: two sessions that preempt each other must not wait for each other's end.
            let completions = completions.downgrade();
            runtime.spawn(async move {
                for one in at_rest {
                    // An error is the end of that session, and with it of its commands.
                    let _ = one.await;
                }
                if let Some(completions) = completions.upgrade() {
                    let _ = completions.send(done);
                }
            });
        };
        self.submit(&unit, unit.slot(Lane::Flush, 0), None, run);
    }

    fn mode_select(
        &self,
        session: &Session,
        lun: u8,
        unit: &Unit,
        select: &ModeSelect,
        list: &[u8],
    ) -> Result<Outcome, Failure> {
        if unit.mode_select(select, list)? {
            self.service
                .attention_for_others(session, lun, Sense::MODE_CHANGED);
        }
        Ok(Outcome::Taken(u64::from(select.length)))
    }

    /// Carries out a command on the disk: here, if it waits for nothing, else on a disk thread.
    fn start(&mut self, task: TaskId, unit: Arc<Unit>, work: Work) {
        let operation = Operation::of(&work.medium);
        if let Some(operation) = operation {
            let bytes = work.medium.data_out_bytes();
            self.meter.count_bytes(operation, bytes);
        }
        if let Medium::Write { range, fua } = work.medium {
            self.count_write(range.length_bytes());
            let sent: usize = work.data.iter().map(Bytes::len).sum();
            if !fua
                && sent <= INLINE_WRITE_BYTES_MAX
                && let Some(claim) = work.claim(unit.description.capacity_bytes())
                && let Some(_held) = unit.locks.try_hold(claim.0, claim.1)
            {
                let result = carry_out(&unit, &work);
                self.answer(task, result);
                self.meter.count_done(Operation::Write);
                return;
            }
        } else if work.medium.writes() {
            self.count_write(work.medium.data_out_bytes());
        }
        self.begin(task, operation);
        let completions = self.completions.clone();
        let bytes: usize = work.data.iter().map(Bytes::len).sum();
        let slot = unit.slot(work.lane(), bytes as u64);
        let claim = work.claim(unit.description.capacity_bytes());
        let session = self.logged_in.as_ref();
        let session = session
            .filter(|_| matches!(work.medium, Medium::Copy { .. }))
            .map(|logged_in| Arc::clone(&logged_in.session));
        let run = {
            let unit = Arc::clone(&unit);
            move || {
                let result = contained(|| carry_out(&unit, &work));
                if let Some(session) = session {
                    session.record_copy(&work.data.concat(), result.is_ok());
                }
                // If the session is gone, nobody waits for the answer.
                let _ = completions.send(Completion::Done(task, 0, result));
            }
        };
        self.submit(&unit, slot, claim, run);
    }

    /// Notes that a command is not answered at once.
    pub(super) fn begin(&mut self, task: TaskId, operation: Option<Operation>) {
        let since = self.meter.arrived();
        self.running.insert(task, Running { operation, since });
    }

    /// Notes that a command is over; false if it was aborted meanwhile.
    pub(super) fn is_over(&mut self, task: TaskId) -> bool {
        let Some(Running { operation, since }) = self.running.remove(&task) else {
            return false;
        };
        if let (Some(operation), Some(logged_in)) = (operation, &self.logged_in) {
            logged_in.session.account.count(operation, since.elapsed());
        }
        true
    }

    /// Runs a job on a disk thread, as soon as its range is free.
    pub(super) fn submit(
        &self,
        unit: &Arc<Unit>,
        slot: Slot,
        claim: Option<(crate::engine::Span, crate::engine::Access)>,
        run: impl FnOnce() + Send + 'static,
    ) {
        let pool = &self.service.pool;
        match claim {
            None => pool.submit(slot, Box::new(run)),
            Some(claim) => unit.locks.run_when_free(claim, pool, slot, move |held| {
                run();
                drop(held);
            }),
        }
    }

    fn count_write(&mut self, bytes: u64) {
        if let Some(LoggedIn { session, .. }) = &self.logged_in {
            session.counters.count_write(bytes);
        }
        self.report_first_commands();
    }

    pub(super) fn handle_completion(&mut self, completion: Completion) {
        match completion {
            Completion::Done(task, read_bytes, result) => {
                self.read_ahead -= read_bytes;
                if self.is_over(task) {
                    self.answer(task, result);
                }
            }
            Completion::Granted(task, held) => self.grant(task, held),
            Completion::Piece(task, read_bytes, result) => {
                self.read_ahead -= read_bytes;
                self.handle_piece(task, result);
            }
            Completion::OthersAtRest(task) => {
                for reset in &mut self.resets {
                    reset.others_at_rest(task);
                }
            }
        }
        self.answer_resets();
    }

    /// Answers a command; one that was aborted meanwhile stays unanswered.
    pub(super) fn answer(&mut self, task: TaskId, result: Result<Outcome, Failure>) {
        let response = match result {
            Ok(Outcome::Taken(bytes)) => ScsiResponse::good(bytes),
            Ok(Outcome::Data(data)) => ScsiResponse::with_data(data),
            Err(Failure::ReservationConflict) => {
                ScsiResponse::with_status(STATUS_RESERVATION_CONFLICT)
            }
            Err(Failure::Sense(sense)) => self.check_condition(task, &sense),
            Err(Failure::Fault(fault)) => {
                self.report_fault(&fault);
                self.check_condition(task, &Sense::from(&fault))
            }
        };
        self.connection.complete(task, response);
    }

    /// In the format that the logical unit of the command is set to.
    fn check_condition(&self, task: TaskId, sense: &Sense) -> ScsiResponse {
        let units = self.logged_in.as_ref().map(|logged_in| &logged_in.units);
        let unit = units
            .zip(self.connection.lun_of(task))
            .and_then(|(units, lun)| units.find(lun));
        let descriptor = unit.is_some_and(|(_, unit)| unit.mode().descriptor_sense);
        ScsiResponse::check_condition(sense.encode(descriptor).into())
    }
}

/// As many bytes of Data-Out as the CDB says, if there are so many.
fn parameter_list(data: &[Bytes], stated: u32) -> Vec<u8> {
    let mut list = data.concat();
    list.truncate(stated as usize);
    list
}

fn answer_query(
    session: &Session,
    lun: u8,
    unit: &Unit,
    query: &Query,
) -> Result<Outcome, Failure> {
    let data = match *query {
        Query::RequestSense {
            descriptor,
            allocation,
        } => {
            let sense = session.take_attention(lun).unwrap_or(Sense::NONE);
            let mut data = sense.encode(descriptor);
            data.truncate(allocation as usize);
            data
        }
        _ => unit.description.answer(query, &unit.mode())?,
    };
    Ok(Outcome::Data(data.into()))
}

/// The answer to REPORT LUNS, whichever logical unit is asked.
fn reported_luns(luns: &[u8], select: u8, allocation: u32) -> Result<Outcome, Failure> {
    Ok(Outcome::Data(report_luns(select, luns, allocation)?.into()))
}

/// The answer of a logical unit that does not exist.
fn absent_unit(decoded: Result<Command, Sense>, luns: &[u8]) -> Result<Outcome, Failure> {
    match decoded {
        Ok(Command::ReportLuns { select, allocation }) => reported_luns(luns, select, allocation),
        Ok(Command::Query(query)) => Ok(Outcome::Data(LogicalUnit::answer_absent(&query)?.into())),
        _ => Err(Sense::LUN_NOT_SUPPORTED.into()),
    }
}
