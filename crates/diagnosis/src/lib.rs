//! Folds events into boot attempts with a timeline; pure decisions, no I/O.
//!
//! [`Folding`] takes the events of all services in order and answers with what changed; time
//! comes in as an argument, so the same events always give the same attempts.

mod stage;
mod state;

pub use stage::Stage;
pub use state::{BootOutcome, ClientState, Fault};
