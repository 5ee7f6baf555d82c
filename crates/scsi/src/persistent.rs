//! PERSISTENT RESERVE IN and OUT (SPC-4 §5.13, §6.15, §6.16): initiators register keys, and one or
//! all of them keep the others from writing, or from any access.
//!
//! Registrations live as long as the service, and beyond it if an initiator asked for that (APTPL): then the caller keeps what
//! [`saved`](PersistentReservations::saved) says.

use crate::field::u64_at;
use crate::{Command, Medium, Query, Sense};

/// Kind of reservation (SPC-4 table 199); the only scope is the logical unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PersistentType {
    /// Others may read; the holder alone may write.
    WriteExclusive = 1,
    /// The holder alone has access.
    ExclusiveAccess = 3,
    /// Others may read; registered ones may write.
    WriteExclusiveRegistrants = 5,
    /// Registered ones have access.
    ExclusiveAccessRegistrants = 6,
    /// As `WriteExclusiveRegistrants`; all registered ones hold it.
    WriteExclusiveAll = 7,
    /// As `ExclusiveAccessRegistrants`; all registered ones hold it.
    ExclusiveAccessAll = 8,
}

/// Service action of PERSISTENT RESERVE IN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PersistentIn {
    /// READ KEYS.
    Keys,
    /// READ RESERVATION.
    Reservation,
    /// REPORT CAPABILITIES.
    Capabilities,
    /// READ FULL STATUS.
    FullStatus,
}

/// Service action of PERSISTENT RESERVE OUT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PersistentOut {
    /// REGISTER: the present key must be right.
    Register,
    /// REGISTER AND IGNORE EXISTING KEY.
    RegisterAnyway,
    /// RESERVE.
    Reserve(PersistentType),
    /// RELEASE.
    Release(PersistentType),
    /// CLEAR.
    Clear,
    /// PREEMPT.
    Preempt(PersistentType),
    /// PREEMPT AND ABORT: also the commands of whom it removes.
    PreemptAndAbort(PersistentType),
}

/// Why a PERSISTENT RESERVE OUT was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PersistentError {
    /// Ends with the status RESERVATION CONFLICT.
    Conflict,
    /// Ends with CHECK CONDITION.
    Sense(Sense),
}

impl From<Sense> for PersistentError {
    fn from(sense: Sense) -> Self {
        Self::Sense(sense)
    }
}

/// The registrations and the reservation of a logical unit. `N` names an initiator port and stays
/// the same when it logs in again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersistentReservations<N> {
    generation: u32,
    registrations: Vec<Registration<N>>,
    holder: Option<Holder<N>>,
    /// APTPL of the last registration: all this outlives a loss of power.
    kept: bool,
}

/// One registered initiator port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration<N> {
    /// Whose.
    pub nexus: N,
    /// Its reservation key; not 0.
    pub key: u64,
}

/// Who holds the reservation. For the "all registrants" types the nexus is without meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder<N> {
    /// Who made it, or took it over.
    pub nexus: N,
    /// Which.
    pub kind: PersistentType,
}

/// What outlives a loss of power.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedReservations<N> {
    /// In the order in which they were made.
    pub registrations: Vec<Registration<N>>,
    /// The reservation, if there is one.
    pub holder: Option<Holder<N>>,
}

/// Unit attentions that a PERSISTENT RESERVE OUT leaves to others.
pub type Attentions<N> = Vec<(N, Sense)>;

/// What a PERSISTENT RESERVE OUT means for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consequences<N> {
    /// Unit attentions.
    pub attentions: Attentions<N>,
    /// Whose commands are to be aborted before the command ends.
    pub aborted: Vec<N>,
}

impl<N> From<Attentions<N>> for Consequences<N> {
    fn from(attentions: Attentions<N>) -> Self {
        Self {
            attentions,
            aborted: Vec::new(),
        }
    }
}

impl<N> Default for PersistentReservations<N> {
    fn default() -> Self {
        Self {
            generation: 0,
            registrations: Vec::new(),
            holder: None,
            kept: false,
        }
    }
}

impl PersistentType {
    /// From the TYPE field.
    pub fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::WriteExclusive,
            3 => Self::ExclusiveAccess,
            5 => Self::WriteExclusiveRegistrants,
            6 => Self::ExclusiveAccessRegistrants,
            7 => Self::WriteExclusiveAll,
            8 => Self::ExclusiveAccessAll,
            _ => return None,
        })
    }

    fn is_held_by_all(self) -> bool {
        matches!(self, Self::WriteExclusiveAll | Self::ExclusiveAccessAll)
    }

    fn admits_registrants(self) -> bool {
        !matches!(self, Self::WriteExclusive | Self::ExclusiveAccess)
    }

    fn admits_readers(self) -> bool {
        matches!(
            self,
            Self::WriteExclusive | Self::WriteExclusiveRegistrants | Self::WriteExclusiveAll
        )
    }
}

