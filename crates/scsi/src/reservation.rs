//! RESERVE (6) and RELEASE (6) (SPC-2 §5.5, §7.21): one initiator keeps the others out.

use crate::Command;

/// Who, if anyone, has reserved a logical unit. `N` names an I_T nexus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation<N> {
    holder: Option<N>,
}

impl<N> Default for Reservation<N> {
    fn default() -> Self {
        Self { holder: None }
    }
}

impl<N: Eq> Reservation<N> {
    /// True if `nexus` may carry out `command`; if not, it ends with RESERVATION CONFLICT.
    pub fn allows(&self, nexus: &N, command: &Command) -> bool {
        match &self.holder {
            Some(holder) => holder == nexus || command.passes_reservation(),
            None => true,
        }
    }

    /// RESERVE, after [`allows`](Self::allows).
    pub fn reserve(&mut self, nexus: N) {
        self.holder = Some(nexus);
    }

    /// RELEASE: of somebody else's reservation it does nothing, without an error.
    pub fn release(&mut self, nexus: &N) {
        if self.holder.as_ref() == Some(nexus) {
            self.holder = None;
        }
    }

    /// The logical unit or the target was reset.
    pub fn reset(&mut self) {
        self.holder = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_holder_gets_in_until_it_releases() {
        let mut reservation = Reservation::default();
        reservation.reserve(1);
        assert!(reservation.allows(&1, &Command::TestUnitReady));
        assert!(!reservation.allows(&2, &Command::TestUnitReady));
        assert!(!reservation.allows(&2, &Command::Reserve));
        assert!(reservation.allows(&2, &Command::Release));
        reservation.release(&2);
        assert!(!reservation.allows(&2, &Command::Reserve));
        reservation.release(&1);
        assert!(reservation.allows(&2, &Command::Reserve));
    }
}
