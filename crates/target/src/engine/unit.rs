//! A disk as it is served: its description, its store, and what its initiators share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dess_disk::{BlockDevice, Note};
use dess_scsi::{
    Command, Consequences, LogicalUnit, ModeSelect, ModeState, PersistentError, PersistentIn,
    PersistentOut, PersistentReservations, Reservation, Sense,
};

use super::reservations::Keeper;
use super::{Failure, Fault, FlowId, Lane, RangeLocks, Slot};
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
    keeper: Mutex<Keeper>,
}

/// State that all initiators of the disk share. `u64` names a session.
#[derive(Default)]
struct Shared {
    mode: ModeState,
    reservation: Reservation<u64>,
    persistent: PersistentReservations<InitiatorPort>,
}

impl Unit {
    /// A disk with what its initiators have asked to keep in `note`. Its work waits in the line of `flow`, which the disks
    /// of a client share. May wait for the storage.
    pub(crate) fn open(
        description: LogicalUnit,
        device: Arc<dyn BlockDevice>,
        note: Note,
        flow: FlowId,
    ) -> Self {
        let (keeper, persistent) = Keeper::open(note);
        let shared = Shared {
            persistent,
            ..Shared::default()
        };
        Self {
            description,
            device,
            locks: Arc::default(),
            flow,
            shared: Mutex::new(shared),
            keeper: Mutex::new(keeper),
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
    pub(crate) fn admit(&self, session: &Session, command: &Command) -> Result<(), Failure> {
        let shared = self.lock();
        if !shared.reservation.allows(&session.id, command)
            || !shared.persistent.allows(&session.port, command)
        {
            return Err(Failure::ReservationConflict);
        }
        if let Command::Medium(medium) = command {
            self.description.admit(medium, &shared.mode)?;
        }
        Ok(())
    }

    /// RESERVE, after [`admit`](Self::admit).
    pub(crate) fn reserve(&self, session: u64) {
        let mut shared = self.lock();
        if !shared.persistent.is_in_use() {
            shared.reservation.reserve(session);
        }
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

    /// PERSISTENT RESERVE OUT; what it means for others. What must outlive a loss of power is on the storage before the
    /// change counts, so this may wait.
    pub(crate) fn persistent_out(
        &self,
        port: &InitiatorPort,
        action: PersistentOut,
        list: &[u8],
    ) -> Result<Consequences<InitiatorPort>, Failure> {
        // Orders the changes; the state is free for others while the storage is waited for.
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        let mut after = self.lock().persistent.clone();
        let consequences = after
            .change(port, action, list)
            .map_err(|error| match error {
                PersistentError::Conflict => Failure::ReservationConflict,
                PersistentError::Sense(sense) => Failure::Sense(sense),
            })?;
        keeper.keep(after.saved()).map_err(Fault::Reservations)?;
        self.lock().persistent = after;
        Ok(consequences)
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
