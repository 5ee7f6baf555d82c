//! Full feature phase: order of commands and dispatch.

use std::collections::VecDeque;
use std::sync::Arc;

use super::error::ProtocolError;
use super::outbox::Outbox;
use super::receive::{Pdu, kept};
use super::tasks::TaskTable;
use super::text_exchange::TextExchange;
use super::window::Place;
use super::{ConnectionConfig, Limits};
use crate::budget::Budget;
use crate::command::{Lun, TaskId};
use crate::directory::{LoginIdentity, SessionType, TargetDirectory};
use crate::event::{CloseReason, InitiatorFamily, LoggedIn};
use crate::negotiation::SessionParameters;
use crate::pdu::{
    DataOut, DecodeError, Reject, RejectReason, Request, SnackRequest, is_immediate, opcode,
};

/// Most immediate commands and task management requests in work at once, besides the window.
const IMMEDIATE_MAX: usize = 64;

/// Most memory for commands that came ahead of a missing one, in bytes.
const HELD_BYTES_MAX: usize = 1 << 20;

/// The state of a connection after login.
pub(super) struct FullFeature {
    pub(super) identity: LoginIdentity,
    pub(super) family: InitiatorFamily,
    pub(super) parameters: SessionParameters,
    pub(super) cid: u16,
    pub(super) portal_group_tag: u16,
    pub(super) limits: Limits,
    pub(super) tasks: TaskTable,
    /// Write commands that wait for their R2T until others are done.
    pub(super) waiting: VecDeque<TaskId>,
    /// Write data asked for by R2T and not yet done with, in bytes.
    pub(super) solicited: usize,
    /// Memory for write data.
    pub(super) memory: Arc<Budget>,
    /// The first of those that wait for their R2T waits for memory that others have.
    pub(super) lacks_memory: bool,
    pub(super) text: Option<TextExchange>,
    /// The initiator was asked to log out.
    pub(super) logout_requested: bool,
    last_ttt: u32,
    /// Commands that came ahead of a missing one.
    held: Vec<Pdu>,
}

impl FullFeature {
    pub(super) fn new(facts: &LoggedIn, cid: u16, config: &ConnectionConfig) -> Self {
        Self {
            identity: facts.identity.clone(),
            family: facts.family,
            parameters: facts.parameters,
            cid,
            portal_group_tag: config.portal_group_tag,
            limits: config.limits,
            tasks: TaskTable::default(),
            waiting: VecDeque::new(),
            solicited: 0,
            memory: Arc::clone(&config.memory),
            lacks_memory: false,
            text: None,
            logout_requested: false,
            last_ttt: 0,
            held: Vec::new(),
        }
    }

    /// Takes one PDU.
    ///
    /// # Errors
    /// If the connection is to end.
    pub(super) fn handle_pdu(
        &mut self,
        outbox: &mut Outbox,
        pdu: Pdu,
        directory: &dyn TargetDirectory,
    ) -> Result<(), CloseReason> {
        match opcode(&pdu.header) {
            DataOut::OPCODE => return self.data_out(outbox, pdu),
            // Nobody may ask for it at error recovery level 0, which is all that we agree to.
            SnackRequest::OPCODE => {
                return self.reject(outbox, &pdu, RejectReason::ProtocolError);
            }
            _ => {}
        }
        if is_immediate(&pdu.header) {
            return self.execute(outbox, pdu, directory);
        }
        match outbox.window.place(cmd_sn(&pdu)) {
            Place::Outside => Ok(()),
            Place::Early => self.hold(pdu),
            Place::Next => {
                self.execute_next(outbox, pdu, directory)?;
                while let Some(pdu) = self.take_held(outbox.window.exp_cmd_sn()) {
                    self.execute_next(outbox, pdu, directory)?;
                }
                Ok(())
            }
        }
    }

    /// A target transfer tag that was not used lately.
    pub(super) fn next_ttt(&mut self) -> u32 {
        // All ones is reserved.
        self.last_ttt = (self.last_ttt + 1) & 0x7fff_ffff;
        self.last_ttt
    }

