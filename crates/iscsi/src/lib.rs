//! RFC 7143: PDUs, login and text negotiation, sessions, as values.
