//! Folds events into boot attempts with a timeline, and finds faults; pure decisions, no I/O.
//!
//! [`Folding`] takes the events of all services in order of time and answers with what changed.
//! Time comes in with the events and as an argument, fresh identifiers as an argument, so the
//! same input always gives the same attempts. [`diagnose()`] compares [`Observations`] with the open
//! cases and answers which are new, changed or over.

mod attempt;
mod case;
mod diagnose;
mod findings;
mod folding;
mod observations;
mod rules;
mod stage;
mod state;
mod wording;

pub use attempt::{Attempt, Change, Step};
pub use case::{
    Action, Case, Cause, Code, Evidence, Fact, Severity, Subject, UnknownCode, UnknownSubject,
};
pub use diagnose::diagnose;
pub use folding::Folding;
pub use observations::{Observations, PoolSeen, SeatEntry, ServiceCondition, ServiceSeen};
pub use rules::{ABANDON_AFTER_MS, SESSION_GRACE_MS};
pub use stage::{Stage, UnknownStage};
pub use state::{BootOutcome, ClientState, Fault};

#[cfg(test)]
mod tests;