    /// Refuses a PDU: by a Reject PDU, or by closing if the initiator cannot stand one.
    ///
    /// # Errors
    /// If the connection is to end.
    pub(super) fn reject(
        &self,
        outbox: &mut Outbox,
        pdu: &Pdu,
        reason: RejectReason,
    ) -> Result<(), CloseReason> {
        if !self.family.understands_reject() {
            let opcode = opcode(&pdu.header);
            return Err(protocol(ProtocolError::Refused { opcode, reason }));
        }
        let reject = Reject {
            reason,
            sequence: outbox.next_sequence(),
        };
        outbox.send(&reject.encode(pdu.header.len()), &pdu.header);
        Ok(())
    }

    pub(super) fn lun_of(&self, id: TaskId) -> Option<Lun> {
        self.tasks.get(id).map(|task| task.lun)
    }

    pub(super) fn task_count(&self) -> usize {
        self.tasks.len()
    }

    pub(super) fn too_many_immediate(&self) -> bool {
        self.tasks.immediate() >= IMMEDIATE_MAX
    }

    pub(super) fn trim(&mut self) {
        self.tasks.trim();
        self.waiting.shrink_to_fit();
        self.held.shrink_to_fit();
    }

    fn execute_next(
        &mut self,
        outbox: &mut Outbox,
        pdu: Pdu,
        directory: &dyn TargetDirectory,
    ) -> Result<(), CloseReason> {
        outbox.window.advance();
        self.execute(outbox, pdu, directory)
    }

    fn execute(
        &mut self,
        outbox: &mut Outbox,
        pdu: Pdu,
        directory: &dyn TargetDirectory,
    ) -> Result<(), CloseReason> {
        if pdu.is_damaged {
            // The command cannot be repeated at error recovery level 0: the session starts anew.
            self.reject(outbox, &pdu, RejectReason::DataDigestError)?;
            let opcode = opcode(&pdu.header);
            return Err(protocol(ProtocolError::DataDigest { opcode }));
        }
        let request = match Request::decode(&pdu.header) {
            Ok(request) => request,
            Err(DecodeError::UnknownOpcode(_)) => {
                return self.reject(outbox, &pdu, RejectReason::CommandNotSupported);
            }
            Err(_) => return self.reject(outbox, &pdu, RejectReason::InvalidPduField),
        };
        let is_discovery = self.identity.session_type == SessionType::Discovery;
        match request {
            Request::Scsi(_) | Request::Task(_) if is_discovery => {
                self.reject(outbox, &pdu, RejectReason::CommandNotSupported)
            }
            Request::Scsi(request) => self.scsi_command(outbox, request, pdu),
            Request::Task(request) => self.task_request(outbox, &request, &pdu),
            Request::NopOut(request) => {
                self.nop_out(outbox, &request, &pdu.data);
                Ok(())
            }
            Request::Text(request) => self.text_request(outbox, &request, &pdu, directory),
            Request::Logout(request) => self.logout(outbox, &request),
            Request::Login(_) => Err(protocol(ProtocolError::LoginAgain)),
            Request::DataOut(_) | Request::Snack(_) => {
                unreachable!("these have no command number and were taken before")
            }
        }
    }

    fn hold(&mut self, mut pdu: Pdu) -> Result<(), CloseReason> {
        if self.held.iter().any(|held| cmd_sn(held) == cmd_sn(&pdu)) {
            return Ok(());
        }
        let held: usize = self.held.iter().map(|held| held.data.len()).sum();
        if held + pdu.data.len() > HELD_BYTES_MAX {
            return Err(protocol(ProtocolError::TooFarAhead));
        }
        pdu.data = kept(&pdu.data);
        self.held.push(pdu);
        Ok(())
    }

    fn take_held(&mut self, number: u32) -> Option<Pdu> {
        let index = self.held.iter().position(|held| cmd_sn(held) == number)?;
        Some(self.held.swap_remove(index))
    }
}

/// The command number, which every request but Data-Out and SNACK has at the same place.
fn cmd_sn(pdu: &Pdu) -> u32 {
    u32::from_be_bytes([
        pdu.header[24],
        pdu.header[25],
        pdu.header[26],
        pdu.header[27],
    ])
}

pub(super) fn protocol(error: ProtocolError) -> CloseReason {
    CloseReason::Protocol(error)
}
