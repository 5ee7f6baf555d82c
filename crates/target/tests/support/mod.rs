//! What the tests of the service share.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(missing_docs, unreachable_pub, reason = "test support")]

pub mod initiator;
pub mod raw;
pub mod room;
pub mod service;
pub mod standalone;
pub mod tap;
pub mod victim;