impl<N: Clone + Eq> PersistentReservations<N> {
    /// True if `nexus` may carry out `command` (SPC-4 table 65, SBC-3 table 13).
    pub fn allows(&self, nexus: &N, command: &Command) -> bool {
        if matches!(command, Command::Reserve | Command::Release) {
            return !self.is_in_use() || self.is_exempt(nexus);
        }
        let Some(holder) = &self.holder else {
            return true;
        };
        let registered = self.key_of(nexus).is_some();
        self.holds(nexus)
            || (registered && holder.kind.admits_registrants())
            || passes_always(command)
            || (holder.kind.admits_readers() && only_reads(command))
    }

    /// True while somebody is registered: RESERVE (6) and RELEASE (6) change nothing then.
    pub fn is_in_use(&self) -> bool {
        !self.registrations.is_empty()
    }

    /// CRH: whom RESERVE (6) and RELEASE (6) tell that all is well, as the reservation lets it in (SPC-4 §5.13.3).
    fn is_exempt(&self, nexus: &N) -> bool {
        let registered = self.key_of(nexus).is_some();
        self.holder.as_ref().is_some_and(|holder| {
            self.holds(nexus) || (registered && holder.kind.admits_registrants())
        })
    }

    /// What must outlive a loss of power; none if no initiator asked for it.
    pub fn saved(&self) -> Option<SavedReservations<N>> {
        (self.kept && self.is_in_use()).then(|| SavedReservations {
            registrations: self.registrations.clone(),
            holder: self.holder.clone(),
        })
    }

    /// The state after a loss of power. Generations count from 0 again (SPC-4 §6.15.2).
    pub fn restored(saved: SavedReservations<N>) -> Self {
        Self {
            generation: 0,
            registrations: saved.registrations,
            holder: saved.holder,
            kept: true,
        }
    }

    /// The parameter data of PERSISTENT RESERVE IN; `transport_id` gives the TransportID of a port
    /// (SPC-4 §7.6.4).
    pub fn report(&self, action: PersistentIn, transport_id: impl Fn(&N) -> Vec<u8>) -> Vec<u8> {
        match action {
            PersistentIn::Keys => {
                let keys = self.registrations.iter().map(|one| one.key.to_be_bytes());
                self.with_header(&keys.collect::<Vec<_>>().concat())
            }
            PersistentIn::Reservation => self.with_header(&self.reservation_descriptor()),
            // CRH and PTPL_C, no SIP_C, ATP_C; TMV with all types, PTPL_A.
            PersistentIn::Capabilities => {
                vec![0, 8, 0x11, 0x80 | u8::from(self.kept), 0xea, 0x01, 0, 0]
            }
            PersistentIn::FullStatus => {
                let mut descriptors = Vec::new();
                for one in &self.registrations {
                    let id = transport_id(&one.nexus);
                    let holds = self.holds(&one.nexus);
                    let kind = self.holder.as_ref().map_or(0, |holder| holder.kind as u8);
                    let (flags, kind) = if holds { (0x01, kind) } else { (0, 0) };
                    descriptors.extend_from_slice(&one.key.to_be_bytes());
                    descriptors.extend_from_slice(&[0, 0, 0, 0, flags, kind, 0, 0, 0, 0, 0, 1]);
                    let length = u32::try_from(id.len()).unwrap_or(u32::MAX);
                    descriptors.extend_from_slice(&length.to_be_bytes());
                    descriptors.extend_from_slice(&id);
                }
                self.with_header(&descriptors)
            }
        }
    }

