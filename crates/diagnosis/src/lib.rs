//! Folds events into boot attempts with a timeline; pure decisions, no I/O.
//!
//! [`Folding`] takes the events of all services in order of time and answers with what changed.
//! Time comes in with the events and as an argument, fresh identifiers as an argument, so the
//! same input always gives the same attempts.

mod attempt;
mod folding;
mod rules;
mod stage;
mod state;
mod wording;

pub use attempt::{Attempt, Change, Step};
pub use folding::Folding;
pub use rules::{ABANDON_AFTER_MS, SESSION_GRACE_MS};
pub use stage::{Stage, UnknownStage};
pub use state::{BootOutcome, ClientState, Fault};

#[cfg(test)]
mod tests;
