//! Who may use how much of the service: limits and fair turns. No clocks, sockets or threads here.

mod fair;
mod turn;

pub(crate) use fair::FairQueue;
pub(crate) use turn::Turn;
