//! Text of login and text PDUs: `key=value` pairs (RFC 7143 §6.1).
