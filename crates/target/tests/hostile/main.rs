//! The service under attack, in a process of its own: each attack costs bounded memory, disturbs
//! nobody, is logged within limits, and leaves nothing behind.
//!
//! Seat 1 works all the time and must not notice; seat 2 knows its own secret and means harm;
//! anybody may connect.

#![expect(
    clippy::unwrap_used,
    reason = "a failure of a test's set-up is a failure of the test"
)]

#[path = "../support/mod.rs"]
mod support;

mod crowd;
mod login;
mod session;

/// Not a test: the service itself, in a process that a test starts.
#[test]
fn child_that_serves() {
    support::service::serve_if_child();
}
