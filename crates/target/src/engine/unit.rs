//! A disk as it is served: its description, its store, and what its initiators share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dess_disk::BlockDevice;
use dess_scsi::{
    Attentions, Command, LogicalUnit, ModeSelect, ModeState, PersistentError, PersistentIn,
    PersistentOut, PersistentReservations, Reservation, Sense,
};

use super::{FlowId, Lane, RangeLocks, Slot};
use crate::sessions::{InitiatorPort, Session};

/// One disk in service, shared by all sessions of its target.
pub(crate) struct Unit {
    /// What the initiator is told.
    pub(crate) description: LogicalUnit,
    /// Where the data is.
    pub(crate) device: Arc<dyn BlockDevice>,
    /// Which ranges are in use.
    pub(crate) locks: Arc<RangeLocks>,
    flow: FlowId,
    shared: Mutex<Shared>,
}

/// State that all initiators of the disk share. `u64` names a session.
#[derive(Default)]
struct Shared {
    mode: ModeState,
    reservation: Reservation<u64>,
    persistent: PersistentReservations<InitiatorPort>,
}

/// Why a command is not carried out at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    /// Another initiator has reserved the disk.
    ReservationConflict,
    /// For another reason.
    Sense(Sense),
}

impl Unit {
    pub(crate) fn new(description: LogicalUnit, device: Arc<dyn BlockDevice>) -> Self {
        Self {
            description,
            device,
            locks: Arc::default(),
            flow: FlowId::next(),
            shared: Mutex::default(),
        }
    }

    /// Where a job of this disk waits that moves so many bytes.
    pub(crate) fn slot(&self, lane: Lane, bytes: u64) -> Slot {
        Slot {
            lane,
            flow: self.flow,
            bytes,
        }
    }

    /// The mode pages' state.
    pub(crate) fn mode(&self) -> ModeState {
        self.lock().mode
    }

    /// Checks what does not depend on the data: reservations, write protection, the capacity.
    pub(crate) fn admit(&self, session: &Session, command: &Command) -> Result<(), Denial> {
        let shared = self.lock();
        if !shared.reservation.allows(&session.id, command)
            || !shared.persistent.allows(&session.port, command)
        {
            return Err(Denial::ReservationConflict);
        }
        if let Command::Medium(medium) = command {
            self.description
                .admit(medium, &shared.mode)
                .map_err(Denial::Sense)?;
        }
        Ok(())
    }

    /// RESERVE, after [`admit`](Self::admit).
    pub(crate) fn reserve(&self, session: u64) {
        self.lock().reservation.reserve(session);
    }

    /// RELEASE, and the end of a session.
    pub(crate) fn release(&self, session: u64) {
        self.lock().reservation.release(&session);
    }

    /// PERSISTENT RESERVE IN.
    pub(crate) fn persistent_in(&self, action: PersistentIn) -> Vec<u8> {
        self.lock()
            .persistent
            .report(action, InitiatorPort::transport_id)
    }

    /// PERSISTENT RESERVE OUT; what others must hear of it.
    pub(crate) fn persistent_out(
        &self,
        port: &InitiatorPort,
        action: PersistentOut,
        list: &[u8],
    ) -> Result<Attentions<InitiatorPort>, Denial> {
        let changed = self.lock().persistent.change(port, action, list);
        changed.map_err(|error| match error {
            PersistentError::Conflict => Denial::ReservationConflict,
            PersistentError::Sense(sense) => Denial::Sense(sense),
        })
    }

    /// A LUN or target reset; persistent reservations stay (SPC-4 §5.13.1).
    pub(crate) fn reset(&self) {
        let mut shared = self.lock();
        shared.reservation.reset();
        shared.mode = ModeState::default();
    }

    /// MODE SELECT; true if something changed, which the other initiators must hear of.
    pub(crate) fn mode_select(&self, command: &ModeSelect, list: &[u8]) -> Result<bool, Sense> {
        let mut shared = self.lock();
        let after = shared.mode.select(command, list)?;
        let changed = after != shared.mode;
        shared.mode = after;
        Ok(changed)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