    /// Carries out PERSISTENT RESERVE OUT with its parameter list.
    ///
    /// # Errors
    /// RESERVATION CONFLICT for a wrong key or somebody else's reservation, or sense for a bad
    /// list. Nothing is changed then.
    pub fn change(
        &mut self,
        nexus: &N,
        action: PersistentOut,
        list: &[u8],
    ) -> Result<Consequences<N>, PersistentError> {
        if list.len() != LIST_BYTES {
            return Err(Sense::PARAMETER_LENGTH.into());
        }
        let registers = matches!(
            action,
            PersistentOut::Register | PersistentOut::RegisterAnyway
        );
        // The others ignore the flags.
        if registers && list[20] & (SPEC_I_PT | ALL_TG_PT) != 0 {
            return Err(Sense::parameter_field(20).into());
        }
        let (key, new_key) = (u64_at(list, 0), u64_at(list, 8));
        let registered = self.key_of(nexus);
        match action {
            PersistentOut::Register if registered.unwrap_or(0) != key => {
                Err(PersistentError::Conflict)
            }
            PersistentOut::Register | PersistentOut::RegisterAnyway => {
                self.kept = list[20] & APTPL != 0;
                Ok(self.register(nexus, new_key).into())
            }
            _ if registered != Some(key) => Err(PersistentError::Conflict),
            PersistentOut::Reserve(kind) => self.reserve(nexus, kind).map(Into::into),
            PersistentOut::Release(kind) => self.release(nexus, kind).map(Into::into),
            PersistentOut::Clear => {
                self.generation = self.generation.wrapping_add(1);
                self.holder = None;
                let gone = std::mem::take(&mut self.registrations);
                Ok(told(gone, nexus, Sense::RESERVATIONS_PREEMPTED).into())
            }
            PersistentOut::Preempt(kind) => {
                let consequences = self.preempt(nexus, new_key, kind)?;
                Ok(consequences.attentions.into())
            }
            PersistentOut::PreemptAndAbort(kind) => self.preempt(nexus, new_key, kind),
        }
    }

    fn key_of(&self, nexus: &N) -> Option<u64> {
        let mut all = self.registrations.iter();
        all.find(|one| one.nexus == *nexus).map(|one| one.key)
    }

    fn holds(&self, nexus: &N) -> bool {
        self.holder
            .as_ref()
            .is_some_and(|holder| match holder.kind.is_held_by_all() {
                true => self.key_of(nexus).is_some(),
                false => holder.nexus == *nexus,
            })
    }

    fn with_header(&self, body: &[u8]) -> Vec<u8> {
        let mut data = self.generation.to_be_bytes().to_vec();
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        data.extend_from_slice(&length.to_be_bytes());
        data.extend_from_slice(body);
        data
    }

    fn reservation_descriptor(&self) -> Vec<u8> {
        let Some(holder) = &self.holder else {
            return Vec::new();
        };
        let key = match holder.kind.is_held_by_all() {
            true => 0,
            false => self.key_of(&holder.nexus).unwrap_or(0),
        };
        let mut descriptor = key.to_be_bytes().to_vec();
        descriptor.extend_from_slice(&[0, 0, 0, 0, 0, holder.kind as u8, 0, 0]);
        descriptor
    }

    fn register(&mut self, nexus: &N, new_key: u64) -> Attentions<N> {
        let known = self
            .registrations
            .iter_mut()
            .find(|one| one.nexus == *nexus);
        match (known, new_key) {
            (None, 0) => return Vec::new(),
            (None, key) => self.registrations.push(Registration {
                nexus: nexus.clone(),
                key,
            }),
            (Some(known), key) if key != 0 => known.key = key,
            (Some(_), _) => {
                self.generation = self.generation.wrapping_add(1);
                return self.unregister(nexus);
            }
        }
        self.generation = self.generation.wrapping_add(1);
        Vec::new()
    }

    /// The holder's reservation goes with its registration; with "all registrants" types, when the
    /// last one goes.
    fn unregister(&mut self, nexus: &N) -> Attentions<N> {
        let held = self.holds(nexus);
        self.registrations.retain(|one| one.nexus != *nexus);
        let Some(holder) = &self.holder else {
            return Vec::new();
        };
        let kind = holder.kind;
        if !held || (kind.is_held_by_all() && !self.registrations.is_empty()) {
            return Vec::new();
        }
        self.holder = None;
        match kind.admits_registrants() {
            true => told(
                self.registrations.clone(),
                nexus,
                Sense::RESERVATIONS_RELEASED,
            ),
            false => Vec::new(),
        }
    }

    fn reserve(
        &mut self,
        nexus: &N,
        kind: PersistentType,
    ) -> Result<Attentions<N>, PersistentError> {
        match &self.holder {
            None => {
                self.holder = Some(Holder {
                    nexus: nexus.clone(),
                    kind,
                });
                Ok(Vec::new())
            }
            Some(holder) if holder.kind == kind && self.holds(nexus) => Ok(Vec::new()),
            Some(_) => Err(PersistentError::Conflict),
        }
    }

