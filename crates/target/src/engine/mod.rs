//! Carrying out SCSI commands on a disk: what may run at once, where, and with what result.

mod buffers;
mod execute;
mod fault;
mod locks;
mod pool;
mod reservations;
mod unit;
mod units;

pub(crate) use buffers::{Buffer, Buffers};
pub(crate) use execute::{Failure, Outcome, Work, carry_out, read_piece};
pub(crate) use fault::Fault;
pub(crate) use locks::{Access, Held, RangeLocks, Span};
pub(crate) use pool::{DiskPool, FlowId, Lane, Slot, contained};
pub(crate) use unit::Unit;
pub(crate) use units::Units;
