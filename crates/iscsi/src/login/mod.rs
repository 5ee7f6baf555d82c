//! The login phase (RFC 7143 §6.3).

mod status;

pub use status::LoginStatus;