    fn release(
        &mut self,
        nexus: &N,
        kind: PersistentType,
    ) -> Result<Attentions<N>, PersistentError> {
        if !self.holds(nexus) {
            return Ok(Vec::new());
        }
        if self
            .holder
            .as_ref()
            .is_some_and(|holder| holder.kind != kind)
        {
            return Err(Sense::INVALID_RELEASE.into());
        }
        self.holder = None;
        Ok(match kind.admits_registrants() {
            true => told(
                self.registrations.clone(),
                nexus,
                Sense::RESERVATIONS_RELEASED,
            ),
            false => Vec::new(),
        })
    }

    /// SPC-4 §5.13.11.2.6: takes the reservation over if the key is that of its holder, and removes
    /// the registrations with that key. Who stays registered hears of it if the type is another now.
    fn preempt(
        &mut self,
        nexus: &N,
        victim: u64,
        kind: PersistentType,
    ) -> Result<Consequences<N>, PersistentError> {
        let before = self.holder.as_ref().map(|holder| holder.kind);
        let all_hold = before.is_some_and(PersistentType::is_held_by_all);
        if victim == 0 && !all_hold {
            return Err(Sense::parameter_field(8).into());
        }
        let takes_over = match &self.holder {
            Some(_) if all_hold => victim == 0,
            Some(holder) => self.key_of(&holder.nexus) == Some(victim),
            None => false,
        };
        let hit = |one: &Registration<N>| victim == 0 || one.key == victim;
        if !takes_over && !self.registrations.iter().any(hit) {
            return Err(PersistentError::Conflict);
        }
        let (gone, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.registrations)
            .into_iter()
            .partition(|one| hit(one) && (one.nexus != *nexus || !takes_over));
        self.registrations = kept;
        let mut attentions = Vec::new();
        if takes_over {
            self.holder = Some(Holder {
                nexus: nexus.clone(),
                kind,
            });
            if before.is_some_and(|before| before != kind) {
                let staying = self.registrations.clone();
                attentions = told(staying, nexus, Sense::RESERVATIONS_RELEASED);
            }
        } else if all_hold && self.registrations.is_empty() {
            self.holder = None;
        }
        self.generation = self.generation.wrapping_add(1);
        let removed = told(gone, nexus, Sense::REGISTRATIONS_PREEMPTED);
        let aborted = removed.iter().map(|(nexus, _)| nexus.clone()).collect();
        attentions.extend(removed);
        Ok(Consequences {
            attentions,
            aborted,
        })
    }
}

/// The same unit attention for all of these but the one that asked.
fn told<N: Eq>(registrations: Vec<Registration<N>>, but: &N, sense: Sense) -> Attentions<N> {
    registrations
        .into_iter()
        .filter(|one| one.nexus != *but)
        .map(|one| (one.nexus, sense))
        .collect()
}

/// Commands that no persistent reservation stops.
fn passes_always(command: &Command) -> bool {
    match command {
        Command::TestUnitReady
        | Command::PersistentIn { .. }
        | Command::PersistentOut { .. }
        | Command::PreventAllow { prevent: false }
        | Command::ReportLuns { .. }
        | Command::StartStopUnit => true,
        Command::Query(query) => match query {
            Query::Inquiry { .. }
            | Query::RequestSense { .. }
            | Query::ReadCapacity10
            | Query::ReadCapacity16 { .. }
            | Query::SupportedOpcodes(_) => true,
            Query::ModeSense(_) | Query::ReadDefectData { .. } => false,
        },
        Command::Medium(_)
        | Command::CopyResults { .. }
        | Command::ModeSelect(_)
        | Command::PreventAllow { prevent: true }
        | Command::Reserve
        | Command::Release => false,
    }
}

fn only_reads(command: &Command) -> bool {
    match command {
        Command::Medium(medium) => {
            !medium.writes() && !matches!(medium, Medium::SynchronizeCache(_))
        }
        Command::Query(_) | Command::CopyResults { .. } | Command::ReportLuns { .. } => true,
        Command::TestUnitReady
        | Command::ModeSelect(_)
        | Command::StartStopUnit
        | Command::PreventAllow { .. }
        | Command::PersistentIn { .. }
        | Command::PersistentOut { .. }
        | Command::Reserve
        | Command::Release => false,
    }
}

/// Parameter list of PERSISTENT RESERVE OUT without additional data.
const LIST_BYTES: usize = 24;
const SPEC_I_PT: u8 = 0x08;
const ALL_TG_PT: u8 = 0x04;
const APTPL: u8 = 0x01;

#[cfg(test)]
mod tests;
