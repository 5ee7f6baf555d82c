//! Commands that wait for a limit of their client or its group. Everything else goes on meanwhile:
//! pings, task management, and commands in the other direction.

use std::time::Instant;

use dess_iscsi::{ScsiCommand, TaskId};
use dess_scsi::{Command, Medium};

use super::{ConnectionTask, LoggedIn};
use crate::accounts::Operation;

/// A command that was let through by the disk, but not yet by the limits.
pub(super) struct Throttled {
    command: ScsiCommand,
    decoded: Command,
}

impl Throttled {
    pub(super) fn is_one_of(&self, tasks: &[TaskId]) -> bool {
        tasks.contains(&self.command.task)
    }
}

impl ConnectionTask {
    /// Puts a command in the line of those that wait for a limit; gives it back if none holds.
    pub(super) fn hold_back(
        &mut self,
        command: ScsiCommand,
        decoded: Command,
    ) -> Option<(ScsiCommand, Command)> {
        let Some(LoggedIn { session, .. }) = &self.logged_in else {
            return Some((command, decoded));
        };
        if !session.account.gates.limited() && self.throttle.is_empty() {
            return Some((command, decoded));
        }
        let Command::Medium(medium) = &decoded else {
            return Some((command, decoded));
        };
        let direction = Operation::of(medium).and_then(Operation::direction);
        let Some(direction) = direction else {
            return Some((command, decoded));
        };
        let bytes = bytes_of(medium);
        let now = self.meter.arrived();
        let waiting = Throttled { command, decoded };
        self.throttle.push(now, direction, bytes, waiting);
        None
    }

    /// Carries out the commands that the limits let through by now.
    pub(super) fn release_throttled(&mut self) {
        while !self.throttle.is_empty() && self.may_take_more() {
            let Some(LoggedIn { session, units, .. }) = &self.logged_in else {
                return;
            };
            let now = Instant::now();
            let Some(released) = self.throttle.poll(now, &session.account.gates) else {
                return;
            };
            let (one, since) = (released.item, released.since);
            if released.held {
                let waited = now.saturating_duration_since(since);
                session.account.count_throttled(waited);
            }
            self.turn.charge_command();
            // The disk may have been reserved by somebody else meanwhile.
            let Some((_, unit)) = units.find(one.command.lun) else {
                continue;
            };
            match unit.admit(session, &one.decoded) {
                Ok(()) => {
                    let arrived = self.meter.arrived();
                    self.settle_account();
                    self.meter.set_arrived(since);
                    self.dispatch(one.command, one.decoded);
                    self.settle_account();
                    self.meter.set_arrived(arrived);
                }
                Err(failure) => self.answer(one.command.task, Err(failure)),
            }
        }
    }
}

/// Bytes that a command moves, as limits count them.
fn bytes_of(medium: &Medium) -> u64 {
    match medium {
        Medium::Read(range) => range.length_bytes(),
        _ => medium.data_out_bytes(),
    }
}
