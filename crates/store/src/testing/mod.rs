//! What tests and benchmarks of this crate and of those above it need: a MariaDB server of their
//! own, a link to it that can be cut, and the history of a large site.

#![allow(
    clippy::unwrap_used,
    reason = "a test or a benchmark cannot go on without"
)]

mod cutter;
mod history;
mod server;

pub use cutter::{At, Cutter};
pub use history::{History, fill};
pub use server::{PASSWORD, Server, USER, at, free_port};
#[cfg(test)]
pub(crate) use server::{install, is_root, launch};
