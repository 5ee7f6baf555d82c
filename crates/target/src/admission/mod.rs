//! Who may use how much of the service: limits and fair turns. No clocks, sockets or threads here:
//! time is passed in.

mod bucket;
mod fair;
mod gate;
mod throttle;
mod turn;

pub(crate) use fair::FairQueue;
pub(crate) use gate::{Direction, Gate};
pub(crate) use throttle::{Gates, Throttle};
pub(crate) use turn::Turn;
